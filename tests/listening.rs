//! The ways in: ports, addresses, the unix socket, protected mode; commands under other names; how the process starts, and what it
//! says when it cannot.
#![expect(
    clippy::disallowed_methods,
    reason = "a test outside the server reads clocks and files as any program"
)]

#[expect(dead_code, reason = "each test binary takes its part of what they share")]
mod support;

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use haypile_resp::Value;

use support::client::{Client, PATIENCE, render};
use support::folder::Folder;
use support::program::{Family, Program};
use support::server::{Server, free_port, wait_for};

fn simple(text: &str) -> Value {
    Value::Simple(text.as_bytes().to_vec())
}

fn error(text: &str) -> Value {
    Value::Error(text.as_bytes().to_vec())
}

/// An address of this machine that is not its loopback's.
fn other_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    // Sends nothing: it only chooses the way there.
    socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9)).ok()?;
    let address = socket.local_addr().ok()?.ip();
    (!address.is_loopback()).then_some(address)
}

/// Lines sent over a unix socket, and what comes back until `count` lines have come.
fn ask_unix(path: &Path, text: &str, count: usize) -> Vec<String> {
    let mut stream = UnixStream::connect(path).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(text.as_bytes()).unwrap();
    read_lines(&mut stream, count)
}

fn read_lines(stream: &mut impl Read, count: usize) -> Vec<String> {
    let mut answer = Vec::new();
    while answer.iter().filter(|byte| **byte == b'\n').count() < count {
        let mut chunk = [0; 4096];
        let read = stream.read(&mut chunk).unwrap();
        assert!(read > 0, "closed after {}", String::from_utf8_lossy(&answer));
        answer.extend_from_slice(&chunk[..read]);
    }
    String::from_utf8(answer).unwrap().lines().map(str::to_string).collect()
}

#[test]
fn clients_come_in_by_the_unix_socket() {
    let folder = Folder::new("unix");
    let path = folder.path().join("socket");
    // Left behind by one that was killed.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let text = path.display().to_string();
    let mut server =
        Server::start("unix", &["--unixsocket", &text, "--unixsocketperm", "740", "--workers", "3"]);
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o740);
    assert_eq!(ask_unix(&path, "SET key value\r\nGET key\r\n", 3), ["+OK", "$5", "value"]);
    // Several at once, on all workers; big ones, too.
    let mut streams: Vec<UnixStream> = (0..12).map(|_| UnixStream::connect(&path).unwrap()).collect();
    let big = "x".repeat(3 << 20);
    for (number, stream) in streams.iter_mut().enumerate() {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(stream, "*3\r\n$3\r\nSET\r\n$4\r\nk{number:03}\r\n${}\r\n{big}\r\n", big.len()).unwrap();
    }
    for stream in &mut streams {
        assert_eq!(read_lines(stream, 1), ["+OK"]);
    }
    let mut client = server.client();
    if server.family() == Family::Haypile {
        let list = client.text(&["CLIENT", "LIST"]);
        let unix: Vec<&str> =
            list.lines().filter(|line| line.contains(&format!(" addr={text}:0 "))).collect();
        assert_eq!(unix.len(), 12, "{list}");
        assert!(unix.iter().all(|line| line.contains(" flags=U ")), "{list}");
        assert!(unix.iter().all(|line| line.contains(&format!(" laddr={text}:0 "))), "{list}");
        let info = client.text(&["INFO", "server"]);
        assert!(info.contains(&format!("listener1:name=unix,bind={text}\r\n")), "{info}");
        assert_eq!(client.integer(&["CLIENT", "KILL", "ADDR", &format!("{text}:0")]), 12);
    }
    server.terminate();
    assert!(server.wait_exit().success());
    assert!(!path.exists(), "the server takes its socket away");
}

#[test]
fn a_unix_socket_is_not_taken_from_who_listens() {
    let folder = Folder::new("taken-socket");
    let path = folder.path().join("socket");
    let text = path.display().to_string();
    let server = Server::start("taken-socket", &["--unixsocket", &text]);
    if server.family() == Family::Redis {
        return;
    }
    let said = refusal(&folder, &["--port", "0", "--unixsocket", &text, "--dir", "other"], "");
    assert!(said.contains("Failed opening Unix socket") && said.contains("Address already in use"), "{said}");
    assert_eq!(ask_unix(&path, "PING\r\n", 1), ["+PONG"]);
}

#[test]
fn a_server_may_have_nothing_but_a_unix_socket() {
    let folder = Folder::new("only-unix");
    let path = folder.path().join("socket");
    let mut child = spawn(&folder, &["--port", "0", "--unixsocket", "socket"]);
    wait_for("the socket", || UnixStream::connect(&path).is_ok());
    assert_eq!(ask_unix(&path, "CONFIG GET port\r\n", 5)[4], "0");
    stop(&mut child);
}

#[test]
fn protected_mode_lets_nobody_in_from_elsewhere() {
    let Some(address) = other_address() else {
        eprintln!("this machine has no address but its loopback's");
        return;
    };
    let server = Server::start("protected", &[]);
    let mut client = server.client();
    assert_eq!(client.call(&["CONFIG", "SET", "bind", "*"]), simple("OK"));
    let elsewhere = SocketAddr::new(address, server.port());
    let ask = || -> String {
        let mut stream = TcpStream::connect(elsewhere).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut answer = String::new();
        let _ = stream.write_all(b"PING\r\nQUIT\r\n");
        let _ = stream.read_to_string(&mut answer);
        answer
    };
    let denied = ask();
    assert!(
        denied.starts_with(
            "-DENIED Redis is running in protected mode because protected mode is enabled and no password"
        ),
        "{denied}"
    );
    assert!(
        denied.ends_with("in order for the server to start accepting connections from the outside.\r\n"),
        "{denied}"
    );
    assert_eq!(client.call(&["CONFIG", "SET", "requirepass", "secret"]), simple("OK"));
    assert!(ask().starts_with("-NOAUTH"), "{}", ask());
    assert_eq!(client.call(&["CONFIG", "SET", "requirepass", ""]), simple("OK"));
    assert!(ask().starts_with("-DENIED"));
    assert_eq!(client.call(&["CONFIG", "SET", "protected-mode", "no"]), simple("OK"));
    assert_eq!(ask(), "+PONG\r\n+OK\r\n");
}

#[test]
fn ports_and_addresses_change_while_the_server_runs() {
    let server = Server::start("ports", &[]);
    let mut client = server.client();
    let mut set = |pairs: &[&str]| client.call(&[&["CONFIG", "SET"], pairs].concat());
    let opens = |address: &str, port: u16| {
        Client::connect(SocketAddr::new(address.parse().unwrap(), port))
            .and_then(|mut client| client.try_call(&["PING"]))
            .is_ok_and(|reply| reply == simple("PONG"))
    };
    let (old, new) = (server.port(), free_port());
    assert_eq!(set(&["port", &new.to_string()]), simple("OK"));
    assert!(opens("127.0.0.1", new) && !opens("127.0.0.1", old));
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let refused = |name: &str, why: &str| {
        error(&format!("ERR CONFIG SET failed (possibly related to argument '{name}') - {why}"))
    };
    let listens = "Unable to listen on this port. Check server logs.";
    assert_eq!(set(&["port", &port]), refused("port", listens));
    // All or nothing: what stands beside it is not changed either.
    assert_eq!(set(&["maxclients", "77", "port", &port]), refused("port", listens));
    let binds = "Failed to bind to specified addresses.";
    assert_eq!(set(&["bind", "999.999.999.999"]), refused("bind", binds));
    assert_eq!(set(&["bind", "192.0.2.7"]), refused("bind", binds));
    assert!(opens("127.0.0.1", new), "the old ones are back");
    assert_eq!(set(&["bind", "127.0.0.1 -192.0.2.7 127.0.0.2"]), simple("OK"), "one is optional");
    assert!(opens("127.0.0.1", new) && opens("127.0.0.2", new));
    assert_eq!(set(&["bind", "* -::*"]), simple("OK"));
    assert!(opens("127.0.0.1", new) && opens("127.0.0.3", new));
    if TcpListener::bind("[::1]:0").is_ok() {
        assert!(opens("::1", new), "IPv6");
        let mut client = Client::connect(SocketAddr::new("::1".parse().unwrap(), new)).unwrap();
        let info = client.text(&["CLIENT", "INFO"]);
        assert!(info.contains(" addr=[::1]:") && info.contains(&format!(" laddr=[::1]:{new} ")), "{info}");
    }
    assert_eq!(set(&["bind", ""]), simple("OK"));
    assert!(!opens("127.0.0.1", new));
    assert_eq!(set(&["bind", "127.0.0.1"]), simple("OK"));
    assert!(opens("127.0.0.1", new));
    let mut client = Client::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, new))).unwrap();
    assert_eq!(
        render(&client.call(&["CONFIG", "GET", "maxclients"])),
        render(&Value::Array(vec![Value::Bulk(b"maxclients".to_vec()), Value::Bulk(b"10000".to_vec())]))
    );
    assert!(client.text(&["INFO", "server"]).contains(&format!("tcp_port:{new}\r\n")));
}

#[test]
fn too_many_clients_are_told_so() {
    let server = Server::start("maxclients", &["--maxclients", "3"]);
    let mut first = server.client();
    // The harness's own first look may not be forgotten yet.
    wait_for("one client", || first.text(&["CLIENT", "LIST"]).lines().count() == 1);
    let mut more: Vec<Client> = (0..2).map(|_| server.client()).collect();
    for client in &mut more {
        assert_eq!(client.call(&["PING"]), simple("PONG"));
    }
    let refused =
        || server.client().read_to_close().map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    assert_eq!(refused().unwrap(), "-ERR max number of clients reached\r\n");
    more.pop();
    wait_for("one that goes makes room", || {
        server.client().try_call(&["PING"]).is_ok_and(|reply| reply == simple("PONG"))
    });
    assert!(
        first
            .text(&["INFO", "stats"])
            .lines()
            .any(|line| line.strip_prefix("rejected_connections:").is_some_and(|count| count.trim() != "0"))
    );
    let reply = first.call(&["CONFIG", "SET", "maxclients", "4294967295"]);
    let text = render(&reply);
    assert!(
        text.contains("The operating system is not able to handle the specified number of clients, try with"),
        "{text}"
    );
}

#[test]
fn the_log_follows_its_name_and_its_level() {
    let folder = Folder::new("log");
    let port = free_port();
    let mut child =
        spawn(&folder, &["--port", &port.to_string(), "--bind", "127.0.0.1", "--logfile", "own.log"]);
    let (path, moved) = (folder.path().join("own.log"), folder.path().join("moved.log"));
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    wait_for("the server", || Client::connect(address).is_ok());
    let mut client = Client::connect(address).unwrap();
    let mut set =
        |name: &str, value: &str| assert_eq!(client.call(&["CONFIG", "SET", name, value]), simple("OK"));
    let logged =
        |path: &Path, what: &str| std::fs::read_to_string(path).is_ok_and(|text| text.contains(what));
    wait_for("its first lines", || logged(&path, "Ready to accept"));
    std::fs::rename(&path, &moved).unwrap();
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::HUP).unwrap();
    wait_for("a new file", || path.exists());
    std::fs::remove_file(&path).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(1100));
    set("bind", "127.0.0.1 -192.0.2.7");
    assert!(logged(&path, "192.0.2.7"), "looked for once a second");
    assert!(!logged(&moved, "192.0.2.7"));
    set("loglevel", "nothing");
    set("bind", "127.0.0.1 -192.0.2.8");
    assert!(!logged(&path, "192.0.2.8"));
    stop(&mut child);
    assert!(!logged(&path, "Bye"));
}

#[test]
fn a_checkpoint_may_be_asked_for_at_the_end_by_signal() {
    for (ending, is_made) in [("default", false), ("save", true), ("save force", true)] {
        let folder = Folder::new("sigterm");
        let port = free_port();
        let mut arguments = vec!["--port".to_string(), port.to_string(), "--bind".into(), "127.0.0.1".into()];
        arguments.push("--shutdown-on-sigterm".into());
        arguments.extend(ending.split(' ').map(str::to_string));
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let mut child = spawn(&folder, &[&arguments[..], &["--logfile", "own.log"]].concat());
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        wait_for("the server", || Client::connect(address).is_ok());
        assert_eq!(Client::connect(address).unwrap().call(&["SET", "a", "b"]), simple("OK"));
        stop(&mut child);
        let log = std::fs::read_to_string(folder.path().join("own.log")).unwrap();
        assert_eq!(log.contains("heckpoint"), is_made, "{ending}: {log}");
    }
}

#[test]
fn an_idle_client_is_let_go() {
    let server = Server::start("idle", &["--timeout", "1"]);
    let mut idle = server.client();
    assert_eq!(idle.call(&["PING"]), simple("PONG"));
    assert_eq!(idle.read_to_close().unwrap(), b"");
}

#[test]
fn commands_are_renamed_by_the_configuration() {
    let server = Server::start(
        "renamed",
        &[
            "--rename-command",
            "CONFIG",
            "",
            "--rename-command",
            "get",
            "Fetch",
            "--rename-command",
            "client",
            "peer",
        ],
    );
    let mut client = server.client();
    assert_eq!(client.call(&["SET", "key", "value"]), simple("OK"));
    assert_eq!(client.text(&["FETCH", "key"]), "value");
    let unknown = |command: &str| format!("ERR unknown command '{command}', with args beginning with: ");
    assert_eq!(client.call(&["GET", "key"]), error(&format!("{}'key' ", unknown("GET"))));
    assert_eq!(
        client.call(&["config", "get", "port"]),
        error(&format!("{}'get' 'port' ", unknown("config")))
    );
    assert_eq!(client.call(&["fetch"]), error("ERR wrong number of arguments for 'get' command"));
    assert_eq!(client.call(&["peer", "foo"]), error("ERR unknown subcommand 'foo'. Try PEER HELP."));
    assert!(client.integer(&["peer", "id"]) > 0);
    let info = render(&client.call(&["COMMAND", "INFO", "fetch", "config"]));
    assert!(info.contains("readonly"), "{info}");
    // In a transaction, too.
    client.call(&["MULTI"]);
    assert_eq!(client.call(&["fetch", "key"]), simple("QUEUED"));
    assert!(render(&client.call(&["GET", "key"])).contains("unknown command"));
    assert!(render(&client.call(&["EXEC"])).contains("EXECABORT"));
    // `acl` groups are of the commands, whatever they are called.
    let strings = render(&client.call(&["COMMAND", "LIST", "FILTERBY", "ACLCAT", "admin"]));
    assert!(!strings.contains("config|"), "{strings}");
}

/// Our program over a folder of its own, until it is stopped.
fn spawn(folder: &Folder, arguments: &[&str]) -> Child {
    let mut command = Command::new(Program::under_test().path);
    command.current_dir(folder.path()).args(["--dir", "."]).args(arguments);
    command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap()
}

fn stop(child: &mut Child) {
    let pid = rustix::process::Pid::from_child(child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert!(child.wait().unwrap().success());
}

/// What our program says to these arguments and this input, when it does not start.
fn refusal(folder: &Folder, arguments: &[&str], input: &str) -> String {
    let mut command = Command::new(Program::under_test().path);
    command.current_dir(folder.path()).args(arguments);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stdout));
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn a_bad_configuration_is_refused_with_its_line() {
    let folder = Folder::new("refused");
    std::fs::write(folder.path().join("a.conf"), "# first\nport 7000\nhz many\n").unwrap();
    std::fs::write(folder.path().join("b.conf"), "\ninclude a.conf\n").unwrap();
    std::fs::write(folder.path().join("c.conf"), "port 7000\n").unwrap();
    std::fs::write(folder.path().join("d.conf"), "include none*.conf\ninclude ./[a-c].conf\n").unwrap();
    let fatal = |line: usize, text: &str, why: &str| {
        format!(
            "\n*** FATAL CONFIG FILE ERROR (Redis 7.4.0) ***\nReading the configuration file, at line {line}\n>>> '{text}'\n{why}\n"
        )
    };
    let number = "argument couldn't be parsed into an integer";
    let unknown = "Bad directive or wrong number of arguments";
    let one_of = "argument(s) must be one of the following: everysec, always, no";
    for (arguments, input, wanted) in [
        (&["a.conf"][..], "", fatal(3, "hz many", number)),
        (&["b.conf"], "", fatal(3, "hz many", number)),
        (&["-"], "\n  nonsense 1  \n", fatal(2, "nonsense 1", unknown)),
        (&["-"], "appendfsync sometimes", fatal(1, "appendfsync sometimes", one_of)),
        (&["-"], "maxmemory 1x", fatal(1, "maxmemory 1x", "argument must be a memory value")),
        (&["-"], "port 70000", fatal(1, "port 70000", "argument must be between 0 and 65535 inclusive")),
        (
            &["-"],
            "rename-command nosuch x",
            fatal(1, "rename-command nosuch x", "No such command in rename-command"),
        ),
        (
            &["-"],
            "rename-command get set",
            fatal(1, "rename-command get set", "Target command name already exists"),
        ),
        (&["-"], "requirepass \"a", fatal(1, "requirepass \"a", "Unbalanced quotes in configuration line")),
        (&["--port", "1", "--hz"], "", fatal(3, "hz", "wrong number of arguments")),
        (&["--appendfsync", "never"], "", fatal(2, "appendfsync \"never\"", one_of)),
        (&["-", "--hz", "x"], "port 1\n", fatal(3, "hz \"x\"", number)),
        (
            &["-"],
            "\nbind ::1 nowhere\n",
            fatal(2, "bind ::1 nowhere", "bind: 'nowhere' is not an IP address"),
        ),
        (
            &["-"],
            "tls-port 1\ntls-protocols TLSv1.1",
            fatal(2, "tls-protocols TLSv1.1", "tls-protocols: TLSv1.1 is not safe, and not supported"),
        ),
        (&["d.conf"], "", fatal(3, "hz many", number)),
        (
            &["-"],
            "metrics-bind abc",
            fatal(1, "metrics-bind abc", "metrics-bind: 'abc' is not an IP address"),
        ),
        (
            &["-"],
            "metrics-port 1\nmetrics-bind abc",
            fatal(2, "metrics-bind abc", "metrics-bind: 'abc' is not an IP address"),
        ),
        (
            &["--memory-budget", "1"],
            "",
            fatal(2, "memory-budget \"1\"", "argument must be 0 or at least 1048576"),
        ),
    ] {
        assert_eq!(refusal(&folder, arguments, input), wanted, "{arguments:?} {input:?}");
    }
    assert!(
        refusal(&folder, &["missing.conf"], "")
            .contains("Fatal error, can't open config file 'missing.conf'")
    );
    let said = refusal(&folder, &["--cluster-enabled", "yes"], "");
    assert!(said.contains("'cluster-enabled' is refused: cluster mode is not supported"), "{said}");
    std::fs::write(folder.path().join("e.conf"), b"# caf\xe9\nlogfile caf\xe9\n").unwrap();
    let said = refusal(&folder, &["e.conf"], "");
    assert_eq!(said, fatal(2, "logfile caf\u{fffd}", "what it says is not UTF-8"));
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let said = refusal(&folder, &["--bind", "127.0.0.1", "--port", &port, "--dir", "data"], "");
    assert!(said.contains(&format!("Failed listening on port {port} (TCP), aborting.")), "{said}");
    assert!(said.contains("Address already in use"), "{said}");
    let said = refusal(&folder, &["--port", "0", "--dir", "data"], "");
    assert!(said.contains("Configured to not listen anywhere, exiting."), "{said}");
}

#[test]
fn a_configuration_comes_from_file_input_and_arguments_in_this_order() {
    let folder = Folder::new("order");
    let port = free_port().to_string();
    std::fs::write(folder.path().join("a.conf"), format!("port {port}\nhz 11\nmaxclients 50\ntimeout 5\n"))
        .unwrap();
    let mut command = Command::new(Program::under_test().path);
    command.current_dir(folder.path()).args([
        "a.conf",
        "--dir",
        "data",
        "--timeout",
        "7",
        "--pidfile",
        "own.pid",
        "-",
    ]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"maxclients 60\ntimeout 6\nlogfile ''\n").unwrap();
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port.parse().unwrap()));
    wait_for("the server", || Client::connect(address).is_ok());
    let mut client = Client::connect(address).unwrap();
    let values: Vec<String> = ["hz", "maxclients", "timeout"]
        .iter()
        .map(|name| render(&client.call(&["CONFIG", "GET", name])))
        .collect();
    assert!(values[0].contains("11") && values[1].contains("60") && values[2].contains('7'), "{values:?}");
    // Paths are relative to the data folder, as in Redis.
    let pid = std::fs::read_to_string(folder.path().join("data/own.pid")).unwrap();
    assert_eq!(pid.trim(), child.id().to_string());
    let pid = format!(" PID: {}", child.id());
    stop(&mut child);
    let mut log = String::new();
    child.stdout.take().unwrap().read_to_string(&mut log).unwrap();
    assert!(log.contains(&pid) && log.contains("Ready to accept connections tcp"), "{log}");
}

#[test]
fn a_daemon_goes_to_the_background() {
    let folder = Folder::new("daemon");
    let port = free_port();
    let mut command = Command::new(Program::under_test().path);
    command.current_dir(folder.path()).args([
        "--daemonize",
        "yes",
        "--dir",
        ".",
        "--port",
        &port.to_string(),
    ]);
    let status = command.args(["--pidfile", "own.pid", "--logfile", "own.log"]).status().unwrap();
    assert!(status.success(), "the first process ends");
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    wait_for("the daemon", || Client::connect(address).is_ok());
    let mut client = Client::connect(address).unwrap();
    let info = client.text(&["INFO", "server"]);
    let pid = info.lines().find_map(|line| line.strip_prefix("process_id:")).unwrap().trim().to_string();
    wait_for("its pid", || {
        std::fs::read_to_string(folder.path().join("own.pid")).is_ok_and(|own| own.trim() == pid)
    });
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let session = stat.rsplit(") ").next().unwrap().split(' ').nth(3).unwrap().to_string();
    assert_eq!(session, pid, "a session of its own");
    let _ = client.try_call(&["SHUTDOWN", "NOSAVE"]);
    wait_for("its end", || !folder.path().join("own.pid").exists());
    wait_for("its end", || !Path::new(&format!("/proc/{pid}/exe")).exists());
}

#[test]
fn systemd_is_told_that_the_server_is_ready() {
    let folder = Folder::new("systemd");
    let path = folder.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut command = Command::new(Program::under_test().path);
    command.current_dir(folder.path()).args([
        "--dir",
        ".",
        "--supervised",
        "auto",
        "--port",
        &free_port().to_string(),
    ]);
    let mut child = command.env("NOTIFY_SOCKET", &path).stdout(Stdio::null()).spawn().unwrap();
    let mut text = [0; 100];
    let count = socket.recv(&mut text).unwrap();
    assert_eq!(&text[..count], b"STATUS=Ready to accept connections\nREADY=1\n");
    stop(&mut child);
}
