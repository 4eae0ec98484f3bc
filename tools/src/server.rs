//! A server of the run's own: started on free ports of the loopback interface, ended with the run.
//!
//! `fanmill-bench` starts Fanmill when it is given no URL; the comparison starts every server so.

use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

const START_TIMEOUT: Duration = Duration::from_secs(15);
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// A running server.
pub struct OwnServer {
    child: Child,
    pid: u32,
    http_port: u16,
    /// Holds the admin socket and the log.
    directory: tempfile::TempDir,
}

impl OwnServer {
    /// Starts `program serve` with `shards` shards and waits until it answers.
    ///
    /// # Errors
    /// When it cannot be started, or does not answer.
    pub async fn start(program: &Path, shards: usize) -> anyhow::Result<Self> {
        let http_port = free_http_port()?;
        let udp_port = free_udp_ports(shards)?;
        let directory = temporary_directory()?;
        let mut command = Command::new(program);
        command
            .arg("serve")
            .args(["--http", &format!("127.0.0.1:{http_port}")])
            .args(["--udp-ip", "127.0.0.1", "--rtsp", "off"])
            .args(["--rtmp", "off"])
            .args(["--udp-port", &udp_port.to_string()])
            .args(["--shards", &shards.to_string()])
            .arg("--admin")
            .arg(directory.path().join("admin.sock"))
            .args(["--log", "warn"]);
        Self::launch(command, http_port, directory).await
    }

    /// Starts a server of any kind, whose `command` says that it is to speak WHIP and WHEP on a
    /// port of 127.0.0.1, and waits until it listens there.
    ///
    /// # Errors
    /// When it cannot be started, or does not answer.
    pub async fn start_peer(command: impl FnOnce(u16) -> Command) -> anyhow::Result<Self> {
        let http_port = free_http_port()?;
        let directory = temporary_directory()?;
        let mut command = command(http_port);
        // What it leaves behind when it is killed goes with the directory.
        command.env("TMPDIR", directory.path());
        Self::launch(command, http_port, directory).await
    }

    async fn launch(
        mut command: Command,
        http_port: u16,
        directory: tempfile::TempDir,
    ) -> anyhow::Result<Self> {
        let log = std::fs::File::create(directory.path().join("server.log"))?;
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true);
        let child = command
            .spawn()
            .with_context(|| format!("cannot start {:?}", command.as_std().get_program()))?;
        let pid = child.id().context("the server ended at once")?;
        let mut server = Self {
            child,
            pid,
            http_port,
            directory,
        };
        server.wait_until_ready().await?;
        Ok(server)
    }

    async fn wait_until_ready(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + START_TIMEOUT;
        let address = (Ipv4Addr::LOCALHOST, self.http_port);
        while tokio::net::TcpStream::connect(address).await.is_err() {
            if let Some(status) = self.child.try_wait()? {
                bail!("the server ended with {status}:\n{}", self.log());
            }
            ensure!(
                Instant::now() < deadline,
                "the server does not listen after {} s:\n{}",
                START_TIMEOUT.as_secs(),
                self.log()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("server.log")).unwrap_or_default()
    }

    /// The id of the process that was started.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Its WHIP or WHEP endpoint of a stream, in whose name `%n` may stand for a number.
    #[must_use]
    pub fn endpoint(&self, protocol: &str, stream: &str) -> String {
        format!("http://127.0.0.1:{}/{protocol}/{stream}", self.http_port)
    }

    /// Ends it, gently first. Returns what it logged: warnings and errors.
    pub async fn stop(mut self) -> String {
        if let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::TERM);
        }
        if tokio::time::timeout(STOP_TIMEOUT, self.child.wait())
            .await
            .is_err()
        {
            let _ = self.child.kill().await;
        }
        self.log()
    }
}

/// The server program: the one given, else `fanmill` beside this program.
///
/// # Errors
/// When there is none.
pub fn program(given: Option<&Path>) -> anyhow::Result<PathBuf> {
    let path = match given {
        Some(path) => path.to_owned(),
        None => std::env::current_exe()?.with_file_name("fanmill"),
    };
    ensure!(
        path.is_file(),
        "no server at {}: build it (cargo build --release -p fanmill-control), give --server FILE, \
         or give --whip and --whep to measure a server that runs already",
        path.display()
    );
    Ok(path)
}

fn temporary_directory() -> anyhow::Result<tempfile::TempDir> {
    tempfile::tempdir().context("cannot make a temporary directory")
}

fn free_http_port() -> anyhow::Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    Ok(listener.local_addr()?.port())
}

/// The first of `count` free ports in a row.
fn free_udp_ports(count: usize) -> anyhow::Result<u16> {
    for _ in 0..100 {
        let first = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = first.local_addr()?.port();
        let others = (1..count).map(|offset| {
            let port = u16::try_from(usize::from(port) + offset).ok()?;
            UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).ok()
        });
        if others.collect::<Option<Vec<_>>>().is_some() {
            return Ok(port);
        }
    }
    bail!("no {count} free UDP ports in a row on 127.0.0.1")
}
