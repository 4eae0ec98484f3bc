//! What the control plane tells a shard. Commands carry everything ready-made: a shard looks
//! nothing up and waits for nobody to carry one out.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::counters::{IncomingCounters, OutgoingCounters, ServedCounters, TransportCounters};
use crate::ids::{IncomingTrackId, OutgoingTrackId, ProducerId, RenditionId, ShardId, TransportId};
use crate::packet::codec::{Codec, MediaKind};
use crate::packet::extension::{ExtensionMap, PlayoutDelay};
use crate::packet::layer::Layers;
use crate::producer::ProducerFeed;
use crate::srtp::{MasterKey, Profile};
use crate::tap::TapFeed;

/// The ICE credentials of one session (RFC 8445 5.3).
#[derive(Debug, Clone)]
pub struct IceCredentials {
    /// Our user name fragment: names the transport in a peer's checks. Unique on the shard.
    pub local_ufrag: String,
    /// Our password: the key of the peer's checks and of our answers.
    pub local_pwd: String,
}

/// A new peer.
#[derive(Debug, Clone)]
pub struct TransportSpec {
    /// Its name.
    pub id: TransportId,
    /// Where its checks will be recognised by.
    pub ice: IceCredentials,
    /// Without a valid check for this long the peer counts as gone (RFC 7675 5.1).
    pub consent_timeout_us: u64,
    /// SSRC under which we report to the peer.
    pub rtcp_ssrc: u32,
    /// The canonical name we send in SDES (RFC 3550 6.5.1).
    pub cname: String,
    /// Read by the control plane at any time.
    pub counters: Arc<TransportCounters>,
}

/// Both directions' SRTP keys, as the DTLS handshake gave them (RFC 5764 4.2).
#[derive(Debug)]
pub struct SrtpKeys {
    /// The negotiated protection profile.
    pub profile: Profile,
    /// What we seal with.
    pub local: MasterKey,
    /// What the peer seals with.
    pub remote: MasterKey,
}

/// A payload format as negotiated with a publisher.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IncomingCodec {
    /// The format.
    pub codec: Codec,
    /// Its RTP payload type.
    pub payload_type: u8,
    /// The payload type of its retransmissions (RFC 4588), if negotiated.
    pub rtx_payload_type: Option<u8>,
    /// The payload type of its redundant form (RFC 2198), if negotiated; for audio.
    pub red_payload_type: Option<u8>,
    /// RTP clock rate in Hz.
    pub clock_rate: u32,
}

/// What feedback a publisher understands (RFC 4585, RFC 5104).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Feedback {
    /// Generic NACK.
    pub nack: bool,
    /// Picture loss indication.
    pub pli: bool,
    /// Full intra request.
    pub fir: bool,
    /// Transport-wide congestion control feedback.
    pub transport_cc: bool,
    /// Receiver estimated maximum bitrate.
    pub remb: bool,
}

/// One encoding of a track: what its packets are known by, and the rendition they make.
#[derive(Debug, Clone)]
pub struct EncodingSpec {
    /// The rendition its packets become.
    pub rendition: RenditionId,
    /// RTP stream id (RFC 8852), for simulcast.
    pub rid: Option<String>,
    /// The SSRC declared in the offer, if any.
    pub ssrc: Option<u32>,
    /// The SSRC of its retransmissions declared in the offer, if any.
    pub rtx_ssrc: Option<u32>,
    /// Read by the control plane at any time.
    pub counters: Arc<IncomingCounters>,
    /// What its viewers are sent, to be read likewise.
    pub served: Arc<ServedCounters>,
}

/// A media section that a peer shares.
#[derive(Debug, Clone)]
pub struct IncomingTrackSpec {
    /// Its name.
    pub id: IncomingTrackId,
    /// Its identification in the bundle (RFC 9143), by which packets of unknown SSRCs are sorted.
    pub mid: String,
    /// The formats it may use.
    pub codecs: Vec<IncomingCodec>,
    /// Its encodings, one unless it is simulcast.
    pub encodings: Vec<EncodingSpec>,
    /// Header extension ids the peer uses.
    pub extensions: ExtensionMap,
    /// Feedback the peer understands.
    pub feedback: Feedback,
    /// The most the peer is asked to send, in bits per second, told by REMB.
    pub max_bitrate_bps: u64,
}

impl IncomingTrackSpec {
    /// Itself, if viewers may be shown one or another of its encodings.
    pub(crate) fn with_alternatives(&self) -> Option<IncomingTrackId> {
        let first = self.codecs.first();
        let video = first.is_some_and(|codec| codec.codec.kind() == MediaKind::Video);
        (video && self.encodings.len() > 1).then_some(self.id)
    }
}

/// A media section that a peer watches.
#[derive(Debug, Clone)]
pub struct OutgoingTrackSpec {
    /// Its name.
    pub id: OutgoingTrackId,
    /// Its identification in the bundle, written into each packet if the extension is negotiated.
    pub mid: String,
    /// The SSRC we send under. Never one the peer was sent before.
    pub ssrc: u32,
    /// The SSRC we retransmit under (RFC 4588), as new as the other; 0: packets are resent as they
    /// were, if at all.
    pub rtx_ssrc: u32,
    /// Header extension ids the peer understands.
    pub extensions: ExtensionMap,
    /// Two-byte header extensions may be used (RFC 8285 6).
    pub allow_two_byte: bool,
    /// Read by the control plane at any time.
    pub counters: Arc<OutgoingCounters>,
}

/// The payload types one viewer knows a codec by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct OutgoingPayload {
    /// For the media itself.
    pub payload_type: u8,
    /// For retransmissions (RFC 4588).
    pub rtx_payload_type: Option<u8>,
    /// For the redundant form (RFC 2198) of what comes so; without it the redundancy is left out.
    pub red_payload_type: Option<u8>,
    /// The viewer may ask for what it lost (RFC 4585 6.2.1). Without a payload type for
    /// retransmissions it is resent what it asks for as it was the first time, to the last byte,
    /// which then can bear nothing that is new each time.
    pub nack: bool,
}

impl OutgoingPayload {
    /// Whether packets may have to be resent as they were.
    pub(crate) fn resent_as_was(&self) -> bool {
        self.nack && self.rtx_payload_type.is_none()
    }
}

/// That a rendition is some layers of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LayersOf {
    /// The rendition that all of them come in.
    pub rendition: RenditionId,
    /// Which it has.
    pub layers: Layers,
}

/// A rendition as every shard that serves it knows it.
#[derive(Debug, Clone)]
pub struct RenditionSpec {
    /// Its name.
    pub id: RenditionId,
    /// The shard its publisher is on.
    pub home: ShardId,
    /// Video (with keyframes) or audio.
    pub video: bool,
    /// The track, if it is one of several encodings of one: its viewers' bandwidth is estimated.
    pub alternative_of: Option<IncomingTrackId>,
    /// The encoding it is made of, if it is not one itself.
    pub layers_of: Option<LayersOf>,
    /// The formats it may use, in the order packets refer to them.
    pub codecs: Vec<IncomingCodec>,
    /// What its viewers are sent, on every shard.
    pub served: Arc<ServedCounters>,
}

impl RenditionSpec {
    /// The encoding that its packets come in, and which layers it has of it.
    pub(crate) fn origin(&self) -> LayersOf {
        self.layers_of.unwrap_or(LayersOf {
            rendition: self.id,
            layers: Layers::ALL,
        })
    }
}

/// What a viewer receives of a rendition: per codec of the rendition, the viewer's payload types,
/// or `None` where the viewer cannot decode it.
pub type PayloadMap = Vec<Option<OutgoingPayload>>;

/// A change to a shard's tables.
#[derive(Debug)]
pub enum Command {
    /// A new peer.
    AddTransport(Box<TransportSpec>),
    /// New credentials for a peer (RFC 8445 9); the old ones work until the first check with the
    /// new.
    RestartIce(TransportId, Box<IceCredentials>),
    /// The handshake is done: media may flow. Once for each peer.
    SetKeys(TransportId, Box<SrtpKeys>),
    /// The peer is gone, or shall go: its viewers' tracks get an RTCP BYE.
    RemoveTransport(TransportId),
    /// A datagram for a peer (DTLS), to the address it last proved.
    SendDatagram(TransportId, Box<[u8]>),
    /// A datagram to an address (STUN answers made off the fast path).
    SendTo(SocketAddr, Box<[u8]>),
    /// A peer shares something.
    AddIncomingTrack(TransportId, Box<IncomingTrackSpec>),
    /// A peer no longer shares something.
    RemoveIncomingTrack(TransportId, IncomingTrackId),
    /// A peer can watch something.
    AddOutgoingTrack(TransportId, Box<OutgoingTrackSpec>),
    /// A peer no longer can.
    RemoveOutgoingTrack(OutgoingTrackId),
    /// Serve this rendition's viewers here.
    AddRendition(Box<RenditionSpec>),
    /// Make a rendition of some layers of another (sent to its home).
    AddLayers(Box<RenditionSpec>),
    /// Viewers of this rendition may be shown one or another version of the track: estimate their
    /// bandwidth.
    SetAlternatives(RenditionId, IncomingTrackId),
    /// No viewer here is left, or the publisher is gone.
    RemoveRendition(RenditionId),
    /// Pass this rendition's packets on to another shard (sent to its home).
    Export(RenditionId, ShardId),
    /// Stop doing so.
    Unexport(RenditionId, ShardId),
    /// From now on these tracks, at most
    /// [`TRACKS_PER_COMMAND`](crate::limits::TRACKS_PER_COMMAND), show that rendition, starting with a
    /// keyframe if it is video.
    Attach(Vec<OutgoingTrackId>, RenditionId, PayloadMap),
    /// From now on this track shows nothing.
    Detach(OutgoingTrackId),
    /// Hand this rendition's packets over to a tap as well (sent to its home).
    AddTap(RenditionId, Box<TapFeed>),
    /// Take renditions from a producer; this shard is their home.
    AddProducer(Box<ProducerFeed>),
    /// The producer is gone, or shall go.
    RemoveProducer(ProducerId),
    /// Ask the publisher for a keyframe, unless that was just done (sent to the home).
    RequestKeyframe(RenditionId),
    /// Tell this rendition's viewers these bounds on the delay before playing, or, without any, pass
    /// on the publisher's (sent to the home of a rendition of video).
    SetPlayoutDelay(RenditionId, Option<PlayoutDelay>),
    /// Say BYE to every peer and end.
    Stop,
}
