//! What a peer watches: an [`OutgoingStream`] whose tracks are attached to incoming ones, now to
//! these, now to those, while the peer's connection stays as it is.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use fanmill_engine::bandwidth::share::{self, Ladder};
use fanmill_engine::command::{OutgoingPayload, OutgoingTrackSpec, PayloadMap};
use fanmill_engine::counters::OutgoingCounters;
use fanmill_engine::ids::{OutgoingTrackId, RenditionId};
use fanmill_engine::packet::layer::Layers;
use fanmill_engine::{Engine, EngineError};

use crate::model::fitting::Viewing;
use crate::model::incoming::{IncomingStream, IncomingTrack};
use crate::model::layers::Chosen;
use crate::model::media_server::Names;
use crate::model::transponder::Transponder;
use crate::model::transport::extension_map;
use crate::sdp::{CodecParameters, MediaKind, Negotiated, NegotiatedMedia, best_match};

/// Why a track could not be attached.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AttachError {
    /// Audio cannot be shown on a video track.
    #[error("an incoming {incoming} track cannot be attached to an outgoing {outgoing} track")]
    Kind {
        /// What comes in.
        incoming: MediaKind,
        /// What goes out.
        outgoing: MediaKind,
    },
    /// The viewer cannot decode any of what the publisher may send.
    #[error("the viewer negotiated none of the publisher's codecs ({0})")]
    NoCommonCodec(String),
    /// One side has gone.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

impl AttachError {
    pub(super) fn no_common_codec(track: &IncomingTrack) -> Self {
        let codecs = track.codecs().iter();
        let names: Vec<_> = codecs.map(|c| c.codec.encoding_name()).collect();
        Self::NoCommonCodec(names.join(", "))
    }
}

/// All that one peer watches.
#[derive(Debug, Clone)]
pub struct OutgoingStream {
    tracks: Vec<Arc<OutgoingTrack>>,
}

/// A media section that a peer watches.
pub struct OutgoingTrack {
    engine: Engine,
    id: OutgoingTrackId,
    kind: MediaKind,
    mid: String,
    codecs: Vec<CodecParameters>,
    counters: Arc<OutgoingCounters>,
    transponder: Transponder,
    /// What other tracks of its viewer are to have of its bandwidth.
    others_bps: AtomicU64,
    attached: Mutex<Option<Attached>>,
}

#[derive(Debug)]
pub(super) struct Attached {
    pub(super) track: Arc<IncomingTrack>,
    /// What it shows of it; nothing if nothing fits.
    pub(super) shown: Option<Shown>,
}

/// An encoding, and which of its layers, as the engine knows them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Shown {
    pub(super) encoding: RenditionId,
    pub(super) layers: Layers,
}

impl From<Chosen<'_>> for Shown {
    fn from(chosen: Chosen<'_>) -> Self {
        Self {
            encoding: chosen.encoding.rendition(),
            layers: chosen.layers,
        }
    }
}

impl std::fmt::Debug for OutgoingTrack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OutgoingTrack")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

impl OutgoingStream {
    /// The tracks that a viewer's offer came to.
    pub(crate) fn new(negotiated: &Negotiated, names: &Names, engine: &Engine) -> Self {
        let active = negotiated.media.iter().filter(|media| media.is_active());
        let track = |media| Arc::new(OutgoingTrack::new(media, names, engine.clone()));
        Self {
            tracks: active.map(track).collect(),
        }
    }

    /// A stream without tracks.
    pub(crate) fn empty() -> Self {
        Self { tracks: Vec::new() }
    }

    /// Its tracks in the order of the offer.
    pub fn tracks(&self) -> &[Arc<OutgoingTrack>] {
        &self.tracks
    }

    /// Shows a stream: its first audio on our first audio track, its second on our second, and so
    /// for video. Tracks left over show nothing.
    ///
    /// # Errors
    /// The first track's that could not be attached; the others are attached all the same.
    pub fn attach_to(&self, incoming: &IncomingStream) -> Result<(), AttachError> {
        let mut result = Ok(());
        for (track, incoming) in self.pairs(incoming) {
            let done = match incoming {
                Some(incoming) => track.attach_to(incoming),
                None => track.detach().map_err(AttachError::from),
            };
            result = result.and(done);
        }
        result
    }

    /// Each of our tracks with what it is to show of a stream.
    pub(super) fn pairs<'a>(
        &'a self,
        incoming: &'a IncomingStream,
    ) -> impl Iterator<Item = (&'a OutgoingTrack, Option<&'a Arc<IncomingTrack>>)> {
        let kinds = [MediaKind::Audio, MediaKind::Video].into_iter();
        kinds.flat_map(move |kind| {
            let tracks = self.tracks.iter().filter(move |track| track.kind == kind);
            tracks
                .enumerate()
                .map(move |(index, track)| (&**track, incoming.track(kind, index)))
        })
    }

    /// Lets each track have the encoding that is best for it now, within its part of what the way to the
    /// viewer carries ([`share`]).
    ///
    /// # Errors
    /// The first track's that could not be changed; the others are all the same.
    pub fn reselect(&self) -> Result<(), AttachError> {
        let choosing: Vec<_> = self.tracks.iter().filter(|track| track.chooses()).collect();
        let estimate_bps = choosing
            .first()
            .map_or(0, |t| t.counters.estimate_bps.get());
        // Alone, it has all; and of nothing known there is nothing to divide.
        let others_bps = match choosing.len() > 1 && estimate_bps > 0 {
            true => {
                let ladders: Vec<_> = choosing.iter().map(|track| track.ladder()).collect();
                share::others_bps(estimate_bps, &ladders)
            }
            false => vec![0; choosing.len()],
        };
        let mut result = Ok(());
        for (track, others_bps) in choosing.iter().zip(others_bps) {
            track.others_bps.store(others_bps, Ordering::Relaxed);
            result = result.and(track.reselect());
        }
        result
    }

    /// Shows nothing any more; the peer stays connected.
    ///
    /// # Errors
    /// When the peer has gone.
    pub fn detach(&self) -> Result<(), EngineError> {
        self.tracks.iter().try_for_each(|track| track.detach())
    }
}

impl OutgoingTrack {
    fn new(media: &NegotiatedMedia, names: &Names, engine: Engine) -> Self {
        Self {
            engine,
            id: OutgoingTrackId(names.next()),
            kind: media.kind,
            mid: media.mid.clone().unwrap_or_default(),
            codecs: media.codecs.clone(),
            counters: Arc::default(),
            transponder: Transponder::default(),
            others_bps: AtomicU64::new(0),
            attached: Mutex::new(None),
        }
    }

    /// How the engine shall know it; `None` where nothing is sent.
    pub(crate) fn spec(&self, media: &NegotiatedMedia) -> Option<OutgoingTrackSpec> {
        let local = media.local.as_ref()?;
        Some(OutgoingTrackSpec {
            id: self.id,
            mid: self.mid.clone(),
            ssrc: local.ssrc,
            rtx_ssrc: local.rtx_ssrc.unwrap_or_default(),
            extensions: extension_map(media),
            allow_two_byte: media.extmap_allow_mixed,
            counters: Arc::clone(&self.counters),
        })
    }

    /// Its name in the engine.
    pub fn id(&self) -> OutgoingTrackId {
        self.id
    }

    /// Audio or video.
    pub fn kind(&self) -> MediaKind {
        self.kind
    }

    /// Its identification in the viewer's session (RFC 9143).
    pub fn mid(&self) -> &str {
        &self.mid
    }

    /// What the engine counts of it.
    pub fn counters(&self) -> &OutgoingCounters {
        &self.counters
    }

    /// Chooses the encoding the viewer gets; takes effect with [`OutgoingTrack::reselect`].
    pub fn transponder(&self) -> &Transponder {
        &self.transponder
    }

    /// The track it shows.
    pub fn attached_to(&self) -> Option<Arc<IncomingTrack>> {
        self.attached()
            .as_ref()
            .map(|attached| Arc::clone(&attached.track))
    }

    /// The encoding it is sent now, by name, if the track it shows has several.
    pub fn encoding_name(&self) -> Option<String> {
        let attached = self.attached();
        let Attached { track, shown } = attached.as_ref()?;
        let shown = (*shown)?;
        let mut encodings = track.encodings().iter();
        let sent = encodings.find(|encoding| encoding.rendition() == shown.encoding)?;
        (track.encodings().len() > 1).then(|| sent.name().to_owned())
    }

    /// The layers that what it is sent is bounded to, if it is: spatial and temporal.
    pub fn layers(&self) -> Option<(Option<u8>, Option<u8>)> {
        let layers = self.attached().as_ref()?.shown?.layers;
        let bound = |layer| Some(layer).filter(|layer| *layer != Layers::UNBOUNDED);
        (!layers.is_all()).then(|| (bound(layers.spatial), bound(layers.temporal)))
    }

    /// Shows a track, beginning with its next keyframe if it is video.
    ///
    /// # Errors
    /// [`AttachError`]; the track then shows what it showed before.
    pub fn attach_to(&self, incoming: &Arc<IncomingTrack>) -> Result<(), AttachError> {
        if self.kind != incoming.kind() {
            return Err(AttachError::Kind {
                incoming: incoming.kind(),
                outgoing: self.kind,
            });
        }
        let shown = self.choose(incoming, None);
        self.show(&mut self.attached(), incoming, shown)
    }

    /// Changes to the encoding and layers the transponder wants now, if it is another.
    ///
    /// # Errors
    /// [`AttachError`].
    pub fn reselect(&self) -> Result<(), AttachError> {
        // Held to the end, or what is attached meanwhile would be undone.
        let mut attached = self.attached();
        let Some(Attached { track, shown }) = &*attached else {
            return Ok(());
        };
        let (track, shown) = (Arc::clone(track), *shown);
        let wanted = self.choose(&track, shown);
        if wanted == shown {
            return Ok(());
        }
        let target = self.transponder.selection().target;
        let other = |to: Shown| shown.is_some_and(|shown| shown.encoding != to.encoding);
        if target.is_some_and(|target| !target.smooth) && wanted.is_some_and(other) {
            self.engine.detach(self.id)?;
        }
        self.show(&mut attached, &track, wanted)
    }

    /// Whether it shows a track with something to choose from.
    fn chooses(&self) -> bool {
        let attached = self.attached();
        attached
            .as_ref()
            .is_some_and(|attached| attached.track.has_choice())
    }

    /// What it chooses from.
    fn ladder(&self) -> Ladder {
        let attached = self.attached();
        let Some(Attached { track, shown }) = &*attached else {
            return Ladder::default();
        };
        let shown = shown.map(|shown| (shown.encoding, shown.layers));
        self.transponder.ladder(track, shown)
    }

    /// What of a track the viewer shall get, who is `shown` this now; `None`: nothing.
    pub(super) fn choose(&self, track: &IncomingTrack, shown: Option<Shown>) -> Option<Shown> {
        let estimate_bps = match self.counters.estimate_bps.get() {
            0 => 0,
            // Nothing left is not the same as nothing known.
            bps => bps
                .saturating_sub(self.others_bps.load(Ordering::Relaxed))
                .max(1),
        };
        let viewing = Viewing {
            shown: shown.map(|shown| (shown.encoding, shown.layers)),
            estimate_bps,
        };
        self.transponder.choose(track, viewing).map(Shown::from)
    }

    fn show(
        &self,
        attached: &mut Option<Attached>,
        track: &Arc<IncomingTrack>,
        shown: Option<Shown>,
    ) -> Result<(), AttachError> {
        let payloads = self.payload_map(track.codecs());
        if payloads.iter().all(Option::is_none) {
            return Err(AttachError::no_common_codec(track));
        }
        match shown {
            Some(Shown { encoding, layers }) => {
                let rendition = self.engine.layers_of(encoding, layers)?;
                self.engine.attach(self.id, rendition, payloads)?;
            }
            None => self.engine.detach(self.id)?,
        }
        *attached = Some(Attached {
            track: Arc::clone(track),
            shown,
        });
        Ok(())
    }

    /// Shows nothing any more.
    ///
    /// # Errors
    /// When the peer has gone.
    pub fn detach(&self) -> Result<(), EngineError> {
        let mut attached = self.attached();
        *attached = None;
        self.engine.detach(self.id)
    }

    /// Its viewer's payload types of a publisher's codecs.
    pub(super) fn payload_map(&self, published: &[CodecParameters]) -> PayloadMap {
        let matching = |published| {
            let codec = &self.codecs[best_match(published, &self.codecs)?];
            Some(OutgoingPayload {
                payload_type: codec.payload_type,
                rtx_payload_type: codec.rtx_payload_type,
                red_payload_type: codec.redundancy.map(|red| red.payload_type),
                nack: codec.feedback.nack,
            })
        };
        published.iter().map(matching).collect()
    }

    pub(super) fn codecs(&self) -> &[CodecParameters] {
        &self.codecs
    }

    pub(super) fn engine(&self) -> &Engine {
        &self.engine
    }

    pub(super) fn attached(&self) -> std::sync::MutexGuard<'_, Option<Attached>> {
        self.attached
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
