//! Two publishers of one stream, a primary and its backup, as real clients over WHIP: who is shown to
//! viewers, who keep their connections and their numbers.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::time::{Duration, Instant};

use common::media::{Rtp, audio, keyframe};
use common::offer::{AUDIO_PT, Kind, Offer, VIDEO_PT};
use common::peer::Peer;
use common::server::{Options, Server};
use common::{soon, until};
use fanmill_control::broadcast::{BroadcastError, Role, TakeoverBack};
use tokio::time::{MissedTickBehavior, interval};

const MAIN: &str = "/whip/stage";
const BACKUP: &str = "/whip/stage?role=backup";

async fn join(server: &Server, path: &str, kind: Kind) -> (Peer, String) {
    let offer = Offer::new(kind, "actpass");
    let (session, answer) = server.create(path, &offer.text).await;
    (Peer::connect(&offer, &answer).await, session)
}

/// A publisher whose packets bear its mark.
struct Source {
    peer: Peer,
    mark: u16,
    next: u16,
    /// It sends something.
    flows: bool,
}

impl Source {
    /// `mark` is in the upper four bits of what its packets bear.
    fn new(peer: Peer, mark: u16) -> Self {
        Self {
            peer,
            mark,
            next: 0,
            flows: true,
        }
    }

    async fn send(&mut self) {
        if self.flows {
            let number = self.mark << 12 | self.next & 0x0FFF;
            self.next += 1;
            self.peer.send_rtp(&audio(number)).await;
            self.peer.send_rtp(&keyframe(number)).await;
        }
    }
}

/// Whose packet it is.
fn mark(packet: &Rtp) -> u16 {
    let at = packet.payload.len() - 2;
    u16::from_be_bytes([packet.payload[at], packet.payload[at + 1]]) >> 12
}

/// A viewer and what it has got, in order.
struct Watcher {
    peer: Peer,
    sound: Vec<Rtp>,
    pictures: Vec<Rtp>,
}

impl Watcher {
    fn new(peer: Peer) -> Self {
        Self {
            peer,
            sound: Vec::new(),
            pictures: Vec::new(),
        }
    }

    /// Lets the sources send until a packet came after which it is enough.
    async fn watch(&mut self, sources: &mut [&mut Source], mut enough: impl FnMut(&Rtp) -> bool) {
        let mut pause = interval(Duration::from_millis(20));
        pause.set_missed_tick_behavior(MissedTickBehavior::Delay);
        soon(async {
            loop {
                tokio::select! {
                    packet = self.peer.recv_rtp() => {
                        let enough = enough(&packet);
                        match packet.payload_type {
                            AUDIO_PT => self.sound.push(packet),
                            VIDEO_PT => self.pictures.push(packet),
                            other => panic!("payload type {other}"),
                        }
                        if enough { return }
                    }
                    _ = pause.tick() => for source in &mut *sources { source.send().await },
                }
            }
        })
        .await;
    }

    /// Lets the sources send until sound and pictures of the one with this mark have come.
    async fn sees(&mut self, wanted: u16, sources: &mut [&mut Source]) {
        let (mut heard, mut seen) = (false, false);
        let both = |packet: &Rtp| {
            heard |= mark(packet) == wanted && packet.payload_type == AUDIO_PT;
            seen |= mark(packet) == wanted && packet.payload_type == VIDEO_PT;
            heard && seen
        };
        self.watch(sources, both).await;
    }

    /// Lets the sources send for a while; gives whose pictures came, one after the other.
    async fn watches(&mut self, time: Duration, sources: &mut [&mut Source]) -> Vec<u16> {
        let before = self.pictures.len();
        let end = Instant::now() + time;
        self.watch(sources, |_| Instant::now() >= end).await;
        let mut marks: Vec<u16> = self.pictures[before..].iter().map(mark).collect();
        marks.dedup();
        marks
    }

    /// Checks that all that came was one stream of sound and one of pictures, without a gap.
    fn assert_continuous(&self) {
        for packets in [&self.sound, &self.pictures] {
            for pair in packets.windows(2) {
                assert_eq!(pair[0].ssrc, pair[1].ssrc);
                let step = pair[1]
                    .sequence_number
                    .wrapping_sub(pair[0].sequence_number);
                assert_eq!(step, 1, "{pair:?}");
                let step = pair[1].timestamp.wrapping_sub(pair[0].timestamp);
                assert!(step.cast_signed() > 0, "{pair:?}");
            }
        }
    }
}

/// A server on two shards with a primary, a backup and a viewer.
async fn stage() -> (Server, Source, Source, Watcher) {
    let server = Server::start(Options {
        shards: 2,
        ..Options::default()
    })
    .await;
    let primary = Source::new(join(&server, MAIN, Kind::Publish).await.0, 1);
    let backup = Source::new(join(&server, BACKUP, Kind::Publish).await.0, 2);
    let viewer = Watcher::new(join(&server, "/whep/stage", Kind::View).await.0);
    (server, primary, backup, viewer)
}

#[tokio::test]
async fn a_backup_takes_over_from_a_primary_that_falls_silent_which_then_comes_back() {
    let (server, mut primary, mut backup, mut viewer) = stage().await;
    viewer.sees(1, &mut [&mut primary, &mut backup]).await;
    let half = Duration::from_millis(500);
    let marks = viewer.watches(half, &mut [&mut primary, &mut backup]).await;
    assert_eq!(marks, [1], "nothing but the primary is seen");

    primary.flows = false;
    let lost = Instant::now();
    viewer.sees(2, &mut [&mut backup]).await;
    println!(
        "taken over {} ms after the last packet",
        lost.elapsed().as_millis()
    );
    let stream = server.broadcast.stream("stage").unwrap().stream;
    let publishers: Vec<_> = stream
        .publishers
        .iter()
        .map(|publisher| (publisher.role, publisher.on_air, publisher.heard))
        .collect();
    assert_eq!(
        publishers,
        [(Role::Primary, false, false), (Role::Backup, true, true)]
    );
    assert!(stream.live);

    primary.flows = true;
    let back = Instant::now();
    viewer.sees(1, &mut [&mut primary, &mut backup]).await;
    assert!(back.elapsed() >= fanmill_control::broadcast::RETURN_AFTER);
    println!(
        "back {} ms after its first packet",
        back.elapsed().as_millis()
    );
    viewer.assert_continuous();
    server.stop().await;
}

#[tokio::test]
async fn a_backup_takes_over_at_once_when_the_primary_leaves() {
    let (server, mut primary, mut backup, mut viewer) = stage().await;
    viewer.sees(1, &mut [&mut primary, &mut backup]).await;
    // It says goodbye.
    primary.peer.close().await;
    let lost = Instant::now();
    viewer.sees(2, &mut [&mut backup]).await;
    println!(
        "taken over {} ms after the goodbye",
        lost.elapsed().as_millis()
    );
    until(|| {
        server
            .broadcast
            .stream("stage")
            .unwrap()
            .stream
            .publishers
            .len()
            == 1
    })
    .await;
    viewer.sees(2, &mut [&mut backup]).await;
    // It returns under the same name.
    let mut primary = Source::new(join(&server, MAIN, Kind::Publish).await.0, 3);
    viewer.sees(3, &mut [&mut primary, &mut backup]).await;
    viewer.assert_continuous();
    assert_eq!(server.media.transport_count(), 3);
    server.stop().await;
}

#[tokio::test]
async fn a_backup_that_is_ended_by_its_client_leaves_the_primary_alone() {
    let (server, mut primary, mut backup, mut viewer) = stage().await;
    viewer.sees(1, &mut [&mut primary, &mut backup]).await;
    backup.peer.close().await;
    let publishers = || server.broadcast.stream("stage").unwrap().stream.publishers;
    until(|| publishers().len() == 1).await;
    viewer.sees(1, &mut [&mut primary]).await;
    viewer.assert_continuous();
    server.stop().await;
}

#[tokio::test]
async fn a_stream_with_only_a_backup_is_live_with_it() {
    let server = Server::start(Options::default()).await;
    let mut viewer = Watcher::new(join(&server, "/whep/stage", Kind::View).await.0);
    let (backup, session) = join(&server, BACKUP, Kind::Publish).await;
    let mut backup = Source::new(backup, 2);
    viewer.sees(2, &mut [&mut backup]).await;
    assert!(server.broadcast.stream("stage").unwrap().stream.live);
    assert_eq!(server.delete(&session).await, 200);
    let stream = server.broadcast.stream("stage").unwrap().stream;
    assert!(!stream.live && stream.publishers.is_empty());
    assert_eq!(stream.viewers, 1);
    server.stop().await;
}

#[tokio::test]
async fn each_of_the_two_places_is_taken_once_and_others_are_unknown() {
    let server = Server::start(Options::default()).await;
    let offer = Offer::new(Kind::Publish, "actpass").text;
    for (path, status, text) in [
        ("/whip/stage?role=primary", 201, "v=0"),
        (MAIN, 409, "already has a publisher"),
        ("/whip/stage?x=1&role=backup", 201, "v=0"),
        (BACKUP, 409, "already has a backup publisher"),
        ("/whip/stage?role=spare", 400, "role=backup"),
        ("/whip/other?role=", 400, "role=backup"),
    ] {
        let response = server.post(path, &offer).await;
        assert_eq!(response.status().as_u16(), status, "{path}");
        let body = response.text().await.unwrap();
        assert!(body.contains(text), "{path}: {body}");
    }
    assert_eq!(server.broadcast.stream_count(), 1);
    server.stop().await;
}

#[tokio::test]
async fn by_hand_viewers_see_what_was_chosen_until_it_is_lost() {
    let (server, mut primary, mut backup, mut viewer) = stage().await;
    let choose = async |role| {
        let broadcast = server.broadcast.clone();
        let chosen = move || broadcast.use_publisher("stage", role);
        tokio::task::spawn_blocking(chosen).await.unwrap()
    };
    viewer.sees(1, &mut [&mut primary]).await;
    let silent = choose(Role::Backup).await;
    assert!(
        matches!(silent, Err(BroadcastError::Silent(..))),
        "{silent:?}"
    );

    let heard = || {
        let stream = server.broadcast.stream("stage").unwrap().stream;
        stream.publishers.iter().all(|publisher| publisher.heard)
    };
    while !heard() {
        viewer.sees(1, &mut [&mut primary, &mut backup]).await;
    }
    choose(Role::Backup).await.unwrap();
    viewer.sees(2, &mut [&mut primary, &mut backup]).await;
    // The rule would have had the primary back by now.
    let time = fanmill_control::broadcast::RETURN_AFTER + Duration::from_secs(1);
    let marks = viewer.watches(time, &mut [&mut primary, &mut backup]).await;
    assert_eq!(marks, [2]);
    choose(Role::Primary).await.unwrap();
    viewer.sees(1, &mut [&mut primary, &mut backup]).await;
    choose(Role::Backup).await.unwrap();
    viewer.sees(2, &mut [&mut primary, &mut backup]).await;
    backup.flows = false;
    viewer.sees(1, &mut [&mut primary, &mut backup]).await;
    viewer.assert_continuous();

    let missing = server.broadcast.use_publisher("elsewhere", Role::Primary);
    assert!(matches!(missing, Err(BroadcastError::UnknownStream(_))));
    backup.peer.close().await;
    let publishers = || server.broadcast.stream("stage").unwrap().stream.publishers;
    until(|| publishers().len() == 1).await;
    let missing = choose(Role::Backup).await;
    assert!(
        matches!(missing, Err(BroadcastError::NoPublisher(..))),
        "{missing:?}"
    );
    server.stop().await;
}

#[tokio::test]
async fn with_the_manual_rule_the_primary_waits_to_be_chosen() {
    let (server, mut primary, mut backup, mut viewer) = stage().await;
    server.broadcast.set_takeover_back(TakeoverBack::Manual);
    viewer.sees(1, &mut [&mut primary, &mut backup]).await;
    primary.flows = false;
    viewer.sees(2, &mut [&mut backup]).await;
    primary.flows = true;
    let time = fanmill_control::broadcast::RETURN_AFTER + Duration::from_secs(1);
    let marks = viewer.watches(time, &mut [&mut primary, &mut backup]).await;
    assert_eq!(marks, [2]);
    let broadcast = server.broadcast.clone();
    let chosen = move || broadcast.use_publisher("stage", Role::Primary);
    tokio::task::spawn_blocking(chosen).await.unwrap().unwrap();
    viewer.sees(1, &mut [&mut primary, &mut backup]).await;
    viewer.assert_continuous();
    server.stop().await;
}

#[tokio::test]
async fn viewers_who_cannot_decode_the_pictures_of_a_backup_hear_its_sound() {
    let server = Server::start(Options {
        shards: 2,
        ..Options::default()
    })
    .await;
    let mut primary = Source::new(join(&server, MAIN, Kind::Publish).await.0, 1);
    // Its pictures are in a codec that these viewers did not offer.
    let mut offer = Offer::new(Kind::Publish, "actpass");
    offer.text = offer.text.replace("VP8/90000", "VP9/90000");
    let (_, answer) = server.create(BACKUP, &offer.text).await;
    let mut backup = Source::new(Peer::connect(&offer, &answer).await, 2);
    let mut viewers = Vec::new();
    for _ in 0..20 {
        viewers.push(Watcher::new(
            join(&server, "/whep/stage", Kind::View).await.0,
        ));
    }
    for viewer in &mut viewers {
        viewer.sees(1, &mut [&mut primary, &mut backup]).await;
    }
    primary.flows = false;
    for viewer in &mut viewers {
        let heard = |packet: &Rtp| {
            assert!(
                packet.payload_type == AUDIO_PT || mark(packet) == 1,
                "a picture of the backup"
            );
            packet.payload_type == AUDIO_PT && mark(packet) == 2
        };
        viewer.watch(&mut [&mut backup], heard).await;
        viewer.assert_continuous();
    }
    let shown = server.media.transports();
    let outgoing = shown
        .iter()
        .flat_map(|transport| transport.outgoing().tracks());
    let attached = outgoing.filter(|track| track.attached_to().is_some());
    assert_eq!(attached.count(), viewers.len(), "the sound alone");
    server.stop().await;
}
