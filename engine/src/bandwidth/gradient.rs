//! Whether the queue on the way grows: a line through the delays of the last groups, against a
//! threshold that adapts (draft-ietf-rmcat-gcc-02 5.4; the trend line stands for its filter).

/// Groups in the line: 0.4 s of 30 frames.
const WINDOW: usize = 12;

/// How much of a new delay enters the smoothed one.
const SMOOTHING: f64 = 0.5;

/// The slope is made comparable with the threshold by these, as browsers do it.
const GAIN: f64 = 4.0;
const MAX_COUNT: f64 = 60.0;

/// Of the threshold, in milliseconds: first value, bounds, gains up and down.
const FIRST_THRESHOLD: f64 = 12.5;
const THRESHOLD_RANGE: (f64, f64) = (6.0, 600.0);
const GAIN_UP: f64 = 0.0087;
const GAIN_DOWN: f64 = 0.039;
/// A peak so far above the threshold does not move it.
const MAX_ADAPT_MS: f64 = 15.0;

/// The trend lies above the threshold for so long before it counts.
const OVER_TIME_MS: f64 = 20.0;

/// No group is delayed by more against the one before: a clock that jumped.
const MAX_STEP_MS: f64 = 3_000.0;

/// How the link is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Usage {
    #[default]
    Normal,
    /// The queue grows.
    Over,
    /// The queue empties.
    Under,
}

/// The line, and what it is held against.
#[derive(Debug)]
pub(super) struct Gradient {
    /// Time of arrival and smoothed delay, in milliseconds.
    points: [(f32, f32); WINDOW],
    len: usize,
    next: usize,
    groups: u32,
    time_ms: f64,
    delay_ms: f64,
    smoothed_ms: f64,
    threshold: f64,
    last_trend: f64,
    over_ms: f64,
    usage: Usage,
    updated_us: u64,
}

impl Default for Gradient {
    fn default() -> Self {
        Self {
            points: [(0.0, 0.0); WINDOW],
            len: 0,
            next: 0,
            groups: 0,
            time_ms: 0.0,
            delay_ms: 0.0,
            smoothed_ms: 0.0,
            threshold: FIRST_THRESHOLD,
            last_trend: 0.0,
            over_ms: 0.0,
            usage: Usage::Normal,
            updated_us: 0,
        }
    }
}

impl Gradient {
    pub(super) fn usage(&self) -> Usage {
        self.usage
    }

    /// A group was sent and arrived so much later than the one before it.
    pub(super) fn group(&mut self, sent_us: u32, arrived_us: i64, now_us: u64) -> Usage {
        let sent_ms = f64::from(sent_us) / 1e3;
        let step_ms = arrived_us as f64 / 1e3 - sent_ms;
        if step_ms.abs() > MAX_STEP_MS {
            *self = Self::default();
            return self.usage;
        }
        self.groups = self.groups.saturating_add(1);
        self.time_ms += arrived_us as f64 / 1e3;
        self.delay_ms += step_ms;
        self.smoothed_ms += (self.delay_ms - self.smoothed_ms) * SMOOTHING;
        self.points[self.next] = (self.time_ms as f32, self.smoothed_ms as f32);
        self.next = (self.next + 1) % WINDOW;
        self.len = (self.len + 1).min(WINDOW);
        if self.time_ms > 1e6 {
            self.begin_at_zero();
        }
        if self.len < WINDOW / 2 {
            return self.usage;
        }
        let slope = self.slope();
        self.judge(slope, sent_ms, now_us)
    }

    /// Keeps the numbers small: single precision is enough then.
    fn begin_at_zero(&mut self) {
        let (time_ms, delay_ms) = (self.time_ms as f32, self.smoothed_ms as f32);
        for (time, delay) in &mut self.points {
            *time -= time_ms;
            *delay -= delay_ms;
        }
        self.time_ms = 0.0;
        self.delay_ms -= self.smoothed_ms;
        self.smoothed_ms = 0.0;
    }

    /// Milliseconds of delay that each millisecond adds.
    fn slope(&self) -> f64 {
        let points = &self.points[..self.len];
        let count = self.len as f64;
        let (x, y) = points.iter().fold((0.0, 0.0), |(x, y), point| {
            (x + f64::from(point.0), y + f64::from(point.1))
        });
        let (x, y) = (x / count, y / count);
        let (over, under) = points.iter().fold((0.0, 0.0), |(over, under), point| {
            let dx = f64::from(point.0) - x;
            (over + dx * (f64::from(point.1) - y), under + dx * dx)
        });
        if under > 0.0 { over / under } else { 0.0 }
    }

    fn judge(&mut self, slope: f64, sent_ms: f64, now_us: u64) -> Usage {
        let trend = f64::from(self.groups).min(MAX_COUNT) * slope * GAIN;
        if trend > self.threshold {
            self.over_ms += sent_ms;
            // One that falls already needs no answer.
            if self.over_ms > OVER_TIME_MS && trend >= self.last_trend {
                self.usage = Usage::Over;
            } else if trend < self.last_trend {
                self.usage = Usage::Normal;
            }
        } else {
            self.over_ms = 0.0;
            self.usage = match trend < -self.threshold {
                true => Usage::Under,
                false => Usage::Normal,
            };
        }
        self.last_trend = trend;
        self.adapt(trend.abs(), now_us);
        self.usage
    }

    fn adapt(&mut self, trend: f64, now_us: u64) {
        let elapsed_ms = (now_us.saturating_sub(self.updated_us) as f64 / 1e3).min(100.0);
        self.updated_us = now_us;
        if trend > self.threshold + MAX_ADAPT_MS {
            return;
        }
        let gain = if trend < self.threshold {
            GAIN_DOWN
        } else {
            GAIN_UP
        };
        self.threshold += gain * (trend - self.threshold) * elapsed_ms / 10.0;
        self.threshold = self.threshold.clamp(THRESHOLD_RANGE.0, THRESHOLD_RANGE.1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds groups of 30 frames a second whose delay is this; the usage after each.
    fn usages(delays_ms: impl IntoIterator<Item = f64>) -> Vec<Usage> {
        let mut gradient = Gradient::default();
        let mut last = 0.0;
        let delays = delays_ms.into_iter().enumerate();
        let usages = delays.map(|(turn, delay)| {
            let step = 33.0 + delay - last;
            last = delay;
            gradient.group(33_000, (step * 1e3) as i64, turn as u64 * 33_000)
        });
        usages.collect()
    }

    #[test]
    fn a_queue_that_grows_by_a_fifth_is_noticed_within_half_a_second() {
        let delays = (0..60).map(|turn| (turn as f64 - 30.0).max(0.0) * 33.0 * 0.2);
        let usages = usages(delays);
        let first = usages.iter().position(|usage| *usage == Usage::Over);
        assert!(first.is_some_and(|at| (31..45).contains(&at)), "{first:?}");
    }

    #[test]
    fn jitter_is_no_overuse() {
        let noise = |turn: u32| f64::from(turn.wrapping_mul(2_654_435_761) >> 16) / 65_536.0;
        let usages = usages((0..1_000).map(|turn| noise(turn) * 8.0));
        assert!(!usages.contains(&Usage::Over));
    }

    #[test]
    fn a_queue_that_empties_is_underuse() {
        let delays = (0..60).map(|turn| 500.0 - 20.0 * (turn as f64 - 30.0).max(0.0));
        assert!(usages(delays).contains(&Usage::Under));
    }

    #[test]
    fn a_clock_that_jumps_begins_anew() {
        let mut gradient = Gradient::default();
        for arrived_us in [33_000, i64::MAX, i64::MIN, 33_000, -33_000] {
            assert_eq!(gradient.group(u32::MAX, arrived_us, 0), Usage::Normal);
        }
    }
}
