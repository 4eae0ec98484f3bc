//! Sets RTP timestamps in time: every track of a publisher on one timeline, in microseconds of the
//! server's monotonic clock.
//!
//! A track begins with its times of arrival. From the publisher's first sender report on, its
//! timestamps are placed by the report's NTP time (RFC 3550 6.4.1), as are those of the other tracks, which is
//! what keeps sound and picture together. Times of capture (abs-capture-time) take the place of reports
//! where packets bear them: senders know those exactly, but count a report's moment from different ends
//! of their buffers for sound and for picture. Corrections are spread over the following samples, so that
//! the timeline never runs backwards; what the clocks drift is corrected as it happens, not summed up.

use std::collections::VecDeque;

/// Beyond this the publisher's clock was set, and all its tracks with it.
const STEP_US: f64 = 2_000_000.0;

/// Errors beyond this are corrected quickly: a report has just replaced the times of arrival.
const LARGE_ERROR_US: f64 = 8_000.0;

/// Errors beyond this are seen and heard: an encoder that looks far ahead, before the first report.
const HUGE_ERROR_US: f64 = 100_000.0;

/// Share of the passing time by which such an error is corrected.
const FASTEST_SLEW: f64 = 0.5;

/// Share of the passing time by which a large error is corrected.
const FAST_SLEW: f64 = 0.05;

/// Share of the passing time by which a small one is: ten times what crystals drift.
const SLOW_SLEW: f64 = 0.002;

/// Reports whose median counts: one report may be late or wrong.
const REPORTS: usize = 5;

/// The least delay is looked for over this long, where there are no reports.
const ARRIVAL_WINDOW_US: u64 = 5_000_000;

/// What the tracks of one publisher have in common: where its NTP clock stands on the timeline.
#[derive(Debug, Default, Clone, Copy)]
pub struct StreamClock {
    /// A moment of the NTP clock and its place on the timeline, both in microseconds.
    anchor: Option<(i64, i64)>,
}

/// The timestamps of one track on the timeline.
#[derive(Debug)]
pub struct TrackClock {
    rate_hz: u32,
    /// The latest timestamp, and what it is without wrapping.
    last: Option<(u32, i64)>,
    /// Timeline minus media time, as it is applied.
    offset_us: f64,
    /// What it should be.
    target_us: f64,
    /// Up to which media time corrections were applied.
    slewed_us: i64,
    reports: VecDeque<f64>,
    /// The reports are times of capture.
    by_capture: bool,
    window: ArrivalWindow,
    /// Whether a place was asked for: from then on corrections are spread.
    placed: bool,
}

/// The least of arrival minus media time over the last one to two windows.
#[derive(Debug, Default)]
struct ArrivalWindow {
    began_us: u64,
    before: Option<f64>,
    current: Option<f64>,
}

impl TrackClock {
    /// A clock for timestamps of this rate, which is at least 1.
    #[must_use]
    pub fn new(rate_hz: u32) -> Self {
        Self {
            rate_hz: rate_hz.max(1),
            last: None,
            offset_us: 0.0,
            target_us: 0.0,
            slewed_us: 0,
            reports: VecDeque::new(),
            by_capture: false,
            window: ArrivalWindow::default(),
            placed: false,
        }
    }

    /// Takes note of a packet. The first one must come before any report or question.
    pub fn arrived(&mut self, timestamp: u32, arrival_us: u64) {
        let first = self.last.is_none();
        let media_us = self.media_us(timestamp);
        let delay_us = arrival_us as f64 - media_us as f64;
        if first {
            self.offset_us = delay_us;
            self.target_us = delay_us;
            self.slewed_us = media_us;
        }
        let least = self.window.add(arrival_us, delay_us);
        if self.reports.is_empty() {
            self.target_us = least;
        }
    }

    /// Takes a sender report: `timestamp` is of the moment `ntp` (RFC 3550 4: seconds since 1900 in
    /// 32.32 bits).
    pub fn reported(&mut self, stream: &mut StreamClock, ntp: u64, timestamp: u32) {
        if !self.by_capture {
            self.place(stream, ntp, timestamp);
        }
    }

    /// Takes the time at which the sample of `timestamp` was captured, by the clock of the reports.
    pub fn captured(&mut self, stream: &mut StreamClock, ntp: u64, timestamp: u32) {
        if !self.by_capture {
            self.by_capture = true;
            self.reports.clear();
        }
        self.place(stream, ntp, timestamp);
    }

    fn place(&mut self, stream: &mut StreamClock, ntp: u64, timestamp: u32) {
        if self.last.is_none() {
            return;
        }
        let ntp_us = ntp_us(ntp);
        let media_us = self.peek_us(timestamp);
        let here_us = media_us.saturating_add(self.target_us as i64);
        let (anchor_ntp, anchor_us) = *stream.anchor.get_or_insert((ntp_us, here_us));
        let wanted_us = anchor_us.saturating_add(ntp_us.saturating_sub(anchor_ntp));
        let mut offset_us = wanted_us.saturating_sub(media_us) as f64;
        if (offset_us - self.target_us).abs() > STEP_US {
            stream.anchor = Some((ntp_us, here_us));
            offset_us = self.target_us;
            self.reports.clear();
        }
        if self.reports.len() == REPORTS {
            self.reports.pop_front();
        }
        self.reports.push_back(offset_us);
        let mut sorted: Vec<f64> = self.reports.iter().copied().collect();
        sorted.sort_by(f64::total_cmp);
        self.target_us = sorted[sorted.len() / 2];
        if !self.placed {
            self.offset_us = self.target_us;
        }
    }

    /// The place of a timestamp on the timeline. Ask in the order of decoding.
    pub fn time_us(&mut self, timestamp: u32) -> i64 {
        self.placed = true;
        let media_us = self.peek_us(timestamp);
        let passed_us = media_us.saturating_sub(self.slewed_us);
        if passed_us > 0 {
            self.slewed_us = media_us;
            let error_us = self.target_us - self.offset_us;
            let share = match error_us.abs() {
                error if error > HUGE_ERROR_US => FASTEST_SLEW,
                error if error > LARGE_ERROR_US => FAST_SLEW,
                _ => SLOW_SLEW,
            };
            let most_us = passed_us as f64 * share;
            self.offset_us += error_us.clamp(-most_us, most_us);
        }
        media_us.saturating_add(self.offset_us as i64)
    }

    /// A timestamp in microseconds without wrapping, and the latest from now on.
    fn media_us(&mut self, timestamp: u32) -> i64 {
        let extended = self.extended(timestamp);
        // A late one must not lead the next ones back.
        if self.last.is_none_or(|(_, last)| extended > last) {
            self.last = Some((timestamp, extended));
        }
        self.in_us(extended)
    }

    fn peek_us(&self, timestamp: u32) -> i64 {
        self.in_us(self.extended(timestamp))
    }

    fn extended(&self, timestamp: u32) -> i64 {
        match self.last {
            Some((last, extended)) => {
                extended + i64::from(timestamp.wrapping_sub(last).cast_signed())
            }
            None => i64::from(timestamp),
        }
    }

    fn in_us(&self, extended: i64) -> i64 {
        let us = i128::from(extended) * 1_000_000 / i128::from(self.rate_hz);
        i64::try_from(us).unwrap_or(i64::MAX)
    }
}

impl ArrivalWindow {
    fn add(&mut self, arrival_us: u64, delay_us: f64) -> f64 {
        if arrival_us.saturating_sub(self.began_us) >= ARRIVAL_WINDOW_US {
            self.before = self.current.take();
            self.began_us = arrival_us;
        }
        let current = self.current.map_or(delay_us, |least| least.min(delay_us));
        self.current = Some(current);
        self.before.map_or(current, |before| before.min(current))
    }
}

/// NTP time in microseconds.
fn ntp_us(ntp: u64) -> i64 {
    let seconds = (ntp >> 32).cast_signed();
    let fraction = ((ntp & 0xffff_ffff) * 1_000_000) >> 32;
    seconds * 1_000_000 + fraction.cast_signed()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A publisher's track whose crystal is wrong by `ppm`.
    struct Source {
        rate_hz: f64,
        ppm: f64,
        first: u32,
    }

    impl Source {
        fn timestamp(&self, time_us: u64) -> u32 {
            let ticks = time_us as f64 / 1e6 * self.rate_hz * (1.0 + self.ppm / 1e6);
            self.first.wrapping_add(ticks as u64 as u32)
        }
    }

    fn ntp(time_us: u64) -> u64 {
        let us = 3_900_000_000_000_000 + time_us;
        ((us / 1_000_000) << 32) | (((us % 1_000_000) << 32) / 1_000_000)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(12))]

        /// An hour of audio (a packet each 20 ms) and video (30 a second), whose crystals differ,
        /// whose packets are delayed differently, whose reports are imprecise and rare.
        #[test]
        fn sound_and_picture_stay_together_for_an_hour(
            audio_ppm in -300.0..300.0f64,
            video_ppm in -300.0..300.0f64,
            audio_delay_us in 0..80_000u64,
            video_delay_us in 0..200_000u64,
            noise in proptest::collection::vec(-2_000..2_000i64, 64),
            first in any::<u32>(),
        ) {
            let audio = Source { rate_hz: 48_000.0, ppm: audio_ppm, first };
            let video = Source { rate_hz: 90_000.0, ppm: video_ppm, first: first.wrapping_mul(7) };
            let mut stream = StreamClock::default();
            let mut clocks = [TrackClock::new(48_000), TrackClock::new(90_000)];
            let (mut latest, mut reports) = ([i64::MIN; 2], 0);
            let mut error_us = [0i64; 2];
            for tick in 0..360_000u64 {
                let now_us = tick * 10_000;
                let jitter_us = noise[tick as usize % 64].unsigned_abs();
                for (track, source, every, delay_us) in
                    [(0, &audio, 2, audio_delay_us), (1, &video, 3, video_delay_us)]
                {
                    if tick % every == 0 {
                        let timestamp = source.timestamp(now_us);
                        clocks[track].arrived(timestamp, now_us + delay_us + jitter_us);
                        let time_us = clocks[track].time_us(timestamp);
                        prop_assert!(time_us > latest[track], "the timeline runs forward");
                        latest[track] = time_us;
                        error_us[track] = time_us - now_us.cast_signed();
                    }
                }
                for (track, source, every) in [(0, &audio, 500), (1, &video, 100)] {
                    if tick % every == every / 2 {
                        let about = now_us.saturating_add_signed(noise[reports % 64]);
                        reports += 1;
                        clocks[track].reported(&mut stream, ntp(about), source.timestamp(now_us));
                    }
                }
                // After half an interval of the rarest reports, and time to correct.
                if tick > 1_500 {
                    let apart_us = error_us[0] - error_us[1];
                    prop_assert!(apart_us.abs() < 20_000, "{apart_us} us apart at {now_us}");
                }
            }
            // The whole is in step with the publisher's clock, too.
            prop_assert!((error_us[1] - video_delay_us.cast_signed()).abs() < 20_000);
        }
    }

    #[test]
    fn without_reports_the_least_delayed_packets_place_the_track() {
        let mut clock = TrackClock::new(90_000);
        for packet in 0..3_000u64 {
            let sent_us = packet * 33_333;
            let delay_us = if packet % 10 == 9 { 5_000 } else { 60_000 };
            let timestamp = (sent_us * 9 / 100) as u32;
            clock.arrived(timestamp, 1_000_000 + sent_us + delay_us);
            clock.time_us(timestamp);
        }
        let sent_us = 3_000 * 33_333u64;
        let time_us = clock.time_us((sent_us * 9 / 100) as u32);
        let error_us = time_us - (1_005_000 + sent_us.cast_signed());
        assert!(error_us.abs() < 1_000, "{error_us} us off");
    }

    #[test]
    fn times_of_capture_take_the_place_of_reports_that_are_late() {
        let mut stream = StreamClock::default();
        let mut clock = TrackClock::new(48_000);
        let late_us = 30_000;
        let mut error_us = 0;
        for second in 0..10u32 {
            let (timestamp, now_us) = (second * 48_000, u64::from(second) * 1_000_000);
            clock.arrived(timestamp, 1_000_000 + now_us + late_us);
            clock.reported(&mut stream, ntp(now_us + late_us), timestamp);
            if second >= 2 {
                clock.captured(&mut stream, ntp(now_us), timestamp);
            }
            error_us = clock.time_us(timestamp) - (1_000_000 + now_us).cast_signed();
        }
        assert!(error_us.abs() < 1_000, "{error_us} us off");
    }

    #[test]
    fn a_publisher_whose_clock_is_set_goes_on_without_a_leap() {
        let mut stream = StreamClock::default();
        let mut clock = TrackClock::new(48_000);
        clock.arrived(0, 1_000_000);
        clock.reported(&mut stream, ntp(0), 0);
        for second in 1..20u32 {
            let now_us = u64::from(second) * 1_000_000;
            clock.arrived(second * 48_000, 1_000_000 + now_us);
            let set_us = if second > 10 { 86_400_000_000 } else { 0 };
            clock.reported(&mut stream, ntp(now_us + set_us), second * 48_000);
            let time_us = clock.time_us(second * 48_000);
            assert_eq!(time_us, (1_000_000 + now_us).cast_signed());
        }
    }

    #[test]
    fn timestamps_wrap() {
        let mut clock = TrackClock::new(90_000);
        let before = u32::MAX - 45_000 + 1;
        clock.arrived(before, 0);
        let first = clock.time_us(before);
        clock.arrived(45_000, 1_000_000);
        assert_eq!(clock.time_us(45_000) - first, 1_000_000);
    }
}
