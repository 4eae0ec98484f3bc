//! What the control plane asks of the shards about peers and what they share and watch: each call
//! changes the subscription table, if that is concerned, and becomes one command or several.

use std::net::SocketAddr;

use crate::command::{
    Command, IceCredentials, IncomingTrackSpec, OutgoingTrackSpec, PayloadMap, SrtpKeys,
    TransportSpec,
};
use crate::engine::{Engine, EngineError};
use crate::ids::{IncomingTrackId, OutgoingTrackId, RenditionId, ShardId, TransportId};
use crate::packet::extension::PlayoutDelay;
use crate::packet::layer::Layers;

impl Engine {
    /// Adds a peer to a shard.
    ///
    /// # Errors
    /// [`EngineError::UnknownShard`], [`EngineError::ShardStuck`]; so for every command below.
    pub fn add_transport(&self, shard: ShardId, spec: TransportSpec) -> Result<(), EngineError> {
        let id = spec.id;
        self.send(shard, Command::AddTransport(Box::new(spec)))?;
        self.table().add_transport(id, shard);
        Ok(())
    }

    /// Gives a peer new ICE credentials (RFC 8445 9).
    ///
    /// # Errors
    /// [`EngineError::UnknownTransport`].
    pub fn restart_ice(&self, id: TransportId, ice: IceCredentials) -> Result<(), EngineError> {
        self.send_to_transport(id, Command::RestartIce(id, Box::new(ice)))
    }

    /// Lets media flow under these keys, which a peer is given once.
    ///
    /// # Errors
    /// [`EngineError::UnknownTransport`].
    pub fn set_keys(&self, id: TransportId, keys: SrtpKeys) -> Result<(), EngineError> {
        self.send_to_transport(id, Command::SetKeys(id, Box::new(keys)))
    }

    /// Removes a peer with all its tracks; its viewers' streams end with an RTCP BYE.
    ///
    /// # Errors
    /// [`EngineError::UnknownTransport`].
    pub fn remove_transport(&self, id: TransportId) -> Result<(), EngineError> {
        let mut table = self.table();
        let steps = table.remove_transport(id)?;
        self.send_all(steps)
    }

    /// Sends a datagram (DTLS) to the address the peer proved.
    ///
    /// # Errors
    /// [`EngineError::UnknownTransport`].
    pub fn send_datagram(&self, id: TransportId, datagram: &[u8]) -> Result<(), EngineError> {
        self.send_to_transport(id, Command::SendDatagram(id, datagram.into()))
    }

    /// Sends a datagram from a shard's socket to any address.
    ///
    /// # Errors
    /// [`EngineError::UnknownShard`].
    pub fn send_to(
        &self,
        shard: ShardId,
        address: SocketAddr,
        datagram: &[u8],
    ) -> Result<(), EngineError> {
        self.send(shard, Command::SendTo(address, datagram.into()))
    }

    /// Lets a peer share a track.
    ///
    /// # Errors
    /// [`EngineError::UnknownTransport`].
    pub fn add_incoming_track(
        &self,
        id: TransportId,
        spec: IncomingTrackSpec,
    ) -> Result<(), EngineError> {
        let mut table = self.table();
        table.add_incoming_track(id, &spec)?;
        let command = Command::AddIncomingTrack(id, Box::new(spec));
        self.send(table.shard_of(id)?, command)
    }

    /// Ends a track that a peer shared; what is attached to it shows nothing any more.
    ///
    /// # Errors
    /// [`EngineError::UnknownTransport`].
    pub fn remove_incoming_track(
        &self,
        id: TransportId,
        track: IncomingTrackId,
    ) -> Result<(), EngineError> {
        let mut table = self.table();
        let steps = table.remove_incoming_track(id, track)?;
        self.send_all(steps)
    }

    /// Lets a peer watch a track.
    ///
    /// # Errors
    /// [`EngineError::UnknownTransport`].
    pub fn add_outgoing_track(
        &self,
        id: TransportId,
        spec: OutgoingTrackSpec,
    ) -> Result<(), EngineError> {
        let mut table = self.table();
        table.add_outgoing_track(id, spec.id)?;
        let command = Command::AddOutgoingTrack(id, Box::new(spec));
        self.send(table.shard_of(id)?, command)
    }

    /// Ends a track that a peer watched.
    ///
    /// # Errors
    /// [`EngineError::UnknownOutgoingTrack`].
    pub fn remove_outgoing_track(&self, id: OutgoingTrackId) -> Result<(), EngineError> {
        let mut table = self.table();
        let steps = table.remove_outgoing_track(id)?;
        self.send_all(steps)
    }

    /// Shows a rendition on a track, in place of what it showed before.
    ///
    /// # Errors
    /// [`EngineError::UnknownOutgoingTrack`], [`EngineError::UnknownRendition`].
    pub fn attach(
        &self,
        track: OutgoingTrackId,
        rendition: RenditionId,
        payloads: PayloadMap,
    ) -> Result<(), EngineError> {
        let mut table = self.table();
        table.check_outgoing(track)?;
        let steps = table.attach(&[track], rendition, &payloads)?;
        self.send_all(steps)
    }

    /// Shows a rendition on many tracks, whose viewers know its codecs by the same payload types; a
    /// track whose viewer has gone is passed over. One command carries
    /// [`TRACKS_PER_COMMAND`](crate::limits::TRACKS_PER_COMMAND) of them.
    ///
    /// # Errors
    /// [`EngineError::UnknownRendition`].
    pub fn attach_all(
        &self,
        tracks: &[OutgoingTrackId],
        rendition: RenditionId,
        payloads: &PayloadMap,
    ) -> Result<(), EngineError> {
        let mut table = self.table();
        let steps = table.attach(tracks, rendition, payloads)?;
        self.send_all(steps)
    }

    /// The rendition of some layers of an encoding, to be attached to tracks like any other. It is
    /// made as long as any is attached to it, and ends with the encoding.
    ///
    /// # Errors
    /// [`EngineError::UnknownRendition`], [`EngineError::TooManyLayers`].
    pub fn layers_of(
        &self,
        encoding: RenditionId,
        layers: Layers,
    ) -> Result<RenditionId, EngineError> {
        let mut table = self.table();
        let (made, steps) = table.derive(encoding, layers)?;
        self.send_all(steps)?;
        Ok(made)
    }

    /// Viewers of an encoding, which was one of a kind, may be shown one or another choice of its
    /// layers from now on: their bandwidth is estimated.
    ///
    /// # Errors
    /// [`EngineError::UnknownRendition`].
    pub fn set_alternatives(
        &self,
        encoding: RenditionId,
        track: IncomingTrackId,
    ) -> Result<(), EngineError> {
        let mut table = self.table();
        let steps = table.set_alternatives(encoding, track)?;
        self.send_all(steps)
    }

    /// Lets go of renditions that viewers have left: to be called about once a second. A rendition
    /// is served on for two or three calls, for those who have not changed over yet.
    ///
    /// # Errors
    /// Those of any command.
    pub fn tend(&self) -> Result<(), EngineError> {
        let mut table = self.table();
        let steps = table.tend();
        self.send_all(steps)
    }

    /// Shows nothing on a track any more; it can be attached again.
    ///
    /// # Errors
    /// [`EngineError::UnknownOutgoingTrack`].
    pub fn detach(&self, track: OutgoingTrackId) -> Result<(), EngineError> {
        let mut table = self.table();
        let steps = table.detach(track)?;
        self.send_all(steps)
    }

    /// Asks a rendition's publisher for a keyframe, unless that was just done.
    ///
    /// # Errors
    /// [`EngineError::UnknownRendition`].
    pub fn request_keyframe(&self, rendition: RenditionId) -> Result<(), EngineError> {
        let table = self.table();
        let home = table.home_of(rendition)?;
        self.send(home, Command::RequestKeyframe(rendition))
    }

    /// Tells a rendition's viewers these bounds on the delay before playing, in place of the
    /// publisher's; without any, the publisher's are passed on again. Viewers keep what they were
    /// told last.
    ///
    /// # Errors
    /// [`EngineError::UnknownRendition`].
    pub fn set_playout_delay(
        &self,
        rendition: RenditionId,
        delay: Option<PlayoutDelay>,
    ) -> Result<(), EngineError> {
        let table = self.table();
        let home = table.home_of(rendition)?;
        self.send(home, Command::SetPlayoutDelay(rendition, delay))
    }
}
