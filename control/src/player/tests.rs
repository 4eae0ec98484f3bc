//! Players in virtual time: the pacer and its feeds on one thread, a clock that is set.

#![allow(clippy::unwrap_used)] // a failed unwrap is the failed test

use std::sync::{Arc, Mutex};

use super::demux::Kind;
use super::feed::Feed;
use super::pacer::{Command, NewPlayer, Outgoing, Pacer, PlayerId, Sink, SinkClosed};
use super::status::{PlayerEvent, PlayerState, Shared};
use super::testing::{self, FRAME_MS, Shape};
use super::timeline::NORMAL_RATE;
use crate::media::rtp::Headers;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Sent {
    at_us: i64,
    kind: Kind,
    timestamp: u32,
    /// Number of the frame; of sound 0.
    frame: u32,
}

#[derive(Default)]
struct Log {
    now_us: i64,
    sent: Vec<Sent>,
    is_closed: bool,
    wants_keyframe: bool,
}

struct LogSink(Arc<Mutex<Log>>);

impl Sink for LogSink {
    fn send(&mut self, packet: &Outgoing<'_>) -> Result<(), SinkClosed> {
        let mut log = self.0.lock().unwrap();
        if log.is_closed {
            return Err(SinkClosed);
        }
        let frame = match packet.kind {
            // After the four bytes of the VP8 descriptor.
            Kind::Video => u32::from_be_bytes(packet.payload[4..8].try_into().unwrap()),
            Kind::Audio => 0,
        };
        let at_us = log.now_us;
        log.sent.push(Sent {
            at_us,
            kind: packet.kind,
            timestamp: packet.timestamp,
            frame,
        });
        Ok(())
    }

    fn set_clock(&mut self, _: Kind, _: i64, _: u32) {}

    fn take_keyframe_request(&mut self) -> bool {
        std::mem::take(&mut self.0.lock().unwrap().wants_keyframe)
    }

    fn is_closed(&self) -> bool {
        self.0.lock().unwrap().is_closed
    }
}

struct Stage {
    pacer: Pacer,
    now_us: i64,
    log: Arc<Mutex<Log>>,
    shared: Arc<Shared>,
    events: tokio::sync::broadcast::Receiver<PlayerEvent>,
}

const ID: PlayerId = PlayerId(7);

fn stage(shapes: &[Shape], repeat: bool) -> Stage {
    let log = Arc::new(Mutex::new(Log::default()));
    let shared = Arc::new(Shared::new(NORMAL_RATE));
    let mut stage = Stage {
        pacer: Pacer::default(),
        now_us: 1_000_000,
        events: shared.subscribe(),
        log: Arc::clone(&log),
        shared: Arc::clone(&shared),
    };
    let new = NewPlayer {
        feed: Feed::new(shapes.iter().map(testing::mp4).collect(), 0),
        sink: Box::new(LogSink(log)),
        shared,
        headers: [Headers::new(90_000, 0, 0), Headers::new(48_000, 0, 0)],
        repeat,
        rate: NORMAL_RATE,
    };
    stage.command(Command::Add(ID, Box::new(new)));
    stage
}

impl Stage {
    fn command(&mut self, command: Command) {
        self.pacer.handle(command, self.now_us);
        self.read();
    }

    /// Reads at once what is to be read.
    fn read(&mut self) {
        loop {
            let work = self.pacer.take_work();
            if work.is_empty() {
                return;
            }
            for job in work {
                self.pacer.done(job.run(), self.now_us);
            }
        }
    }

    fn run_ms(&mut self, ms: i64) {
        let until_us = self.now_us + ms * 1000;
        loop {
            match self.pacer.next_due_us() {
                Some(due_us) if due_us <= until_us => self.now_us = due_us.max(self.now_us),
                _ => break,
            }
            self.log.lock().unwrap().now_us = self.now_us;
            self.pacer.advance(self.now_us);
            self.read();
        }
        self.now_us = until_us;
    }

    fn take(&self) -> Vec<Sent> {
        std::mem::take(&mut self.log.lock().unwrap().sent)
    }

    fn frames(&self) -> Vec<u32> {
        let sent = self.take();
        let video = sent.iter().filter(|sent| sent.kind == Kind::Video);
        video.map(|sent| sent.frame).collect()
    }

    fn events(&mut self) -> Vec<PlayerEvent> {
        let mut all = Vec::new();
        while let Ok(event) = self.events.try_recv() {
            if !matches!(event, PlayerEvent::Position { .. }) {
                all.push(event);
            }
        }
        all
    }

    fn state(&self) -> PlayerState {
        self.shared.status().state
    }
}

fn seconds(seconds: u32) -> Shape {
    Shape {
        frames: seconds * 1000 / FRAME_MS,
        keyframe_every: 50,
        frame_bytes: 100,
        is_silent: false,
    }
}

#[test]
fn a_file_is_played_in_real_time_and_ends() {
    let mut stage = stage(&[seconds(4)], false);
    stage.run_ms(1000);
    assert!(stage.take().is_empty(), "it plays unasked");
    stage.command(Command::Play(ID));
    let began_us = stage.now_us;
    stage.run_ms(10_000);
    let sent = stage.take();
    let video: Vec<_> = sent
        .iter()
        .filter(|sent| sent.kind == Kind::Video)
        .collect();
    assert_eq!(video.len(), 100);
    for (index, frame) in video.iter().enumerate() {
        assert_eq!(frame.frame as usize, index);
        let due_us = began_us + index as i64 * 40_000;
        assert!(
            (frame.at_us - due_us).abs() <= 1_000,
            "frame {index} at {}",
            frame.at_us
        );
        let ticks = frame.timestamp.wrapping_sub(video[0].timestamp);
        assert!(ticks.abs_diff(index as u32 * 3600) <= 1, "frame {index}");
    }
    let audio: Vec<_> = sent
        .iter()
        .filter(|sent| sent.kind == Kind::Audio)
        .collect();
    assert_eq!(audio.len(), 200);
    assert!(
        audio
            .windows(2)
            .all(|pair| pair[1].timestamp - pair[0].timestamp == 960)
    );
    assert_eq!(stage.events(), [PlayerEvent::Playing, PlayerEvent::Ended]);
}

#[test]
fn a_paused_player_is_silent_and_goes_on_where_it_was() {
    let mut stage = stage(&[seconds(4)], false);
    stage.command(Command::Play(ID));
    stage.run_ms(1010);
    assert_eq!(stage.frames().last(), Some(&25));
    stage.command(Command::Pause(ID));
    stage.run_ms(60_000);
    assert!(stage.take().is_empty());
    stage.command(Command::Play(ID));
    stage.run_ms(1000);
    let frames = stage.frames();
    assert_eq!((frames.first(), frames.last()), (Some(&26), Some(&50)));
    let states = [
        PlayerEvent::Playing,
        PlayerEvent::Paused,
        PlayerEvent::Playing,
    ];
    assert_eq!(stage.events(), states);
}

#[test]
fn a_seek_shows_the_exact_frame_from_the_keyframe_before_in_a_hurry() {
    let mut stage = stage(&[seconds(10)], false);
    stage.command(Command::Play(ID));
    stage.run_ms(500);
    stage.command(Command::Pause(ID));
    stage.take();
    // Frame 190; the keyframe before is 150.
    stage.command(Command::Seek {
        id: ID,
        item: 0,
        us: 7_610_000,
    });
    let began_us = stage.now_us;
    stage.run_ms(5_000);
    let sent = stage.take();
    let frames: Vec<_> = sent.iter().map(|sent| sent.frame).collect();
    assert_eq!(frames, (150..=190).collect::<Vec<_>>());
    assert!(
        sent.iter().all(|sent| sent.kind == Kind::Video),
        "nothing is heard on the way"
    );
    // 1.61 s at eight times the speed.
    assert!(sent.last().unwrap().at_us - began_us <= 202_000);
    assert_eq!(stage.state(), PlayerState::Paused);
    assert_eq!(stage.shared.status().position_us, 7_600_000);
    stage.command(Command::Play(ID));
    stage.run_ms(100);
    let sent = stage.take();
    assert_eq!(
        sent.iter()
            .find(|sent| sent.kind == Kind::Video)
            .unwrap()
            .frame,
        191
    );
    assert!(sent.iter().any(|sent| sent.kind == Kind::Audio));
}

#[test]
fn a_seek_while_playing_goes_on_playing_with_rising_timestamps() {
    let mut stage = stage(&[seconds(10)], false);
    stage.command(Command::Play(ID));
    stage.run_ms(5_000);
    stage.command(Command::Seek {
        id: ID,
        item: 0,
        us: 1_000_000,
    });
    stage.run_ms(2_000);
    let sent = stage.take();
    let video: Vec<_> = sent
        .iter()
        .filter(|sent| sent.kind == Kind::Video)
        .collect();
    assert!(
        video
            .windows(2)
            .all(|pair| pair[1].timestamp > pair[0].timestamp)
    );
    // 125 ms on the way, then 1875 ms.
    assert_eq!(video.last().unwrap().frame, 25 + 46);
}

#[test]
fn the_last_of_many_seeks_is_the_one_that_counts() {
    let mut stage = stage(&[seconds(10)], false);
    stage.command(Command::Play(ID));
    stage.run_ms(100);
    stage.take();
    for us in [2_000_000, 4_000_000, 6_000_000] {
        // Not read in between.
        stage.pacer.handle(
            Command::Seek {
                id: ID,
                item: 0,
                us,
            },
            stage.now_us,
        );
    }
    stage.read();
    stage.run_ms(100);
    assert_eq!(stage.frames().first(), Some(&150));
}

#[test]
fn a_playlist_is_played_without_a_gap_and_repeated() {
    let mut stage = stage(&[seconds(1), seconds(2)], true);
    stage.command(Command::Play(ID));
    stage.run_ms(7_000);
    let sent = stage.take();
    let video: Vec<_> = sent
        .iter()
        .filter(|sent| sent.kind == Kind::Video)
        .collect();
    let numbers: Vec<_> = video.iter().map(|sent| sent.frame).collect();
    let once = (0..25).chain(0..50);
    let twice: Vec<_> = once.clone().chain(once).chain(0..25).chain(0..1).collect();
    assert_eq!(numbers, twice);
    assert!(
        video
            .windows(2)
            .all(|pair| pair[1].timestamp - pair[0].timestamp == 3600)
    );
    stage.command(Command::SetRepeat(ID, false));
    stage.run_ms(7_000);
    assert_eq!(stage.state(), PlayerState::Ended);
}

#[test]
fn at_another_rate_frames_come_faster_and_nothing_is_heard() {
    let mut stage = stage(&[seconds(10)], false);
    stage.command(Command::SetRate(ID, 2 * NORMAL_RATE));
    stage.command(Command::Play(ID));
    stage.run_ms(1_990);
    let sent = stage.take();
    assert_eq!(sent.len(), 100);
    assert!(sent.iter().all(|sent| sent.kind == Kind::Video));
    assert_eq!(sent[1].timestamp - sent[0].timestamp, 1800);
    stage.command(Command::SetRate(ID, NORMAL_RATE));
    stage.run_ms(1_000);
    assert_eq!(stage.frames().len(), 25);
}

#[test]
fn what_has_ended_can_be_played_again() {
    let mut stage = stage(&[seconds(1)], false);
    stage.command(Command::Play(ID));
    stage.run_ms(2_000);
    assert_eq!(stage.state(), PlayerState::Ended);
    stage.take();
    stage.command(Command::Play(ID));
    stage.run_ms(2_000);
    assert_eq!(stage.frames().len(), 25);
}

#[test]
fn who_comes_while_nothing_moves_is_shown_the_present_frame() {
    let mut stage = stage(&[seconds(4)], false);
    stage.command(Command::Play(ID));
    stage.run_ms(2_410);
    stage.command(Command::Pause(ID));
    stage.take();
    for _ in 0..3 {
        stage.log.lock().unwrap().wants_keyframe = true;
        stage.pacer.sweep(stage.now_us);
        stage.read();
        stage.run_ms(500);
    }
    // Once in two seconds, however many ask.
    assert_eq!(stage.frames(), (50..=60).collect::<Vec<_>>());
    assert_eq!(stage.state(), PlayerState::Paused);
    stage.command(Command::Play(ID));
    stage.run_ms(10_000);
    assert_eq!(stage.frames(), (61..100).collect::<Vec<_>>());
    assert_eq!(stage.state(), PlayerState::Ended);
    stage.log.lock().unwrap().wants_keyframe = true;
    stage.pacer.sweep(stage.now_us);
    stage.read();
    stage.run_ms(500);
    assert_eq!(stage.frames(), (50..100).collect::<Vec<_>>());
    assert_eq!(stage.state(), PlayerState::Ended);
}

#[test]
fn a_player_whose_stream_was_ended_stops() {
    let mut stage = stage(&[seconds(4)], false);
    stage.command(Command::Play(ID));
    stage.run_ms(100);
    stage.log.lock().unwrap().is_closed = true;
    stage.run_ms(100);
    assert_eq!(stage.state(), PlayerState::Stopped);
    assert_eq!(
        stage.events().last(),
        Some(&PlayerEvent::Stopped { error: None })
    );
}

#[test]
fn a_hundred_players_are_paced_side_by_side() {
    let mut pacer = Pacer::default();
    let log = Arc::new(Mutex::new(Log::default()));
    let mp4 = testing::mp4(&seconds(4));
    for id in 0..100 {
        let new = NewPlayer {
            feed: Feed::new(vec![mp4.clone()], 0),
            sink: Box::new(LogSink(Arc::clone(&log))),
            shared: Arc::new(Shared::new(NORMAL_RATE)),
            headers: [Headers::new(90_000, 0, 0), Headers::new(48_000, 0, 0)],
            repeat: false,
            rate: NORMAL_RATE,
        };
        let start_us = id as i64 * 777;
        pacer.handle(Command::Add(PlayerId(id), Box::new(new)), start_us);
        pacer.handle(Command::Play(PlayerId(id)), start_us);
    }
    let mut now_us = 0;
    loop {
        for job in pacer.take_work() {
            pacer.done(job.run(), now_us);
        }
        let Some(due_us) = pacer.next_due_us() else {
            break;
        };
        now_us = due_us.max(now_us);
        log.lock().unwrap().now_us = now_us;
        pacer.advance(now_us);
    }
    assert_eq!(log.lock().unwrap().sent.len(), 100 * (100 + 200));
    assert!(
        (3_900_000..4_200_000).contains(&now_us),
        "ended at {now_us}"
    );
}
