//! What the viewers of one receiving thread, or of all, have seen.

use hdrhistogram::Histogram;

/// Latencies and join times are recorded up to a minute, in microseconds.
const MAX_RECORDED_US: u64 = 60_000_000;

/// A histogram of microseconds with three significant digits.
#[must_use]
pub fn histogram_us() -> Histogram<u64> {
    Histogram::new_with_bounds(1, MAX_RECORDED_US, 3).expect("the bounds are valid")
}

/// Records a duration; what is longer than the histogram's range counts as its end.
pub fn record_us(histogram: &mut Histogram<u64>, us: u64) {
    histogram.saturating_record(us.clamp(1, MAX_RECORDED_US));
}

/// Counts since the start. Two of them subtract to those of the time between.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Counts {
    /// Different RTP packets of audio and video, retransmitted ones included once.
    pub packets: u64,
    /// Bytes of the datagrams that carried them.
    pub bytes: u64,
    /// Packets there must have been, judging by sequence numbers.
    pub expected: u64,
    /// Packets that came after one with a higher sequence number.
    pub reordered: u64,
    /// Packets that came again.
    pub duplicates: u64,
    /// Packets that came only as retransmissions.
    pub recovered: u64,
    /// Packets that came so late that they could not be told from duplicates.
    pub too_old: u64,
    /// Packets asked for again.
    pub nacked: u64,
    /// Packets decrypted, and whole.
    pub verified: u64,
    /// Packets whose authentication tag is wrong.
    pub auth_failures: u64,
    /// Packets that authenticate but whose content has changed since the publisher.
    pub corrupt: u64,
    /// Packets that authenticate but carry no stamp of this generator.
    pub unstamped: u64,
    /// Packets that `webrtc-srtp` decrypted too, to the same bytes.
    pub oracle_agreed: u64,
    /// Packets on which `webrtc-srtp` disagreed.
    pub oracle_disagreed: u64,
    /// Datagrams that are no RTP, RTCP, STUN or DTLS, or of an unknown payload type.
    pub unknown: u64,
    /// Receiving system calls that returned data.
    pub receives: u64,
}

impl Counts {
    fn zip(self, other: Self, f: impl Fn(u64, u64) -> u64) -> Self {
        Self {
            packets: f(self.packets, other.packets),
            bytes: f(self.bytes, other.bytes),
            expected: f(self.expected, other.expected),
            reordered: f(self.reordered, other.reordered),
            duplicates: f(self.duplicates, other.duplicates),
            recovered: f(self.recovered, other.recovered),
            too_old: f(self.too_old, other.too_old),
            nacked: f(self.nacked, other.nacked),
            verified: f(self.verified, other.verified),
            auth_failures: f(self.auth_failures, other.auth_failures),
            corrupt: f(self.corrupt, other.corrupt),
            unstamped: f(self.unstamped, other.unstamped),
            oracle_agreed: f(self.oracle_agreed, other.oracle_agreed),
            oracle_disagreed: f(self.oracle_disagreed, other.oracle_disagreed),
            unknown: f(self.unknown, other.unknown),
            receives: f(self.receives, other.receives),
        }
    }

    /// The sum of two threads' counts.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        self.zip(other, u64::saturating_add)
    }

    /// What was counted since `earlier`.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        self.zip(earlier, u64::saturating_sub)
    }

    /// Packets that never came.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.expected.saturating_sub(self.packets)
    }

    /// Share of the packets expected that never came, 0 to 1.
    #[must_use]
    pub fn loss(&self) -> f64 {
        self.lost() as f64 / self.expected.max(1) as f64
    }

    /// Whether anything was received that should not have been.
    #[must_use]
    pub fn integrity_failures(&self) -> u64 {
        self.auth_failures + self.corrupt + self.oracle_disagreed
    }
}

/// Everything a receiving thread can tell at one moment.
#[derive(Debug, Clone)]
pub struct Totals {
    /// Viewers the thread has.
    pub viewers: u64,
    /// Viewers that have verified a packet.
    pub joined: u64,
    /// Joined viewers that received no media for a second.
    pub silent: u64,
    /// Viewers whose server stopped consenting.
    pub expired: u64,
    /// What was counted since the start.
    pub counts: Counts,
    /// From sending to receiving, of verified packets, since last reset, in microseconds.
    pub latency_us: Histogram<u64>,
    /// From the POST to the first verified packet, in microseconds.
    pub join_us: Histogram<u64>,
    /// From the POST to the first keyframe, in microseconds.
    pub picture_us: Histogram<u64>,
}

impl Default for Totals {
    fn default() -> Self {
        Self {
            viewers: 0,
            joined: 0,
            silent: 0,
            expired: 0,
            counts: Counts::default(),
            latency_us: histogram_us(),
            join_us: histogram_us(),
            picture_us: histogram_us(),
        }
    }
}

impl Totals {
    /// Adds another thread's.
    pub fn add(&mut self, other: &Self) {
        self.viewers += other.viewers;
        self.joined += other.joined;
        self.silent += other.silent;
        self.expired += other.expired;
        self.counts = self.counts.plus(other.counts);
        let pairs = [
            (&mut self.latency_us, &other.latency_us),
            (&mut self.join_us, &other.join_us),
            (&mut self.picture_us, &other.picture_us),
        ];
        for (mine, theirs) in pairs {
            mine.add(theirs)
                .expect("all histograms have the same bounds");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loss_is_the_share_of_what_was_expected() {
        let earlier = Counts {
            expected: 1000,
            packets: 900,
            ..Counts::default()
        };
        let later = Counts {
            expected: 3000,
            packets: 2880,
            ..Counts::default()
        };
        let between = later.since(earlier);
        assert_eq!(between.lost(), 20);
        assert!((between.loss() - 0.01).abs() < 1e-9);
        assert_eq!(Counts::default().loss(), 0.0);
    }

    #[test]
    fn sums_keep_every_thread() {
        let mut all = Totals::default();
        let mut one = Totals {
            viewers: 3,
            ..Totals::default()
        };
        record_us(&mut one.latency_us, 500);
        record_us(&mut one.latency_us, u64::MAX);
        all.add(&one);
        all.add(&one);
        assert_eq!((all.viewers, all.latency_us.len()), (6, 4));
        assert!(all.latency_us.max() >= MAX_RECORDED_US);
    }
}
