//! `metrics-port`: a small HTTP/1.1 server that answers `GET /metrics`, and nothing else, to Prometheus.
//!
//! One thread with a poll of its own; workers never hear of it. A connection is one request and one answer, then it is closed. All is bounded:
//! how many there are, how long a request may be, and how long all of it may take; one over the bound takes the place of the
//! oldest. There are no passwords here: as on the other ports, while the server has none and is in protected mode, only clients of the
//! same machine are answered.

use crate::base::config::Config;
use crate::command::metrics::render;
use crate::command::spec::Table;
use crate::net::listeners::{addresses, is_loopback, is_tolerable, listen_tcp};
use crate::session::server_state::ServerState;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token, Waker};
use std::collections::HashMap;
use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const WAKER: Token = Token(usize::MAX);
/// Connections at a time.
const CONNECTIONS_MAX: usize = 32;
/// The longest request.
const REQUEST_BYTES_MAX: usize = 8 << 10;
/// How long a connection may take from its first byte to its last.
const CONNECTION_MS_MAX: u64 = 5000;
/// How often deadlines are looked at.
const GLANCE: Duration = Duration::from_millis(500);

struct Connection {
    stream: TcpStream,
    is_refused: bool,
    deadline_ms: u64,
    request: Vec<u8>,
    /// What is still to be sent; nothing before the request is whole.
    answer: Vec<u8>,
    sent: usize,
}

/// What becomes of a connection.
#[derive(PartialEq, Eq)]
enum Fate {
    Stays,
    Closes,
}

/// See the module.
pub struct MetricsServer {
    listeners: Vec<TcpListener>,
    poll: Poll,
    stop: Arc<AtomicBool>,
    connections: HashMap<usize, Connection>,
    next_token: usize,
}

/// Ends a [`MetricsServer`].
pub struct MetricsHandle {
    stop: Arc<AtomicBool>,
    waker: Waker,
}

impl MetricsHandle {
    /// Answers nobody any more.
    pub fn stop(&self) {
        // Release: pairs with the Acquire in `run`.
        self.stop.store(true, Ordering::Release);
        // Fails only without memory; the flag is looked at twice a second anyway.
        let _ = self.waker.wake();
    }
}

impl MetricsServer {
    /// Listens on `metrics-port`, if there is one. Errors are ready to be shown.
    pub fn new(config: &Config) -> Result<Option<(MetricsServer, MetricsHandle)>, String> {
        let port = u16::try_from(config.number("metrics-port")).unwrap_or(0);
        if port == 0 {
            return Ok(None);
        }
        let failed = |error: io::Error| format!("metrics-port {port}: {error}");
        let own = config.text("metrics-bind");
        let words = if own.is_empty() { config.text("bind") } else { own };
        let poll = Poll::new().map_err(failed)?;
        let mut listeners = Vec::new();
        for (address, optional) in addresses(words).map_err(|refusal| refusal.to_string())? {
            match listen_tcp(SocketAddr::new(address, port), 64) {
                Ok(mut listener) => {
                    let token = Token(listeners.len());
                    poll.registry().register(&mut listener, token, Interest::READABLE).map_err(failed)?;
                    listeners.push(listener);
                }
                Err(error) if is_tolerable(&error, optional) => {}
                Err(error) => {
                    return Err(format!("metrics-port: cannot listen on {address} port {port}: {error}"));
                }
            }
        }
        let stop = Arc::new(AtomicBool::new(false));
        let handle = MetricsHandle {
            stop: Arc::clone(&stop),
            waker: Waker::new(poll.registry(), WAKER).map_err(failed)?,
        };
        let next_token = listeners.len();
        Ok(Some((MetricsServer { listeners, poll, stop, connections: HashMap::new(), next_token }, handle)))
    }

    /// Answers until it is stopped.
    pub fn run(mut self, server: &ServerState, table: &Table) {
        let mut events = Events::with_capacity(64);
        // Acquire: pairs with the Release in `MetricsHandle::stop`.
        while !self.stop.load(Ordering::Acquire) {
            if let Err(error) = self.poll.poll(&mut events, Some(GLANCE))
                && error.kind() != ErrorKind::Interrupted
            {
                server.log('#', &format!("metrics: poll: {error}"));
            }
            let now_ms = server.clock.monotonic_ms();
            for event in &events {
                let Token(token) = event.token();
                if token < self.listeners.len() {
                    self.accept(token, server, now_ms);
                } else {
                    self.serve(token, server, table);
                }
            }
            self.connections.retain(|_, connection| connection.deadline_ms > now_ms);
        }
    }

    /// Takes all that wait: edges are not repeated.
    fn accept(&mut self, listener: usize, server: &ServerState, now_ms: u64) {
        while let Some(listener) = self.listeners.get(listener) {
            let (mut stream, address) = match listener.accept() {
                Ok(accepted) => accepted,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                // Out of descriptors: the next one that comes is an edge again, and Prometheus asks again.
                Err(_) => return,
            };
            let token = self.next_token;
            let registered = self.poll.registry().register(
                &mut stream,
                Token(token),
                Interest::READABLE | Interest::WRITABLE,
            );
            if registered.is_err() {
                continue;
            }
            // Never the waker's: that many connections do not come.
            self.next_token = token.wrapping_add(1).max(self.listeners.len());
            if self.connections.len() >= CONNECTIONS_MAX
                && let Some(oldest) = self
                    .connections
                    .iter()
                    .min_by_key(|(token, own)| (own.deadline_ms, **token))
                    .map(|(token, _)| *token)
            {
                self.connections.remove(&oldest);
            }
            let settings = &server.settings;
            let is_refused = settings.protected_mode.load(Ordering::Relaxed)
                && server.users.is_open()
                && !is_loopback(address.ip());
            let deadline_ms = now_ms + CONNECTION_MS_MAX;
            let (request, answer) = (Vec::new(), Vec::new());
            self.connections
                .insert(token, Connection { stream, is_refused, deadline_ms, request, answer, sent: 0 });
        }
    }

    fn serve(&mut self, token: usize, server: &ServerState, table: &Table) {
        let Some(connection) = self.connections.get_mut(&token) else { return };
        let fate = connection.go_on(|| render(server, table));
        if fate == Fate::Closes {
            self.connections.remove(&token);
        }
    }
}

impl Connection {
    fn go_on(&mut self, metrics: impl Fn() -> String) -> Fate {
        while self.answer.is_empty() {
            let mut chunk = [0; 2048];
            match self.stream.read(&mut chunk) {
                Ok(0) => return Fate::Closes,
                Ok(count) => self.request.extend_from_slice(chunk.get(..count).unwrap_or_default()),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Fate::Stays,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Fate::Closes,
            }
            if let Some(answer) = answer(&self.request, self.is_refused, &metrics) {
                self.answer = answer;
            }
        }
        loop {
            let rest = self.answer.get(self.sent..).unwrap_or_default();
            if rest.is_empty() {
                // What the client may still send is not waited for.
                let _ = self.stream.shutdown(std::net::Shutdown::Write);
                return Fate::Closes;
            }
            match self.stream.write(rest) {
                Ok(count) => self.sent += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Fate::Stays,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Fate::Closes,
            }
        }
    }
}

/// The answer to a request; `None` while it is not whole.
fn answer(request: &[u8], is_refused: bool, metrics: impl Fn() -> String) -> Option<Vec<u8>> {
    const PLAIN: &str = "text/plain; charset=utf-8";
    let whole =
        request.windows(4).any(|end| end == b"\r\n\r\n") || request.windows(2).any(|end| end == b"\n\n");
    if !whole && request.len() > REQUEST_BYTES_MAX {
        return Some(response(
            "431 Request Header Fields Too Large",
            PLAIN,
            "",
            "the request is too long\n",
            false,
        ));
    }
    if !whole {
        return None;
    }
    let line = request.split(|byte| *byte == b'\n').next().unwrap_or_default().trim_ascii_end();
    let words: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
    let [method, target, version] = words[..] else {
        return Some(response("400 Bad Request", PLAIN, "", "this is not HTTP\n", false));
    };
    if !version.starts_with(b"HTTP/1.") {
        return Some(response("400 Bad Request", PLAIN, "", "this is not HTTP/1\n", false));
    }
    let head = method == b"HEAD";
    if is_refused {
        let why = "the server has no password and is in protected mode: only clients of the same machine are answered\n";
        return Some(response("403 Forbidden", PLAIN, "", why, head));
    }
    if method != b"GET" && !head {
        return Some(response("405 Method Not Allowed", PLAIN, "Allow: GET, HEAD\r\n", "GET only\n", false));
    }
    let path = target.split(|byte| *byte == b'?').next().unwrap_or_default();
    Some(match path {
        b"/metrics" => response("200 OK", "text/plain; version=0.0.4; charset=utf-8", "", &metrics(), head),
        _ => response("404 Not Found", PLAIN, "", "metrics are at /metrics\n", head),
    })
}

fn response(status: &str, kind: &str, more: &str, body: &str, head: bool) -> Vec<u8> {
    let length = body.len();
    let head_lines = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n{more}Connection: close\r\n\r\n"
    );
    let mut bytes = head_lines.into_bytes();
    if !head {
        bytes.extend_from_slice(body.as_bytes());
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(request: &str) -> Option<String> {
        let answer = answer(request.as_bytes(), false, || "x 1\n".into())?;
        Some(String::from_utf8(answer).unwrap()[9..12].to_string())
    }

    #[test]
    fn requests() {
        for (request, wanted) in [
            ("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", Some("200")),
            ("GET /metrics?name=x HTTP/1.0\n\n", Some("200")),
            ("HEAD /metrics HTTP/1.1\r\n\r\n", Some("200")),
            ("GET /metrics HTTP/1.1\r\n", None),
            ("", None),
            ("GET / HTTP/1.1\r\n\r\n", Some("404")),
            ("POST /metrics HTTP/1.1\r\n\r\n", Some("405")),
            ("GET /metrics\r\n\r\n", Some("400")),
            ("PING\r\n\r\n", Some("400")),
            ("GET /metrics HTTP/2\r\n\r\n", Some("400")),
        ] {
            assert_eq!(status(request).as_deref(), wanted, "{request}");
        }
        assert_eq!(status(&"x".repeat(REQUEST_BYTES_MAX + 1)).as_deref(), Some("431"));
        let body = answer(b"HEAD /metrics HTTP/1.1\r\n\r\n", false, || "x 1\n".into()).unwrap();
        assert!(String::from_utf8(body).unwrap().ends_with("Content-Length: 4\r\nConnection: close\r\n\r\n"));
        let refused = answer(b"GET /metrics HTTP/1.1\r\n\r\n", true, || "x 1\n".into()).unwrap();
        assert!(refused.starts_with(b"HTTP/1.1 403 "));
    }
}
