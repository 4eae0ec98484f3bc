//! What a connected viewer takes up, in bytes of the allocator's, and that it is given back.
//!
//! A binary of its own: its allocator counts whatever is allocated in the process. Clients are gone
//! from it by the time of counting, without having told the server.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use common::offer::{Kind, Offer};
use common::peer::Peer;
use common::server::{Options, Server};
use common::{soon, until};
use futures_util::{StreamExt, stream};
use tokio::runtime::Handle;

static LIVE_BYTES: AtomicUsize = AtomicUsize::new(0);

struct Counting;

// SAFETY: every call is passed on to the system's allocator unchanged; the count is an atomic
// integer, which needs no allocation.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE_BYTES.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise is the system allocator's condition.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE_BYTES.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        LIVE_BYTES.fetch_add(new_size, Ordering::Relaxed);
        LIVE_BYTES.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, new_size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const VIEWERS: usize = 512;
/// Clients that connect at the same time.
const AT_ONCE: usize = 16;
/// The transport's and the session's.
const TASKS_EACH: usize = 2;
/// A third more than was measured, of what the control plane and the shard keep for a viewer of
/// audio and video; key schedules are aws-lc's and not counted.
const CONNECTED_MAX_BYTES: usize = 8 << 10;
/// Some threads more or less than before, shared by all. What is forgotten of each is longer: a
/// block of counters, a session with its names.
const LEFT_MAX_BYTES: usize = 64;

struct Room {
    server: Server,
    tasks: usize,
}

impl Room {
    /// Lets viewers come, connect and vanish; gives the paths of their sessions, which stay.
    async fn fill(&self) -> Vec<String> {
        let sessions = stream::iter(0..VIEWERS)
            .map(|_| async {
                let offer = Offer::new(Kind::View, "actpass");
                let (session, answer) = self.server.create("/whep/stage", &offer.text).await;
                drop(Peer::connect(&offer, &answer).await);
                session
            })
            .buffer_unordered(AT_ONCE)
            .collect();
        let sessions = soon(sessions).await;
        let connected = || {
            let transports = self.server.media.transports();
            let keyed = |dtls_state| dtls_state == "connected";
            let connected = transports.iter().filter(|t| keyed(t.info().dtls_state));
            connected.count() == VIEWERS
        };
        until(connected).await;
        self.settle(VIEWERS).await;
        sessions
    }

    async fn leave(&self, sessions: Vec<String>) {
        for session in sessions {
            assert_eq!(self.server.delete(&session).await, 200);
        }
        self.settle(0).await;
    }

    /// Waits until the tasks of that many viewers are left, and all shards have heard.
    async fn settle(&self, viewers: usize) {
        let metrics = Handle::current().metrics();
        until(|| metrics.num_alive_tasks() <= self.tasks + TASKS_EACH * viewers).await;
        until(|| self.server.engine_transports() == viewers as u64).await;
    }
}

#[tokio::test]
async fn a_connected_viewer_takes_a_few_kilobytes_and_gives_them_back() {
    let mut server = Server::start(Options {
        consent_timeout: Duration::from_secs(3600),
        ..Options::default()
    })
    .await;
    // Connections that are kept would be counted, and how many there are is chance.
    let client = reqwest::Client::builder().pool_max_idle_per_host(0);
    server.client = client.build().unwrap();
    let tasks = Handle::current().metrics().num_alive_tasks();
    let room = Room { server, tasks };

    // What is made once, and what tables grow by, is there after the first round.
    let sessions = room.fill().await;
    room.leave(sessions).await;
    let empty = LIVE_BYTES.load(Ordering::Relaxed);

    let sessions = room.fill().await;
    let full = LIVE_BYTES.load(Ordering::Relaxed);
    let each = full.saturating_sub(empty) / VIEWERS;
    assert!(each < CONNECTED_MAX_BYTES, "{each} bytes a viewer");
    assert!(each > 1 << 10, "{each} bytes a viewer cannot be all");

    room.leave(sessions).await;
    let left = LIVE_BYTES.load(Ordering::Relaxed).saturating_sub(empty) / VIEWERS;
    assert!(left < LEFT_MAX_BYTES, "{left} bytes of each viewer stayed");
    room.server.stop().await;
}
