//! A thousand sessions come and go in every way there is, and leave nothing behind.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::media::{audio, keyframe};
use common::offer::{Kind, Offer};
use common::peer::Peer;
use common::server::{Options, Server};
use common::{soon, until};
use fanmill_engine::counters::DropReason;
use fanmill_engine::ids::ShardId;
use futures_util::StreamExt;
use futures_util::stream;
use tokio::runtime::Handle;

const SESSIONS: usize = 1000;
/// Clients that are there at the same time.
const AT_ONCE: usize = 16;
/// What the allocator may keep of a thousand sessions, the client's half included, measured at a
/// few megabytes. A session that stayed would take this much in a few hundred.
const GROWTH_MAX_BYTES: usize = 32 << 20;

/// VmRSS of proc_pid_status(5).
fn resident_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.unwrap().trim().strip_suffix(" kB").unwrap();
    kib.parse::<usize>().unwrap() << 10
}

/// Comes, sees and goes, each in its own way.
async fn visit(server: Arc<Server>, number: usize) {
    let offer = Offer::new(
        Kind::View,
        if number.is_multiple_of(5) {
            "passive"
        } else {
            "actpass"
        },
    );
    let (session, answer) = server.create("/whep/stage", &offer.text).await;
    if number % 10 == 9 {
        // Never connects.
        return;
    }
    let mut peer = Peer::connect(&offer, &answer).await;
    peer.recv_rtp().await;
    match number % 3 {
        0 => {
            assert_eq!(server.delete(&session).await, 200);
            peer.closed().await;
        }
        1 => peer.close().await,
        _ => drop(peer),
    }
}

async fn visits(server: &Arc<Server>, count: usize) {
    stream::iter(0..count)
        .for_each_concurrent(AT_ONCE, |number| {
            let visit = tokio::spawn(visit(Arc::clone(server), number));
            async move { soon(visit).await.unwrap() }
        })
        .await;
    // The publisher's is left.
    until(|| server.media.transport_count() == 1 && server.engine_transports() == 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_sessions_leave_nothing_behind() {
    let server = Server::start(Options {
        shards: 2,
        // Long enough for a connection to be made on a busy machine, short enough to wait for.
        consent_timeout: Duration::from_secs(3),
        ..Options::default()
    })
    .await;
    let server = Arc::new(server);
    let offer = Offer::new(Kind::Publish, "actpass");
    let (session, answer) = server.create("/whip/stage", &offer.text).await;
    let mut publisher = Peer::connect(&offer, &answer).await;
    let publishing = tokio::spawn(async move {
        let mut pause = tokio::time::interval(Duration::from_millis(40));
        for number in 0_u16.. {
            pause.tick().await;
            publisher.send_rtp(&audio(number)).await;
            publisher.send_rtp(&keyframe(number)).await;
            if number.is_multiple_of(20) {
                publisher.check().await;
            }
        }
    });

    // What is made once (threads, pools, caches) is there after the first hundred.
    visits(&server, SESSIONS / 10).await;
    let metrics = Handle::current().metrics();
    let (tasks, bytes) = (metrics.num_alive_tasks(), resident_bytes());
    visits(&server, SESSIONS).await;

    assert_eq!(server.broadcast.stream_count(), 1);
    let streams = server.broadcast.streams();
    assert!(streams[0].live);
    assert_eq!(streams[0].viewers, 0);
    // Connections that HTTP keeps for the next request come and go.
    until(|| metrics.num_alive_tasks() <= tasks + 2 * AT_ONCE).await;
    let grown = resident_bytes().saturating_sub(bytes);
    assert!(grown < GROWTH_MAX_BYTES, "{grown} bytes more");
    for shard in 0..2 {
        let counters = server.media.engine().counters(ShardId(shard)).unwrap();
        for reason in [
            DropReason::PoolExhausted,
            DropReason::EventRingFull,
            DropReason::StaleCommand,
            DropReason::SealFailed,
        ] {
            assert_eq!(counters.dropped(reason), 0, "{}", reason.name());
        }
    }
    let dtls = server.media.dtls_counters();
    assert_eq!(
        dtls.completed() as usize,
        1 + 9 * (SESSIONS + SESSIONS / 10) / 10
    );
    assert_eq!(dtls.failed(), 0);

    publishing.abort();
    assert_eq!(server.delete(&session).await, 200);
    assert_eq!(server.broadcast.stream_count(), 0);
    until(|| {
        let slots = |shard| {
            server
                .media
                .engine()
                .counters(shard)
                .unwrap()
                .slots_in_use
                .get()
        };
        server.engine_transports() == 0 && slots(ShardId(0)) + slots(ShardId(1)) == 0
    })
    .await;
    Arc::into_inner(server).unwrap().stop().await;
}
