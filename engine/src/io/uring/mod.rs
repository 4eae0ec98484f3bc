//! The io_uring backend: one ring and one UDP socket for one shard.
//!
//! Receiving is one multishot request into provided buffers, with trains as the kernel coalesced
//! them (`UDP_GRO`); sending is a batch of `sendmsg` requests, with trains for the kernel to cut
//! (`UDP_SEGMENT`); waiting is one `io_uring_enter` with a timeout, which a [`Waker`] ends. It is
//! opened and used by the shard's own thread, allocates nothing after that, and never looks into
//! a payload.

mod costs;
mod counters;
mod error;
mod grants;
mod rx;
#[cfg(test)]
mod tests;
mod tx;
mod waker;

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use socket2::Socket;

use crate::sys::buf_ring::BufRing;
use crate::sys::eventfd::EventFd;
use crate::sys::ring::Ring;
use crate::sys::send_table::SendTable;
use crate::sys::sockaddr::Family;
use crate::sys::{affinity, gro, gso, kernel, socket, timestamp};

use super::{Io, IoError};

pub use costs::SendCosts;
pub use counters::{Counters, ReceiveCounters, SendCounters, SendErrors};
pub use error::StartError;
pub use grants::{BufferGrant, Grants, RingSetup};
pub use rx::UringRx;
pub use tx::UringTx;
pub(crate) use waker::WakeState;
pub use waker::Waker;

/// Times that a poll asks the kernel for more: enough to fill all buffers, if it hands over some
/// thirty at a time.
const MAX_VISITS: usize = 32;

/// More completions than there can be: waiting for so many ends with the time alone.
const NEVER_SO_MANY: usize = 1 << 16;

/// What to open.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct UringConfig {
    /// Where to receive. The IPv6 wildcard also serves IPv4; port 0 lets the kernel choose.
    pub address: SocketAddr,
    /// Size asked for the socket's receive buffer: what arrives while the shard is busy waits
    /// there.
    pub receive_buffer_bytes: usize,
    /// Size asked for the socket's send buffer: what the device has not yet taken waits there.
    pub send_buffer_bytes: usize,
    /// Buffers for received datagrams or trains; rounded up to a power of two, at most 4096. Each
    /// takes 65 KiB of address space, and memory only where it was used.
    pub receive_slots: u16,
    /// Whether to ask for coalesced datagrams (`UDP_GRO`).
    pub gro: bool,
    /// Whether to measure what sending costs, which takes some milliseconds.
    pub measure_costs: bool,
}

impl UringConfig {
    /// Socket buffers of 16 MiB (100 ms at 1.3 Gbit/s) and 512 slots: more packets than one turn
    /// of a shard should handle before it sends, and 2 MiB of memory in the usual case of one
    /// page each.
    pub fn new(address: SocketAddr) -> Self {
        Self {
            address,
            receive_buffer_bytes: 16 << 20,
            send_buffer_bytes: 16 << 20,
            receive_slots: 512,
            gro: true,
            measure_costs: true,
        }
    }
}

/// The network as io_uring shows it. Belongs to the thread that opened it.
pub struct UringIo {
    // The ring is in there and goes first.
    tx: UringTx,
    rx: UringRx,
    wake: Arc<WakeState>,
    socket: Socket,
    wakes: u64,
}

impl UringIo {
    /// Opens the socket and the ring. Call it on the thread that will use it: the kernel binds
    /// the ring to its opener.
    ///
    /// # Errors
    /// [`StartError`], which names the cause and the cure.
    pub fn open(config: UringConfig) -> Result<(Self, Grants), StartError> {
        let failed = |step| move |source| StartError::Other { step, source };
        let address = config.address;
        let socket = socket::open(address).map_err(|source| StartError::bind(address, source))?;
        let receive_buffer = socket::grow_receive_buffer(&socket, config.receive_buffer_bytes)
            .map_err(failed("SO_RCVBUF"))?;
        let send_buffer = socket::grow_send_buffer(&socket, config.send_buffer_bytes)
            .map_err(failed("SO_SNDBUF"))?;
        let local_address = socket.local_addr().map_err(failed("getsockname"))?;
        let local_address = local_address.as_socket().unwrap_or(address);
        let buffers = BufRing::new(config.receive_slots).map_err(failed("receive buffers"))?;
        let table =
            SendTable::new(tx::SENDS, tx::ARENA_BYTES).map_err(failed("the send buffer"))?;
        let wake = WakeState::new(EventFd::new().map_err(failed("eventfd"))?);
        let (ring, setup) =
            Ring::open(&socket, wake.eventfd(), &buffers, &table).map_err(StartError::ring)?;

        let family = if address.is_ipv6() {
            Family::V6
        } else {
            Family::V4
        };
        let mut grants = Grants {
            kernel_release: kernel::release(),
            local_address,
            dual_stack: family == Family::V6 && address.ip().is_unspecified(),
            ring: setup,
            receive_buffer,
            send_buffer,
            receive_slots: buffers.count(),
            gso: gso::is_supported(&socket),
            gro: config.gro && gro::enable(&socket).is_ok(),
            timestamps: timestamp::enable(&socket).is_ok(),
            dont_fragment: socket::dont_fragment(&socket, address).is_ok(),
            send_costs: None,
        };
        let tx = UringTx::new(ring, table, family, grants.gso, buffers.count());
        let mut io = Self {
            tx,
            rx: UringRx::new(buffers),
            wake,
            socket,
            wakes: 0,
        };
        io.start()?;
        if config.measure_costs {
            grants.send_costs = costs::measure(&mut io.tx, local_address).ok();
        }
        if let Some(costs) = &grants.send_costs {
            io.tx.heed(costs);
        }
        Ok((io, grants))
    }

    /// Submits the receive. A kernel without multishot receives says so at once.
    fn start(&mut self) -> Result<(), StartError> {
        let failed = |error| match error {
            IoError::Enter(source) => StartError::Other {
                step: "io_uring_enter",
                source,
            },
            IoError::Receive(source) => StartError::too_old("multishot recvmsg", source),
        };
        self.tx.rearm();
        self.tx.enter(0, None).map_err(failed)?;
        self.collect().map_err(failed)
    }

    /// A handle that ends this shard's wait from another thread.
    pub fn waker(&self) -> Waker {
        Waker::new(Arc::clone(&self.wake))
    }

    /// The address the socket is bound to.
    ///
    /// # Errors
    /// What getsockname(2) reports.
    pub fn local_address(&self) -> std::io::Result<SocketAddr> {
        let address = self.socket.local_addr()?;
        address
            .as_socket()
            .ok_or_else(|| std::io::ErrorKind::Unsupported.into())
    }

    /// Whether trains are still sent as such; see [`UringTx::gso`].
    pub fn gso(&self) -> bool {
        self.tx.gso()
    }

    /// Everything counted since the opening.
    pub fn counters(&self) -> Counters {
        let mut receive = self.rx.counters;
        receive.no_buffers = self.tx.reaped.no_buffers;
        receive.errors = self.tx.reaped.receive_errors;
        Counters {
            receive,
            send: self.tx.counters,
            enters: self.tx.enters,
            wakes: self.wakes,
        }
    }

    /// Takes over what the ring has, without entering the kernel.
    fn collect(&mut self) -> Result<(), IoError> {
        self.tx.reap();
        self.rx.collect(&mut self.tx.reaped.arrived);
        match std::mem::take(&mut self.tx.reaped.receive_errno) {
            // The request itself is at fault: asking again would be refused again, at once.
            errno @ (libc::EBADF
            | libc::EFAULT
            | libc::EINVAL
            | libc::ENOTSOCK
            | libc::EOPNOTSUPP) => Err(IoError::Receive(std::io::Error::from_raw_os_error(errno))),
            _ => Ok(()),
        }
    }

    /// Takes what else waits in the socket, as far as there are buffers: the kernel hands over some
    /// at a time, and a queue of which each turn took only as much as comes in would never shrink.
    fn top_up(&mut self) -> Result<(), IoError> {
        for _ in 0..MAX_VISITS {
            if self.rx.len() >= usize::from(self.rx.slots()) {
                break;
            }
            self.tx.rearm_receive();
            if !self.tx.ring().has_deferred() && !self.tx.ring().has_queued() {
                break;
            }
            self.visit()?;
        }
        Ok(())
    }

    /// Ends a poll: what was collected is dated, and the rings are looked at next.
    fn collected(&mut self) -> Result<(), IoError> {
        self.collect()?;
        if !self.rx.is_empty() {
            self.rx.read_clocks(self.now_us());
        }
        self.wakes += u64::from(self.wake.look());
        Ok(())
    }

    /// Lets the kernel do what it has put off, without waiting.
    fn visit(&mut self) -> Result<(), IoError> {
        if self.tx.ring().has_deferred() || self.tx.ring().has_queued() {
            self.tx.enter(0, None)?;
            self.collect()?;
        }
        Ok(())
    }

    /// Waits, unless there is something already.
    fn wait(&mut self, deadline_us: Option<u64>) -> Result<(), IoError> {
        // Each wait is a call anyway, which also submits; only completions put off would make
        // the wait superfluous.
        if self.tx.ring().has_deferred() {
            self.visit()?;
            if !self.rx.is_empty() {
                return Ok(());
            }
        }
        let remaining_us = deadline_us.map(|deadline| deadline.saturating_sub(self.now_us()));
        self.tx.rearm();
        if remaining_us == Some(0) || !self.wake.fall_asleep() {
            return self.visit();
        }
        self.tx.enter(1, remaining_us.map(Duration::from_micros))?;
        self.collect()
    }
}

impl Io for UringIo {
    type Rx = UringRx;
    type Tx = UringTx;

    fn now_us(&self) -> u64 {
        now_us()
    }

    fn poll(&mut self, deadline_us: Option<u64>) -> Result<(), IoError> {
        self.tx.check()?;
        self.collect()?;
        if self.rx.is_empty() {
            self.wait(deadline_us)?;
        }
        self.top_up()?;
        self.collected()
    }

    fn nap(&mut self, us: u64) -> Result<(), IoError> {
        self.tx.check()?;
        self.tx.rearm();
        self.tx
            .enter(NEVER_SO_MANY, Some(Duration::from_micros(us)))?;
        self.collected()
    }

    fn split(&mut self) -> (&mut UringRx, &mut UringTx) {
        (&mut self.rx, &mut self.tx)
    }
}

/// One epoch for all shards, so that times may travel between them.
fn now_us() -> u64 {
    static EPOCH: OnceLock<Instant> = OnceLock::new();
    EPOCH.get_or_init(Instant::now).elapsed().as_micros() as u64
}

/// Opens and closes a socket and a ring as a shard would, on a port of the kernel's choice: what
/// this host grants, or why nothing would start.
///
/// # Errors
/// As [`UringIo::open`].
pub fn probe() -> Result<Grants, StartError> {
    let any_v6 = SocketAddr::from((std::net::Ipv6Addr::UNSPECIFIED, 0));
    let any_v4 = SocketAddr::from((std::net::Ipv4Addr::UNSPECIFIED, 0));
    let opened = match UringIo::open(UringConfig::new(any_v6)) {
        Err(StartError::FamilyNotSupported(_) | StartError::AddressNotAvailable(_)) => {
            UringIo::open(UringConfig::new(any_v4))
        }
        opened => opened,
    };
    opened.map(|(_, grants)| grants)
}

/// The cores this process may use.
pub fn cores() -> Vec<usize> {
    affinity::cores()
}

/// Pins the calling thread to `core`. Do it before opening a [`UringIo`], whose memory then is
/// local to the core.
///
/// # Errors
/// [`StartError::Core`] when there is no such core for this process.
pub fn pin_to_core(core: usize) -> Result<(), StartError> {
    let allowed = affinity::cores();
    if allowed.contains(&core) && affinity::pin_current_thread(core) {
        return Ok(());
    }
    Err(StartError::Core { core, allowed })
}
