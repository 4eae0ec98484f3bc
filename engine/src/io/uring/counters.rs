//! What a backend counts: plain numbers, written by the shard alone, copied out on request.

/// What was received.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReceiveCounters {
    /// Datagrams, each segment of a train counted.
    pub datagrams: u64,
    /// Payload bytes.
    pub bytes: u64,
    /// Trains (`UDP_GRO`) of two segments or more.
    pub trains: u64,
    /// Dropped because they did not fit a buffer.
    pub truncated: u64,
    /// Dropped because the kernel's description of them made no sense.
    pub malformed: u64,
    /// Times the kernel found no empty buffer. Nothing is lost by that alone: datagrams then wait
    /// in the socket's receive buffer.
    pub no_buffers: u64,
    /// Other errors the receive met, such as ICMP errors reported to the socket.
    pub errors: u64,
}

/// What was sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SendCounters {
    /// Sends the kernel took, a train being one.
    pub sends: u64,
    /// Datagrams the kernel took, each segment of a train counted.
    pub datagrams: u64,
    /// Payload bytes the kernel took.
    pub bytes: u64,
    /// Trains the kernel took.
    pub trains: u64,
    /// Trains the kernel refused as such; their segments were then sent one by one.
    pub trains_refused: u64,
    /// Datagrams that were not sent, by reason.
    pub errors: SendErrors,
}

/// Datagrams that were not sent, by reason.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SendErrors {
    /// The socket's send buffer was full (EAGAIN).
    pub would_block: u64,
    /// The kernel or the device's queue had no room (ENOBUFS, ENOMEM).
    pub no_buffers: u64,
    /// A firewall or a policy forbade it (EPERM, EACCES).
    pub denied: u64,
    /// Larger than the device's MTU (EMSGSIZE).
    pub too_large: u64,
    /// No route, or the device is down.
    pub unreachable: u64,
    /// An ICMP error of an earlier datagram was reported (ECONNREFUSED).
    pub refused: u64,
    /// The destination makes no sense to this socket: port 0, or IPv6 from an IPv4 socket.
    pub invalid: u64,
    /// Anything else.
    pub other: u64,
}

impl SendErrors {
    /// Counts `datagrams` that failed with `errno`.
    pub(super) fn add(&mut self, errno: i32, datagrams: u64) {
        let counter = match errno {
            libc::EAGAIN => &mut self.would_block,
            libc::ENOBUFS | libc::ENOMEM => &mut self.no_buffers,
            libc::EPERM | libc::EACCES => &mut self.denied,
            libc::EMSGSIZE => &mut self.too_large,
            libc::ENETUNREACH | libc::EHOSTUNREACH | libc::ENETDOWN | libc::EHOSTDOWN => {
                &mut self.unreachable
            }
            libc::ECONNREFUSED => &mut self.refused,
            libc::EINVAL | libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL | libc::EDESTADDRREQ => {
                &mut self.invalid
            }
            _ => &mut self.other,
        };
        *counter += datagrams;
    }

    /// All of them.
    pub fn total(&self) -> u64 {
        let Self {
            would_block,
            no_buffers,
            denied,
            too_large,
            unreachable,
            ..
        } = self;
        let Self {
            refused,
            invalid,
            other,
            ..
        } = self;
        would_block + no_buffers + denied + too_large + unreachable + refused + invalid + other
    }
}

/// Everything a [`super::UringIo`] counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// What was received.
    pub receive: ReceiveCounters,
    /// What was sent.
    pub send: SendCounters,
    /// System calls (`io_uring_enter`) made.
    pub enters: u64,
    /// Polls during or before which a [`super::Waker`] called.
    pub wakes: u64,
}
