//! Which packet of which player is sent when: the states of all players, without threads, files or
//! clocks, so that tests run it in virtual time.
//!
//! The pacing thread calls [`Pacer::handle`] with what was asked or read and [`Pacer::advance`] when
//! something is due. Feeds come and go through [`Work`]; the pacer itself never waits for one.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::sync::Arc;

use super::demux::Kind;
use super::feed::{End, Feed, Filled, Task, Unit};
use super::status::{PlayerEvent, PlayerState, Shared};
use super::timeline::{NORMAL_RATE, Timeline};
use crate::media::rtp::Headers;

/// Media read before it is due: enough for a disk that has to seek for each of many players.
const READ_AHEAD_US: i64 = 600_000;

/// When less than this is left, more is read.
const READ_AGAIN_US: i64 = 300_000;

/// Memory of what is read ahead, for each player.
const READ_AHEAD_BYTES: usize = 2 << 20;

/// Later than this, the disk did not keep up: play time stands still instead of hurrying after.
const MAX_LATE_US: i64 = 500_000;

/// Units due within this are sent together: fewer wake-ups, and no receiver notices.
const SLACK_US: i64 = 1_000;

/// Time between two clock reports and two position events.
const REPORT_EVERY_US: i64 = 1_000_000;

/// A still picture is sent again at most this often, whoever asks.
const SHOW_AGAIN_US: i64 = 2_000_000;

/// One RTP packet of a player, as it goes out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outgoing<'a> {
    /// Which of the stream's tracks.
    pub kind: Kind,
    /// RTP sequence number.
    pub sequence_number: u16,
    /// RTP timestamp.
    pub timestamp: u32,
    /// Last packet of a frame.
    pub marker: bool,
    /// Payload.
    pub payload: &'a [u8],
}

/// The stream that a player plays into can take no more: it was ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SinkClosed;

/// Where a player's packets go. Called on the pacing thread: it must not wait.
pub trait Sink: Send {
    /// Takes a packet.
    ///
    /// # Errors
    /// [`SinkClosed`], which ends the player.
    fn send(&mut self, packet: &Outgoing<'_>) -> Result<(), SinkClosed>;

    /// What is shown at `timestamp` was captured at this time of the pacing thread's clock.
    fn set_clock(&mut self, kind: Kind, at_us: i64, timestamp: u32);

    /// Whether a viewer has asked for a keyframe since this was last called.
    fn take_keyframe_request(&mut self) -> bool;

    /// Whether the stream was ended.
    fn is_closed(&self) -> bool;
}

/// A player's name for the pacer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct PlayerId(pub(super) u64);

/// What somebody wants of a player.
pub(super) enum Command {
    Add(PlayerId, Box<NewPlayer>),
    Play(PlayerId),
    Pause(PlayerId),
    Seek { id: PlayerId, item: usize, us: i64 },
    SetRate(PlayerId, u32),
    SetRepeat(PlayerId, bool),
    Stop(PlayerId),
}

/// What a player is made of.
pub(super) struct NewPlayer {
    pub(super) feed: Feed,
    pub(super) sink: Box<dyn Sink>,
    pub(super) shared: Arc<Shared>,
    pub(super) headers: [Headers; 2],
    pub(super) repeat: bool,
    pub(super) rate: u32,
}

/// A feed on its way to a reading thread.
pub(super) struct Work {
    pub(super) id: PlayerId,
    pub(super) generation: u32,
    pub(super) feed: Feed,
    pub(super) task: Task,
}

/// A feed on its way back.
pub(super) struct Done {
    pub(super) id: PlayerId,
    pub(super) generation: u32,
    pub(super) feed: Feed,
    pub(super) filled: Filled,
}

impl Work {
    /// Does it; may wait for the disk.
    pub(super) fn run(mut self) -> Done {
        let filled = self.feed.run(&self.task);
        Done {
            id: self.id,
            generation: self.generation,
            feed: self.feed,
            filled,
        }
    }
}

struct Player {
    feed: Option<Feed>,
    sink: Box<dyn Sink>,
    shared: Arc<Shared>,
    headers: [Headers; 2],
    repeat: bool,
    state: PlayerState,
    timeline: Timeline,
    /// Play time that stands still while paused; also what is shown when a seek has arrived.
    paused_us: i64,
    /// Counts seeks: what was read before one is not wanted after it.
    generation: u32,
    /// A seek that no reading thread has been told of.
    seek: Option<(usize, i64)>,
    /// The first unit after a seek sets the clock.
    is_arriving: bool,
    queue: VecDeque<Unit>,
    queued_bytes: usize,
    end: Option<End>,
    reported_us: [i64; 2],
    position_told_us: i64,
    /// Latest frame that was sent: the file, and the time in it.
    shown: Option<(usize, i64)>,
    shown_again_us: i64,
    /// Heap entries for another time are stale.
    due_us: Option<i64>,
}

/// All players.
#[derive(Default)]
pub(super) struct Pacer {
    players: HashMap<PlayerId, Player>,
    heap: BinaryHeap<Reverse<(i64, PlayerId)>>,
    work: Vec<Work>,
}

impl Pacer {
    /// Feeds that are to be read from, since this was last asked.
    pub(super) fn take_work(&mut self) -> Vec<Work> {
        std::mem::take(&mut self.work)
    }

    /// When the next unit is due.
    pub(super) fn next_due_us(&mut self) -> Option<i64> {
        while let Some(&Reverse((due_us, id))) = self.heap.peek() {
            let player = self.players.get(&id);
            if player.is_some_and(|player| player.due_us == Some(due_us)) {
                return Some(due_us);
            }
            self.heap.pop();
        }
        None
    }

    /// Does what somebody wants.
    pub(super) fn handle(&mut self, command: Command, now_us: i64) {
        let id = match command {
            Command::Add(id, new) => {
                self.players.insert(id, Player::new(*new, now_us));
                id
            }
            Command::Stop(id) => {
                if let Some(player) = self.players.remove(&id) {
                    player.shared.stopped(None);
                }
                return;
            }
            Command::Play(id) => self.with(id, |player| player.play(now_us)),
            Command::Pause(id) => self.with(id, |player| player.pause(now_us)),
            Command::Seek { id, item, us } => self.with(id, |player| player.seek(item, us, now_us)),
            Command::SetRate(id, rate) => self.with(id, |player| player.set_rate(rate, now_us)),
            Command::SetRepeat(id, repeat) => self.with(id, |player| player.repeat = repeat),
        };
        self.settle(id, now_us);
    }

    /// Takes a feed back, with what was read.
    pub(super) fn done(&mut self, done: Done, now_us: i64) {
        let id = done.id;
        // A player that was stopped meanwhile has no more use for its feed.
        if let Some(player) = self.players.get_mut(&id) {
            player.feed = Some(done.feed);
            if done.generation == player.generation && player.seek.is_none() {
                player.take(done.filled, now_us);
            }
            self.settle(id, now_us);
        }
    }

    /// Sends what is due.
    pub(super) fn advance(&mut self, now_us: i64) {
        while let Some(due_us) = self.next_due_us() {
            if due_us > now_us + SLACK_US {
                break;
            }
            let Some(Reverse((_, id))) = self.heap.pop() else {
                break;
            };
            self.with(id, |player| {
                player.due_us = None;
                player.send_due(now_us);
            });
            self.settle(id, now_us);
        }
    }

    /// What players that send nothing do not notice: that their streams were ended, and that viewers
    /// came who have not seen the picture.
    pub(super) fn sweep(&mut self, now_us: i64) {
        let mut again = Vec::new();
        self.players.retain(|&id, player| {
            if player.sink.is_closed() {
                player.shared.stopped(None);
                return false;
            }
            // While it plays, the file's own keyframes come.
            if player.sink.take_keyframe_request() && player.stands_still(now_us) {
                again.push(id);
            }
            true
        });
        for id in again {
            self.with(id, |player| player.show_again(now_us));
            self.settle(id, now_us);
        }
    }

    fn with(&mut self, id: PlayerId, change: impl FnOnce(&mut Player)) -> PlayerId {
        if let Some(player) = self.players.get_mut(&id) {
            change(player);
        }
        id
    }

    /// Whatever happened to a player: has it read on, and notes when it is due.
    fn settle(&mut self, id: PlayerId, now_us: i64) {
        let Some(player) = self.players.get_mut(&id) else {
            return;
        };
        if player.state == PlayerState::Stopped {
            self.players.remove(&id);
            return;
        }
        if let Some((feed, task)) = player.wants(now_us) {
            self.work.push(Work {
                id,
                generation: player.generation,
                feed,
                task,
            });
        }
        let due_us = player.next_due_us();
        if due_us != player.due_us {
            player.due_us = due_us;
            if let Some(due_us) = due_us {
                self.heap.push(Reverse((due_us, id)));
            }
        }
    }
}

impl Player {
    fn new(new: NewPlayer, now_us: i64) -> Self {
        Self {
            feed: Some(new.feed),
            sink: new.sink,
            shared: new.shared,
            headers: new.headers,
            repeat: new.repeat,
            state: PlayerState::Ready,
            timeline: Timeline::at(now_us, 0, new.rate),
            paused_us: 0,
            generation: 0,
            seek: Some((0, 0)),
            is_arriving: true,
            queue: VecDeque::new(),
            queued_bytes: 0,
            end: None,
            reported_us: [i64::MIN; 2],
            position_told_us: i64::MIN,
            shown: None,
            shown_again_us: i64::MIN,
            due_us: None,
        }
    }

    fn play(&mut self, now_us: i64) {
        match self.state {
            PlayerState::Playing | PlayerState::Stopped => return,
            PlayerState::Ended => self.go_to(0, 0, now_us),
            PlayerState::Ready => {}
            // Frames on the way to the one that was sought keep their times.
            PlayerState::Paused
                if self.is_arriving || self.timeline.due_us(self.paused_us) > now_us => {}
            PlayerState::Paused => {
                self.timeline = Timeline::at(now_us, self.paused_us, self.timeline.rate());
            }
        }
        self.set_state(PlayerState::Playing, now_us);
    }

    fn pause(&mut self, now_us: i64) {
        if matches!(self.state, PlayerState::Playing | PlayerState::Ready) {
            self.paused_us = match self.is_arriving {
                true => 0,
                false => self.timeline.play_us(now_us),
            };
            self.set_state(PlayerState::Paused, now_us);
        }
    }

    fn seek(&mut self, item: usize, us: i64, now_us: i64) {
        self.go_to(item, us, now_us);
        // The frame that was sought is shown; it goes on when it is played.
        if matches!(self.state, PlayerState::Ready | PlayerState::Ended) {
            self.set_state(PlayerState::Paused, now_us);
        }
    }

    /// Whether its latest frame stays, and was not just sent again.
    fn stands_still(&self, now_us: i64) -> bool {
        matches!(self.state, PlayerState::Paused | PlayerState::Ended)
            && !self.is_arriving
            && now_us.saturating_sub(self.shown_again_us) >= SHOW_AGAIN_US
    }

    /// Sends the present frame, from the keyframe before on, to viewers who came while nothing moves.
    fn show_again(&mut self, now_us: i64) {
        if let Some((item, us)) = self.shown {
            self.shown_again_us = now_us;
            self.go_to(item, us, now_us);
        }
    }

    fn go_to(&mut self, item: usize, us: i64, now_us: i64) {
        self.generation = self.generation.wrapping_add(1);
        self.seek = Some((item, us));
        self.is_arriving = true;
        self.paused_us = 0;
        self.queue.clear();
        self.queued_bytes = 0;
        self.end = None;
        self.shared.moved(item, us, now_us);
    }

    fn set_rate(&mut self, rate: u32, now_us: i64) {
        let play_us = self.timeline.play_us(now_us);
        self.timeline = Timeline::at(now_us, play_us, rate);
        self.shared.set_rate(rate, now_us);
    }

    fn set_state(&mut self, state: PlayerState, now_us: i64) {
        if self.state != state {
            self.state = state;
            self.shared.set_state(state, now_us);
        }
    }

    /// Takes what was read.
    fn take(&mut self, filled: Filled, now_us: i64) {
        if self.is_arriving && (!filled.units.is_empty() || filled.end.is_some()) {
            let rate = self.timeline.rate();
            let first_us = filled.units.first().map_or(0, |first| first.play_us.min(0));
            self.timeline = Timeline::catching_up(now_us, first_us, 0, rate);
            self.is_arriving = false;
        }
        for unit in filled.units {
            self.queued_bytes += unit.payloads.bytes();
            self.queue.push_back(unit);
        }
        self.end = filled.end;
        if let Some(End::Failed(why)) = &self.end
            && self.queue.is_empty()
        {
            self.fail(why.clone());
        }
    }

    fn fail(&mut self, why: String) {
        self.state = PlayerState::Stopped;
        self.shared.stopped(Some(why));
    }

    /// The feed and what to do with it, if there is something to do.
    fn wants(&mut self, now_us: i64) -> Option<(Feed, Task)> {
        let is_wanted = match self.state {
            PlayerState::Stopped | PlayerState::Ready => false,
            _ if self.seek.is_some() => true,
            PlayerState::Ended if self.queue.back().is_some_and(|last| last.play_us > 0) => false,
            _ => {
                self.end.is_none() && self.queued_bytes < READ_AHEAD_BYTES && self.runs_low(now_us)
            }
        };
        if !is_wanted {
            return None;
        }
        let feed = self.feed.take()?;
        let seek = self.seek.take();
        let from_us = match seek {
            Some(_) => 0,
            None => self.now_play_us(now_us).max(self.last_play_us()),
        };
        let ahead_us = READ_AHEAD_US * i64::from(self.timeline.rate()) / i64::from(NORMAL_RATE);
        let task = Task {
            seek,
            until_us: from_us + ahead_us,
            max_bytes: READ_AHEAD_BYTES,
            repeat: self.repeat,
        };
        Some((feed, task))
    }

    fn last_play_us(&self) -> i64 {
        self.queue
            .back()
            .map_or(i64::MIN, |unit| unit.play_us)
            .max(-READ_AHEAD_US)
    }

    fn runs_low(&self, now_us: i64) -> bool {
        self.queue.back().is_none_or(|last| {
            self.timeline.due_us(last.play_us) - self.timeline.due_us(self.now_play_us(now_us))
                < READ_AGAIN_US
        })
    }

    fn now_play_us(&self, now_us: i64) -> i64 {
        match self.state {
            PlayerState::Playing => self.timeline.play_us(now_us),
            _ => self.paused_us,
        }
    }

    /// When something is to be done; paused, only for frames on the way to the one sought.
    fn next_due_us(&self) -> Option<i64> {
        if self.is_arriving {
            return None;
        }
        match self.state {
            PlayerState::Playing => match (self.queue.front(), &self.end) {
                (Some(unit), _) => Some(self.timeline.due_us(unit.play_us)),
                (None, Some(End::Played(play_us))) => Some(self.timeline.due_us(*play_us)),
                (None, _) => None,
            },
            PlayerState::Paused | PlayerState::Ended => {
                let unit = self.queue.front()?;
                (unit.play_us <= self.paused_us).then(|| self.timeline.due_us(unit.play_us))
            }
            _ => None,
        }
    }

    fn send_due(&mut self, now_us: i64) {
        while let Some(due_us) = self.next_due_us()
            && due_us <= now_us + SLACK_US
        {
            if let Some(unit) = self.queue.pop_front() {
                self.queued_bytes -= unit.payloads.bytes();
                if now_us - due_us > MAX_LATE_US {
                    self.timeline.delay(now_us - due_us);
                }
                let due_us = self.timeline.due_us(unit.play_us);
                if self.send(&unit, due_us, now_us).is_err() {
                    self.state = PlayerState::Stopped;
                    self.shared.stopped(None);
                    return;
                }
            } else {
                self.paused_us = self.timeline.play_us(now_us);
                self.set_state(PlayerState::Ended, now_us);
                return;
            }
        }
        if let Some(End::Failed(why)) = &self.end
            && self.queue.is_empty()
        {
            self.fail(why.clone());
        }
    }

    fn send(&mut self, unit: &Unit, due_us: i64, now_us: i64) -> Result<(), SinkClosed> {
        self.shared.reached(unit.item, unit.position_us, due_us);
        let is_audio = unit.kind == Kind::Audio;
        // Sound at another speed has another pitch: it is left out. On the way to a frame that was
        // sought there is none.
        if is_audio && (self.timeline.rate() != NORMAL_RATE || self.state != PlayerState::Playing) {
            return Ok(());
        }
        if !is_audio {
            self.shown = Some((unit.item, unit.position_us));
        }
        let slot = usize::from(is_audio);
        let headers = &mut self.headers[slot];
        let timestamp = match unit.kind {
            Kind::Video => headers.video_timestamp(due_us),
            Kind::Audio => headers.audio_timestamp(due_us, unit.duration_us),
        };
        if now_us.saturating_sub(self.reported_us[slot]) >= REPORT_EVERY_US {
            self.reported_us[slot] = now_us;
            self.sink.set_clock(unit.kind, due_us, timestamp);
        }
        let count = unit.payloads.len();
        for (index, payload) in unit.payloads.iter().enumerate() {
            self.sink.send(&Outgoing {
                kind: unit.kind,
                sequence_number: headers.next_sequence_number(),
                timestamp,
                marker: !is_audio && index + 1 == count,
                payload,
            })?;
        }
        if now_us.saturating_sub(self.position_told_us) >= REPORT_EVERY_US {
            self.position_told_us = now_us;
            self.shared.tell(PlayerEvent::Position {
                item: unit.item,
                position_us: unit.position_us,
            });
        }
        Ok(())
    }
}
