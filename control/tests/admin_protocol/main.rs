//! The admin server's protocol, over a real Unix socket.

#![allow(clippy::unwrap_used)] // a test's unwrap is an assertion

mod connections;
mod requests;

use std::path::Path;
use std::time::Duration;

use fanmill_control::admin::{
    AdminServer, Caller, Limits, Methods, Notifier, NotifyError, PeerCredentials, PeerPolicy,
    Reason, RpcError,
};
use proptest::prelude::*;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Ends a test that would wait for ever; nothing is measured by it.
const STUCK: Duration = Duration::from_secs(30);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Subtract {
    minuend: i64,
    subtrahend: i64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Bytes {
    bytes: usize,
}

fn methods() -> Methods {
    let mut methods = Methods::new();
    methods.add("subtract", "Subtracts.", async |_: Caller, p: Subtract| {
        Ok(p.minuend.wrapping_sub(p.subtrahend))
    });
    methods.add("fail", "Fails.", async |_: Caller, _: Nothing| {
        Err::<(), _>(RpcError::new(Reason::NotFound, "no such stream"))
    });
    methods.add(
        "panic",
        "Panics.",
        async |_: Caller, _: Nothing| -> Result<(), RpcError> { panic!("a defect") },
    );
    methods.add("hang", "Never ends.", async |_: Caller, _: Nothing| {
        std::future::pending::<()>().await;
        Ok(())
    });
    methods.add(
        "blob",
        "Returns so many bytes.",
        async |_: Caller, p: Bytes| Ok("x".repeat(p.bytes)),
    );
    methods.add(
        "ticks",
        "Notifies three times.",
        async |caller: Caller, _: Nothing| {
            for tick in 0..3 {
                caller
                    .notifier
                    .notify("tick", &json!({ "tick": tick }))
                    .unwrap();
            }
            Ok("done")
        },
    );
    methods
}

struct Fixture {
    dir: tempfile::TempDir,
    stop: CancellationToken,
    running: JoinHandle<()>,
}

impl Fixture {
    fn start(configure: impl FnOnce(AdminServer) -> AdminServer) -> Self {
        Self::with_methods(methods(), configure)
    }

    fn with_methods(methods: Methods, configure: impl FnOnce(AdminServer) -> AdminServer) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let server = configure(AdminServer::bind(&dir.path().join("a.sock"), methods).unwrap());
        let stop = CancellationToken::new();
        let running = tokio::spawn(server.run(stop.clone()));
        Self { dir, stop, running }
    }

    async fn client(&self) -> Client {
        Client::connect(&self.dir.path().join("a.sock")).await
    }
}

struct Client(BufReader<UnixStream>);

impl Client {
    async fn connect(path: &Path) -> Self {
        Self(BufReader::new(UnixStream::connect(path).await.unwrap()))
    }

    async fn send(&mut self, line: impl AsRef<[u8]>) {
        self.0.write_all(line.as_ref()).await.unwrap();
        self.0.write_all(b"\n").await.unwrap();
    }

    /// The next line, `None` at the end.
    async fn receive(&mut self) -> Option<Value> {
        let mut line = String::new();
        let read = tokio::time::timeout(STUCK, self.0.read_line(&mut line))
            .await
            .unwrap();
        (read.unwrap() > 0).then(|| serde_json::from_str(&line).unwrap())
    }

    async fn ask(&mut self, line: impl AsRef<[u8]>) -> Value {
        self.send(line).await;
        self.receive().await.unwrap()
    }

    /// Proves that the connection is in order and that nothing was sent before.
    async fn still_works(&mut self) {
        let answer = self
            .ask(r#"{"jsonrpc":"2.0","method":"subtract","params":[3,1],"id":"ok"}"#)
            .await;
        assert_eq!(answer, json!({"jsonrpc": "2.0", "result": 2, "id": "ok"}));
    }
}

fn unchanged(server: AdminServer) -> AdminServer {
    server
}

fn call(id: impl Into<Value>, method: &str, params: Value) -> String {
    json!({"jsonrpc": "2.0", "id": id.into(), "method": method, "params": params}).to_string()
}

#[track_caller]
fn assert_error(answer: &Value, code: i64, id: impl Into<Value>) {
    assert_eq!(answer["error"]["code"], code, "{answer}");
    assert_eq!(answer["id"], id.into(), "{answer}");
    assert_eq!(answer["jsonrpc"], "2.0");
    assert!(answer.get("result").is_none(), "{answer}");
    assert!(!answer["error"]["message"].as_str().unwrap().is_empty());
}
