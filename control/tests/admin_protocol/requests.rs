//! Lines, requests and batches, and what they are answered.

use super::*;

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
