//! Rooms, with real clients over WHIP and WHEP: who is heard and seen in which slot, and what is told.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use common::events::{Events, subscribe};
use common::media::Rtp;
use common::offer::{AUDIO_PT, AUDIO_SSRC, Kind, Offer, VIDEO_PT, VIDEO_SSRC};
use common::peer::Peer;
use common::server::{Options, Server};
use common::{soon, until};
use fanmill_control::broadcast::BroadcastError;
use fanmill_control::events::Filter;
use fanmill_control::model::{ProducedTrack, TransportKind};
use fanmill_control::rooms::RoomDetails;
use serde_json::{Value, json};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::{Interval, MissedTickBehavior, interval};

const LEVEL_ID: u8 = 1;
const LEVEL: &str = "a=extmap:1 urn:ietf:params:rtp-hdrext:ssrc-audio-level\r\na=mid:0\r\n";

/// How loud somebody is, packet by packet of 20 ms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sound {
    /// The noise of a room.
    Still,
    /// Syllables.
    Speech,
    /// As loud as can be, all the time.
    Loud,
    /// Packets that say nothing of it.
    Untold,
}

impl Sound {
    fn level(self, packet: u16) -> Option<u8> {
        match self {
            Self::Still => Some(72 + (packet % 5) as u8),
            Self::Speech if packet % 12 >= 10 => Some(64),
            Self::Speech => Some(28 + (packet * 7 % 11) as u8),
            Self::Loud => Some(0),
            Self::Untold => None,
        }
    }
}

/// A member that sends sound all the time and a keyframe now and then, each packet with its mark.
struct Member {
    peer: Peer,
    session: String,
    mark: u8,
    sound: Sound,
    next: u16,
}

impl Member {
    async fn join(server: &Server, name: &str, mark: u8) -> Self {
        let mut offer = Offer::new(Kind::Publish, "actpass");
        offer.text = offer.text.replacen("a=mid:0\r\n", LEVEL, 1);
        let path = format!("/whip/kitchen~{name}");
        let (session, answer) = server.create(&path, &offer.text).await;
        assert!(answer.contains("ssrc-audio-level"), "{answer}");
        Self {
            peer: Peer::connect(&offer, &answer).await,
            session,
            mark,
            sound: Sound::Still,
            next: 0,
        }
    }

    async fn send(&mut self) {
        let number = self.next;
        self.next += 1;
        let mut audio = vec![0x80, AUDIO_PT];
        audio.extend(number.to_be_bytes());
        audio.extend((u32::from(number) * 960).to_be_bytes());
        audio.extend(AUDIO_SSRC.to_be_bytes());
        if let Some(level) = self.sound.level(number) {
            audio[0] |= 0x10;
            // RFC 8285 4.2: one byte of value, and padding.
            audio.extend([0xBE, 0xDE, 0, 1, LEVEL_ID << 4, 0x80 | level, 0, 0]);
        }
        audio.extend([0xFC, self.mark]);
        self.peer.send_rtp(&audio).await;
        if number.is_multiple_of(5) {
            let mut video = vec![0x80, VIDEO_PT | 0x80];
            video.extend((number / 5).to_be_bytes());
            video.extend((u32::from(number) * 1800).to_be_bytes());
            video.extend(VIDEO_SSRC.to_be_bytes());
            // RFC 7741 4.2, RFC 6386 9.1: a keyframe.
            video.extend([
                0x10, 0x50, 0x01, 0x00, 0x9D, 0x01, 0x2A, 0x40, 0x01, 0xB4, 0x00,
            ]);
            video.push(self.mark);
            self.peer.send_rtp(&video).await;
        }
    }
}

/// An offer to watch with so many slots; their mids are their places.
fn slots_offer(audio: usize, video: usize) -> Offer {
    let mut offer = Offer::new(Kind::View, "actpass");
    let sections: Vec<&str> = offer.text.split("m=").collect();
    let [session, sound, picture] = sections[..] else {
        panic!("an offer of two sections");
    };
    let mids: Vec<String> = (0..audio + video).map(|mid| mid.to_string()).collect();
    let mut text = session.replace("BUNDLE 0 1", &format!("BUNDLE {}", mids.join(" ")));
    for (mid, name) in mids.iter().enumerate() {
        let (section, own) = if mid < audio {
            (sound, "a=mid:0")
        } else {
            (picture, "a=mid:1")
        };
        text += &format!("m={}", section.replace(own, &format!("a=mid:{name}")));
    }
    offer.text = text;
    offer
}

/// Somebody who watches, and what came to it.
struct Watcher {
    peer: Peer,
    session: String,
    told: UnboundedReceiver<(String, Value)>,
    room: Value,
    slots: Value,
    speaker: Value,
    /// Whose packet came last, by mid.
    latest: HashMap<String, u8>,
}

impl Watcher {
    async fn watch(server: &Server, path: &str, audio: usize, video: usize) -> Self {
        let offer = slots_offer(audio, video);
        let (session, answer) = server.create(path, &offer.text).await;
        let names = r#"["room", "slots", "speaker"]"#;
        let stream = subscribe(server, &session, names).await;
        let mut events = Events::open(server, &stream).await;
        let (tell, told) = unbounded_channel();
        tokio::spawn(async move {
            while let Some(event) = events.next().await {
                if tell.send(event).is_err() {
                    return;
                }
            }
        });
        Self {
            peer: Peer::connect(&offer, &answer).await,
            session,
            told,
            room: Value::Null,
            slots: Value::Null,
            speaker: Value::Null,
            latest: HashMap::new(),
        }
    }

    fn received(&mut self, packet: &Rtp) {
        let mut sections = self.peer.answer.ssrcs.iter();
        let mid = sections
            .position(|ssrcs| ssrcs.contains(&packet.ssrc))
            .unwrap();
        let mark = *packet.payload.last().unwrap();
        self.latest.insert(mid.to_string(), mark);
    }

    fn tell(&mut self, (name, data): (String, Value)) {
        match name.as_str() {
            "room" => self.room = data,
            "slots" => self.slots = data,
            "speaker" => self.speaker = data["member"].clone(),
            other => panic!("{other}"),
        }
    }

    /// The mid of the slot of a kind that somebody is told to be in.
    fn slot_of(&self, kind: &str, member: &str) -> Option<String> {
        let mut slots = self.slots[kind].as_array()?.iter();
        let slot = slots.find(|slot| slot["member"] == member)?;
        Some(slot["mid"].as_str().unwrap().to_owned())
    }

    /// Lets the members send until it is so.
    async fn until(
        &mut self,
        members: &mut [Member],
        pace: &mut Interval,
        so: impl Fn(&Self) -> bool,
    ) {
        let wait = async {
            while !so(self) {
                tokio::select! {
                    packet = self.peer.recv_rtp() => self.received(&packet),
                    event = self.told.recv() => match event {
                        Some(event) => self.tell(event),
                        None => panic!("no more events: {} {} {:?}", self.slots, self.speaker, self.latest),
                    },
                    _ = pace.tick() => for member in &mut *members { member.send().await },
                }
            }
        };
        let done = tokio::time::timeout(common::PATIENCE, wait).await;
        assert!(
            done.is_ok(),
            "{} {} {:?}",
            self.slots,
            self.speaker,
            self.latest
        );
    }
}

fn pace() -> Interval {
    let mut pace = interval(Duration::from_millis(20));
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    pace
}

fn kitchen(server: &Server) -> RoomDetails {
    server.broadcast.rooms().get("kitchen").unwrap()
}

#[tokio::test]
async fn members_hear_and_see_who_speaks_and_never_themselves() {
    let server = Server::start(Options {
        shards: 2,
        ..Options::default()
    })
    .await;
    let mut events = server.broadcast.events().subscribe(Filter {
        kinds: vec!["room.speaker".to_owned()],
        stream: None,
    });
    let names = ["ann", "bob", "cid", "dan", "eve"];
    let mut members = Vec::new();
    for (mark, name) in (0..).zip(names) {
        members.push(Member::join(&server, name, mark).await);
    }
    let mut ann = Watcher::watch(&server, "/whep/kitchen~?member=ann", 3, 1).await;
    let mut pace = pace();
    // Before anybody has spoken, those who came first are there.
    ann.until(&mut members, &mut pace, |ann| {
        ann.latest
            == HashMap::from(
                [("0", 1), ("1", 2), ("2", 3), ("3", 1)].map(|(mid, mark)| (mid.to_owned(), mark)),
            )
    })
    .await;
    assert_eq!(ann.room["room"], "kitchen");
    assert_eq!(ann.room["count"], 5);
    assert_eq!(
        ann.room["members"][4],
        json!({ "name": "eve", "audio": true, "video": true })
    );
    assert_eq!(
        ann.slots["audio"][0],
        json!({ "mid": "0", "member": "bob" })
    );
    assert_eq!(ann.slots["video"], json!([{ "mid": "3", "member": "bob" }]));

    for speaker in [0, 1, 2, 3, 4] {
        for (place, member) in members.iter_mut().enumerate() {
            member.sound = if place == speaker {
                Sound::Speech
            } else {
                Sound::Still
            };
        }
        let name = names[speaker];
        let began = Instant::now();
        let comes = |ann: &Watcher, kind| {
            let mid = ann.slot_of(kind, name);
            mid.is_some_and(|mid| ann.latest.get(&mid) == Some(&(speaker as u8)))
        };
        if name != "ann" {
            ann.until(&mut members, &mut pace, |ann| comes(ann, "audio"))
                .await;
        }
        let heard_ms = began.elapsed().as_millis();
        ann.until(&mut members, &mut pace, |ann| ann.speaker == name)
            .await;
        let told_ms = began.elapsed().as_millis();
        if name != "ann" {
            ann.until(&mut members, &mut pace, |ann| comes(ann, "video"))
                .await;
        }
        let seen_ms = began.elapsed().as_millis();
        println!(
            "{name} is heard after {heard_ms} ms, dominant after {told_ms}, seen after {seen_ms}"
        );
        assert!(
            ann.latest.values().all(|mark| *mark != 0),
            "she hears herself"
        );
        let event = soon(events.next()).await;
        assert_eq!(event["member"], name);
    }
    // The fourth took the slot of him who had been silent for longest.
    let slots = ["dan", "eve", "cid"].map(|name| ann.slot_of("audio", name));
    assert_eq!(slots, ["2", "0", "1"].map(|mid| Some(mid.to_owned())));
    let room = kitchen(&server);
    assert_eq!((room.room.members, room.room.viewers), (5, 1));
    assert_eq!(room.room.speaker.as_deref(), Some("eve"));
    assert!(room.member_list[4].talks && room.member_list[4].levels);
    let slots = ["eve", "cid", "dan"].map(|name| Some(name.to_owned()));
    assert_eq!(room.viewer_list[0].audio, slots);
    assert_eq!(room.viewer_list[0].member.as_deref(), Some("ann"));

    // Who is shown leaves: the next in turn is there at once, and the numbers go on.
    let eve = members.pop().unwrap();
    assert_eq!(server.delete(&eve.session).await, 200);
    ann.until(&mut members, &mut pace, |ann| {
        ann.room["count"] == 4
            && ann.slot_of("audio", "bob").as_deref() == Some("0")
            && ann.latest["0"] == 1
            && ann.latest["3"] == 3
    })
    .await;
    assert_eq!(soon(events.next()).await["member"], Value::Null);
    assert_eq!(server.delete(&ann.session).await, 200);
    for member in &members {
        assert_eq!(server.delete(&member.session).await, 200);
    }
    until(|| server.broadcast.rooms().list().is_empty()).await;
    server.stop().await;
}

#[tokio::test]
async fn constant_noise_is_no_speech_and_who_tells_no_levels_has_a_slot_while_one_is_free() {
    let server = Server::start(Options::default()).await;
    let mut members = Vec::new();
    for (mark, (name, sound)) in [
        ("ann", Sound::Loud),
        ("bob", Sound::Untold),
        ("cid", Sound::Still),
    ]
    .into_iter()
    .enumerate()
    {
        let mut member = Member::join(&server, name, mark as u8).await;
        member.sound = sound;
        members.push(member);
    }
    // Somebody who is not in the room.
    let mut guest = Watcher::watch(&server, "/whep/kitchen~", 2, 0).await;
    let mut pace = pace();
    guest
        .until(&mut members, &mut pace, |guest| {
            guest.slot_of("audio", "ann").is_some() && guest.slot_of("audio", "bob").is_some()
        })
        .await;
    // What this process makes is a member like any other, who tells no levels either.
    let tracks = vec![ProducedTrack::opus(111)];
    let radio = server.media.create_incoming_stream("radio", tracks, None);
    let (radio, _producer) = radio.unwrap();
    let published = server.broadcast.publish_stream("kitchen~radio", &radio);
    published.unwrap();
    guest
        .until(&mut members, &mut pace, |guest| {
            guest.slot_of("audio", "radio").is_some() && guest.slot_of("audio", "bob").is_some()
        })
        .await;
    members[2].sound = Sound::Speech;
    guest
        .until(&mut members, &mut pace, |guest| guest.speaker == "cid")
        .await;
    assert!(guest.slot_of("audio", "bob").is_some() && guest.slot_of("audio", "cid").is_some());
    let list = kitchen(&server).member_list;
    let levels: Vec<_> = list
        .iter()
        .map(|member| (member.levels, member.talks))
        .collect();
    assert_eq!(
        levels,
        [(true, false), (false, false), (true, true), (false, false)]
    );
    assert_eq!(list[0].talked_ms_ago, None);
    let radio = &list[3];
    assert_eq!(
        (radio.source, radio.audio, radio.video),
        ("radio", true, false)
    );
    server.stop().await;
}

#[tokio::test]
async fn a_viewer_of_a_room_can_be_shown_a_stream_and_the_room_again() {
    let server = Server::start(Options::default()).await;
    let mut members = vec![Member::join(&server, "ann", 1).await];
    let mut guest = Watcher::watch(&server, "/whep/kitchen~", 1, 1).await;
    let mut pace = pace();
    guest
        .until(&mut members, &mut pace, |guest| guest.latest.len() == 2)
        .await;
    let offer = Offer::new(Kind::Publish, "actpass");
    server.create("/whip/other", &offer.text).await;
    let id = guest.session.rsplit('/').next().unwrap();
    let viewer = server
        .broadcast
        .session(TransportKind::View, "kitchen~", id);
    let viewer = viewer.unwrap();
    server.broadcast.attach(&viewer, "other").unwrap();
    guest
        .until(&mut members, &mut pace, |guest| {
            guest.slots["audio"][0]["member"].is_null()
                && guest.slots["video"][0]["member"].is_null()
        })
        .await;
    assert_eq!(kitchen(&server).room.viewers, 0);
    server.broadcast.attach(&viewer, "kitchen~").unwrap();
    guest.latest.clear();
    guest
        .until(&mut members, &mut pace, |guest| guest.latest.len() == 2)
        .await;
    server.broadcast.detach(&viewer).unwrap();
    assert_eq!(kitchen(&server).room.viewers, 0);
    server.stop().await;
}

#[tokio::test]
async fn names_are_checked_and_each_is_taken_once() {
    let server = Server::start(Options::default()).await;
    let publishing = Offer::new(Kind::Publish, "actpass").text;
    let viewing = Offer::new(Kind::View, "actpass").text;
    for (path, offer, status, text) in [
        (
            "/whip/kitchen~",
            &publishing,
            400,
            "publish as one of its members",
        ),
        ("/whip/kitchen~ann", &publishing, 201, ""),
        (
            "/whip/kitchen~ann",
            &publishing,
            409,
            "already has a publisher",
        ),
        ("/whep/kitchen~?member=a/b", &viewing, 400, "A-Z a-z 0-9"),
        ("/whep/kitchen~?member=", &viewing, 400, "A-Z a-z 0-9"),
        ("/whep/kitchen~?x=1&member=ann", &viewing, 201, ""),
        ("/whep/kitchen~ann", &viewing, 201, ""),
    ] {
        let response = server.post(path, offer).await;
        assert_eq!(response.status().as_u16(), status, "{path}");
        let links = response.headers().get_all("link").iter();
        let links: Vec<_> = links
            .map(|link| link.to_str().unwrap().to_owned())
            .collect();
        let told = links.iter().any(|link| link.contains("slots,speaker"));
        assert_eq!(
            told,
            path.starts_with("/whep/kitchen~?x"),
            "{path}: {links:?}"
        );
        let body = response.text().await.unwrap();
        assert!(body.contains(text), "{path}: {body}");
    }
    let publishable = server.broadcast.check_publishable("kitchen~");
    assert!(matches!(publishable, Err(BroadcastError::Room(_))));
    let rooms = server.request("GET", "/api/rooms", &[], "").await;
    let rooms: Value = serde_json::from_str(&rooms.text().await.unwrap()).unwrap();
    assert_eq!(rooms[0]["room"], "kitchen");
    assert_eq!(
        (&rooms[0]["members"], &rooms[0]["viewers"]),
        (&json!(1), &json!(1))
    );
    server.stop().await;
}

#[tokio::test]
async fn slots_are_as_many_as_are_offered_within_bounds() {
    let server = Server::start(Options::default()).await;
    let offer = slots_offer(10, 18);
    let (_, answer) = server.create("/whep/kitchen~", &offer.text).await;
    let count = |text: &str| answer.matches(text).count();
    assert_eq!(count("a=sendonly"), 8 + 16);
    assert_eq!(count("a=inactive"), 2 + 2);
    // Tracks of no stream: none waits for another.
    assert_eq!(count("a=msid:- "), 8 + 16);
    let room = kitchen(&server);
    assert_eq!(room.viewer_list[0].audio, vec![None; 8]);
    assert_eq!(room.viewer_list[0].video, vec![None; 16]);
    server.stop().await;
}
