//! When what is due: from play time, which runs with the media, to wall time.

/// How much faster than in life the frames between a keyframe and the one sought are shown: what
/// decoders on phones keep up with.
const CATCH_UP_SPEED: i64 = 8;

/// The longest that this takes; from keyframes far apart it goes faster.
const CATCH_UP_MAX_US: i64 = 2_000_000;

/// Rates are in thousandths of the media's own.
pub const NORMAL_RATE: u32 = 1000;

/// A play time and the wall time (microseconds, monotonic) that it falls on, and how both go on.
/// Before that point frames are only passed on the way to it, in quick succession.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Timeline {
    wall_us: i64,
    play_us: i64,
    rate: u32,
    catch_up_speed: i64,
}

impl Timeline {
    /// Play time `play_us` is at `now_us`.
    pub(super) fn at(now_us: i64, play_us: i64, rate: u32) -> Self {
        Self {
            wall_us: now_us,
            play_us,
            rate,
            catch_up_speed: CATCH_UP_SPEED,
        }
    }

    /// At `now_us` the frame of `first_us` is shown, from there those up to `target_us` in a
    /// hurry, and then life goes on at `rate`.
    pub(super) fn catching_up(now_us: i64, first_us: i64, target_us: i64, rate: u32) -> Self {
        let gap_us = (target_us - first_us).max(0);
        let speed = CATCH_UP_SPEED.max((gap_us + CATCH_UP_MAX_US - 1) / CATCH_UP_MAX_US);
        Self {
            wall_us: now_us + gap_us / speed,
            play_us: target_us,
            rate,
            catch_up_speed: speed,
        }
    }

    /// When a unit of this play time is due.
    pub(super) fn due_us(&self, play_us: i64) -> i64 {
        let ahead = play_us - self.play_us;
        if ahead < 0 {
            self.wall_us + ahead.div_euclid(self.catch_up_speed)
        } else {
            self.wall_us + ahead * i64::from(NORMAL_RATE) / i64::from(self.rate)
        }
    }

    /// The play time at `now_us`; while catching up, where that leads.
    pub(super) fn play_us(&self, now_us: i64) -> i64 {
        let elapsed = (now_us - self.wall_us).max(0);
        self.play_us + elapsed * i64::from(self.rate) / i64::from(NORMAL_RATE)
    }

    pub(super) fn rate(&self) -> u32 {
        self.rate
    }

    /// Everything happens this much later.
    pub(super) fn delay(&mut self, us: i64) {
        self.wall_us += us;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn play_time_runs_at_the_rate() {
        let timeline = Timeline::at(1_000_000, 0, 2 * NORMAL_RATE);
        assert_eq!(timeline.due_us(4_000_000), 3_000_000);
        assert_eq!(timeline.play_us(3_000_000), 4_000_000);
    }

    #[test]
    fn the_frames_before_the_one_sought_pass_in_a_hurry() {
        let timeline = Timeline::catching_up(0, -4_000_000, 0, NORMAL_RATE);
        assert_eq!(timeline.due_us(-4_000_000), 0);
        assert_eq!(timeline.due_us(0), 500_000);
        assert_eq!(timeline.due_us(1_000_000), 1_500_000);
        // The position is that sought all the while.
        assert_eq!(timeline.play_us(0), 0);
    }

    #[test]
    fn a_keyframe_far_back_is_caught_up_with_in_two_seconds() {
        let timeline = Timeline::catching_up(0, -60_000_000, 0, NORMAL_RATE);
        assert_eq!(timeline.due_us(0), 2_000_000);
    }
}
