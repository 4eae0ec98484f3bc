//! Counters that a shard writes and the control plane reads.
//!
//! A shard counts in plain integers and copies them here now and then (at most every tick), so no
//! packet touches memory that another core reads.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::levels::AudioLevels;
use crate::packet::layer::MAX_LAYERS;
use crate::transit::Transit;

/// A value written by one shard, unless it says otherwise, and read by anybody.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    /// The value last published.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Publishes a value.
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// Adds to a value that several shards add to.
    pub(crate) fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }
}

macro_rules! counters {
    (
        $(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident,)* }
        $(beside { $($(#[$other_doc:meta])* $other:ident: $type:ty,)* })?
    ) => {
        $(#[$doc])*
        #[derive(Debug, Default)]
        pub struct $name {
            $($(#[$field_doc])* pub $field: Gauge,)*
            $($($(#[$other_doc])* pub $other: $type,)*)?
        }

        impl $name {
            /// All values by name, for reports.
            pub fn snapshot(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($field), self.$field.get()),)*]
            }
        }
    };
}

counters! {
    /// What one peer received and sent.
    TransportCounters {
        /// RTP packets opened.
        packets_received,
        /// Bytes of those, as they came.
        bytes_received,
        /// RTP packets sealed.
        packets_sent,
        /// Bytes of those, as they left.
        bytes_sent,
        /// RTCP packets that came in.
        rtcp_received,
        /// Packets of this peer that were dropped, for whatever reason.
        dropped,
        /// Last measured round trip, in microseconds; 0 until known.
        rtt_us,
        /// Times the peer's address changed after the first was selected.
        address_changes,
        /// When the last valid connectivity check came, in the shard's microseconds.
        last_check_us,
    }
}

counters! {
    /// One incoming rendition, as its home shard sees it.
    IncomingCounters {
        /// Packets routed, restored ones included.
        packets,
        /// Bytes of their payload.
        bytes,
        /// Packets lost between the publisher and us, restored or not (RFC 3550 A.3).
        packets_lost,
        /// Packets restored by retransmission.
        packets_restored,
        /// NACKed packets the publisher never sent again.
        packets_given_up,
        /// Interarrival jitter (RFC 3550 6.4.1), in microseconds.
        jitter_us,
        /// Bitrate of the last second.
        bitrate_bps,
        /// Bitrate of the last few seconds: what it takes on the whole.
        mean_bitrate_bps,
        /// Keyframes that started.
        keyframes,
        /// Keyframe requests sent to the publisher.
        keyframe_requests,
        /// Position of the current codec in the rendition's list, plus one; 0 before any packet.
        codec_position,
        /// Packets in the frame cache of its home shard: all since the latest keyframe; 0 when there
        /// is no cache.
        cached_packets,
        /// Picture width in pixels; 0 when unknown.
        width,
        /// Picture height in pixels; 0 when unknown.
        height,
        /// 1 while the publisher is not asked for it, since nobody watches it, and until it has come again.
        paused,
        /// Bitrate that it takes, or took while it came, when it is not held down; of one of several
        /// encodings.
        full_bitrate_bps,
        /// Set to 1 by the control plane while somebody would be shown it who is not yet; the shard sets
        /// it back when it has read it.
        wanted,
    } beside {
        /// How loud it lately was, published at each tick.
        levels: AudioLevels,
        /// Of each of its layers, if it has some.
        layers: LayerCounters,
    }
}

/// What comes of each layer of a scalable encoding, by spatial and temporal layer, without those
/// below it. All is of the last second; 0 where nothing came.
#[derive(Debug, Default)]
pub struct LayerCounters {
    /// Bits per second of the payload.
    pub bitrate_bps: [[Gauge; MAX_LAYERS]; MAX_LAYERS],
    /// Frames in a thousand seconds.
    pub frames_per_1000_s: [[Gauge; MAX_LAYERS]; MAX_LAYERS],
    /// Picture width by spatial layer, in pixels; 0 when unknown.
    pub width: [Gauge; MAX_LAYERS],
    /// Picture height likewise.
    pub height: [Gauge; MAX_LAYERS],
    /// Spatial layers, a bit for each, that are not predicted from lower ones.
    pub independent: Gauge,
}

counters! {
    /// One outgoing track.
    OutgoingCounters {
        /// Packets sent, without retransmissions.
        packets,
        /// Bytes of their payload.
        bytes,
        /// Packets sent again.
        retransmissions,
        /// NACKed packets that were not sent again: too old, of no use, or over the budget.
        retransmissions_refused,
        /// Of those, packets from before a keyframe that the viewer was sent.
        retransmissions_useless,
        /// Of those, packets over the budget of the viewer or of its shard.
        retransmissions_over_budget,
        /// Packets the viewer asked for that it had been sent, each counted once: lost on the last
        /// mile.
        lost_on_last_mile,
        /// Packets the viewer asked for that we had not got ourselves, each counted once: lost or
        /// late on the way in.
        lost_on_way_in,
        /// Packets the viewer reports lost (RFC 3550 6.4.1).
        packets_lost,
        /// Jitter the viewer reports, in microseconds.
        jitter_us,
        /// Keyframe requests the viewer made.
        keyframe_requests,
        /// Packets not sent because the viewer did not negotiate their codec.
        codec_mismatch,
        /// Frames of video not sent while waiting for a keyframe, counted in packets.
        awaiting_keyframe,
        /// The bitrate the viewer says it can take (REMB), in bits per second; 0 when unknown.
        remb_bps,
        /// What the way to the viewer is estimated to carry, all its tracks together, in bits per
        /// second; 0 when it is not known, and where there is nothing to choose by it.
        estimate_bps,
    }
}

/// What viewers were sent of one rendition, on all shards together: each shard adds what it did about
/// once a second.
#[derive(Debug, Default)]
pub struct ServedCounters {
    /// Packets sent again.
    pub retransmissions: Gauge,
    /// Packets that viewers asked for after they were sent them, counted once for each viewer: lost
    /// on the last mile.
    pub lost_on_last_mile: Gauge,
    /// Times that its packets took through the server, each viewer's counted.
    pub transit: Transit,
}

macro_rules! drop_reasons {
    ($($(#[$doc:meta])* $variant:ident => $name:literal,)*) => {
        /// Why a datagram or packet was dropped.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[repr(u8)]
        pub enum DropReason {
            $($(#[$doc])* $variant,)*
        }

        impl DropReason {
            /// Every reason.
            pub const ALL: &'static [DropReason] = &[$(DropReason::$variant,)*];

            /// The name under which it is reported.
            pub fn name(self) -> &'static str {
                match self {
                    $(DropReason::$variant => $name,)*
                }
            }
        }
    };
}

drop_reasons! {
    /// The first byte fits no protocol of RFC 7983.
    NotForUs => "not_for_us",
    /// Longer than a packet slot.
    TooLong => "too_long",
    /// Media or DTLS from an address no transport has proven.
    UnknownAddress => "unknown_address",
    /// A STUN message that cannot be read, or whose FINGERPRINT is wrong.
    StunMalformed => "stun_malformed",
    /// A STUN request whose user name fits no transport.
    StunUnknownUfrag => "stun_unknown_ufrag",
    /// A STUN request with a wrong MESSAGE-INTEGRITY.
    StunIntegrity => "stun_integrity",
    /// An RTP packet that cannot be read.
    RtpMalformed => "rtp_malformed",
    /// An RTCP packet that cannot be read.
    RtcpMalformed => "rtcp_malformed",
    /// Media before the handshake gave keys.
    NoKeys => "no_keys",
    /// SRTP authentication failed.
    SrtpAuthentication => "srtp_authentication",
    /// An SRTP packet that was seen before.
    SrtpReplayed => "srtp_replayed",
    /// An SRTP packet older than the replay window.
    SrtpTooOld => "srtp_too_old",
    /// SRTCP authentication failed, or it was replayed.
    SrtcpAuthentication => "srtcp_authentication",
    /// An SSRC that belongs to no track of the peer, or one too many.
    UnknownSsrc => "unknown_ssrc",
    /// A payload type that was not negotiated.
    UnknownPayloadType => "unknown_payload_type",
    /// A packet that another copy (usually a retransmission) came before.
    Duplicate => "duplicate",
    /// A packet so late that its place in the sequence is forgotten.
    TooLate => "too_late",
    /// A padding-only packet, which carries nothing.
    Padding => "padding",
    /// No packet slot was free.
    PoolExhausted => "pool_exhausted",
    /// The control plane does not keep up with events.
    EventRingFull => "event_ring_full",
    /// More for the control plane than a peer, or strangers together, may send.
    RateLimited => "rate_limited",
    /// A tap does not keep up, or all together hold too many slots.
    TapFull => "tap_full",
    /// Another shard does not keep up.
    ShardRingFull => "shard_ring_full",
    /// A packet could not be sealed: no keys any more, or the index space is used up.
    SealFailed => "seal_failed",
    /// Video withheld from a viewer because the shard cannot keep up, counted in packets.
    Overload => "overload",
    /// A packet a viewer asked for that is not kept any more, or was never sent to it.
    ResendGone => "resend_gone",
    /// A packet a viewer asked for that precedes a keyframe it was sent.
    ResendUseless => "resend_useless",
    /// A packet a viewer asked for beyond its budget.
    ResendOverBudget => "resend_over_budget",
    /// A packet a viewer asked for beyond what the shard resends at a time.
    ResendShardBusy => "resend_shard_busy",
    /// A datagram that the kernel or the device did not take.
    NotTaken => "not_taken",
    /// A datagram for a peer without a proven address.
    NoAddress => "no_address",
    /// A command that named something which is no longer there.
    StaleCommand => "stale_command",
    /// A command that would have let one SRTP nonce protect two packets: keys for a peer that has
    /// some, or an SSRC that the peer was sent before.
    UnsafeCommand => "unsafe_command",
}

/// A shard's own drop counts, published as a whole.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Drops([u64; DropReason::ALL.len()]);

impl Default for Drops {
    fn default() -> Self {
        Self([0; DropReason::ALL.len()])
    }
}

impl Drops {
    pub(crate) fn count(&mut self, reason: DropReason) {
        self.0[reason as usize] += 1;
    }

    pub(crate) fn add(&mut self, reason: DropReason, packets: u64) {
        self.0[reason as usize] += packets;
    }

    /// Takes over a count that is kept elsewhere.
    pub(crate) fn set(&mut self, reason: DropReason, packets: u64) {
        self.0[reason as usize] = packets;
    }

    pub(crate) fn publish(&self, to: &ShardCounters) {
        for (count, gauge) in self.0.iter().zip(&to.drops) {
            gauge.set(*count);
        }
    }
}

/// What one shard did.
#[derive(Debug)]
pub struct ShardCounters {
    /// Datagrams received.
    pub datagrams_received: Gauge,
    /// RTP packets that came in and were routed.
    pub packets_routed: Gauge,
    /// RTP packets sealed for viewers, retransmissions included.
    pub packets_sent: Gauge,
    /// Sends that carried them; a train of many packets is one.
    pub sends: Gauge,
    /// Of the packets, those that were padded to travel in a train (RFC 3550 5.1).
    pub packets_padded: Gauge,
    /// Bytes of that padding.
    pub padding_bytes: Gauge,
    /// Connectivity checks answered.
    pub checks_answered: Gauge,
    /// Transports on the shard.
    pub transports: Gauge,
    /// User name fragments by which peers are found.
    pub ufrags: Gauge,
    /// Addresses that peers have proven.
    pub addresses: Gauge,
    /// Tracks that peers share, each encoding counted.
    pub sources: Gauge,
    /// Renditions that come in or are served here.
    pub renditions: Gauge,
    /// Producers in this process.
    pub producers: Gauge,
    /// Tracks that peers watch.
    pub outgoing_tracks: Gauge,
    /// Packet slots in use.
    pub slots_in_use: Gauge,
    /// Of those, slots that taps hold.
    pub slots_tapped: Gauge,
    /// Turns of the loop.
    pub turns: Gauge,
    /// Video tracks that are withheld from viewers because the shard cannot keep up.
    pub viewers_shed: Gauge,
    /// Longest time that video lately waited for the shard, in microseconds.
    pub lag_us: Gauge,
    /// Viewers who began with the frame cache instead of waiting for a keyframe.
    pub joins_from_cache: Gauge,
    /// Frame caches that were given up because the pool had too few slots left.
    pub caches_dropped: Gauge,
    /// Times that packets took through the shard, each viewer's counted.
    pub transit: Transit,
    drops: [Gauge; DropReason::ALL.len()],
}

impl Default for ShardCounters {
    fn default() -> Self {
        Self {
            datagrams_received: Gauge::default(),
            packets_routed: Gauge::default(),
            packets_sent: Gauge::default(),
            sends: Gauge::default(),
            packets_padded: Gauge::default(),
            padding_bytes: Gauge::default(),
            checks_answered: Gauge::default(),
            transports: Gauge::default(),
            ufrags: Gauge::default(),
            addresses: Gauge::default(),
            sources: Gauge::default(),
            renditions: Gauge::default(),
            producers: Gauge::default(),
            outgoing_tracks: Gauge::default(),
            slots_in_use: Gauge::default(),
            slots_tapped: Gauge::default(),
            turns: Gauge::default(),
            viewers_shed: Gauge::default(),
            lag_us: Gauge::default(),
            joins_from_cache: Gauge::default(),
            caches_dropped: Gauge::default(),
            transit: Transit::default(),
            drops: std::array::from_fn(|_| Gauge::default()),
        }
    }
}

impl ShardCounters {
    /// Packets dropped for this reason.
    pub fn dropped(&self, reason: DropReason) -> u64 {
        self.drops[reason as usize].get()
    }
}
