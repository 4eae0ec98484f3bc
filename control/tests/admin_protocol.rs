//! The admin server's protocol, over a real Unix socket.

#![allow(clippy::unwrap_used)] // a test's unwrap is an assertion

use std::path::Path;
use std::time::Duration;

use fanmill_control::admin::{
    AdminServer, Caller, Limits, Methods, NotifyError, PeerCredentials, PeerPolicy, Reason,
    RpcError,
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

#[tokio::test]
async fn parameters_go_by_name_and_by_position_and_ids_come_back() {
    let fixture = Fixture::start(unchanged);
    let mut client = fixture.client().await;
    let by_name = json!({"subtrahend": 23, "minuend": 42});
    for id in [
        json!(1),
        json!("one"),
        json!(null),
        json!(-7),
        json!(1.5),
        json!(u64::MAX),
    ] {
        let expected = json!({"jsonrpc": "2.0", "result": 19, "id": id});
        assert_eq!(
            client
                .ask(call(id.clone(), "subtract", by_name.clone()))
                .await,
            expected
        );
        assert_eq!(
            client.ask(call(id, "subtract", json!([42, 23]))).await,
            expected
        );
    }
}

#[tokio::test]
async fn what_is_not_json_is_a_parse_error() {
    let fixture = Fixture::start(unchanged);
    let mut client = fixture.client().await;
    for line in [
        &br#"{"jsonrpc": "2.0", "method": "foobar, "params": "bar", "baz]"#[..],
        b"garbage",
        b"\xff\xfe\xfd",
        b"[1,",
        b"{}{}",
    ] {
        assert_error(&client.ask(line).await, -32_700, Value::Null);
    }
    client.still_works().await;
}

#[tokio::test]
async fn what_is_no_request_is_an_invalid_request() {
    let fixture = Fixture::start(unchanged);
    let mut client = fixture.client().await;
    for line in [
        r#"{"jsonrpc": "2.0", "method": 1, "params": "bar"}"#,
        "1",
        "null",
        "\"text\"",
        "{}",
        "[]",
        r#"{"method": "subtract", "params": [1, 2], "id": 1}"#,
        r#"{"jsonrpc": "1.0", "method": "subtract", "params": [1, 2], "id": 1}"#,
        r#"{"jsonrpc": "2.0", "method": "subtract", "params": 5, "id": 1}"#,
        r#"{"jsonrpc": "2.0", "method": "subtract", "params": [1, 2], "id": {}}"#,
        r#"{"jsonrpc": "2.0", "method": "subtract", "params": [1, 2], "id": true}"#,
    ] {
        assert_error(&client.ask(line).await, -32_600, Value::Null);
    }
    client.still_works().await;
}

#[tokio::test]
async fn an_unknown_method_is_answered_with_the_nearest() {
    let fixture = Fixture::start(unchanged);
    let mut client = fixture.client().await;
    let answer = client.ask(call(1, "substract", json!([1, 2]))).await;
    assert_error(&answer, -32_601, 1);
    assert_eq!(answer["error"]["data"], json!({"nearest": "subtract"}));
    let answer = client.ask(call(2, &"zz".repeat(10_000), json!({}))).await;
    assert_error(&answer, -32_601, 2);
    assert!(answer.to_string().len() < 400);
}

#[tokio::test]
async fn a_bad_parameter_is_named() {
    let fixture = Fixture::start(unchanged);
    let mut client = fixture.client().await;
    for (params, parameter) in [
        (json!({"minuend": 1}), "subtrahend"),
        (json!({"minuend": "1", "subtrahend": 1}), "minuend"),
        (json!({"minuend": 1, "subtrahend": 1, "extra": 1}), "extra"),
        (json!([1, []]), "subtrahend"),
    ] {
        let answer = client.ask(call(9, "subtract", params)).await;
        assert_error(&answer, -32_602, 9);
        assert_eq!(answer["error"]["data"]["parameter"], parameter, "{answer}");
    }
    let without = r#"{"jsonrpc": "2.0", "method": "subtract", "id": 9}"#;
    assert_error(&client.ask(without).await, -32_602, 9);
    assert_error(
        &client.ask(call(9, "fail", json!({"a": 1}))).await,
        -32_602,
        9,
    );
}

#[tokio::test]
async fn a_panicking_method_is_an_internal_error_and_nothing_more() {
    let fixture = Fixture::start(unchanged);
    let mut client = fixture.client().await;
    assert_error(&client.ask(call(1, "panic", json!({}))).await, -32_603, 1);
    client.still_works().await;
    fixture.client().await.still_works().await;
}

#[tokio::test]
async fn a_methods_own_error_reaches_the_client() {
    let fixture = Fixture::start(unchanged);
    let mut client = fixture.client().await;
    let answer = client.ask(call(1, "fail", json!({}))).await;
    assert_error(&answer, -32_004, 1);
    assert_eq!(answer["error"]["message"], "no such stream");
}

#[tokio::test]
async fn notifications_are_run_and_never_answered() {
    let (called, mut calls) = tokio::sync::mpsc::unbounded_channel();
    let mut methods = methods();
    methods.add("note", "Notes a call.", move |_: Caller, _: Nothing| {
        let sent = called.send(());
        async move { sent.map_err(|_| RpcError::new(Reason::Failed, "nobody listens")) }
    });
    let fixture = Fixture::with_methods(methods, unchanged);
    let mut client = fixture.client().await;
    client.send(r#"{"jsonrpc":"2.0","method":"note"}"#).await;
    tokio::time::timeout(STUCK, calls.recv())
        .await
        .unwrap()
        .unwrap();
    for method in ["unknown", "fail", "panic", "subtract"] {
        client
            .send(json!({"jsonrpc": "2.0", "method": method}).to_string())
            .await;
    }
    // All their tasks have ended once every request slot can be had: the answers are the calls'.
    for _ in 0..40 {
        client.still_works().await;
    }
}

#[tokio::test]
async fn a_batch_is_answered_by_one_array() {
    let fixture = Fixture::start(unchanged);
    let mut client = fixture.client().await;
    let answer = client
        .ask(
            json!([
                {"jsonrpc": "2.0", "method": "subtract", "params": [42, 23], "id": "2"},
                {"jsonrpc": "2.0", "method": "subtract", "params": [7, 1]},
                {"foo": "boo"},
                1,
                {"jsonrpc": "2.0", "method": "foo.get", "params": {"name": "x"}, "id": "5"},
            ])
            .to_string(),
        )
        .await;
    let answers = answer.as_array().unwrap();
    assert_eq!(answers.len(), 4);
    assert_eq!(
        answers[0],
        json!({"jsonrpc": "2.0", "result": 19, "id": "2"})
    );
    assert_error(&answers[1], -32_600, Value::Null);
    assert_error(&answers[2], -32_600, Value::Null);
    assert_error(&answers[3], -32_601, "5");
}

#[tokio::test]
async fn a_batch_of_notifications_is_answered_by_nothing() {
    let fixture = Fixture::start(unchanged);
    let mut client = fixture.client().await;
    client
        .send(r#"[{"jsonrpc":"2.0","method":"fail"},{"jsonrpc":"2.0","method":"fail"}]"#)
        .await;
    client.still_works().await;
}

#[tokio::test]
async fn a_batch_has_a_largest_size() {
    let fixture = Fixture::start(unchanged);
    let mut client = fixture.client().await;
    assert_eq!(
        client
            .ask(json!([1; 100].to_vec()).to_string())
            .await
            .as_array()
            .unwrap()
            .len(),
        100
    );
    assert_error(
        &client.ask(json!([1; 101].to_vec()).to_string()).await,
        -32_600,
        Value::Null,
    );
}

#[tokio::test]
async fn a_line_too_long_is_refused_and_the_connection_goes_on() {
    let fixture = Fixture::start(unchanged);
    let mut client = fixture.client().await;
    let longest = 64 * 1024;
    let padded = |bytes: usize| {
        let call = call(1, "subtract", json!([2, 1]));
        format!("{call}{}", " ".repeat(bytes - call.len()))
    };
    assert_eq!(client.ask(padded(longest)).await["result"], 1);
    assert_error(&client.ask(padded(longest + 1)).await, -32_001, Value::Null);
    // The good line arrives together with the end of the bad one, and must not wait for more.
    let both = format!("{}\n{}", "[".repeat(3 * longest), padded(200));
    assert_error(&client.ask(both).await, -32_001, Value::Null);
    assert_eq!(client.receive().await.unwrap()["result"], 1);
    client.still_works().await;
}

#[tokio::test]
async fn blank_lines_and_carriage_returns_are_harmless() {
    let fixture = Fixture::start(unchanged);
    let mut client = fixture.client().await;
    client.send("\n\r\n   ").await;
    assert_eq!(
        client
            .ask(format!("{}\r", call(1, "subtract", json!([2, 1]))))
            .await["result"],
        1
    );
}

#[tokio::test]
async fn half_a_line_and_a_close_is_a_parse_error_and_the_end() {
    let fixture = Fixture::start(unchanged);
    let mut client = fixture.client().await;
    client
        .0
        .write_all(br#"{"jsonrpc":"2.0","meth"#)
        .await
        .unwrap();
    client.0.shutdown().await.unwrap();
    assert_error(&client.receive().await.unwrap(), -32_700, Value::Null);
    assert_eq!(client.receive().await, None);
    fixture.client().await.still_works().await;
}

#[tokio::test]
async fn what_was_asked_before_the_end_of_input_is_answered() {
    let fixture = Fixture::start(unchanged);
    let mut client = fixture.client().await;
    for id in 0..50 {
        client.send(call(id, "subtract", json!([id, 0]))).await;
    }
    client.0.shutdown().await.unwrap();
    let mut results = Vec::new();
    while let Some(answer) = client.receive().await {
        results.push(answer["result"].as_i64().unwrap());
    }
    results.sort_unstable();
    assert_eq!(results, (0..50).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_client_that_vanishes_disturbs_no_other() {
    let fixture = Fixture::start(unchanged);
    let mut other = fixture.client().await;
    for _ in 0..100 {
        let mut client = fixture.client().await;
        client.send(call(1, "blob", json!([100_000]))).await;
        drop(client);
    }
    other.still_works().await;
}

#[tokio::test]
async fn two_clients_are_served_at_once_and_get_their_own_answers() {
    let fixture = Fixture::start(unchanged);
    let (mut first, mut second) = (fixture.client().await, fixture.client().await);
    first.send(call("mine", "hang", json!({}))).await;
    second.still_works().await;
    first.still_works().await;
    first.send(call(1, "subtract", json!([1, 0]))).await;
    second.send(call(2, "subtract", json!([2, 0]))).await;
    assert_eq!(second.receive().await.unwrap()["result"], 2);
    assert_eq!(first.receive().await.unwrap()["result"], 1);
}

#[tokio::test]
async fn notifications_from_the_server_come_between_answers() {
    let fixture = Fixture::start(unchanged);
    let mut client = fixture.client().await;
    client.send(call(1, "ticks", json!({}))).await;
    for tick in 0..3 {
        let expected = json!({"jsonrpc": "2.0", "method": "tick", "params": {"tick": tick}});
        assert_eq!(client.receive().await.unwrap(), expected);
    }
    assert_eq!(client.receive().await.unwrap()["result"], "done");
}

#[tokio::test]
async fn a_subscriber_that_has_gone_is_reported_gone() {
    let (subscribed, mut subscriptions) = tokio::sync::mpsc::unbounded_channel();
    let mut methods = methods();
    methods.add(
        "subscribe",
        "Subscribes.",
        move |caller: Caller, _: Nothing| {
            let sent = subscribed.send(caller.notifier);
            async move { sent.map_err(|_| RpcError::new(Reason::Failed, "nobody listens")) }
        },
    );
    let fixture = Fixture::with_methods(methods, unchanged);
    let mut client = fixture.client().await;
    client.ask(call(1, "subscribe", json!({}))).await;
    let notifier = subscriptions.recv().await.unwrap();
    assert_eq!(notifier.notify("event", &1), Ok(()));
    assert_eq!(client.receive().await.unwrap()["method"], "event");
    client.0.shutdown().await.unwrap();
    assert_eq!(
        client.receive().await,
        None,
        "a subscription must not keep a connection open"
    );
    assert_eq!(notifier.notify("event", &2), Err(NotifyError::Gone));
}

#[tokio::test]
async fn a_subscriber_that_does_not_read_is_disconnected() {
    let (subscribed, mut subscriptions) = tokio::sync::mpsc::unbounded_channel();
    let mut methods = methods();
    methods.add(
        "subscribe",
        "Subscribes.",
        move |caller: Caller, _: Nothing| {
            let sent = subscribed.send(caller.notifier);
            async move { sent.map_err(|_| RpcError::new(Reason::Failed, "nobody listens")) }
        },
    );
    let fixture = Fixture::with_methods(methods, unchanged);
    let mut client = fixture.client().await;
    client.ask(call(1, "subscribe", json!({}))).await;
    let notifier = subscriptions.recv().await.unwrap();
    let event = "x".repeat(50_000);
    let refused = loop {
        match notifier.notify("event", &event) {
            Ok(()) => tokio::task::yield_now().await,
            Err(error) => break error,
        }
    };
    assert_eq!(refused, NotifyError::TooSlow);
    tokio::time::timeout(STUCK, client.0.read_to_end(&mut Vec::new()))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(notifier.notify("event", &event), Err(NotifyError::Gone));
}

#[tokio::test]
async fn a_client_that_does_not_read_its_answers_is_disconnected() {
    let limits = Limits {
        write_timeout: Duration::from_millis(50),
        ..Limits::default()
    };
    let fixture = Fixture::start(|server| server.with_limits(limits));
    let mut client = fixture.client().await;
    let asked = 100;
    let line = format!("{}\n", call(1, "blob", json!([200_000])));
    for _ in 0..asked {
        // Fails once the server has hung up.
        if client.0.write_all(line.as_bytes()).await.is_err() {
            break;
        }
    }
    fixture.client().await.still_works().await;
    // Wait, without reading, until the server has hung up on us.
    let hung_up = async { while client.0.write_all(line.as_bytes()).await.is_ok() {} };
    tokio::time::timeout(STUCK, hung_up).await.unwrap();
    let mut received = Vec::new();
    let _ = client.0.read_to_end(&mut received).await;
    assert!(received.len() < asked * 200_000, "all {asked} answers came");
}

#[tokio::test]
async fn requests_beyond_the_limit_wait_for_a_free_slot() {
    let limits = Limits {
        requests: 2,
        request_timeout: Duration::from_millis(200),
        ..Limits::default()
    };
    let fixture = Fixture::start(|server| server.with_limits(limits));
    let mut client = fixture.client().await;
    client.send(call(1, "hang", json!({}))).await;
    client.send(call(2, "hang", json!({}))).await;
    client.send(call(3, "subtract", json!([1, 0]))).await;
    // The third is read only after one of the first two was given up.
    let first = client.receive().await.unwrap();
    assert_eq!(first["error"]["code"], -32_006, "{first}");
    let mut all = [
        first,
        client.receive().await.unwrap(),
        client.receive().await.unwrap(),
    ];
    all.sort_by_key(|answer| answer["id"].as_i64());
    assert_error(&all[0], -32_006, 1);
    assert_error(&all[1], -32_006, 2);
    assert_eq!(all[2]["result"], 1);
}

#[tokio::test]
async fn connections_beyond_the_limit_are_told_why() {
    let limits = Limits {
        connections: 2,
        ..Limits::default()
    };
    let fixture = Fixture::start(|server| server.with_limits(limits));
    let mut first = fixture.client().await;
    let mut second = fixture.client().await;
    first.still_works().await;
    second.still_works().await;
    let mut third = fixture.client().await;
    assert_error(&third.receive().await.unwrap(), -32_002, Value::Null);
    assert_eq!(third.receive().await, None);
    first.0.shutdown().await.unwrap();
    assert_eq!(first.receive().await, None);
    // The slot is free a moment after its connection is seen closed.
    let freed = async {
        loop {
            let mut again = fixture.client().await;
            let ask = call(1, "subtract", json!([1, 0])) + "\n";
            let _ = again.0.write_all(ask.as_bytes()).await;
            if again.receive().await.unwrap().get("result").is_some() {
                break;
            }
        }
    };
    tokio::time::timeout(STUCK, freed).await.unwrap();
    second.still_works().await;
}

struct Nobody;

impl PeerPolicy for Nobody {
    fn admit(&self, peer: &PeerCredentials) -> Result<(), String> {
        Err(format!("user {} may not use this socket", peer.uid))
    }
}

#[tokio::test]
async fn a_peer_who_is_not_admitted_is_told_why_and_disconnected() {
    let fixture = Fixture::start(|server| server.with_policy(Nobody));
    let mut client = fixture.client().await;
    let answer = client.receive().await.unwrap();
    assert_error(&answer, -32_003, Value::Null);
    let uid = rustix::process::geteuid().as_raw();
    let why = format!("user {uid} may not use this socket");
    assert_eq!(
        answer["error"]["message"],
        why.as_str(),
        "the kernel names the real user"
    );
    assert_eq!(client.receive().await, None);
}

#[tokio::test]
async fn the_methods_are_listed_with_their_parameters() {
    let fixture = Fixture::start(unchanged);
    let mut client = fixture.client().await;
    let answer = client.ask(call(1, "server.methods", json!({}))).await;
    let listed = answer["result"].as_array().unwrap();
    let names: Vec<_> = listed
        .iter()
        .map(|method| method["name"].as_str().unwrap())
        .collect();
    assert_eq!(
        names,
        [
            "blob",
            "fail",
            "hang",
            "panic",
            "server.methods",
            "subtract",
            "ticks"
        ]
    );
    assert_eq!(
        listed[5],
        json!({
            "name": "subtract",
            "description": "Subtracts.",
            "params": ["minuend", "subtrahend"],
        })
    );
}

#[tokio::test]
async fn a_stopped_server_ends_its_connections_and_removes_its_socket() {
    let fixture = Fixture::start(unchanged);
    let mut client = fixture.client().await;
    client.still_works().await;
    fixture.stop.cancel();
    assert_eq!(client.receive().await, None);
    tokio::time::timeout(STUCK, fixture.running)
        .await
        .unwrap()
        .unwrap();
    assert!(!fixture.dir.path().join("a.sock").exists());
}

#[test]
fn no_line_kills_the_server() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let fixture = runtime.block_on(async { Fixture::start(unchanged) });
    let line = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..300),
        "\\PC{0,200}".prop_map(String::into_bytes),
        "[\\[\\]{}:,\"0-9a-z ]{0,200}".prop_map(String::into_bytes),
        (
            any::<Option<i64>>(),
            "[a-z.]{0,12}",
            "(\\[[0-9,]{0,6}\\]|\\{\\}|null)"
        )
            .prop_map(|(id, method, params)| {
                let id = id.map(|id| format!("\"id\":{id},")).unwrap_or_default();
                let call = format!(
                    "{{\"jsonrpc\":\"2.0\",{id}\"method\":\"{method}\",\"params\":{params}}}"
                );
                call.into_bytes()
            }),
    ];
    proptest!(|(lines in prop::collection::vec(line, 1..8))| {
        runtime.block_on(async {
            let mut client = fixture.client().await;
            for line in &lines {
                client.send(line).await;
            }
            client.send(call("last", "subtract", json!([3, 1]))).await;
            // Answers come in any order; each must be an answer, and the last request's be there.
            loop {
                let answer = client.receive().await.expect("the connection goes on");
                if answer["id"] == "last" {
                    assert_eq!(answer["result"], 2);
                    break;
                }
            }
        });
    });
}
