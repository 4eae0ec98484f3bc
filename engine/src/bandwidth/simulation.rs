//! The estimator and the choice in a closed loop over a simulated link: a bottleneck with a queue, in
//! steps of a millisecond of simulated time. The viewer's feedback is written by
//! [`TwccRecorder`] and read back as from the wire.

use std::collections::VecDeque;
use std::fmt::Write as _;

use super::choice::Choice;
use super::{Estimator, Send};
use crate::packet::rtcp::{Compound, RtcpPacket};
use crate::packet::twcc::{MIN_FEEDBACK_BYTES, TwccRecorder};

/// Payload of the encodings, in bits per second.
const LADDER: [u64; 4] = [150_000, 500_000, 1_200_000, 2_500_000];
const PACKET_BYTES: u32 = 1_150;
const SOUND_BYTES: u32 = 110;
const FRAME_MS: u64 = 33;
/// A keyframe is so many times an ordinary frame.
const KEYFRAME: u32 = 6;
/// From the choice to the keyframe of the encoding chosen.
const KEYFRAME_AFTER_MS: u64 = 150;
const FEEDBACK_MS: u64 = 100;
/// Of the bottleneck.
const QUEUE_BYTES: u64 = 64_000;

/// What the link does.
#[derive(Clone)]
struct Scenario {
    name: &'static str,
    /// From which second on, how many bits per second.
    capacity: &'static [(u64, u64)],
    one_way_ms: u64,
    loss_percent: f64,
    /// From and to which second, bits per second of somebody else's.
    competing: Option<(u64, u64, u64)>,
    /// Losses come in runs of about so many packets.
    burst: f64,
    /// What does not fit is dropped and not queued.
    polices: bool,
    seconds: u64,
}

const STEADY: Scenario = Scenario {
    name: "3 Mbit/s",
    capacity: &[(0, 3_000_000)],
    one_way_ms: 20,
    loss_percent: 0.0,
    competing: None,
    burst: 1.0,
    polices: false,
    seconds: 60,
};

/// What came of it.
#[derive(Debug)]
struct Outcome {
    /// What arrived of what would have fitted, both of the encodings' bitrates.
    utilisation: f64,
    /// Of the queue at the bottleneck: mean, 95th percentile and longest.
    queue_ms: (f64, f64, f64),
    /// After each change of the capacity: until the encoding that fits is shown.
    recovered_ms: Vec<Option<u64>>,
    switches: usize,
    lost_percent: f64,
    /// Place of the encoding shown at each full second.
    shown: Vec<usize>,
    estimates: Vec<u64>,
}

struct Chance(u64);

impl Chance {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) as f64 / u64::MAX as f64
    }
}

struct Packet {
    number: Option<u16>,
    bytes: u32,
}

/// A bottleneck with a queue, or a policer.
struct Link {
    queue: VecDeque<Packet>,
    queued_bytes: u64,
    /// Bits that may pass now, in thousandths.
    credit: u64,
    on_the_way: VecDeque<(u64, Packet)>,
    losing: bool,
    chance: Chance,
}

impl Link {
    fn offer(&mut self, packet: Packet, scenario: &Scenario) {
        let bits = u64::from(packet.bytes + 28) * 8_000;
        if scenario.polices {
            if self.credit >= bits {
                self.credit -= bits;
                self.queue.push_back(packet);
            }
        } else if self.queued_bytes + u64::from(packet.bytes) <= QUEUE_BYTES {
            self.queued_bytes += u64::from(packet.bytes);
            self.queue.push_back(packet);
        }
    }

    /// One millisecond; the times are in microseconds.
    fn pass(&mut self, capacity_bps: u64, scenario: &Scenario, now_us: u64) {
        let most = if scenario.polices {
            15_000 * 8_000
        } else {
            u64::MAX
        };
        self.credit = (self.credit + capacity_bps).min(most);
        while let Some(packet) = self.queue.front() {
            let bits = u64::from(packet.bytes + 28) * 8_000;
            if !scenario.polices {
                if self.credit < bits {
                    break;
                }
                self.credit -= bits;
                self.queued_bytes -= u64::from(packet.bytes);
            }
            // Within the millisecond: when the bits had passed.
            let late_us = if scenario.polices {
                0
            } else {
                self.credit / capacity_bps
            };
            let at_us = now_us + 1_000 - late_us.min(1_000) + scenario.one_way_ms * 1_000;
            let packet = self.queue.pop_front().unwrap_or(Packet {
                number: None,
                bytes: 0,
            });
            if !self.loses(scenario) {
                self.on_the_way.push_back((at_us, packet));
            }
        }
        if self.queue.is_empty() && !scenario.polices {
            self.credit = 0;
        }
    }

    fn loses(&mut self, scenario: &Scenario) -> bool {
        let share = scenario.loss_percent / 100.0;
        let change = match self.losing {
            true => 1.0 / scenario.burst,
            false => share / (1.0 - share) / scenario.burst,
        };
        if self.chance.next() < change {
            self.losing = !self.losing;
        }
        self.losing
    }

    fn delay_ms(&self, capacity_bps: u64) -> f64 {
        self.queued_bytes as f64 * 8_000.0 / capacity_bps as f64
    }
}

fn best_fitting(bps: u64) -> usize {
    let fits = |place: &usize| LADDER[*place] + LADDER[*place] / 25 + 60_000 <= bps / 10 * 9;
    (0..LADDER.len()).rev().find(fits).unwrap_or(0)
}

#[allow(clippy::too_many_lines, reason = "one loop over simulated time")]
fn run(scenario: &Scenario) -> Outcome {
    let mut link = Link {
        queue: VecDeque::new(),
        queued_bytes: 0,
        credit: 0,
        on_the_way: VecDeque::new(),
        losing: false,
        chance: Chance(7),
    };
    let mut estimator = Estimator::new();
    let mut choice = Choice::default();
    let mut recorder = TwccRecorder::new();
    let mut feedback_way: VecDeque<(u64, Vec<u8>)> = VecDeque::new();
    let mut number = 65_000u16;
    let (mut before, mut before_bytes) = (0u16, 0u32);
    let mut shown = LADDER.len() - 1;
    let mut begins_ms = None;
    let mut key = true;
    let (mut sent, mut arrived) = (0u64, 0u64);
    let (mut video_bits, mut ideal_bits) = (0.0, 0.0);
    let mut delays = Vec::new();
    let mut outcome = Outcome {
        utilisation: 0.0,
        queue_ms: (0.0, 0.0, 0.0),
        recovered_ms: vec![None; scenario.capacity.len()],
        switches: 0,
        lost_percent: 0.0,
        shown: Vec::new(),
        estimates: Vec::new(),
    };
    let mut rung_ms = 0;
    for ms in 0..scenario.seconds * 1_000 {
        let now_us = ms * 1_000;
        let step = scenario
            .capacity
            .iter()
            .rposition(|(from, _)| *from * 1_000 <= ms);
        let step = step.unwrap_or(0);
        let capacity_bps = scenario.capacity[step].1;
        let others_bps = scenario
            .competing
            .filter(|(from, to, _)| (from * 1_000..to * 1_000).contains(&ms))
            .map_or(0, |(_, _, bps)| bps);
        // Somebody else's packets, evenly.
        if others_bps > 0 && ms % (1_178 * 8_000 / others_bps).max(1) == 0 {
            link.offer(
                Packet {
                    number: None,
                    bytes: PACKET_BYTES,
                },
                scenario,
            );
        }
        if ms % 20 == 7 {
            link.offer(
                Packet {
                    number: Some(number),
                    bytes: SOUND_BYTES,
                },
                scenario,
            );
            number = number.wrapping_add(1);
            (before, before_bytes) = (before + 1, before_bytes + SOUND_BYTES);
            sent += 1;
        }
        if begins_ms.is_some_and(|at| ms >= at) {
            begins_ms = None;
            key = true;
        }
        if ms % FRAME_MS == 0 && begins_ms.is_none() {
            let ordinary = (LADDER[shown] * FRAME_MS / 8_000) as u32;
            let bytes = if std::mem::take(&mut key) {
                ordinary * KEYFRAME
            } else {
                ordinary
            };
            let packets = bytes.div_ceil(PACKET_BYTES);
            let packet_bytes = bytes / packets + 40;
            let first = number;
            for _ in 0..packets {
                link.offer(
                    Packet {
                        number: Some(number),
                        bytes: packet_bytes,
                    },
                    scenario,
                );
                number = number.wrapping_add(1);
            }
            sent += u64::from(packets);
            video_bits += f64::from(bytes) * 8.0;
            let send = Send {
                first,
                count: packets as u16,
                bytes: packets * packet_bytes,
                before: std::mem::take(&mut before),
                before_bytes: std::mem::take(&mut before_bytes),
            };
            estimator.sent(&send, now_us);
        }
        let probe = if ms % 1_000 == 500 {
            estimator.tick(now_us);
            estimator.probe_packets(PACKET_BYTES, now_us)
        } else {
            0
        };
        if probe > 0 {
            let first = number;
            let bytes = (LADDER[shown] * FRAME_MS / 8_000).min(u64::from(PACKET_BYTES)) as u32 + 40;
            for _ in 0..probe {
                link.offer(
                    Packet {
                        number: Some(number),
                        bytes,
                    },
                    scenario,
                );
                number = number.wrapping_add(1);
            }
            sent += probe as u64;
            let send = Send {
                first,
                count: probe as u16,
                bytes: bytes * probe as u32,
                before: std::mem::take(&mut before),
                before_bytes: std::mem::take(&mut before_bytes),
            };
            estimator.sent(&send, now_us);
        }
        link.pass(capacity_bps, scenario, now_us);
        delays.push(link.delay_ms(capacity_bps));
        while link
            .on_the_way
            .front()
            .is_some_and(|(at_us, _)| *at_us <= now_us)
        {
            if let Some((at_us, packet)) = link.on_the_way.pop_front()
                && let Some(number) = packet.number
            {
                arrived += 1;
                recorder.record(number, at_us + 777_000_000);
            }
        }
        if ms % FEEDBACK_MS == 0 && recorder.has_pending() {
            let mut buffer = [0; MIN_FEEDBACK_BYTES * 2];
            if let Some(len) = recorder.build(&mut buffer, 1, 2) {
                feedback_way.push_back((ms + scenario.one_way_ms, buffer[..len].to_vec()));
            }
        }
        while feedback_way.front().is_some_and(|(at, _)| *at <= ms) {
            let (_, bytes) = feedback_way.pop_front().unwrap_or_default();
            for packet in Compound::new(&bytes).flatten() {
                if let RtcpPacket::TransportCc(feedback) = packet {
                    estimator.feedback(&feedback, now_us);
                }
            }
        }
        let estimate = estimator.estimate_bps();
        let rings = estimate > 0 && estimate < estimator.sent_bps() && ms >= rung_ms + 250;
        if ms % 1_000 == 300 || rings {
            rung_ms = if rings { ms } else { rung_ms };
            let chosen = choice
                .choose(&LADDER, Some(shown), estimate, now_us)
                .unwrap_or(0);
            if chosen != shown {
                shown = chosen;
                begins_ms = Some(ms + KEYFRAME_AFTER_MS);
                outcome.switches += 1;
            }
        }
        let ideal = best_fitting(capacity_bps.saturating_sub(others_bps));
        ideal_bits += LADDER[ideal] as f64 / 1_000.0;
        let recovered = &mut outcome.recovered_ms[step];
        if shown == ideal && begins_ms.is_none() {
            recovered.get_or_insert(ms - scenario.capacity[step].0 * 1_000);
        }
        if ms % 1_000 == 999 {
            outcome.shown.push(shown);
            outcome.estimates.push(estimate / 1_000);
        }
    }
    outcome.lost_percent = 100.0 * (1.0 - arrived as f64 / sent as f64);
    outcome.utilisation = video_bits / ideal_bits;
    outcome.queue_ms.0 = delays.iter().sum::<f64>() / delays.len() as f64;
    delays.sort_by(f64::total_cmp);
    outcome.queue_ms.1 = delays[delays.len() * 95 / 100];
    outcome.queue_ms.2 = delays[delays.len() - 1];
    outcome
}

fn table(scenarios: &[Scenario]) -> Vec<Outcome> {
    let mut text = String::from(
        "\nlink | of what fits, % | queue mean, ms | p95, ms | longest, ms | lost, % | until it fits, ms | switches\n",
    );
    let outcomes: Vec<_> = scenarios.iter().map(run).collect();
    for (scenario, outcome) in scenarios.iter().zip(&outcomes) {
        let (mean, p95, longest) = outcome.queue_ms;
        let recovered: Vec<_> = outcome
            .recovered_ms
            .iter()
            .map(|ms| ms.map_or("never".to_owned(), |ms| ms.to_string()))
            .collect();
        let _ = writeln!(
            text,
            "{} | {:.0} | {mean:.0} | {p95:.0} | {longest:.0} | {:.1} | {} | {}",
            scenario.name,
            outcome.utilisation * 100.0,
            outcome.lost_percent,
            recovered.join(", "),
            outcome.switches,
        );
        if std::env::var_os("BANDWIDTH_TRACE").is_some() {
            let _ = writeln!(text, "  {:?}\n  {:?}", outcome.shown, outcome.estimates);
        }
    }
    println!("{text}");
    outcomes
}

const STEPS: &[(u64, u64)] = &[(0, 3_000_000), (20, 600_000), (50, 2_000_000)];

#[test]
fn it_follows_the_capacity_up_and_down() {
    let steps = Scenario {
        name: "3, 0.6, 2 Mbit/s",
        capacity: STEPS,
        seconds: 90,
        ..STEADY
    };
    let far = Scenario {
        name: "3, 0.6, 2 Mbit/s, round trip 200 ms",
        one_way_ms: 100,
        ..steps.clone()
    };
    let narrow = Scenario {
        name: "0.6 Mbit/s from the start",
        capacity: &[(0, 600_000)],
        ..STEADY
    };
    let policed = Scenario {
        name: "3, 0.6, 2 Mbit/s, policed",
        polices: true,
        ..steps.clone()
    };
    for outcome in table(&[STEADY, narrow, steps, far]) {
        assert!(outcome.utilisation > 0.85, "{outcome:?}");
        assert!(outcome.queue_ms.0 < 80.0, "{outcome:?}");
        for ms in &outcome.recovered_ms {
            assert!(ms.is_some_and(|ms| ms < 5_000), "{outcome:?}");
        }
    }
    for outcome in table(&[policed]) {
        assert!(outcome.utilisation > 0.7, "{outcome:?}");
        assert!(outcome.lost_percent < 8.0, "{outcome:?}");
    }
}

#[test]
fn random_loss_is_not_taken_for_a_full_link() {
    let lossy = |name, loss_percent, burst| Scenario {
        name,
        capacity: &[(0, 4_000_000)],
        loss_percent,
        burst,
        ..STEADY
    };
    let scenarios = [
        lossy("4 Mbit/s, 2 % lost", 2.0, 1.0),
        lossy("4 Mbit/s, 5 % lost", 5.0, 1.0),
        lossy("4 Mbit/s, 10 % lost", 10.0, 1.0),
        lossy("4 Mbit/s, 5 % lost in runs of 8", 5.0, 8.0),
    ];
    for outcome in table(&scenarios) {
        assert!(outcome.utilisation > 0.85, "{outcome:?}");
        assert!(outcome.queue_ms.0 < 40.0, "{outcome:?}");
    }
}

#[test]
fn it_makes_room_for_others_and_returns() {
    let competing = Scenario {
        name: "4 Mbit/s, 2 of it another's for 30 s",
        capacity: &[(0, 4_000_000)],
        competing: Some((20, 50, 2_000_000)),
        seconds: 90,
        ..STEADY
    };
    for outcome in table(&[competing]) {
        assert!(outcome.utilisation > 0.8, "{outcome:?}");
        assert!(outcome.queue_ms.0 < 60.0, "{outcome:?}");
        assert_eq!(outcome.shown.last(), Some(&3), "{outcome:?}");
    }
}
