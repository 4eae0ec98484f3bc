//! Connections: how many, how fast, who may, and how they end.

use super::*;

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

/// A server, a client that has subscribed, and what notifies it.
async fn subscriber() -> (Fixture, Client, Notifier) {
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
    (fixture, client, notifier)
}

#[tokio::test]
async fn a_subscriber_that_has_gone_is_reported_gone() {
    let (_fixture, mut client, notifier) = subscriber().await;
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
    let (_fixture, mut client, notifier) = subscriber().await;
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
