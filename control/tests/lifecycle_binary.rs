//! The real program, told to end while clients are connected.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::net::UdpSocket;
use std::process::Stdio;
use std::time::Duration;

use common::offer::{Kind, Offer};
use common::peer::Peer;
use common::server::SDP;
use common::soon;
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStderr, Command};

struct Program {
    child: Child,
    log: Lines<BufReader<ChildStderr>>,
    url: String,
    dir: tempfile::TempDir,
}

impl Program {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let free = UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port().to_string();
        drop(free);
        let mut child = Command::new(env!("CARGO_BIN_EXE_fanmill"))
            .args([
                "serve",
                "--shards",
                "1",
                "--http",
                "127.0.0.1:0",
                "--rtsp",
                "off",
                "--rtmp",
                "off",
            ])
            .args(["--udp-port", &port, "--admin"])
            .arg(dir.path().join("admin.sock"))
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
        let url = loop {
            let line = soon(log.next_line()).await.unwrap().expect("it starts");
            if let Some((_, url)) = line.split_once("ready: open ") {
                break url.trim_end_matches('/').to_owned();
            }
        };
        Self {
            child,
            log,
            url,
            dir,
        }
    }

    async fn join(&self, path: &str, kind: Kind) -> Peer {
        let offer = Offer::new(kind, "actpass");
        let request = reqwest::Client::new()
            .post(format!("{}{path}", self.url))
            .header("content-type", SDP)
            .body(offer.text.clone());
        let response = soon(request.send()).await.unwrap();
        assert_eq!(response.status(), 201);
        Peer::connect(&offer, &response.text().await.unwrap()).await
    }

    /// Waits until the program has the keys of that many peers. A peer has its own a little sooner,
    /// and a program that ends just then has none to say goodbye with.
    async fn connected(&self, peers: usize) {
        let asked = async {
            loop {
                let answer = Command::new(env!("CARGO_BIN_EXE_fanmill"))
                    .args(["ctl", "transports", "--json", "--admin"])
                    .arg(self.dir.path().join("admin.sock"))
                    .output()
                    .await
                    .unwrap();
                let answer = String::from_utf8(answer.stdout).unwrap();
                if answer.matches(r#""dtls_state":"connected""#).count() == peers {
                    return;
                }
            }
        };
        soon(asked).await;
    }
}

#[tokio::test]
async fn sigterm_says_goodbye_to_every_peer_and_ends_the_program() {
    let mut program = Program::start().await;
    let publisher = program.join("/whip/stage", Kind::Publish).await;
    let mut viewer = program.join("/whep/stage", Kind::View).await;
    program.connected(2).await;
    // A connection that never asks for anything must not hold up the end.
    let address = program.url.trim_start_matches("http://");
    let _silent = tokio::net::TcpStream::connect(address).await.unwrap();
    let pid = program.child.id().unwrap();
    let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    kill_process(pid, Signal::TERM).unwrap();

    // Its own patience is below two seconds; consent would take thirty.
    let ended = tokio::time::timeout(Duration::from_secs(10), program.child.wait());
    let status = ended.await.expect("it ends at once").unwrap();
    assert!(status.success(), "{status}");
    publisher.closed().await;
    viewer.closed().await;
    assert!(!viewer.recv_byes().await.is_empty());
    let mut stopped = false;
    while let Some(line) = program.log.next_line().await.unwrap() {
        assert!(!line.contains("WARN") && !line.contains("ERROR"), "{line}");
        // Sessions are cleared up after beside that.
        stopped |= line.ends_with("serve: stopped");
    }
    assert!(stopped);
}
