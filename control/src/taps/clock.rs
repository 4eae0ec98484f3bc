//! The engine's clock on the threads of those who consume taps.

use std::time::Instant;

/// The engine's monotonic clock, as the packets tell it: none arrived later than now.
#[derive(Debug)]
pub(crate) struct EngineClock {
    began: Instant,
    offset_us: Option<i64>,
}

impl Default for EngineClock {
    fn default() -> Self {
        Self {
            began: Instant::now(),
            offset_us: None,
        }
    }
}

impl EngineClock {
    fn passed_us(&self) -> i64 {
        i64::try_from(self.began.elapsed().as_micros()).unwrap_or(i64::MAX)
    }

    pub(crate) fn arrived(&mut self, arrival_us: u64) {
        let arrival_us = i64::try_from(arrival_us).unwrap_or(i64::MAX);
        let offset_us = arrival_us - self.passed_us();
        self.offset_us = Some(self.offset_us.map_or(offset_us, |most| most.max(offset_us)));
    }

    pub(crate) fn now_us(&self) -> u64 {
        let now_us = self.passed_us() + self.offset_us.unwrap_or(0);
        u64::try_from(now_us).unwrap_or(0)
    }
}
