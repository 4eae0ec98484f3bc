//! Everything that is counted, read at one moment; two of them make a step of a report.

use tokio::time::Instant;

use super::system::{MachineCpu, ProcessCpu};
use super::totals::Totals;

/// All accounts at one moment.
pub struct Moment {
    /// When.
    pub at: Instant,
    /// Viewers that hold a session.
    pub viewers: u64,
    /// What they have seen.
    pub totals: Totals,
    /// The CPU of the server and its descendants.
    pub server: Option<ProcessCpu>,
    /// Their resident memory.
    pub server_bytes: Option<u64>,
    /// This process's CPU.
    pub own: ProcessCpu,
    /// The machine's CPU.
    pub machine: MachineCpu,
    /// Datagrams dropped at full sockets, on the whole machine.
    pub receive_buffer_errors: u64,
    /// RTP packets the publishers sent.
    pub published_packets: u64,
    /// Their bytes.
    pub published_bytes: u64,
    /// Bytes per second they send when nobody asks for keyframes; zero without publishers.
    pub load_bytes_per_second: f64,
    /// Frames sent late, and packets not sent.
    pub late_frames: u64,
    /// Keyframes sent.
    pub keyframes: u64,
    /// Packets publishers sent again.
    pub retransmitted: u64,
}
