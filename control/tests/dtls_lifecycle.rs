//! What is left when associations are over: nothing.
//!
//! A binary of its own, so that no other test's tasks or memory are counted.

mod dtls_support;

use dtls_support::*;
use fanmill_control::dtls::{Backend, Ending, Handshake, Limits, Role};

/// Resident memory of this process, in KiB (proc(5), `VmRSS`).
fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("procfs is mounted");
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .expect("VmRSS is there");
    line.split_whitespace()
        .nth(1)
        .and_then(|kib| kib.parse().ok())
        .expect("a number of KiB")
}

fn alive_tasks() -> usize {
    tokio::runtime::Handle::current()
        .metrics()
        .num_alive_tasks()
}

/// Waits until the runtime has no more tasks than before.
async fn tasks_return_to(count: usize) {
    soon(async {
        while alive_tasks() > count {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

async fn connect_and_close(pair: &Pair) {
    let (mut server, mut client) = pair.connect(faithful());
    matching_keys(&mut server, &mut client).await;
    client.association.close();
    assert_eq!(soon(client.ended).await, Ending::Local);
    assert_eq!(soon(server.ended).await, Ending::ByPeer);
}

#[tokio::test]
async fn a_thousand_connections_leave_no_task_and_no_memory() {
    let pair = Pair::new();
    let before = alive_tasks();
    for _ in 0..100 {
        connect_and_close(&pair).await;
    }
    tasks_return_to(before).await;
    let resident = resident_kib();
    for _ in 0..1000 {
        connect_and_close(&pair).await;
    }
    tasks_return_to(before).await;
    let grown = resident_kib().saturating_sub(resident);
    // A single leaked reader holds a buffer of 8 KiB; a thousand would be 8 MiB a side.
    assert!(
        grown < 4096,
        "{grown} KiB more than after the first hundred"
    );
    assert_eq!(pair.server.counters().completed(), 1100);
}

#[tokio::test]
async fn dropping_an_association_at_any_stage_frees_its_tasks() {
    let pair = Pair::new();
    let before = alive_tasks();

    let established = pair.connect(faithful());
    let (mut server, mut client) = established;
    matching_keys(&mut server, &mut client).await;
    drop((server, client));
    tasks_return_to(before).await;

    // Nothing arrives: the client repeats its hello, the server waits for one.
    let unheard = pair.connect(Box::new(|_, _| Vec::new()));
    tokio::task::yield_now().await;
    drop(unheard);
    tasks_return_to(before).await;

    // In the middle: the client's second flight never arrives.
    let (sender, mut sent) = tokio::sync::mpsc::unbounded_channel();
    let fate: Fate = Box::new(move |from, datagram| {
        let last = has_change_cipher_spec(&datagram);
        let _ = sender.send((from, last));
        if last { Vec::new() } else { vec![datagram] }
    });
    let halfway = pair.connect(fate);
    while soon(sent.recv()).await != Some((Role::Client, true)) {}
    drop(halfway);
    tasks_return_to(before).await;
}

#[tokio::test]
async fn closing_and_dropping_at_once_still_tells_the_peer() {
    let pair = Pair::new();
    let (mut server, mut client) = pair.connect(faithful());
    matching_keys(&mut server, &mut client).await;
    server.association.close();
    drop(server);
    assert_eq!(soon(client.ended).await, Ending::ByPeer);
}

#[tokio::test]
async fn failed_handshakes_leave_no_task() {
    let server = backend(Limits::default());
    let before = alive_tasks();
    for client in ["chromium", "gstreamer"] {
        let mut handshake = Handshake::new(Role::Server, vec![some_fingerprint()]);
        handshake.deadline = std::time::Duration::from_millis(50);
        let send = std::sync::Arc::new(|_: &[u8]| {});
        let mut started = server.start(handshake, send).expect("it starts");
        for datagram in recorded_client_hello(client) {
            started.association.handle_datagram(&datagram);
        }
        error(&mut started.outcome).await;
    }
    tasks_return_to(before).await;
    assert_eq!(server.counters().failed(), 2);
}
