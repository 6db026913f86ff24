//! A blocking client: commands out, values in, as many in flight as the caller likes.
//!
//! Every socket call has a time limit, so that a server that hangs is a failed test and not a hung one.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use haypile_resp::{ReplyReader, Value};

/// Longer than any command of any test on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// One connection.
pub struct Client {
    stream: TcpStream,
    reader: ReplyReader,
    unsent: Vec<u8>,
    chunk: Box<[u8]>,
}

impl Client {
    pub fn connect(address: SocketAddr) -> io::Result<Client> {
        let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Client {
            stream,
            reader: ReplyReader::default(),
            unsent: Vec::new(),
            chunk: vec![0; 64 << 10].into_boxed_slice(),
        })
    }

    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    pub fn set_patience(&self, patience: Duration) -> io::Result<()> {
        self.stream.set_read_timeout(Some(patience))
    }

    /// Puts a command behind the others not sent yet.
    pub fn queue<A: AsRef<[u8]>>(&mut self, arguments: &[A]) {
        encode(&mut self.unsent, arguments);
    }

    /// Sends what was queued.
    pub fn flush(&mut self) -> io::Result<()> {
        let result = self.stream.write_all(&self.unsent);
        self.unsent.clear();
        result
    }

    /// Sends bytes as they are.
    pub fn send_raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.flush()?;
        self.stream.write_all(bytes)
    }

    /// The next reply. `UnexpectedEof` when the server has closed.
    pub fn read(&mut self) -> io::Result<Value> {
        loop {
            match self.reader.next() {
                Ok(Some(value)) => return Ok(value),
                Ok(None) => {}
                Err(error) => return Err(io::Error::new(io::ErrorKind::InvalidData, error.to_string())),
            }
            let count = match self.stream.read(&mut self.chunk) {
                // A machine that is stopped and goes on interrupts reads with a timeout.
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                read => read?,
            };
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.reader.feed(&self.chunk[..count]);
        }
    }

    /// One command and its reply.
    pub fn try_call<A: AsRef<[u8]>>(&mut self, arguments: &[A]) -> io::Result<Value> {
        self.queue(arguments);
        self.flush()?;
        self.read()
    }

    /// One command and its reply, where nothing may go wrong on the way.
    pub fn call<A: AsRef<[u8]>>(&mut self, arguments: &[A]) -> Value {
        self.try_call(arguments).unwrap_or_else(|error| panic!("{}: {error}", render_command(arguments)))
    }

    /// One command whose reply is a number.
    pub fn integer<A: AsRef<[u8]>>(&mut self, arguments: &[A]) -> i64 {
        match self.call(arguments) {
            Value::Integer(number) => number,
            other => panic!("{}: {}", render_command(arguments), render(&other)),
        }
    }

    /// One command whose reply is a text of any kind but an error.
    pub fn text<A: AsRef<[u8]>>(&mut self, arguments: &[A]) -> String {
        match self.call(arguments) {
            Value::Bulk(text) | Value::Simple(text) | Value::Verbatim { text, .. } => {
                String::from_utf8_lossy(&text).into_owned()
            }
            other => panic!("{}: {}", render_command(arguments), render(&other)),
        }
    }

    /// Everything the server sends until it closes. Fails if it does not close.
    pub fn read_to_close(&mut self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        loop {
            match self.stream.read(&mut self.chunk) {
                Ok(0) => return Ok(bytes),
                Ok(count) => bytes.extend_from_slice(&self.chunk[..count]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Closed with bytes of ours unread.
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(bytes),
                Err(error) => return Err(error),
            }
        }
    }

    /// Says that nothing more will be sent.
    pub fn finish_sending(&mut self) -> io::Result<()> {
        self.flush()?;
        self.stream.shutdown(Shutdown::Write)
    }

    /// Every key of the selected database, by SCAN, sorted; each key once.
    pub fn scan_all(&mut self) -> Vec<Vec<u8>> {
        let mut keys = Vec::new();
        let mut cursor = b"0".to_vec();
        loop {
            let reply = self.call(&[b"SCAN".as_slice(), &cursor, b"COUNT", b"1000"]);
            let (next, batch) = scan_reply(&reply).unwrap_or_else(|| panic!("SCAN: {}", render(&reply)));
            keys.extend(batch);
            if next == b"0" {
                break;
            }
            cursor = next;
        }
        keys.sort();
        keys.dedup();
        keys
    }
}

/// The cursor and the keys of a reply to SCAN.
pub fn scan_reply(reply: &Value) -> Option<(Vec<u8>, Vec<Vec<u8>>)> {
    let Value::Array(parts) = reply else { return None };
    let [Value::Bulk(cursor), Value::Array(keys)] = parts.as_slice() else { return None };
    let keys = keys.iter().map(|key| bulk(key).map(<[u8]>::to_vec)).collect::<Option<Vec<_>>>()?;
    Some((cursor.clone(), keys))
}

pub fn bulk(value: &Value) -> Option<&[u8]> {
    match value {
        Value::Bulk(bytes) => Some(bytes),
        _ => None,
    }
}

/// Appends a command as a request of bulks.
pub fn encode<A: AsRef<[u8]>>(into: &mut Vec<u8>, arguments: &[A]) {
    into.extend_from_slice(format!("*{}\r\n", arguments.len()).as_bytes());
    for argument in arguments {
        let argument = argument.as_ref();
        into.extend_from_slice(format!("${}\r\n", argument.len()).as_bytes());
        into.extend_from_slice(argument);
        into.extend_from_slice(b"\r\n");
    }
}

/// A command as a person would type it; long arguments cut.
pub fn render_command<A: AsRef<[u8]>>(arguments: &[A]) -> String {
    let words: Vec<String> = arguments.iter().map(|argument| render_bytes(argument.as_ref())).collect();
    words.join(" ")
}

/// Bytes for a person to read; long ones cut.
pub fn render_bytes(bytes: &[u8]) -> String {
    const SHOWN: usize = 120;
    let plain = !bytes.is_empty() && bytes.iter().all(|byte| byte.is_ascii_graphic() && *byte != b'"');
    let shown = &bytes[..bytes.len().min(SHOWN)];
    let text = shown.escape_ascii().to_string();
    let text = if plain { text } else { format!("\"{text}\"") };
    if bytes.len() > SHOWN { format!("{text}..({} bytes)", bytes.len()) } else { text }
}

/// A reply for a person to read, its kind visible.
pub fn render(value: &Value) -> String {
    fn list(open: &str, values: &[Value]) -> String {
        let inner: Vec<String> = values.iter().map(render).collect();
        format!("{open}[{}]", inner.join(", "))
    }
    match value {
        Value::Simple(text) => format!("+{}", text.escape_ascii()),
        Value::Error(text) => format!("-{}", text.escape_ascii()),
        Value::BulkError(text) => format!("!{}", text.escape_ascii()),
        Value::Integer(number) => format!(":{number}"),
        Value::Bulk(bytes) => format!("${}", render_bytes(bytes)),
        Value::Null => "(nil)".to_string(),
        Value::NullArray => "(nil array)".to_string(),
        Value::Array(values) => list("*", values),
        Value::Set(values) => list("~", values),
        Value::Push(values) => list(">", values),
        Value::Map(pairs) => {
            let inner: Vec<String> =
                pairs.iter().map(|(key, value)| format!("{}: {}", render(key), render(value))).collect();
            format!("%{{{}}}", inner.join(", "))
        }
        Value::Double(number) => format!(",{number:?}"),
        Value::Boolean(truth) => format!("#{truth}"),
        Value::BigNumber(digits) => format!("({}", digits.escape_ascii()),
        Value::Verbatim { format, text } => format!("={}:{}", format.escape_ascii(), render_bytes(text)),
        Value::Attributed { attributes, value } => {
            format!("|{} attributes| {}", attributes.len(), render(value))
        }
    }
}
