//! One client's connection: reads its messages, answers, and carries the packets of its session.
//!
//! A task of its own, made by the listener. A connection has one session, which ends with it. What
//! requests do is in [`requests`](super::requests); here is how bytes come and go, and when a client
//! is given up.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use fanmill_engine::packet::rtcp::{Compound, RtcpPacket};
use rustix::net::sockopt::set_socket_send_buffer_size;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;
use tokio::time::{Interval, MissedTickBehavior, interval, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::Shared;
use super::description::Described;
use super::limits::{INCOMING_QUEUE_PACKETS, WRITE_TIMEOUT};
use super::message::{Framer, Message, MessageError, put_packet};
use super::play::{Feed, Out};
use super::reading::{Next, Reading};
use super::receive::Receiver;
use super::sessions::{Counts, Entered};
use super::udp::{Incoming, UdpPair};
use crate::access::{Held, Right};
use crate::model::CloseReason;

/// Half a second at 8 Mbit/s; the system takes twice as much.
const SEND_BUFFER_BYTES: usize = 512 << 10;

/// Room that is made before each read: for requests, and for pictures.
const READ_BYTES: usize = 4096;
const READ_BYTES_OF_PUBLISHER: usize = 64 << 10;

/// How often missing packets of a publisher are given up, and it is told what came.
const TICK: Duration = Duration::from_millis(20);

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
    #[error("the stream was ended: {0}")]
    Stopped(CloseReason),
    #[error("the client's token was revoked")]
    Revoked,
    #[error("what is published cannot be shown: {0}")]
    Refused(String),
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
    pub(super) of: Of,
    pub(super) tracks: Vec<SetUp>,
    /// While media flows.
    pub(super) running: Option<Running>,
}

/// What a session is about.
pub(super) enum Of {
    /// A stream that is read.
    Feed(Arc<Feed>),
    /// A stream that is published.
    Announced(Arc<Announced>),
}

/// What a publisher announced.
pub(super) struct Announced {
    pub(super) stream: String,
    pub(super) tracks: Vec<Described>,
}

impl Of {
    /// The stream's name.
    pub(super) fn stream(&self) -> &str {
        match self {
            Self::Feed(feed) => feed.stream(),
            Self::Announced(announced) => &announced.stream,
        }
    }
}

/// Media that flows.
pub(super) struct Running {
    pub(super) flow: Flow,
    pub(super) entered: Entered,
}

pub(super) enum Flow {
    Read(Reading),
    Publish(Box<Receiver>),
}

/// See the module.
pub(super) struct Connection {
    pub(super) shared: Arc<Shared>,
    pub(super) peer: SocketAddr,
    pub(super) local: SocketAddr,
    reader: OwnedReadHalf,
    writer: OwnedWriteHalf,
    framer: Framer,
    /// The stream that was described or announced last: it goes on for the session that follows.
    pub(super) of: Option<Of>,
    pub(super) session: Option<Session>,
    pub(super) incoming_to: mpsc::Sender<Incoming>,
    incoming: mpsc::Receiver<Incoming>,
    tick: Interval,
    /// When the client was last heard of.
    heard: Instant,
    /// What it was granted: to do this with this stream.
    pub(super) allowed: Option<(Right, String)>,
    pub(super) held: Option<Held>,
    pub(super) revoked: CancellationToken,
}

/// What the connection has to do.
enum Event {
    Stop,
    Revoked,
    Read(io::Result<usize>),
    Next(Next),
    Incoming(Option<Incoming>),
    Tick,
    StreamClosed(CloseReason),
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
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (incoming_to, incoming) = mpsc::channel(INCOMING_QUEUE_PACKETS);
        Ok(Self {
            shared,
            peer,
            local,
            reader,
            writer,
            framer: Framer::new(),
            of: None,
            session: None,
            incoming_to,
            incoming,
            tick,
            heard: Instant::now(),
            allowed: None,
            held: None,
            revoked: CancellationToken::new(),
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
                let stream = session.of.stream();
                tracing::info!(stream, %peer, reason, "RTSP session ended");
            }
            None => tracing::debug!(%peer, reason, "RTSP connection ended"),
        }
        if matches!(end, End::Message(_)) {
            // Those who speak another protocol learn what this is.
            let refusal = format!("RTSP/1.0 400 {reason}\r\n\r\n");
            let _ = timeout(WRITE_TIMEOUT, self.writer.write_all(refusal.as_bytes())).await;
        }
        let running = self.session.and_then(|session| session.running);
        if let Some(Flow::Publish(receiver)) = running.map(|running| running.flow) {
            receiver.stop().await;
        }
    }

    async fn turn(&mut self) -> Result<(), End> {
        match self.event().await {
            Event::Stop => Err(End::Stopping),
            Event::Revoked => Err(End::Revoked),
            Event::Read(read) => self.take_messages(read?).await,
            Event::Next(Next::Packets(packets)) => self.send(&packets).await,
            Event::Next(Next::TooSlow) => Err(End::TooSlow),
            Event::Next(Next::Ended) => Err(End::StreamEnded),
            Event::Incoming(Some(incoming)) => {
                self.take_packet(incoming);
                for _ in 0..self.incoming.len() {
                    if let Ok(incoming) = self.incoming.try_recv() {
                        self.take_packet(incoming);
                    }
                }
                Ok(())
            }
            Event::Tick => self.tick().await,
            Event::StreamClosed(reason) => Err(End::Stopped(reason)),
            // This side of the channel has a sender itself.
            Event::Incoming(None) => Ok(()),
            Event::Deadline => Err(End::Silent),
        }
    }

    async fn event(&mut self) -> Event {
        let deadline = self.deadline();
        let stop = &self.shared.stop;
        let running = self.session.as_mut().and_then(|s| s.running.as_mut());
        let flow = running.map(|running| &mut running.flow);
        let (reading, receiver) = match flow {
            Some(Flow::Read(reading)) => (Some(reading), None),
            Some(Flow::Publish(receiver)) => (None, Some(&*receiver)),
            None => (None, None),
        };
        let buffer = self.framer.buffer();
        buffer.reserve(match receiver {
            Some(_) => READ_BYTES_OF_PUBLISHER,
            None => READ_BYTES,
        });
        let next = async {
            match reading {
                Some(reading) => reading.next().await,
                None => std::future::pending().await,
            }
        };
        let tick = async {
            match receiver {
                Some(_) => self.tick.tick().await,
                None => std::future::pending().await,
            }
        };
        let closed = async {
            match receiver {
                Some(receiver) => receiver.closed().await,
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
            () = self.revoked.cancelled() => Event::Revoked,
            read = self.reader.read_buf(buffer) => Event::Read(read),
            next = next => Event::Next(next),
            incoming = self.incoming.recv() => Event::Incoming(incoming),
            _ = tick => Event::Tick,
            reason = closed => Event::StreamClosed(reason),
            () = due => Event::Deadline,
        }
    }

    /// When the client is given up if nothing is heard of it.
    fn deadline(&self) -> Option<Instant> {
        let limits = &self.shared.limits;
        let Some(session) = &self.session else {
            return Some(self.heard + limits.request_timeout);
        };
        let interleaved = |track: &SetUp| matches!(track.carrier, Carrier::Interleaved(..));
        match session.running.as_ref().map(|running| &running.flow) {
            Some(Flow::Publish(_)) => Some(self.heard + limits.publisher_silence),
            // Who reads on this connection is there as long as it takes what is written.
            Some(Flow::Read(_)) if session.tracks.iter().all(interleaved) => None,
            _ => Some(self.heard + limits.session_timeout),
        }
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
                    if let Some(incoming) = self.on_channel(channel, bytes) {
                        self.take_packet(incoming);
                    }
                }
                Message::Response(_) => return Err(End::NoRequest),
            }
        }
        Ok(())
    }

    /// A packet on the connection; `None` if nothing was set up for its channel.
    fn on_channel(&self, channel: u8, bytes: Bytes) -> Option<Incoming> {
        let tracks = self.session.iter().flat_map(|session| &session.tracks);
        let of = |track: &SetUp| match track.carrier {
            Carrier::Interleaved(rtp, rtcp) if channel == rtp || channel == rtcp => {
                Some((track.place, channel == rtcp))
            }
            _ => None,
        };
        let (track, is_rtcp) = { tracks }.find_map(of)?;
        Some(Incoming {
            track,
            from: self.peer,
            is_rtcp,
            bytes,
        })
    }

    /// A packet of a publisher's track, or from a reader: what it received.
    fn take_packet(&mut self, incoming: Incoming) {
        self.heard = Instant::now();
        let running = self.session.as_mut().and_then(|s| s.running.as_mut());
        let Some(Running { flow, entered }) = running else {
            return;
        };
        let Incoming {
            track,
            from,
            is_rtcp,
            bytes,
        } = incoming;
        match flow {
            Flow::Publish(receiver) => {
                entered.counts.add(bytes.len());
                receiver.take(track, from, is_rtcp, &bytes);
            }
            Flow::Read(_) if is_rtcp => {
                for packet in Compound::new(&bytes).flatten() {
                    if let RtcpPacket::ReceiverReport(report) = packet {
                        let lost = report.report_blocks().map(|block| block.fraction_lost);
                        let worst = lost.max().unwrap_or(0);
                        entered.counts.set_loss(f64::from(worst) / 2.56);
                    }
                }
            }
            Flow::Read(_) => {}
        }
    }

    /// What is due for a publisher.
    async fn tick(&mut self) -> Result<(), End> {
        let Some(session) = &mut self.session else {
            return Ok(());
        };
        let Some(Running {
            flow: Flow::Publish(receiver),
            entered,
        }) = &mut session.running
        else {
            return Ok(());
        };
        let told = receiver.tick().await.map_err(End::Refused)?;
        let (packets, lost) = receiver.counts();
        let share = lost as f64 / (packets + lost).max(1) as f64;
        entered.counts.set_loss(share * 100.0);
        let packets: Vec<Out> = told
            .into_iter()
            .map(|(track, packet)| Out {
                track,
                is_rtcp: true,
                bytes: packet.into(),
            })
            .collect();
        self.send(&packets).await
    }

    /// Writes to the client; gives up one that takes nothing.
    pub(super) async fn write(&mut self, bytes: &[u8]) -> Result<(), End> {
        let running = self.session.as_ref().and_then(|s| s.running.as_ref());
        let too_slow = running.and_then(|running| match &running.flow {
            Flow::Read(reading) => Some(reading.too_slow()),
            Flow::Publish(_) => None,
        });
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
            () = self.revoked.cancelled() => Err(End::Revoked),
            written = timeout(WRITE_TIMEOUT, self.writer.write_all(bytes)) => match written {
                Ok(written) => Ok(written?),
                Err(_) => Err(End::Stuck),
            },
        }
    }

    async fn send(&mut self, packets: &[Out]) -> Result<(), End> {
        let mut interleaved = Vec::new();
        if let Some(session) = &self.session
            && let Some(running) = &session.running
        {
            send_on(
                &session.tracks,
                &running.entered.counts,
                packets,
                &mut interleaved,
            )
            .await;
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
