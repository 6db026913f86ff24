//! A server process: started on a free port over a folder, killed, stopped, started again.
//!
//! The process is killed when its handle is dropped. What it printed is kept in `server.log` in its folder and shown
//! when something fails.

use std::fs::OpenOptions;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use haypile_resp::Value;
use rustix::process::{Pid, Signal, kill_process};

use crate::support::client::Client;
use crate::support::folder::Folder;
use crate::support::program::{Family, Program};

/// Longer than a start with recovery, or a clean stop, takes on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// How often something awaited is looked at.
pub const GLANCE: Duration = Duration::from_millis(5);

/// A running (or killed, and to be started again) server.
pub struct Server {
    /// Its configuration file.
    file: Option<PathBuf>,
    program: Program,
    flags: Vec<String>,
    port: u16,
    child: Option<Child>,
    folder: Folder,
}

impl Server {
    /// Starts the server under test over an empty folder. Flags are of redis-server's form: `--name`, `value`, ..
    pub fn start(name: &str, flags: &[&str]) -> Server {
        Server::start_program(name, Program::under_test(), flags)
    }

    /// The same, with a given program.
    pub fn start_program(name: &str, program: Program, flags: &[&str]) -> Server {
        Server::start_whole(name, program, None, flags)
    }

    /// Our server with a configuration file.
    pub fn start_with_file(name: &str, file: &Path, flags: &[&str]) -> Server {
        Server::start_whole(name, Program::under_test(), Some(file.to_path_buf()), flags)
    }

    fn start_whole(name: &str, program: Program, file: Option<PathBuf>, flags: &[&str]) -> Server {
        let flags = flags.iter().map(ToString::to_string).collect();
        let mut server = Server { program, file, flags, port: 0, child: None, folder: Folder::new(name) };
        // Another process may take the free port between our look and the server's bind.
        for _ in 0..5 {
            server.port = free_port();
            server.spawn();
            if server.wait_until_ready() {
                return server;
            }
        }
        panic!("the server does not start:\n{}", server.log_tail());
    }

    pub fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn family(&self) -> Family {
        self.program.family
    }

    pub fn pid(&self) -> u32 {
        self.child.as_ref().map_or(0, Child::id)
    }

    pub fn data_folder(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    pub fn client(&self) -> Client {
        Client::connect(self.address())
            .unwrap_or_else(|error| panic!("connect: {error}\n{}", self.log_tail()))
    }

    /// Kills the process as `kill -9` does, and waits until it is gone.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have gone by itself; the wait tells.
            let _ = child.kill();
            let status = child.wait().expect("wait for the killed server");
            assert!(
                std::os::unix::process::ExitStatusExt::signal(&status) == Some(9),
                "the server ended by itself before it was killed: {status}\n{}",
                self.log_tail()
            );
        }
    }

    /// Starts the process again over the same folder and port.
    pub fn restart(&mut self) {
        assert!(self.child.is_none(), "restart of a running server");
        self.spawn();
        assert!(self.wait_until_ready(), "the server does not come back:\n{}", self.log_tail());
    }

    /// Sends SIGTERM.
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        let child = self.child.as_ref().expect("a running server");
        kill_process(Pid::from_child(child), signal).expect("a signal");
    }

    /// Waits until the process has ended by itself.
    pub fn wait_exit(&mut self) -> ExitStatus {
        let mut child = self.child.take().expect("a running server");
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = child.try_wait().expect("wait for the server") {
                return status;
            }
            if Instant::now() > deadline {
                let _ = child.kill();
                panic!("the server does not stop:\n{}", self.log_tail());
            }
            std::thread::sleep(GLANCE);
        }
    }

    /// Resident memory now.
    pub fn resident_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("/proc status");
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("VmRSS");
        let number = line.split_ascii_whitespace().nth(1).expect("a number");
        number.parse::<u64>().expect("a number") * 1024
    }

    /// The end of what the server printed.
    pub fn log_tail(&self) -> String {
        let log = std::fs::read(self.folder.path().join("server.log")).unwrap_or_default();
        let from = log.len().saturating_sub(4000);
        format!("--- server.log ---\n{}", String::from_utf8_lossy(&log[from..]))
    }

    fn spawn(&mut self) {
        let data = self.data_folder();
        std::fs::create_dir_all(&data).expect("create the data folder");
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.folder.path().join("server.log"))
            .expect("open server.log");
        let mut command = Command::new(&self.program.path);
        command.args(&self.file);
        command.arg("--port").arg(self.port.to_string()).arg("--dir").arg(&data);
        command.args(["--bind", "127.0.0.1", "--enable-debug-command", "yes"]);
        match self.program.family {
            Family::Haypile => command.args(&self.flags),
            Family::Redis => {
                command.args(["--appendonly", "yes", "--save", ""]);
                command.args(without_ours(&self.flags))
            }
        };
        let errors = log.try_clone().expect("share server.log");
        command.stdin(Stdio::null()).stdout(log).stderr(errors).current_dir(self.folder.path());
        let child = command.spawn();
        self.child =
            Some(child.unwrap_or_else(|error| panic!("start {}: {error}", self.program.path.display())));
    }

    /// Waits until PING is answered. False if the process ended instead.
    fn wait_until_ready(&mut self) -> bool {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let child = self.child.as_mut().expect("a started server");
            if child.try_wait().expect("wait for the server").is_some() {
                self.child = None;
                return false;
            }
            if self.answers_ping() {
                return true;
            }
            assert!(Instant::now() < deadline, "the server does not answer:\n{}", self.log_tail());
            std::thread::sleep(GLANCE);
        }
    }

    fn answers_ping(&self) -> bool {
        let Ok(mut client) = Client::connect(self.address()) else { return false };
        match client.try_call(&["PING"]) {
            Ok(Value::Simple(_)) => true,
            // A password is asked for: it is up all the same.
            Ok(Value::Error(text)) => text.starts_with(b"NOAUTH"),
            _ => false,
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            eprintln!("{}", self.log_tail());
        }
    }
}

/// Flags that only our server knows, taken out for the control.
fn without_ours(flags: &[String]) -> Vec<String> {
    const OURS: [&str; 4] = ["--memory-budget", "--workers", "--io-pool-threads", "--slow-pool-threads"];
    let mut kept = Vec::new();
    let mut flags = flags.iter();
    while let Some(flag) = flags.next() {
        if OURS.contains(&flag.as_str()) {
            flags.next();
        } else {
            kept.push(flag.clone());
        }
    }
    kept
}

/// A port that nobody listens on at this moment.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("its address").port()
}

/// Looks again and again until the condition holds.
pub fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        std::thread::sleep(GLANCE);
    }
}
