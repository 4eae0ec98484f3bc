//! What the host granted: for the start-up report and for `fanmill doctor`.

use std::net::SocketAddr;

pub use crate::sys::ring::RingSetup;
pub use crate::sys::socket::BufferGrant;

use super::costs::SendCosts;

/// What an open [`super::UringIo`] got of what it asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grants {
    /// The running kernel's release.
    pub kernel_release: String,
    /// The address the socket is bound to, with the port the kernel chose if 0 was asked.
    pub local_address: SocketAddr,
    /// Whether an IPv6 socket also serves IPv4.
    pub dual_stack: bool,
    /// How the ring was set up.
    pub ring: RingSetup,
    /// The socket's receive buffer.
    pub receive_buffer: BufferGrant,
    /// The socket's send buffer.
    pub send_buffer: BufferGrant,
    /// Buffers for received datagrams.
    pub receive_slots: u16,
    /// `UDP_SEGMENT`: the kernel takes trains. A device may still refuse them later.
    pub gso: bool,
    /// `UDP_GRO`: the kernel hands over trains.
    pub gro: bool,
    /// `SO_TIMESTAMPNS`: the kernel tells when a datagram came in.
    pub timestamps: bool,
    /// `IP_PMTUDISC_PROBE`: datagrams leave unfragmented.
    pub dont_fragment: bool,
    /// What sending was measured to cost; `None` if it was not, or could not be.
    pub send_costs: Option<SendCosts>,
}

impl Grants {
    /// Each optional feature by the kernel's name for it, and whether it was granted.
    pub fn features(&self) -> [(&'static str, bool); 8] {
        [
            ("IORING_SETUP_SINGLE_ISSUER", self.ring.single_issuer),
            ("IORING_SETUP_DEFER_TASKRUN", self.ring.defer_taskrun),
            ("IORING_SETUP_COOP_TASKRUN", self.ring.coop_taskrun),
            ("IORING_SETUP_SUBMIT_ALL", self.ring.submit_all),
            ("UDP_SEGMENT", self.gso),
            ("UDP_GRO", self.gro),
            ("SO_TIMESTAMPNS", self.timestamps),
            ("IP_PMTUDISC_PROBE", self.dont_fragment),
        ]
    }
}
