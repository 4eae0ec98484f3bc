//! The `fanmill` program, run as a user runs it.

#![allow(clippy::unwrap_used)] // a test's unwrap is an assertion

mod ctl;
mod doctor;
mod serve;

use std::io::{BufRead, BufReader, Read};
use std::net::{TcpListener, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Output, Stdio};

use fanmill_control::admin::{AdminServer, Caller, Methods};
use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

fn fanmill() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fanmill"));
    command.env_remove("XDG_RUNTIME_DIR").stdin(Stdio::null());
    command
}

fn serve_on_free_ports() -> Command {
    let mut command = serve_with_usual_rtmp();
    command.args(["--rtmp", "off", "--rtsp", "off"]);
    command
}

fn serve_with_usual_rtmp() -> Command {
    let free = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port().to_string();
    let mut command = fanmill();
    command.args([
        "serve",
        "--shards",
        "1",
        "--http",
        "127.0.0.1:0",
        "--udp-port",
        &port,
    ]);
    command
}

fn ctl(admin: &Path, args: &[&str]) -> Output {
    fanmill()
        .arg("ctl")
        .arg("--admin")
        .arg(admin)
        .args(args)
        .output()
        .unwrap()
}

#[track_caller]
fn stdout(output: &Output) -> String {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[track_caller]
fn stderr_of_failure(output: &Output, code: i32) -> String {
    assert_eq!(output.status.code(), Some(code));
    assert!(output.stdout.is_empty());
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// A running `fanmill serve`.
struct Server {
    child: Child,
    log: BufReader<ChildStderr>,
    admin: PathBuf,
}

impl Server {
    fn start(dir: &Path) -> Self {
        let admin = dir.join("admin.sock");
        let mut command = serve_on_free_ports();
        command.arg("--admin").arg(&admin);
        Self::spawn(command, admin)
    }

    fn spawn(mut command: Command, admin: PathBuf) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let log = BufReader::new(child.stderr.take().unwrap());
        let mut server = Self { child, log, admin };
        server.wait_for_log("admin socket open");
        server
    }

    /// Reads the log up to the first line with `text`.
    fn wait_for_log(&mut self, text: &str) {
        let mut line = String::new();
        while !line.contains(text) {
            line.clear();
            assert_ne!(
                self.log.read_line(&mut line).unwrap(),
                0,
                "ended without: {text}"
            );
        }
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An admin server in this process, with the lists that a full server gives.
struct Lists {
    dir: tempfile::TempDir,
    _runtime: tokio::runtime::Runtime,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

impl Lists {
    fn serve(streams: Value, transports: Value) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut methods = Methods::new();
        methods.add("stream.list", "Lists.", move |_: Caller, _: Nothing| {
            std::future::ready(Ok(streams.clone()))
        });
        methods.add("transport.list", "Lists.", move |_: Caller, _: Nothing| {
            std::future::ready(Ok(transports.clone()))
        });
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let path = dir.path().join("admin.sock");
        runtime.block_on(async {
            let server = AdminServer::bind(&path, methods).unwrap();
            tokio::spawn(server.run(CancellationToken::new()));
        });
        Self {
            dir,
            _runtime: runtime,
        }
    }

    fn ctl(&self, args: &[&str]) -> Output {
        ctl(&self.dir.path().join("admin.sock"), args)
    }
}
