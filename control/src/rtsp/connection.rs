//! One client's connection: reads its messages, answers, and carries the packets of its session.
//!
//! A task of its own, made by the listener. A connection has one session, which ends with it. What
//! requests do is in [`requests`](super::requests); here is how bytes come and go, and when a client
//! is given up.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use fanmill_engine::packet::rtcp::{Compound, RtcpPacket};
use rustix::net::sockopt::set_socket_send_buffer_size;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;
use tokio::time::{sleep_until, timeout};

use super::Shared;
use super::limits::{INCOMING_QUEUE_PACKETS, WRITE_TIMEOUT};
use super::message::{Framer, Message, MessageError, put_packet};
use super::play::{Feed, Out};
use super::reading::{Next, Reading};
use super::sessions::{Counts, Entered};
use super::udp::{Incoming, UdpPair};

/// Half a second at 8 Mbit/s; the system takes twice as much.
const SEND_BUFFER_BYTES: usize = 512 << 10;

/// Room that is made before each read.
const READ_BYTES: usize = 4096;

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum End {
    #[error("the client closed the connection")]
    Closed,
    #[error("the client ended its session")]
    TornDown,
    #[error("the server is stopping")]
    Stopping,
    #[error("nothing was heard of the client for too long")]
    Silent,
    #[error("the client took nothing of what was sent for too long")]
    Stuck,
    #[error("the client was behind the stream and lost its place")]
    TooSlow,
    #[error("the stream ended, or is something else now")]
    StreamEnded,
    #[error(transparent)]
    Message(#[from] MessageError),
    #[error("a request without CSeq cannot be answered")]
    NoCseq,
    #[error("what was no request came to the server")]
    NoRequest,
    #[error(transparent)]
    System(#[from] io::Error),
}

/// How a track's packets travel.
#[derive(Debug)]
pub(super) enum Carrier {
    /// On these channels of the connection.
    Interleaved(u8, u8),
    /// In datagrams.
    Udp(UdpPair),
}

/// A track that was set up.
#[derive(Debug)]
pub(super) struct SetUp {
    /// Its place in the stream.
    pub(super) place: usize,
    pub(super) carrier: Carrier,
}

/// What a client has set up.
pub(super) struct Session {
    pub(super) id: String,
    pub(super) feed: Arc<Feed>,
    pub(super) tracks: Vec<SetUp>,
    /// While it plays.
    pub(super) reading: Option<(Reading, Entered)>,
}

/// See the module.
pub(super) struct Connection {
    pub(super) shared: Arc<Shared>,
    pub(super) peer: SocketAddr,
    pub(super) local: SocketAddr,
    reader: OwnedReadHalf,
    writer: OwnedWriteHalf,
    framer: Framer,
    /// The stream that was described last: it goes on for the session that follows.
    pub(super) feed: Option<Arc<Feed>>,
    pub(super) session: Option<Session>,
    pub(super) incoming_to: mpsc::Sender<Incoming>,
    incoming: mpsc::Receiver<Incoming>,
    /// When the client was last heard of.
    heard: Instant,
}

/// What the connection has to do.
enum Event {
    Stop,
    Read(io::Result<usize>),
    Next(Next),
    Incoming(Option<Incoming>),
    Deadline,
}

impl Connection {
    pub(super) fn new(
        stream: TcpStream,
        peer: SocketAddr,
        shared: Arc<Shared>,
    ) -> io::Result<Self> {
        // What is written is written in one go.
        stream.set_nodelay(true)?;
        // A reader that is behind is to be noticed before megabytes wait for it in the system.
        set_socket_send_buffer_size(&stream, SEND_BUFFER_BYTES)?;
        let local = stream.local_addr()?;
        let (reader, writer) = stream.into_split();
        let (incoming_to, incoming) = mpsc::channel(INCOMING_QUEUE_PACKETS);
        Ok(Self {
            shared,
            peer,
            local,
            reader,
            writer,
            framer: Framer::new(),
            feed: None,
            session: None,
            incoming_to,
            incoming,
            heard: Instant::now(),
        })
    }

    /// Serves the client until either has enough.
    pub(super) async fn run(mut self) {
        let end = loop {
            if let Err(end) = self.turn().await {
                break end;
            }
        };
        let (peer, reason) = (self.peer, end.to_string());
        match &self.session {
            Some(session) => {
                let stream = session.feed.stream();
                tracing::info!(stream, %peer, reason, "RTSP session ended");
            }
            None => tracing::debug!(%peer, reason, "RTSP connection ended"),
        }
        if matches!(end, End::Message(_)) {
            // Those who speak another protocol learn what this is.
            let refusal = format!("RTSP/1.0 400 {reason}\r\n\r\n");
            let _ = timeout(WRITE_TIMEOUT, self.writer.write_all(refusal.as_bytes())).await;
        }
    }

    async fn turn(&mut self) -> Result<(), End> {
        match self.event().await {
            Event::Stop => Err(End::Stopping),
            Event::Read(read) => self.take_messages(read?).await,
            Event::Next(Next::Packets(packets)) => self.send(&packets).await,
            Event::Next(Next::TooSlow) => Err(End::TooSlow),
            Event::Next(Next::Ended) => Err(End::StreamEnded),
            Event::Incoming(Some(incoming)) => {
                self.heard = Instant::now();
                self.take_packet(incoming.is_rtcp, &incoming.bytes);
                Ok(())
            }
            // This side of the channel has a sender itself.
            Event::Incoming(None) => Ok(()),
            Event::Deadline => Err(End::Silent),
        }
    }

    async fn event(&mut self) -> Event {
        let deadline = self.deadline();
        let stop = &self.shared.stop;
        let buffer = self.framer.buffer();
        buffer.reserve(READ_BYTES);
        let reading = self.session.as_mut().and_then(|s| s.reading.as_mut());
        let next = async {
            match reading {
                Some((reading, _)) => reading.next().await,
                None => std::future::pending().await,
            }
        };
        let due = async {
            match deadline {
                Some(deadline) => sleep_until(deadline.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = stop.cancelled() => Event::Stop,
            read = self.reader.read_buf(buffer) => Event::Read(read),
            next = next => Event::Next(next),
            incoming = self.incoming.recv() => Event::Incoming(incoming),
            () = due => Event::Deadline,
        }
    }

    /// When the client is given up if nothing is heard of it.
    fn deadline(&self) -> Option<Instant> {
        let limits = &self.shared.limits;
        let Some(session) = &self.session else {
            return Some(self.heard + limits.request_timeout);
        };
        // Who reads on this connection is there as long as it takes what is written.
        let interleaved = |track: &SetUp| matches!(track.carrier, Carrier::Interleaved(..));
        if session.reading.is_some() && session.tracks.iter().all(interleaved) {
            return None;
        }
        Some(self.heard + limits.session_timeout)
    }

    async fn take_messages(&mut self, read: usize) -> Result<(), End> {
        if read == 0 {
            return Err(End::Closed);
        }
        while let Some(message) = self.framer.next_message()? {
            // A message that comes byte by byte is none until it is whole.
            self.heard = Instant::now();
            match message {
                Message::Request(request) => self.request(&request).await?,
                Message::Packet(channel, bytes) => {
                    let is_rtcp = self.is_rtcp(channel);
                    self.take_packet(is_rtcp, &bytes);
                }
                Message::Response(_) => return Err(End::NoRequest),
            }
        }
        Ok(())
    }

    fn is_rtcp(&self, channel: u8) -> bool {
        let tracks = self.session.iter().flat_map(|session| &session.tracks);
        let mut carriers = tracks.map(|track| &track.carrier);
        carriers.any(|carrier| matches!(carrier, Carrier::Interleaved(_, rtcp) if *rtcp == channel))
    }

    /// A packet from a reader: what it received.
    fn take_packet(&mut self, is_rtcp: bool, bytes: &Bytes) {
        let reading = self.session.as_ref().and_then(|s| s.reading.as_ref());
        let (Some((_, entered)), true) = (reading, is_rtcp) else {
            return;
        };
        for packet in Compound::new(bytes).flatten() {
            if let RtcpPacket::ReceiverReport(report) = packet {
                let worst = report
                    .report_blocks()
                    .map(|block| block.fraction_lost)
                    .max();
                entered.counts.set_fraction_lost(worst.unwrap_or(0));
            }
        }
    }

    /// Writes to the client; gives up one that takes nothing.
    pub(super) async fn write(&mut self, bytes: &[u8]) -> Result<(), End> {
        let reading = self.session.as_ref().and_then(|s| s.reading.as_ref());
        let too_slow = reading.map(|(reading, _)| reading.too_slow());
        let lost = async {
            match too_slow {
                Some(too_slow) => too_slow.cancelled().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = lost => Err(End::TooSlow),
            () = self.shared.stop.cancelled() => Err(End::Stopping),
            written = timeout(WRITE_TIMEOUT, self.writer.write_all(bytes)) => match written {
                Ok(written) => Ok(written?),
                Err(_) => Err(End::Stuck),
            },
        }
    }

    async fn send(&mut self, packets: &[Out]) -> Result<(), End> {
        let mut interleaved = Vec::new();
        if let Some(session) = &self.session
            && let Some((_, entered)) = &session.reading
        {
            send_on(&session.tracks, &entered.counts, packets, &mut interleaved).await;
        }
        if interleaved.is_empty() {
            return Ok(());
        }
        self.write(&interleaved).await
    }
}

/// Sends datagrams, and collects what goes on the connection.
async fn send_on(tracks: &[SetUp], counts: &Counts, packets: &[Out], interleaved: &mut Vec<u8>) {
    for packet in packets {
        let Some(track) = tracks.iter().find(|track| track.place == packet.track) else {
            continue;
        };
        counts.add(packet.bytes.len());
        match &track.carrier {
            Carrier::Interleaved(rtp, rtcp) => {
                let channel = if packet.is_rtcp { *rtcp } else { *rtp };
                put_packet(interleaved, channel, &packet.bytes);
            }
            Carrier::Udp(pair) => pair.send(packet.is_rtcp, &packet.bytes).await,
        }
    }
}
