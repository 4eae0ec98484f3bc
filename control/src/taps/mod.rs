//! A publisher's tracks as consumers in this process hear them: what their taps give, for the recorder
//! and for outputs.
//!
//! They look at their [`Source`]s on threads of their own, and must look often: what a tap has no room
//! for is lost to it.

mod clock;
mod feeds;
mod source;
mod threads;

use fanmill_engine::packet::codec::MediaKind;

pub use source::{tap_sources, tap_sources_from_cache, tap_sources_ringing};

pub(crate) use clock::EngineClock;
pub(crate) use feeds::Feeds;
pub(crate) use threads::{Threads, Work};

use crate::media::reorder::Packet;

/// What a source gives, in order of arrival.
#[derive(Debug, Clone)]
pub enum Item {
    /// A packet, and the clock rate of its timestamps.
    Packet(Packet, u32),
    /// The publisher's sender report: NTP time and RTP timestamp of one moment.
    Report(u64, u32),
    /// The same of the packet before, which said when it was captured.
    Captured(u64, u32),
    /// The source began anew: nothing fits what was before.
    Restarted,
}

/// One track of a publisher, as its consumer hears it.
pub trait Source: Send {
    /// Sound or pictures.
    fn kind(&self) -> MediaKind;
    /// The next item, if there is one now.
    fn pop(&mut self) -> Option<Item>;
    /// Wishes for a keyframe; wishes may be many.
    fn want_keyframe(&mut self);
}
