//! Browsers behind networks that lose, delay and reorder packets, or change under them.
#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

use std::time::{Duration, Instant};

use fanmill_tests::browser::BrowserOptions;
use fanmill_tests::clients::console::{Console, Received};
use fanmill_tests::impair::{Impairment, UdpImpair};
use fanmill_tests::scene::{LIMIT, plays, publish, session, shard_port, watch};
use fanmill_tests::{Browser, Namespace, Server, ServerOptions, wait};
use serde_json::{Value, json};

async fn server_for(namespace: &Namespace) -> Server {
    let options = ServerOptions {
        ip: namespace.host().into(),
        ..ServerOptions::default()
    };
    Server::start_with(options).await.unwrap()
}

async fn browser_in(namespace: &Namespace) -> Browser {
    let options = BrowserOptions {
        namespace: Some(namespace),
        flags: &[],
    };
    Browser::start_with(options).await.unwrap()
}

#[tokio::test]
async fn a_viewer_who_loses_packets_gets_them_again() {
    let namespace = Namespace::new().unwrap();
    let server = server_for(&namespace).await;
    let (here, there) = (
        Browser::start().await.unwrap(),
        browser_in(&namespace).await,
    );
    let _publisher = publish(&here, &server, "main", "VP8").await.unwrap();
    let viewer = watch(&there, &server, "main").await.unwrap();
    plays(&viewer, 1).await.unwrap();
    namespace.lose_percent(5, 5).unwrap();
    let seen = plays(&viewer, 8).await.unwrap();
    assert!(
        seen.nack_count > 0 && seen.retransmitted_packets_received > 0,
        "{seen:?}"
    );
}

#[tokio::test]
async fn viewers_of_a_publisher_who_loses_packets_see_a_moving_picture() {
    let namespace = Namespace::new().unwrap();
    let server = server_for(&namespace).await;
    let (here, there) = (
        Browser::start().await.unwrap(),
        browser_in(&namespace).await,
    );
    let publisher = publish(&there, &server, "main", "VP8").await.unwrap();
    namespace.lose_percent(3, 3).unwrap();
    let viewer = watch(&here, &server, "main").await.unwrap();
    plays(&viewer, 8).await.unwrap();
    let stats = publisher.evaluate("fanmill.stats()").await.unwrap();
    assert!(
        stats["nackCount"].as_u64().unwrap() > 0,
        "the server asks for what it lost: {stats}"
    );
}

#[tokio::test]
async fn a_viewer_behind_a_path_that_delays_and_reorders_keeps_watching() {
    let server = Server::start().await.unwrap();
    let browser = Browser::start().await.unwrap();
    let _publisher = publish(&browser, &server, "main", "VP8").await.unwrap();
    // The next session may be on either shard: a path to each.
    let impairment = Impairment {
        loss_permille: 10,
        reorder_permille: 50,
        delay: Duration::from_millis(30),
        reorder_delay: Duration::from_millis(20),
        seed: 1,
    };
    let viewer = browser.blank().await.unwrap();
    let mut paths = Vec::new();
    for shard in 0..2 {
        let path = UdpImpair::start(server.udp(shard), impairment)
            .await
            .unwrap();
        viewer.before_load(&path.rewrite_answers()).await.unwrap();
        paths.push(path);
    }
    viewer.goto(&server.url("/watch/main")).await.unwrap();
    plays(&viewer, 6).await.unwrap();
    let port = shard_port(&viewer).await.unwrap();
    let path = paths
        .iter()
        .find(|path| u64::from(path.address().port()) == port)
        .unwrap();
    let (passed, lost, held) = path.counts();
    assert!(
        passed > 100 && lost > 0 && held > 0,
        "{passed} passed, {lost} lost, {held} held"
    );
}

fn simulcast() -> Value {
    json!({
        "codec": "VP8",
        "size": [960, 540],
        "encodings": [
            { "rid": "q", "scaleResolutionDownBy": 4, "maxBitrate": 150_000 },
            { "rid": "h", "scaleResolutionDownBy": 2, "maxBitrate": 400_000 },
            { "rid": "f", "maxBitrate": 900_000 },
        ],
    })
}

/// The estimates of a stream's viewers, the lowest first, in bits per second.
async fn estimates(server: &Server) -> Vec<u64> {
    let name = json!({ "stream": "main" });
    let stream = server.admin("stream.get", name).await.unwrap();
    let viewers = stream["viewer_list"].as_array().into_iter().flatten();
    let known = viewers.filter_map(|viewer| viewer["estimate_bps"].as_u64());
    let mut known: Vec<_> = known.collect();
    known.sort_unstable();
    known
}

/// What the link to the viewer carries, one after the other, in kilobits a second.
const STEPS_KBIT: [u32; 3] = [3_000, 600, 2_000];

/// How long each step lasts: `FANMILL_LINK_SECONDS`, and without it as long as the shortest test needs.
fn step_length() -> Duration {
    let told = std::env::var("FANMILL_LINK_SECONDS").ok();
    let seconds = told.and_then(|seconds| seconds.parse().ok());
    Duration::from_secs(seconds.unwrap_or(8))
}

/// What a viewer had of one step.
struct Step {
    kbit: u32,
    freezes: u64,
    frozen_s: f64,
    /// Until the picture did not freeze any more and had most of the bits of the end.
    settled: Duration,
    mbit: f64,
    width: u64,
}

/// Lets the link have its steps; what the viewer had of each.
async fn through_the_steps(namespace: &Namespace, viewer: &Console) -> Vec<Step> {
    let mut steps = Vec::new();
    for kbit in STEPS_KBIT {
        namespace.limit_kbit(Some(kbit)).unwrap();
        let began = Instant::now();
        let first = viewer.received().await.unwrap();
        let mut seen = vec![(Duration::ZERO, first)];
        // A measurement over a time: there is nothing to wait for.
        while began.elapsed() < step_length() {
            tokio::time::sleep(Duration::from_millis(500)).await;
            seen.push((began.elapsed(), viewer.received().await.unwrap()));
        }
        let mbit = |from: usize, to: usize| {
            let (begin, before) = seen[from];
            let (end, after) = seen[to];
            (after.bytes - before.bytes) as f64 * 8e-6 / (end - begin).as_secs_f64()
        };
        let last = seen.len() - 1;
        let at_the_end = mbit(last - 4, last);
        let frozen = (1..=last).rfind(|at| seen[*at].1.freezes > seen[at - 1].1.freezes);
        let enough = (2..=last).find(|at| mbit(at - 2, *at) > 0.7 * at_the_end);
        let settled = frozen.max(enough.map(|at| at - 2)).unwrap_or(0);
        steps.push(Step {
            kbit,
            freezes: seen[last].1.freezes - first.freezes,
            frozen_s: seen[last].1.frozen_s - first.frozen_s,
            settled: seen[settled].0,
            mbit: at_the_end,
            width: seen[last].1.width,
        });
    }
    steps
}

fn print_steps(name: &str, steps: &[Step]) {
    for step in steps {
        println!(
            "| {name} | {} | {} | {:.1} | {:.1} | {:.2} | {} |",
            step.kbit,
            step.freezes,
            step.frozen_s,
            step.settled.as_secs_f64(),
            step.mbit,
            step.width,
        );
    }
}

/// With `FANMILL_LINK_DIRECTLY` set, the same is done without a server between the browsers.
#[tokio::test]
async fn a_viewer_behind_a_link_that_changes_gets_the_simulcast_encoding_that_fits() {
    let namespace = Namespace::new().unwrap();
    let server = server_for(&namespace).await;
    // One calls the other by its address.
    let flags = &["--disable-features=WebRtcHideLocalIpsWithMdns"];
    let there = BrowserOptions {
        namespace: Some(&namespace),
        flags,
    };
    let here = BrowserOptions {
        namespace: None,
        flags,
    };
    let (here, there) = tokio::join!(Browser::start_with(here), Browser::start_with(there));
    let (here, there) = (here.unwrap(), there.unwrap());
    println!("| from | kbit/s | freezes | frozen, s | settled after, s | Mbit/s | width |");
    if std::env::var_os("FANMILL_LINK_DIRECTLY").is_some() {
        let caller = Console::open(&here, &server).await.unwrap();
        let called = Console::open(&there, &server).await.unwrap();
        let options = json!({ "size": [960, 540], "maxBitrate": 1_450_000 });
        called.watch_directly(&caller, &options).await.unwrap();
        called.plays(10).await.unwrap();
        print_steps("Chromium", &through_the_steps(&namespace, &called).await);
        namespace.limit_kbit(None).unwrap();
        caller.end().await.unwrap();
        called.end().await.unwrap();
    }
    let publisher = Console::open(&here, &server).await.unwrap();
    let (whip, whep) = (server.url("/whip/main"), server.url("/whep/main"));
    publisher.publish(&whip, &simulcast()).await.unwrap();
    let wide = Console::open(&here, &server).await.unwrap();
    let narrow = Console::open(&there, &server).await.unwrap();
    let nothing = json!({});
    let (one, other) = tokio::join!(wide.watch(&whep, &nothing), narrow.watch(&whep, &nothing));
    one.and(other).unwrap();
    let width = |width| move |seen: &Received| seen.width == width;
    for viewer in [&wide, &narrow] {
        viewer.receives("the best", width(960)).await.unwrap();
    }
    narrow.plays(3).await.unwrap();

    let steps = through_the_steps(&namespace, &narrow).await;
    print_steps("Fanmill", &steps);
    let widths: Vec<_> = steps.iter().map(|step| step.width).collect();
    assert!(widths[0] == 960 && widths[1] < 960, "{widths:?}");
    // It may have been too short a step for a machine with other work.
    narrow.receives("the best again", width(960)).await.unwrap();
    narrow.plays(2).await.unwrap();
    let known = estimates(&server).await;
    // The bucket lets the first packets of a frame pass at once: short trains make it look wider.
    assert!(known.len() == 2 && known[0] < 3_500_000, "{known:?}");
    assert!(known[1] > 2_000_000, "{known:?}");
    let seen = wide.plays(1).await.unwrap();
    assert_eq!(seen.width, 960);
}

#[tokio::test]
async fn a_viewer_who_walks_into_another_network_keeps_the_session() {
    let mut namespace = Namespace::new().unwrap();
    let server = server_for(&namespace).await;
    let (here, there) = (
        Browser::start().await.unwrap(),
        browser_in(&namespace).await,
    );
    let _publisher = publish(&here, &server, "main", "VP8").await.unwrap();
    let viewer = watch(&there, &server, "main").await.unwrap();
    plays(&viewer, 2).await.unwrap();
    let before = session(&viewer).await.unwrap();
    namespace.move_client().unwrap();
    // The browser finds its new address by itself; the server must follow it there.
    let prefix = format!("{}:", namespace.inside());
    let is_there = |transport: &Value| {
        let address = transport["remote_address"].as_str();
        address.is_some_and(|address| address.starts_with(&prefix))
    };
    let transports = async || server.admin("transport.list", json!({})).await;
    wait::until("packets to the new address", LIMIT, transports, |list| {
        list.as_array()
            .is_some_and(|list| list.iter().any(is_there))
    })
    .await
    .unwrap();
    plays(&viewer, 3).await.unwrap();
    assert_eq!(session(&viewer).await.unwrap(), before);
}
