//! The harness itself: a browser that comes and goes whole, networks that lose what they say.
#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

use std::path::PathBuf;
use std::time::Duration;

use fanmill_tests::impair::{Impairment, UdpImpair};
use fanmill_tests::process::descendants;
use fanmill_tests::{Browser, Namespace, wait};
use tokio::net::UdpSocket;

const LIMIT: Duration = Duration::from_secs(20);

#[tokio::test]
async fn a_dropped_browser_leaves_no_process_behind() {
    let browser = Browser::start().await.unwrap();
    let page = browser
        .open("data:text/html,<title>hello</title>")
        .await
        .unwrap();
    assert_eq!(page.evaluate("document.title").await.unwrap(), "hello");
    let mut processes = descendants(browser.pid());
    assert!(processes.len() >= 2, "Chromium has helpers: {processes:?}");
    processes.push(browser.pid());
    drop(browser);
    let alive = async || {
        let there = |pid: &&u32| {
            PathBuf::from(format!("/proc/{pid}/exe"))
                .read_link()
                .is_ok()
        };
        Ok(processes
            .iter()
            .filter(there)
            .copied()
            .collect::<Vec<u32>>())
    };
    wait::until("all processes to end", LIMIT, alive, Vec::is_empty)
        .await
        .unwrap();
}

#[tokio::test]
async fn evaluate_awaits_promises_and_reports_exceptions_with_the_console() {
    let browser = Browser::start().await.unwrap();
    let page = browser.open("data:text/html,x").await.unwrap();
    let later = "new Promise(r => setTimeout(() => r({ a: [1, 'two'] }), 10))";
    assert_eq!(
        page.evaluate(later).await.unwrap(),
        serde_json::json!({ "a": [1, "two"] })
    );
    page.evaluate("console.warn('before', 7)").await.unwrap();
    let error = page
        .evaluate("Promise.reject(new Error('on purpose'))")
        .await
        .unwrap_err();
    let error = error.to_string();
    assert!(
        error.contains("on purpose") && error.contains("warning: before 7"),
        "{error}"
    );
}

#[tokio::test]
async fn an_impaired_path_loses_about_what_it_is_told() {
    let echo = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let target = echo.local_addr().unwrap();
    tokio::spawn(async move {
        let mut buffer = [0; 2048];
        while let Ok((length, from)) = echo.recv_from(&mut buffer).await {
            let _ = echo.send_to(&buffer[..length], from).await;
        }
    });
    let impairment = Impairment {
        loss_permille: 200,
        seed: 7,
        ..Impairment::default()
    };
    let proxy = UdpImpair::start(target, impairment).await.unwrap();
    let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    client.connect(proxy.address()).await.unwrap();
    let mut returned = 0;
    let mut buffer = [0; 2048];
    for number in 0..1000_u32 {
        client.send(&number.to_be_bytes()).await.unwrap();
        // One at a time, so that no socket buffer overflows: each comes back or is lost once.
        while returned + proxy.counts().1 <= u64::from(number) {
            if client.try_recv(&mut buffer).is_ok() {
                returned += 1;
            }
            tokio::task::yield_now().await;
        }
    }
    assert!(
        (560..=720).contains(&returned),
        "80 % of 80 % of 1000 is 640, not {returned}"
    );
}

#[tokio::test]
async fn a_namespace_reaches_the_machine_and_loses_what_it_is_told() {
    let namespace = Namespace::new().unwrap();
    let socket = UdpSocket::bind((namespace.host(), 0)).await.unwrap();
    let port = socket.local_addr().unwrap().port();
    let host = namespace.host();
    let send = async |count: u32| {
        let script = format!(
            "import socket\ns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n\
             for i in range({count}): s.sendto(b'x', ('{host}', {port}))\n"
        );
        let mut command = fanmill_tests::process::command("python3", Some(&namespace));
        assert!(
            command
                .args(["-c", &script])
                .status()
                .await
                .unwrap()
                .success()
        );
    };
    let mut buffer = [0; 16];
    send(1).await;
    let (_, from) = socket.recv_from(&mut buffer).await.unwrap();
    assert_eq!(from.ip(), namespace.inside());

    // The kernel counts each datagram before the sender's process ends.
    namespace.lose_percent(0, 50).unwrap();
    let mut arrived = 0;
    send(200).await;
    while socket.try_recv_from(&mut buffer).is_ok() {
        arrived += 1;
    }
    assert!(
        (60..=140).contains(&arrived),
        "half of 200 is not {arrived}"
    );

    namespace.lose_percent(0, 0).unwrap();
    send(1).await;
    socket.recv_from(&mut buffer).await.unwrap();
}
