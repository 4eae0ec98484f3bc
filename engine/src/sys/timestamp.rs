//! `SO_TIMESTAMPNS`: the kernel notes when each datagram came in, before it waited in the socket.
//! Linux 2.6.22, net/socket.c `__sock_recv_timestamp`.
//!
//! The stamps are of the real-time clock, which may be set at any moment; they are turned into
//! ages at once, and absurd ages are cut off.

use std::io;
use std::os::fd::AsFd;
use std::time::{SystemTime, UNIX_EPOCH};

use super::cmsg::{self, ControlMessage};
use super::socket;

/// Bytes to set aside for the control message: a `timespec`.
pub(crate) const CONTROL_BYTES: usize = cmsg::space(size_of::<libc::timespec>());

const SECONDS_BYTES: usize = size_of::<libc::time_t>();

/// No datagram waits longer in a socket that is read at all; an older stamp comes of a clock that
/// was set.
const MAX_AGE_US: u64 = 10_000_000;

/// Asks for time stamps.
pub(crate) fn enable(socket: &impl AsFd) -> io::Result<()> {
    socket::set_option(socket, libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, 1)
}

/// The time a control message tells, in microseconds of the real-time clock.
pub(crate) fn realtime_us(message: &ControlMessage<'_>) -> Option<u64> {
    if (message.level, message.kind) != (libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS) {
        return None;
    }
    let seconds = libc::time_t::from_ne_bytes(*message.data.first_chunk()?);
    let nanoseconds = message.data.get(SECONDS_BYTES..)?;
    let nanoseconds = libc::c_long::from_ne_bytes(*nanoseconds.first_chunk()?);
    let seconds = u64::try_from(seconds).ok()?;
    let nanoseconds = u64::try_from(nanoseconds).ok()?;
    seconds
        .checked_mul(1_000_000)?
        .checked_add(nanoseconds / 1000)
}

/// The real-time clock and a monotonic one, read together.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clocks {
    realtime_us: u64,
    monotonic_us: u64,
}

impl Clocks {
    /// Reads the real-time clock at `monotonic_us` of the other.
    pub(crate) fn read(monotonic_us: u64) -> Self {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH);
        Self {
            realtime_us: since_epoch.map_or(0, |since| since.as_micros() as u64),
            monotonic_us,
        }
    }

    /// The monotonic time of a stamp. Without one, or with one from the future, it is the time of
    /// the reading.
    pub(crate) fn monotonic_us(&self, stamp_us: Option<u64>) -> u64 {
        let age_us = stamp_us.map_or(0, |stamp_us| self.realtime_us.saturating_sub(stamp_us));
        self.monotonic_us.saturating_sub(age_us.min(MAX_AGE_US))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_read_as_microseconds() {
        let mut data = 3i64.to_ne_bytes().to_vec();
        data.extend(5_999i64.to_ne_bytes());
        let message = ControlMessage {
            level: libc::SOL_SOCKET,
            kind: libc::SCM_TIMESTAMPNS,
            data: &data,
        };
        assert_eq!(realtime_us(&message), Some(3_000_005));
        let short = ControlMessage {
            data: &data[..12],
            ..message
        };
        assert_eq!(realtime_us(&short), None);
        let mut negative = data.clone();
        negative[7] = 0xff;
        let message = ControlMessage {
            data: &negative,
            ..message
        };
        assert_eq!(realtime_us(&message), None);
    }

    #[test]
    fn a_stamp_becomes_an_age_on_the_monotonic_clock() {
        let clocks = Clocks {
            realtime_us: 1_700_000_000_000_000,
            monotonic_us: 50_000_000,
        };
        assert_eq!(clocks.monotonic_us(Some(1_699_999_999_997_000)), 49_997_000);
        assert_eq!(clocks.monotonic_us(None), 50_000_000);
        // Clocks that were set.
        assert_eq!(clocks.monotonic_us(Some(1_700_000_000_000_001)), 50_000_000);
        assert_eq!(clocks.monotonic_us(Some(0)), 50_000_000 - MAX_AGE_US);
    }
}
