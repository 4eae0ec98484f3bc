//! Viewers behind simulated links: the engine's bandwidth estimator and choice in a closed loop, as they run
//! in the server, with a player that shows what arrives, and with others on the same bottleneck.
//!
//! Everything happens in simulated time, in steps of a millisecond, and by a seed: the figures are the
//! same everywhere. `links` (`cargo run --release -p fanmill-benches --bin links`) prints them as tables
//! and draws them; the tests hold them to bounds.

mod bottleneck;
mod cubic;
mod player;
pub mod plots;
pub mod population;
pub mod scenarios;
mod sender;
pub mod tables;
#[cfg(test)]
mod tests;

use bottleneck::{Bottleneck, Packet};
use cubic::Cubic;
use player::Player;
use sender::{Sender, payload_fitting};

/// Payload of the encodings, in bits per second.
pub const LADDER: [u64; 4] = [150_000, 500_000, 1_200_000, 2_500_000];

/// Between two frames.
pub const FRAME_MS: u64 = 33;

/// Between two feedback packets of a viewer.
const FEEDBACK_MS: u64 = 100;

/// Of two encodings, one is as good as the other within so much.
const SETTLED_MS: u64 = 1_000;

/// A link and who is on it.
#[derive(Debug, Clone)]
pub struct Scenario {
    /// What the tables call it.
    pub name: &'static str,
    /// From which second on, how many bits per second pass.
    pub capacity: Vec<(u64, u64)>,
    /// Length of the way beyond the bottleneck, and back.
    pub one_way_ms: u64,
    /// What the bottleneck holds.
    pub queue_bytes: u64,
    /// Share of packets lost, in per cent.
    pub loss_percent: f64,
    /// They are lost in runs of about so many.
    pub loss_run: f64,
    /// What does not fit is dropped and not queued.
    pub polices: bool,
    /// From and to which second, bits per second of somebody who does not yield.
    pub constant: Option<(u64, u64, u64)>,
    /// From and to which second a TCP download (CUBIC) goes on.
    pub download: Option<(u64, u64)>,
    /// From which second on each viewer is there.
    pub viewers: Vec<u64>,
    /// Tracks with several encodings that each of them is sent.
    pub tracks: usize,
    /// Pictures that somebody else's wish makes keyframes come so often, if at all.
    pub keyframe_every_ms: Option<u64>,
    /// Frames that are large for the link leave at so many times the estimate.
    pub pacing: Option<f64>,
    /// How long it goes on.
    pub seconds: u64,
    /// Of all chances.
    pub seed: u64,
}

impl Default for Scenario {
    fn default() -> Self {
        Self {
            name: "3 Mbit/s",
            capacity: vec![(0, 3_000_000)],
            one_way_ms: 20,
            queue_bytes: 64_000,
            loss_percent: 0.0,
            loss_run: 1.0,
            polices: false,
            constant: None,
            download: None,
            viewers: vec![0],
            tracks: 1,
            keyframe_every_ms: None,
            pacing: None,
            seconds: 60,
            seed: 7,
        }
    }
}

/// What came of a scenario.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// What was shown of what would have fitted, both in the encodings' bitrates; of a link that
    /// only viewers are on.
    pub utilisation: f64,
    /// Of the queue at the bottleneck, milliseconds: median, 95th percentile and longest.
    pub queue_ms: [f64; 3],
    /// Share of the viewers' packets that were lost, by the link or for want of room.
    pub lost_percent: f64,
    /// Interruptions of all viewers' pictures, as WebRTC counts them, and how long they were together.
    pub freezes: u64,
    /// See `freezes`.
    pub frozen_ms: u64,
    /// Changes of encoding.
    pub switches: u64,
    /// After each change of the capacity: until the encoding that fits is shown.
    pub settled_ms: Vec<Option<u64>>,
    /// From the start until the first viewer's encoding fits.
    pub first_picture_ms: Option<u64>,
    /// Jain's index of what all got in the time they were all there: 1 is fair.
    pub fairness: f64,
    /// What each got in that time, in bits per second; the download last.
    pub shares_bps: Vec<f64>,
    /// Each second: the capacity, each viewer's estimate, and what it was sent, in bits per second.
    pub trace: Vec<Moment>,
}

/// One second of a scenario.
#[derive(Debug, Clone)]
pub struct Moment {
    /// What the link carries.
    pub capacity_bps: u64,
    /// The first viewer's estimate.
    pub estimate_bps: u64,
    /// Bitrate of what it is shown.
    pub shown_bps: u64,
    /// Longest queue in that second, in milliseconds.
    pub queue_ms: f64,
    /// What the download got.
    pub download_bps: f64,
}

/// What a run gathers as it goes.
#[derive(Default)]
struct Gathered {
    queue_ms: Vec<f64>,
    shown_bits: f64,
    fitting_bits: f64,
    settled_ms: Vec<Option<u64>>,
    settles_since: Option<u64>,
    shares: Vec<u64>,
    trace: Vec<Moment>,
    longest_ms: f64,
    download_before: u64,
}

/// Everybody on one link.
struct World<'a> {
    scenario: &'a Scenario,
    link: Bottleneck,
    viewers: Vec<(Sender, Player)>,
    download: Cubic,
    gathered: Gathered,
}

/// Plays a scenario to its end.
#[must_use]
pub fn run(scenario: &Scenario) -> Outcome {
    let viewers = scenario
        .viewers
        .iter()
        .map(|_| (Sender::new(scenario), Player::new(scenario.tracks)));
    let mut world = World {
        scenario,
        link: Bottleneck::new(scenario),
        viewers: viewers.collect(),
        download: Cubic::default(),
        gathered: Gathered {
            settled_ms: vec![None; scenario.capacity.len()],
            shares: vec![0; scenario.viewers.len() + 1],
            ..Gathered::default()
        },
    };
    for ms in 0..scenario.seconds * 1_000 {
        world.step(ms);
    }
    world.end()
}

impl World<'_> {
    fn step(&mut self, ms: u64) {
        let scenario = self.scenario;
        let step = scenario
            .capacity
            .iter()
            .rposition(|(from, _)| from * 1_000 <= ms);
        let step = step.unwrap_or(0);
        let capacity_bps = scenario.capacity[step].1;
        self.offer_others(ms);
        for (place, (sender, player)) in self.viewers.iter_mut().enumerate() {
            if ms < scenario.viewers[place] * 1_000 {
                continue;
            }
            player.requests_due(ms, |request| sender.requested(request));
            player.feedback_due(ms, |feedback| sender.feedback(feedback, ms));
            sender.send(ms, |number, bytes, what| {
                self.link
                    .offer(Packet::of_viewer(place, number, bytes, what));
            });
        }
        self.link.pass(capacity_bps, ms);
        while let Some((at_us, packet)) = self.link.arrived(ms) {
            match packet.viewer {
                Some(place) => self.viewers[place].1.receive(&packet, at_us),
                None if packet.is_download => self.download.delivered(packet.number, at_us),
                None => {}
            }
        }
        for (_, player) in &mut self.viewers {
            player.tick(ms, scenario.one_way_ms);
        }
        self.gather(ms, step, capacity_bps);
    }

    fn offer_others(&mut self, ms: u64) {
        let scenario = self.scenario;
        let within = |(from, to): (u64, u64)| (from * 1_000..to * 1_000).contains(&ms);
        if let Some((from, to, bps)) = scenario.constant
            && within((from, to))
            && ms.is_multiple_of((bottleneck::WIRE_BYTES * 8_000 / bps).max(1))
        {
            self.link.offer(Packet::of_another());
        }
        let downloads = scenario.download.is_some_and(within);
        let link = &mut self.link;
        let one_way_ms = scenario.one_way_ms;
        self.download.step(ms, one_way_ms, downloads, |number| {
            link.offer(Packet::of_download(number))
        });
    }

    fn gather(&mut self, ms: u64, step: usize, capacity_bps: u64) {
        let scenario = self.scenario;
        let queue_ms = self.link.queue_ms(capacity_bps);
        let all_there = scenario.viewers.iter().all(|from| ms >= from * 1_000);
        let downloads = scenario
            .download
            .is_none_or(|(from, to)| (from * 1_000..to * 1_000).contains(&ms));
        let gathered = &mut self.gathered;
        gathered.queue_ms.push(queue_ms);
        gathered.longest_ms = gathered.longest_ms.max(queue_ms);
        let shown: u64 = self
            .viewers
            .iter()
            .map(|(sender, _)| sender.shown_bps())
            .sum();
        let others_bps = scenario
            .constant
            .filter(|(from, to, _)| (from * 1_000..to * 1_000).contains(&ms))
            .map_or(0, |(_, _, bps)| bps);
        let there = scenario.viewers.iter().filter(|from| ms >= **from * 1_000);
        let fitting = payload_fitting(
            capacity_bps.saturating_sub(others_bps),
            there.count() * scenario.tracks,
        );
        gathered.shown_bits += shown as f64 / 1_000.0;
        gathered.fitting_bits += fitting as f64 / 1_000.0;
        // It has settled when it stays there.
        let since = match shown == fitting && self.viewers.iter().all(|(s, _)| !s.is_changing()) {
            true => *gathered.settles_since.get_or_insert(ms),
            false => {
                gathered.settles_since = None;
                u64::MAX
            }
        };
        let began = scenario.capacity[step].0 * 1_000;
        if ms >= since.max(began).saturating_add(SETTLED_MS) {
            gathered.settled_ms[step].get_or_insert(since.max(began) - began);
        }
        if all_there && downloads {
            for (place, (_, player)) in self.viewers.iter_mut().enumerate() {
                gathered.shares[place] += player.take_bytes();
            }
            let last = gathered.shares.len() - 1;
            gathered.shares[last] += self.download.take_bytes();
        } else {
            self.viewers.iter_mut().for_each(|(_, player)| {
                player.take_bytes();
            });
            self.download.take_bytes();
        }
        if ms % 1_000 == 999 {
            let all = self.download.all_bytes();
            let (sender, _) = &self.viewers[0];
            gathered.trace.push(Moment {
                capacity_bps,
                estimate_bps: sender.estimate_bps(),
                shown_bps: sender.shown_bps(),
                queue_ms: std::mem::take(&mut gathered.longest_ms),
                download_bps: (all - std::mem::replace(&mut gathered.download_before, all)) as f64
                    * 8.0,
            });
        }
    }

    fn end(mut self) -> Outcome {
        let scenario = self.scenario;
        for (_, player) in &mut self.viewers {
            player.end(scenario.seconds * 1_000);
        }
        let mut gathered = self.gathered;
        gathered.queue_ms.sort_by(f64::total_cmp);
        let queue =
            |percent: usize| gathered.queue_ms[(gathered.queue_ms.len() - 1) * percent / 100];
        let (mut sent, mut arrived) = (0, 0);
        for (sender, player) in &self.viewers {
            sent += sender.sent();
            arrived += player.arrived();
        }
        let from = scenario.viewers.iter().max().copied().unwrap_or(0);
        let (from, to) = scenario
            .download
            .map_or((from, scenario.seconds), |(f, t)| (from.max(f), t));
        if scenario.download.is_none() {
            gathered.shares.pop();
        }
        let seconds = (to - from).max(1) as f64;
        let shares = gathered.shares.iter();
        let shares_bps: Vec<f64> = shares.map(|bytes| *bytes as f64 * 8.0 / seconds).collect();
        Outcome {
            utilisation: gathered.shown_bits / gathered.fitting_bits,
            queue_ms: [queue(50), queue(95), queue(100)],
            lost_percent: 100.0 * (1.0 - arrived as f64 / (sent as f64).max(1.0)),
            freezes: self
                .viewers
                .iter()
                .map(|(_, player)| player.freezes())
                .sum(),
            frozen_ms: self
                .viewers
                .iter()
                .map(|(_, player)| player.frozen_ms())
                .sum(),
            switches: self
                .viewers
                .iter()
                .map(|(sender, _)| sender.switches())
                .sum(),
            first_picture_ms: gathered.settled_ms.first().copied().flatten(),
            settled_ms: gathered.settled_ms,
            fairness: jain(&shares_bps),
            shares_bps,
            trace: gathered.trace,
        }
    }
}

/// Jain's fairness index: 1 where all have the same, 1/n where one has everything.
#[must_use]
pub fn jain(shares: &[f64]) -> f64 {
    let sum: f64 = shares.iter().sum();
    let squares: f64 = shares.iter().map(|share| share * share).sum();
    match squares > 0.0 {
        true => sum * sum / (shares.len() as f64 * squares),
        false => 1.0,
    }
}
