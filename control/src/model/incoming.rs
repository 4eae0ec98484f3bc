//! What a peer shares, or a producer in this process makes: an [`IncomingStream`] with its tracks,
//! each with one encoding or, with simulcast, several.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use fanmill_engine::command::{EncodingSpec, Feedback, IncomingCodec, IncomingTrackSpec};
use fanmill_engine::counters::{IncomingCounters, ServedCounters};
use fanmill_engine::ids::{IncomingTrackId, RenditionId};
use fanmill_engine::producer::ProducedTrackSpec;
use fanmill_engine::tap::{Tap, TapSpec};
use fanmill_engine::{Engine, EngineError};

use crate::model::media_server::Names;
use crate::model::transport::extension_map;
use crate::sdp::{Codec, CodecParameters, MediaKind, Negotiated, NegotiatedMedia, RtcpFeedback};

/// All that one peer shares, or one producer makes.
#[derive(Debug, Clone)]
pub struct IncomingStream {
    tracks: Vec<Arc<IncomingTrack>>,
}

/// A media section that a peer shares, or a track that a producer makes.
#[derive(Debug)]
pub struct IncomingTrack {
    id: IncomingTrackId,
    kind: MediaKind,
    mid: String,
    codecs: Vec<CodecParameters>,
    encodings: Vec<Encoding>,
    /// The engine knows that viewers can be given one thing or another.
    alternatives: AtomicBool,
}

/// One encoding of a track: a continuous series of packets.
#[derive(Debug)]
pub struct Encoding {
    engine: Engine,
    rendition: RenditionId,
    name: String,
    rid: Option<String>,
    counters: Arc<IncomingCounters>,
    served: Arc<ServedCounters>,
    active: AtomicBool,
}

impl IncomingStream {
    /// The tracks that a publisher's offer came to.
    pub(crate) fn new(negotiated: &Negotiated, names: &Names, engine: &Engine) -> Self {
        let active = negotiated.media.iter().filter(|media| media.is_active());
        let track = |media| Arc::new(IncomingTrack::new(media, names, engine));
        Self {
            tracks: active.map(track).collect(),
        }
    }

    /// The tracks of a producer, one for each codec.
    pub(crate) fn produced(
        codecs: impl IntoIterator<Item = CodecParameters>,
        names: &Names,
        engine: &Engine,
    ) -> Self {
        let track = |(position, codec)| {
            let mid = usize::to_string(&position);
            Arc::new(IncomingTrack::produced(codec, mid, names, engine))
        };
        Self {
            tracks: codecs.into_iter().enumerate().map(track).collect(),
        }
    }

    /// A stream without tracks.
    pub(crate) fn empty() -> Self {
        Self { tracks: Vec::new() }
    }

    /// Its tracks in the order of the offer.
    pub fn tracks(&self) -> &[Arc<IncomingTrack>] {
        &self.tracks
    }

    /// The `index`-th track of a kind.
    pub fn track(&self, kind: MediaKind, index: usize) -> Option<&Arc<IncomingTrack>> {
        self.tracks
            .iter()
            .filter(|track| track.kind == kind)
            .nth(index)
    }
}

impl IncomingTrack {
    fn new(media: &NegotiatedMedia, names: &Names, engine: &Engine) -> Self {
        let encoding = |position, rid| Encoding::new(position, rid, names, engine);
        let encodings: Vec<Encoding> = if !media.rids.is_empty() {
            let rids = media.rids.iter().enumerate();
            rids.map(|(position, rid)| encoding(position, Some(rid.id.clone())))
                .collect()
        } else {
            // A source for each SSRC of a SIM group; one if nothing is announced.
            (0..media.encodings.len().max(1))
                .map(|position| encoding(position, None))
                .collect()
        };
        Self {
            id: IncomingTrackId(names.next()),
            kind: media.kind,
            mid: media.mid.clone().unwrap_or_default(),
            codecs: media.codecs.clone(),
            alternatives: AtomicBool::new(encodings.len() > 1),
            encodings,
        }
    }

    fn produced(codec: CodecParameters, mid: String, names: &Names, engine: &Engine) -> Self {
        Self {
            id: IncomingTrackId(names.next()),
            kind: match engine_codec(codec.codec).kind() {
                fanmill_engine::packet::codec::MediaKind::Audio => MediaKind::Audio,
                fanmill_engine::packet::codec::MediaKind::Video => MediaKind::Video,
            },
            mid,
            codecs: vec![codec],
            encodings: vec![Encoding::new(0, None, names, engine)],
            alternatives: AtomicBool::new(false),
        }
    }

    /// How the engine shall know it if a producer makes it.
    pub(crate) fn produced_spec(&self) -> ProducedTrackSpec {
        let encoding = &self.encodings[0];
        ProducedTrackSpec {
            rendition: encoding.rendition,
            codecs: self.codecs.iter().filter_map(incoming_codec).collect(),
            counters: Arc::clone(&encoding.counters),
            served: Arc::clone(&encoding.served),
        }
    }

    /// How the engine shall know it if a peer shares it.
    pub(crate) fn spec(&self, media: &NegotiatedMedia, max_bitrate_bps: u64) -> IncomingTrackSpec {
        let encodings = self
            .encodings
            .iter()
            .enumerate()
            .map(|(position, encoding)| {
                let declared = media.encodings.get(position);
                EncodingSpec {
                    rendition: encoding.rendition,
                    rid: encoding.rid.clone(),
                    ssrc: declared.map(|declared| declared.ssrc),
                    rtx_ssrc: declared.and_then(|declared| declared.rtx_ssrc),
                    counters: Arc::clone(&encoding.counters),
                    served: Arc::clone(&encoding.served),
                }
            });
        IncomingTrackSpec {
            id: self.id,
            mid: self.mid.clone(),
            codecs: self.codecs.iter().filter_map(incoming_codec).collect(),
            encodings: encodings.collect(),
            extensions: extension_map(media),
            feedback: feedback(self.codecs.iter().map(|codec| codec.feedback)),
            max_bitrate_bps,
        }
    }

    /// Its name in the engine.
    pub fn id(&self) -> IncomingTrackId {
        self.id
    }

    /// Audio or video.
    pub fn kind(&self) -> MediaKind {
        self.kind
    }

    /// Its identification in the publisher's session (RFC 9143); of a producer's, its position.
    pub fn mid(&self) -> &str {
        &self.mid
    }

    /// The codecs the publisher may use, most preferred first.
    pub fn codecs(&self) -> &[CodecParameters] {
        &self.codecs
    }

    /// Its encodings in the order of the offer; one without simulcast.
    pub fn encodings(&self) -> &[Encoding] {
        &self.encodings
    }

    /// The encoding a viewer gets who has no reason to get less: of those that come in, the one
    /// with the largest picture, else with the highest bitrate.
    pub fn best_encoding(&self) -> &Encoding {
        let rank = |encoding: &&Encoding| (encoding.is_active(), encoding.quality());
        // `max_by_key` gives the last of equals; the first is the more natural default.
        let best = self.encodings.iter().rev().max_by_key(rank);
        best.expect("a track has at least one encoding")
    }

    /// The same, or a paused one if that is better, for who takes one and stays: to take it asks for it.
    pub fn best_to_be_had(&self) -> &Encoding {
        let to_be_had = |one: &&Encoding| one.is_active() || one.is_paused();
        let offered = self.encodings.iter().rev().filter(to_be_had);
        let best = offered.max_by_key(|one| one.quality());
        best.unwrap_or_else(|| self.best_encoding())
    }

    /// The same as [`best_encoding`](Self::best_encoding); if a better one is paused, its publisher is
    /// asked for it.
    pub fn ask_for_best(&self) -> &Encoding {
        let paused = self.encodings.iter().filter(|one| one.is_paused());
        let best = self.best_encoding();
        for better in paused.filter(|one| one.quality() > best.quality()) {
            better.ask();
        }
        best
    }

    /// Lets the engine know once there are layers to choose from, so that it estimates the viewers'
    /// bandwidth.
    pub(super) fn tend(&self) {
        if self.is_layered()
            && let [encoding] = &self.encodings[..]
            && !self.alternatives.swap(true, Ordering::Relaxed)
        {
            let told = encoding
                .engine
                .set_alternatives(encoding.rendition, self.id);
            self.alternatives.store(told.is_ok(), Ordering::Relaxed);
        }
    }

    /// The codec in use, once media came.
    pub fn current_codec(&self) -> Option<&CodecParameters> {
        let position = self.best_encoding().counters.codec_position.get();
        self.codecs
            .get(usize::try_from(position.checked_sub(1)?).ok()?)
    }
}

impl Encoding {
    fn new(position: usize, rid: Option<String>, names: &Names, engine: &Engine) -> Self {
        Self {
            engine: engine.clone(),
            rendition: RenditionId(names.next()),
            name: rid.clone().unwrap_or_else(|| position.to_string()),
            rid,
            counters: Arc::default(),
            served: Arc::default(),
            active: AtomicBool::new(false),
        }
    }

    /// Taps it: every packet, as it comes in, for a consumer in this process. The tap ends with the
    /// stream; with `spec.from_cache` it begins at the latest keyframe.
    ///
    /// # Errors
    /// When the stream has ended, or its shard has too many taps.
    pub fn create_tap(&self, spec: TapSpec) -> Result<Tap, EngineError> {
        self.engine.add_tap(self.rendition, spec)
    }

    /// Asks the publisher for a keyframe, unless that was just done.
    ///
    /// # Errors
    /// When the stream has ended.
    pub fn request_keyframe(&self) -> Result<(), EngineError> {
        self.engine.request_keyframe(self.rendition)
    }

    /// Its rendition in the engine.
    pub fn rendition(&self) -> RenditionId {
        self.rendition
    }

    /// What it is called where one is to be chosen: its rid, or its place in the offer.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How good it is compared with others of its track: pixels of its picture, then its bitrate.
    pub(super) fn quality(&self) -> (u64, u64) {
        let counters = &self.counters;
        let pixels = counters.width.get() * counters.height.get();
        (pixels, self.bitrate_bps())
    }

    /// What it takes, in bits per second; while it is paused, what it took.
    pub(super) fn bitrate_bps(&self) -> u64 {
        match self.is_paused() {
            true => self.counters.full_bitrate_bps.get(),
            false => self.counters.bitrate_bps.get(),
        }
    }

    /// What a viewer must have room for, in bits per second: what it takes on the whole, and, to be changed
    /// to, no less than it took last.
    pub(super) fn needs_bps(&self, is_shown: bool) -> u64 {
        let mean_bps = self.counters.mean_bitrate_bps.get();
        match (self.is_paused(), is_shown) {
            (true, _) => self.bitrate_bps(),
            (false, true) => mean_bps,
            (false, false) => mean_bps.max(self.bitrate_bps()),
        }
    }

    /// Whether it does not come only because nobody watched it: it is to be had by
    /// [`ask`](Self::ask).
    pub fn is_paused(&self) -> bool {
        !self.is_active() && self.counters.paused.get() > 0
    }

    /// Lets its publisher be asked for it, which holds for some seconds; to be repeated by whoever would
    /// be shown it until it comes.
    pub fn ask(&self) {
        self.counters.wanted.set(1);
    }

    /// Its restriction identifier (RFC 8851), with simulcast by rid.
    pub fn rid(&self) -> Option<&str> {
        self.rid.as_deref()
    }

    /// What the engine counts of it.
    pub fn counters(&self) -> &IncomingCounters {
        &self.counters
    }

    /// What its viewers are sent, in the engine's counts.
    pub fn served(&self) -> &ServedCounters {
        &self.served
    }

    /// Whether media comes in.
    pub fn is_active(&self) -> bool {
        self.active.load(Ordering::Relaxed)
    }

    pub(crate) fn set_active(&self, active: bool) {
        self.active.store(active, Ordering::Relaxed);
    }
}

fn incoming_codec(parameters: &CodecParameters) -> Option<IncomingCodec> {
    Some(IncomingCodec {
        codec: engine_codec(parameters.codec),
        payload_type: parameters.payload_type,
        rtx_payload_type: parameters.rtx_payload_type,
        red_payload_type: parameters.redundancy.map(|red| red.payload_type),
        clock_rate: parameters.clock_rate,
    })
}

fn engine_codec(codec: Codec) -> fanmill_engine::packet::codec::Codec {
    use fanmill_engine::packet::codec::Codec as Engine;
    match codec {
        Codec::Opus => Engine::Opus,
        Codec::Vp8 => Engine::Vp8,
        Codec::Vp9 => Engine::Vp9,
        Codec::Av1 => Engine::Av1,
        Codec::H264 => Engine::H264,
        Codec::H265 => Engine::H265,
    }
}

/// What every codec of a section understands.
fn feedback(codecs: impl Iterator<Item = RtcpFeedback>) -> Feedback {
    let common = codecs.reduce(|a, b| RtcpFeedback {
        nack: a.nack && b.nack,
        nack_pli: a.nack_pli && b.nack_pli,
        ccm_fir: a.ccm_fir && b.ccm_fir,
        transport_cc: a.transport_cc && b.transport_cc,
        goog_remb: a.goog_remb && b.goog_remb,
    });
    let common = common.unwrap_or_default();
    Feedback {
        nack: common.nack,
        pli: common.nack_pli,
        fir: common.ccm_fir,
        transport_cc: common.transport_cc,
        remb: common.goog_remb,
    }
}
