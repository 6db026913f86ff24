//! Which programs a test runs: ours, and the real redis ones beside it.
//!
//! `HAYPILE_BIN` puts another binary in the place of ours: a release build, or a real redis-server as the control that
//! shows a test asks for nothing Redis does not do.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Whose server a binary is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    Haypile,
    Redis,
}

/// A server that can be started.
#[derive(Clone, Debug)]
pub struct Program {
    pub path: PathBuf,
    pub family: Family,
    /// What `--version` printed.
    pub version: String,
}

impl Program {
    /// The server under test.
    pub fn under_test() -> Program {
        let path = std::env::var_os("HAYPILE_BIN")
            .map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_haypile")), PathBuf::from);
        Program::at(&path).unwrap_or_else(|| panic!("{} --version failed", path.display()))
    }

    fn at(path: &Path) -> Option<Program> {
        let output = Command::new(path).arg("--version").output().ok()?;
        let version = String::from_utf8_lossy(&output.stdout).trim().to_string();
        let family = if version.starts_with("Redis server") { Family::Redis } else { Family::Haypile };
        Some(Program { path: path.to_path_buf(), family, version })
    }

    /// The real redis-servers to compare with: `HAYPILE_REDIS` (else `redis-server` on the path), and those later ones that
    /// `HAYPILE_REDIS74` and `HAYPILE_REDIS8` name (`tests/redis_controls.sh` fetches them).
    pub fn controls() -> Vec<Program> {
        let installed = match std::env::var_os("HAYPILE_REDIS") {
            Some(path) => Program::at(Path::new(&path)),
            None => tool("redis-server").and_then(|path| Program::at(&path)),
        };
        let later = ["HAYPILE_REDIS74", "HAYPILE_REDIS8"].into_iter().filter_map(|variable| {
            let path = std::env::var_os(variable)?;
            let program = Program::at(Path::new(&path));
            Some(program.unwrap_or_else(|| panic!("{variable}: {} --version failed", path.display())))
        });
        let controls: Vec<Program> =
            installed.into_iter().chain(later).filter(|program| program.family == Family::Redis).collect();
        if controls.is_empty() {
            missing("redis-server");
        }
        controls
    }

    /// The first two parts of a redis-server's version: `7.0`.
    pub fn series(&self) -> String {
        let version = self.version.split_once("v=").map_or("", |(_, rest)| rest);
        version.split(['.', ' ']).take(2).collect::<Vec<_>>().join(".")
    }
}

/// A program on the path.
pub fn tool(name: &str) -> Option<PathBuf> {
    let folders = std::env::var_os("PATH")?;
    std::env::split_paths(&folders).map(|folder| folder.join(name)).find(|path| path.is_file())
}

/// A program of Redis's on the path; without it the test is skipped, or fails where nothing may be skipped.
pub fn redis_tool(name: &str) -> Option<PathBuf> {
    let path = tool(name);
    if path.is_none() {
        missing(name);
    }
    path
}

fn missing(name: &str) {
    assert!(
        std::env::var("CI").as_deref() != Ok("true"),
        "{name} is not installed, and with CI=true nothing is skipped (Debian: apt-get install redis)"
    );
    eprintln!("SKIPPED: {name} is not installed (Debian: apt-get install redis)");
}
