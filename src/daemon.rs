//! The process among others: in the background, or in the hands of a supervisor.
//!
//! `daemonize` starts the program once more, in a session of its own and with nothing on its standard streams; the first process ends when
//! the second has been started. (Forking in place would need code that only the system's own rules make safe.) The second is told by a
//! variable of its environment; both read the configuration, so a bad one is refused where somebody sees it. One that comes from
//! standard input is gone by then: that is refused.

use crate::base::config::Config;
use rustix::process::{Signal, getpid, kill_process, setsid};
use std::env;
use std::ffi::OsString;
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};

const DETACHED: &str = "HAYPILE_DETACHED";

/// Goes to the background if the configuration says so. True in the process that is to end now.
pub fn detach(config: &Config, arguments: &[OsString]) -> Result<bool, String> {
    if env::var_os(DETACHED).is_some() {
        // Fails only for a leader of a session already.
        let _ = setsid();
        return Ok(false);
    }
    if !config.flag("daemonize") || supervisor(config).is_some() {
        return Ok(false);
    }
    if arguments.iter().any(|argument| argument == "-") {
        return Err("daemonize: the configuration cannot come from standard input".into());
    }
    let program = env::current_exe().map_err(|error| format!("daemonize: {error}"))?;
    let mut command = Command::new(program);
    command.args(arguments).env(DETACHED, "1");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().map_err(|error| format!("daemonize: {error}"))?;
    Ok(true)
}

/// Who waits to hear that the server is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Supervisor {
    Systemd,
    Upstart,
}

fn supervisor(config: &Config) -> Option<Supervisor> {
    let has = |name: &str| env::var_os(name).is_some_and(|value| !value.is_empty());
    match config.text("supervised") {
        "systemd" => Some(Supervisor::Systemd),
        "upstart" => Some(Supervisor::Upstart),
        "auto" if has("UPSTART_JOB") => Some(Supervisor::Upstart),
        "auto" if has("NOTIFY_SOCKET") => Some(Supervisor::Systemd),
        _ => None,
    }
}

/// Tells the supervisor, if there is one, that the server is ready.
pub fn notify_supervisor(config: &Config) -> Result<(), String> {
    match supervisor(config) {
        None => Ok(()),
        Some(Supervisor::Systemd) => notify_systemd("STATUS=Ready to accept connections\nREADY=1\n")
            .map_err(|why| format!("systemd supervision requested or auto-detected, but {why}")),
        Some(Supervisor::Upstart) => {
            if env::var_os("UPSTART_JOB").is_none() {
                return Err("upstart supervision requested, but UPSTART_JOB not found!".into());
            }
            // Upstart goes on with what is stopped: that is how it learns.
            kill_process(getpid(), Signal::STOP).map_err(|error| format!("upstart: {error}"))
        }
    }
}

fn notify_systemd(text: &str) -> Result<(), String> {
    let path = env::var("NOTIFY_SOCKET").map_err(|_| "NOTIFY_SOCKET not found!".to_string())?;
    let socket = UnixDatagram::unbound().map_err(|error| error.to_string())?;
    let sent = match path.strip_prefix('@') {
        Some(name) => {
            use std::os::linux::net::SocketAddrExt as _;
            std::os::unix::net::SocketAddr::from_abstract_name(name)
                .and_then(|address| socket.send_to_addr(text.as_bytes(), &address))
        }
        None => socket.send_to(text.as_bytes(), &path),
    };
    sent.map(drop).map_err(|error| format!("{path}: {error}"))
}
