//! TLS from outside: certificates made by openssl, clients by rustls and by redis-cli.
#![expect(
    clippy::disallowed_methods,
    reason = "a test outside the server reads clocks and files as any program"
)]

#[expect(dead_code, reason = "each test binary takes its part of what they share")]
mod support;

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use haypile_resp::{ReplyReader, Value};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion};

use support::client::{PATIENCE, encode, render};
use support::folder::Folder;
use support::random::Random;
use support::server::{Server, free_port};

const TLS12: &SupportedProtocolVersion = &rustls::version::TLS12;
const TLS13: &SupportedProtocolVersion = &rustls::version::TLS13;

/// An authority, and what it signed.
struct Certificates {
    folder: Folder,
}

impl Certificates {
    fn new(name: &str) -> Certificates {
        let made = Certificates { folder: Folder::new(name) };
        made.openssl(
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30 -subj /CN=authority \
             -keyout ca.key -out ca.crt",
        );
        made.sign("server", "rsa:2048");
        made.sign("client", "rsa:2048");
        made
    }

    /// A key and its certificate.
    fn sign(&self, name: &str, key: &str) {
        self.openssl(&format!(
            "req -x509 -CA ca.crt -CAkey ca.key -newkey {key} -nodes -days 30 -subj /CN={name} -keyout {name}.key \
             -out {name}.crt -addext basicConstraints=critical,CA:FALSE -addext subjectAltName=IP:127.0.0.1"
        ));
    }

    fn openssl(&self, arguments: &str) {
        let mut command = Command::new("openssl");
        command.args(arguments.split_ascii_whitespace()).current_dir(self.folder.path());
        let output = command.output().expect("openssl is needed for this test");
        assert!(output.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// Flags of a server that has them.
    fn flags(&self, port: u16) -> Vec<String> {
        let flags = [
            ("--tls-port", port.to_string()),
            ("--tls-cert-file", self.text("server.crt")),
            ("--tls-key-file", self.text("server.key")),
            ("--tls-ca-cert-file", self.text("ca.crt")),
        ];
        flags.into_iter().flat_map(|(name, value)| [name.to_string(), value]).collect()
    }

    fn connect(&self, port: u16, version: &'static SupportedProtocolVersion, with_own: bool) -> TlsClient {
        TlsClient::new(port, self.client_config(version, with_own))
    }

    fn client_config(&self, version: &'static SupportedProtocolVersion, with_own: bool) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(self.path("ca.crt")).unwrap()).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(rustls_graviola::default_provider()))
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots);
        if with_own {
            let certificate = CertificateDer::from_pem_file(self.path("client.crt")).unwrap();
            let key = PrivateKeyDer::from_pem_file(self.path("client.key")).unwrap();
            builder.with_client_auth_cert(vec![certificate], key).unwrap()
        } else {
            builder.with_no_client_auth()
        }
    }
}

struct TlsClient {
    stream: StreamOwned<ClientConnection, TcpStream>,
    reader: ReplyReader,
    chunk: Vec<u8>,
}

fn connect_plain(port: u16) -> TcpStream {
    let stream = TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

impl TlsClient {
    fn new(port: u16, config: ClientConfig) -> TlsClient {
        let name = ServerName::try_from("127.0.0.1").unwrap();
        let session = ClientConnection::new(Arc::new(config), name).unwrap();
        let stream = StreamOwned::new(session, connect_plain(port));
        TlsClient { stream, reader: ReplyReader::default(), chunk: vec![0; 64 << 10] }
    }

    fn send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(bytes)?;
        self.stream.flush()
    }

    fn read(&mut self) -> std::io::Result<Value> {
        loop {
            match self.reader.next() {
                Ok(Some(value)) => return Ok(value),
                Ok(None) => {}
                Err(error) => return Err(std::io::Error::new(ErrorKind::InvalidData, error.to_string())),
            }
            let count = self.stream.read(&mut self.chunk)?;
            if count == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            self.reader.feed(&self.chunk[..count]);
        }
    }

    fn try_call<A: AsRef<[u8]>>(&mut self, arguments: &[A]) -> std::io::Result<Value> {
        let mut bytes = Vec::new();
        encode(&mut bytes, arguments);
        self.send(&bytes)?;
        self.read()
    }

    fn call<A: AsRef<[u8]>>(&mut self, arguments: &[A]) -> Value {
        self.try_call(arguments).unwrap()
    }

    fn peer_certificate(&self) -> Vec<u8> {
        self.stream.conn.peer_certificates().unwrap()[0].to_vec()
    }
}

fn start(name: &str, certificates: &Certificates, more: &[&str]) -> (Server, u16) {
    let port = free_port();
    let flags = certificates.flags(port);
    let flags: Vec<&str> = flags.iter().map(String::as_str).chain(more.iter().copied()).collect();
    (Server::start(name, &flags), port)
}

fn simple(text: &str) -> Value {
    Value::Simple(text.as_bytes().to_vec())
}

#[test]
fn pipelines_and_big_values_go_both_ways() {
    let certificates = Certificates::new("tls-big");
    // Answers wait for the disk: fences are behind what is encrypted, too.
    let (server, port) = start("tls-big", &certificates, &["--appendfsync", "always"]);
    for version in [TLS13, TLS12] {
        let mut client = certificates.connect(port, version, true);
        const COMMANDS: usize = 20_000;
        let mut bytes = Vec::new();
        for number in 0..COMMANDS {
            encode(&mut bytes, &["SET", &format!("key{number}"), &number.to_string()]);
            encode(&mut bytes, &["INCR", &format!("key{number}")]);
        }
        // Both ways at once, lest both sides wait for each other.
        {
            let TlsClient { stream, reader, chunk } = &mut client;
            let mut writer = stream.sock.try_clone().unwrap();
            let (mut sent, mut seen) = (0, 0);
            stream.sock.set_nonblocking(true).unwrap();
            let deadline = Instant::now() + PATIENCE;
            while seen < 2 * COMMANDS {
                assert!(Instant::now() < deadline);
                if sent < bytes.len() {
                    let end = (sent + (64 << 10)).min(bytes.len());
                    sent += stream.conn.writer().write(&bytes[sent..end]).unwrap();
                }
                while stream.conn.wants_write() {
                    match stream.conn.write_tls(&mut writer) {
                        Ok(_) => {}
                        Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                        Err(error) => panic!("{error}"),
                    }
                }
                match stream.conn.read_tls(&mut stream.sock) {
                    Ok(0) => panic!("closed after {seen}"),
                    Ok(_) => {}
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    Err(error) => panic!("{error}"),
                }
                stream.conn.process_new_packets().unwrap();
                while let Ok(count) = stream.conn.reader().read(chunk) {
                    reader.feed(&chunk[..count]);
                }
                while let Some(value) = reader.next().unwrap() {
                    let wanted =
                        if seen % 2 == 0 { simple("OK") } else { Value::Integer(seen as i64 / 2 + 1) };
                    assert_eq!(value, wanted, "reply {seen}");
                    seen += 1;
                }
            }
            stream.sock.set_nonblocking(false).unwrap();
        }
        let mut big = vec![0u8; 20 << 20];
        let mut random = Random::new(7);
        big.chunks_mut(8).for_each(|part| part.copy_from_slice(&random.next().to_le_bytes()[..part.len()]));
        assert_eq!(client.call(&[b"SET".as_slice(), b"big", &big]), simple("OK"));
        for _ in 0..3 {
            assert!(
                client.call(&["GET", "big"]) == Value::Bulk(big.clone()),
                "the value came back different"
            );
        }
        assert_eq!(client.call(&["STRLEN", "big"]), Value::Integer(20 << 20));
        // Byte after byte is a request, too.
        for byte in b"*1\r\n$4\r\nPING\r\n" {
            client.send(&[*byte]).unwrap();
        }
        assert_eq!(client.read().unwrap(), simple("PONG"));
        assert_eq!(client.call(&["QUIT"]), simple("OK"));
        assert_eq!(client.stream.read(&mut [0; 10]).unwrap(), 0, "a goodbye, and not just an end");
    }
    drop(server);
}

#[test]
fn what_was_answered_survives_a_kill() {
    let certificates = Certificates::new("tls-kill");
    let (mut server, port) = start("tls-kill", &certificates, &["--appendfsync", "always"]);
    let mut client = certificates.connect(port, TLS13, true);
    for number in 0..200 {
        assert_eq!(client.call(&["SET", &format!("k{number}"), "v"]), simple("OK"));
    }
    server.kill();
    server.restart();
    let mut client = certificates.connect(port, TLS13, true);
    assert_eq!(client.call(&["DBSIZE"]), Value::Integer(200));
}

#[test]
fn a_client_that_does_not_read_holds_up_nobody_and_loses_nothing() {
    let certificates = Certificates::new("tls-slow");
    let (server, port) = start("tls-slow", &certificates, &[]);
    let value = vec![b'x'; 1 << 20];
    let mut slow = certificates.connect(port, TLS13, true);
    assert_eq!(slow.call(&[b"SET".as_slice(), b"value", &value]), simple("OK"));
    let before = server.resident_bytes();
    for _ in 0..100 {
        let mut bytes = Vec::new();
        encode(&mut bytes, &["GET", "value"]);
        slow.send(&bytes).unwrap();
    }
    let mut other = certificates.connect(port, TLS12, true);
    for _ in 0..200 {
        let asked = Instant::now();
        assert_eq!(other.call(&["PING"]), simple("PONG"));
        assert!(asked.elapsed() < Duration::from_secs(5));
    }
    let grown = server.resident_bytes().saturating_sub(before);
    assert!(grown < 60 << 20, "{grown} bytes wait for a client that does not read");
    for _ in 0..100 {
        assert!(slow.read().unwrap() == Value::Bulk(value.clone()));
    }
}

#[test]
fn messages_reach_a_subscriber_that_waits() {
    let certificates = Certificates::new("tls-subscriber");
    let (server, port) = start("tls-subscriber", &certificates, &[]);
    let mut subscriber = certificates.connect(port, TLS13, true);
    subscriber.call(&["SUBSCRIBE", "news"]);
    let mut blocked = certificates.connect(port, TLS12, true);
    let mut bytes = Vec::new();
    encode(&mut bytes, &["BLPOP", "list", "0"]);
    blocked.send(&bytes).unwrap();
    let mut client = server.client();
    for number in 0..50 {
        assert_eq!(client.integer(&["PUBLISH", "news", &number.to_string()]), 1);
        let message = subscriber.read().unwrap();
        assert!(render(&message).contains(&number.to_string()), "{}", render(&message));
    }
    client.integer(&["RPUSH", "list", "element"]);
    assert!(render(&blocked.read().unwrap()).contains("element"));
}

#[test]
fn certificates_of_clients_are_asked_for_as_configured() {
    let certificates = Certificates::new("tls-clients");
    certificates.openssl("req -x509 -newkey rsa:2048 -nodes -days 30 -subj /CN=stranger -keyout stranger.key -out stranger.crt");
    let (server, port) = start("tls-clients", &certificates, &[]);
    let mut plain = server.client();
    let stranger = || {
        let mut config = certificates.client_config(TLS13, false);
        let certificate = CertificateDer::from_pem_file(certificates.path("stranger.crt")).unwrap();
        let key = PrivateKeyDer::from_pem_file(certificates.path("stranger.key")).unwrap();
        let roots = RootCertStore { roots: Vec::new() };
        let own = ClientConfig::builder_with_provider(Arc::clone(config.crypto_provider()))
            .with_protocol_versions(&[TLS13])
            .unwrap()
            .with_root_certificates(roots)
            .with_client_auth_cert(vec![certificate], key)
            .unwrap();
        config.client_auth_cert_resolver = own.client_auth_cert_resolver;
        TlsClient::new(port, config)
    };
    let is_in = |mut client: TlsClient| matches!(client.try_call(&["PING"]), Ok(Value::Simple(_)));
    for (mode, own, none, strange) in
        [("yes", true, false, false), ("optional", true, true, false), ("no", true, true, true)]
    {
        assert_eq!(plain.call(&["CONFIG", "SET", "tls-auth-clients", mode]), simple("OK"));
        for version in [TLS13, TLS12] {
            assert_eq!(is_in(certificates.connect(port, version, true)), own, "{mode}: its own");
            assert_eq!(is_in(certificates.connect(port, version, false)), none, "{mode}: none");
        }
        assert_eq!(is_in(stranger()), strange, "{mode}: a stranger's");
    }
    assert_eq!(plain.call(&["CONFIG", "SET", "tls-protocols", "TLSv1.2"]), simple("OK"));
    assert!(!is_in(certificates.connect(port, TLS13, true)));
    assert!(is_in(certificates.connect(port, TLS12, true)));
}

#[test]
fn certificates_are_replaced_while_clients_stay() {
    let certificates = Certificates::new("tls-replaced");
    certificates.sign("second", "ec -pkeyopt ec_paramgen_curve:prime256v1");
    certificates.openssl("rsa -in server.key -aes256 -passout pass:1234 -out encrypted.key");
    let (server, port) = start("tls-replaced", &certificates, &[]);
    let mut plain = server.client();
    let mut old = certificates.connect(port, TLS13, true);
    old.call(&["PING"]);
    let first = old.peer_certificate();
    let (certificate, key) = (certificates.text("second.crt"), certificates.text("second.key"));
    let both = ["CONFIG", "SET", "tls-cert-file", &certificate, "tls-key-file", &key];
    assert_eq!(plain.call(&both), simple("OK"));
    let mut new = certificates.connect(port, TLS13, true);
    assert_eq!(new.call(&["PING"]), simple("PONG"));
    assert_ne!(new.peer_certificate(), first);
    assert_eq!(old.call(&["PING"]), simple("PONG"));

    let encrypted = certificates.text("encrypted.key");
    for (name, value, said) in [
        ("tls-key-file", encrypted.as_str(), "it is encrypted; encrypted keys are not supported"),
        ("tls-cert-file", "/nowhere", "Failed to load certificate: /nowhere"),
        ("tls-cert-file", key.as_str(), "no certificate in it"),
        ("tls-key-file", &certificates.text("client.key"), "tls-key-file is not the key of tls-cert-file"),
        ("tls-ca-cert-file", "", "Either tls-ca-cert-file or tls-ca-cert-dir must be specified"),
        ("tls-protocols", "TLSv1.1", "is not safe"),
        ("tls-ciphers", "AES128-SHA", "'AES128-SHA' is none of"),
    ] {
        let reply = plain.call(&["CONFIG", "SET", name, value]);
        let wanted = format!(
            "ERR CONFIG SET failed (possibly related to argument '{name}') - Unable to update TLS configuration. Check server logs."
        );
        assert_eq!(reply, Value::Error(wanted.into_bytes()), "{name} {value}");
        assert!(server.log_tail().contains(said), "{said}\n{}", server.log_tail());
    }
    let mut new = certificates.connect(port, TLS13, true);
    assert_eq!(new.call(&["PING"]), simple("PONG"), "what was in force still is");
    let pass = plain.call(&["CONFIG", "SET", "tls-key-file-pass", "1234"]);
    assert!(render(&pass).contains("encrypted keys are not supported"), "{}", render(&pass));

    // The port goes and comes; who is connected stays.
    assert_eq!(plain.call(&["CONFIG", "SET", "tls-port", "0"]), simple("OK"));
    assert!(TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).is_err());
    assert_eq!(old.call(&["PING"]), simple("PONG"));
    assert_eq!(plain.call(&["CONFIG", "SET", "tls-port", &port.to_string()]), simple("OK"));
    assert_eq!(certificates.connect(port, TLS12, true).call(&["PING"]), simple("PONG"));
}

#[test]
fn certificates_are_renewed_under_their_names_and_survive_a_refused_change() {
    let certificates = Certificates::new("tls-renewed");
    certificates.sign("second", "rsa:2048");
    let (server, port) = start("tls-renewed", &certificates, &[]);
    let mut plain = server.client();
    let shown = || {
        let mut client = certificates.connect(port, TLS13, true);
        client.call(&["PING"]);
        client.peer_certificate()
    };
    let first = shown();
    for name in ["crt", "key"] {
        std::fs::copy(
            certificates.path(&format!("second.{name}")),
            certificates.path(&format!("server.{name}")),
        )
        .unwrap();
    }
    assert_eq!(shown(), first, "read when it is asked for");
    let path = certificates.text("server.crt");
    assert_eq!(plain.call(&["CONFIG", "SET", "tls-cert-file", &path]), simple("OK"));
    let second = shown();
    assert_ne!(second, first);

    // What is in force stays so when a change is refused, whatever became of its files.
    certificates.sign("third", "rsa:2048");
    std::fs::remove_file(certificates.path("server.crt")).unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = listener.local_addr().unwrap().port().to_string();
    let (certificate, key) = (certificates.text("third.crt"), certificates.text("third.key"));
    let set = ["CONFIG", "SET", "tls-cert-file", &certificate, "tls-key-file", &key, "port", &taken];
    assert!(render(&plain.call(&set)).contains("Unable to listen on this port"));
    assert_eq!(shown(), second);
}

#[test]
fn who_does_not_speak_tls_is_let_go_and_holds_up_nobody() {
    let certificates = Certificates::new("tls-strangers");
    let (server, port) = start("tls-strangers", &certificates, &["--workers", "1"]);
    let closes = |bytes: &[u8]| {
        let mut stream = connect_plain(port);
        stream.write_all(bytes).unwrap();
        let mut answer = Vec::new();
        match stream.read_to_end(&mut answer) {
            Err(error) if error.kind() != ErrorKind::ConnectionReset => panic!("not closed: {error}"),
            _ => answer,
        }
    };
    assert_eq!(closes(b"PING\r\n"), b"");
    assert_eq!(closes(b"*1\r\n$4\r\nPING\r\n"), b"");
    assert_eq!(closes(b"GET / HTTP/1.1\r\n\r\n"), b"");
    // A record of a handshake that is none, and one that is too long.
    closes(&[22, 3, 1, 0, 5, 1, 2, 3, 4, 5]);
    closes(&[22, 3, 1, 255, 255, 1, 2, 3, 4, 5]);

    // Half of a handshake: some say nothing, some a part of the first word.
    let began = Instant::now();
    let mut halves: Vec<TcpStream> = (0..40).map(|_| connect_plain(port)).collect();
    for stream in halves.iter_mut().skip(20) {
        stream.write_all(&[22, 3, 1, 1, 0, 1, 0, 0, 252, 3, 3]).unwrap();
    }
    let mut client = certificates.connect(port, TLS13, true);
    let mut slowest = Duration::ZERO;
    for number in 0..500 {
        let asked = Instant::now();
        assert_eq!(client.call(&["SET", "key", &number.to_string()]), simple("OK"));
        slowest = slowest.max(asked.elapsed());
    }
    assert!(slowest < Duration::from_secs(2), "{slowest:?}");
    for mut stream in halves {
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        assert!(began.elapsed() >= Duration::from_secs(9), "closed early");
        assert!(began.elapsed() < Duration::from_secs(40), "they have a time limit");
    }
    assert_eq!(client.call(&["PING"]), simple("PONG"));
    let mut plain = server.client();
    let list = plain.text(&["CLIENT", "LIST"]);
    assert_eq!(list.lines().count(), 2, "{list}");
}

#[test]
fn redis_cli_speaks_tls_with_us() {
    if Command::new("redis-cli").arg("--version").output().is_err() {
        eprintln!("no redis-cli here");
        return;
    }
    let certificates = Certificates::new("tls-cli");
    let (_server, port) = start("tls-cli", &certificates, &[]);
    let cli = |arguments: &[&str]| {
        let (ca, certificate, key) =
            (certificates.text("ca.crt"), certificates.text("client.crt"), certificates.text("client.key"));
        let mut command = Command::new("redis-cli");
        command.args(["-h", "127.0.0.1", "-p", &port.to_string(), "--tls", "--cacert", &ca]);
        command.args(["--cert", &certificate, "--key", &key]).args(arguments);
        let output = command.output().unwrap();
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
    };
    assert_eq!(cli(&["SET", "key", "value"]), "OK\n");
    assert_eq!(cli(&["GET", "key"]), "value\n");
    assert!(cli(&["INFO", "server"]).contains(&format!("name=tls,bind=127.0.0.1,port={port}")));
}

#[test]
fn a_bad_certificate_is_said_at_the_start() {
    let certificates = Certificates::new("tls-start");
    let folder = Folder::new("tls-start-data");
    let program = support::program::Program::under_test().path;
    let start = |more: &[&str]| {
        let mut command = Command::new(&program);
        command
            .args(["--port", "0", "--dir"])
            .arg(folder.path())
            .args(["--tls-port", &free_port().to_string()]);
        let output = command.args(more).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
    };
    assert!(start(&["--tls-auth-clients", "no"]).contains("No tls-cert-file configured!"));
    let certificate = certificates.text("server.crt");
    let own = ["--tls-cert-file", certificate.as_str(), "--tls-key-file", &certificates.text("server.key")];
    assert!(start(&own).contains("Either tls-ca-cert-file or tls-ca-cert-dir must be specified"));
    let said =
        start(&["--tls-auth-clients", "no", "--tls-cert-file", &certificate, "--tls-key-file", "/nowhere"]);
    assert!(said.contains("Failed to load private key: /nowhere"), "{said}");
}
