//! One attempt of a pull: a connection to another RTSP server, which is read until it ends.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rtsp_types::headers::{
    ACCEPT, AUTHORIZATION, CONTENT_BASE, CONTENT_LOCATION, CSEQ, HeaderName, LOCATION, RANGE,
    SESSION, TRANSPORT, USER_AGENT, WWW_AUTHENTICATE,
};
use rtsp_types::{Method, Request, Response, StatusCode, Url, Version};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;
use tokio::time::{interval, sleep_until, timeout};

use super::super::description::{Description, resolve};
use super::super::limits::{INCOMING_QUEUE_PACKETS, PUBLISHER_SILENCE, WRITE_TIMEOUT};
use super::super::message::{Framer, Message, MessageError, PRODUCT, put_packet};
use super::super::receive::Receiver;
use super::super::transport::Granted;
use super::super::udp::{Incoming, UdpPair};
use super::auth::{Credentials, Signer};
use super::{Progress, PullTransport};
use crate::ingest::Ingests;
use crate::model::CloseReason;

/// How long a server may take to be connected to, and for an answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// How often missing packets are given up, and the server is told what came.
const TICK: Duration = Duration::from_millis(20);

/// RFC 2326 12.37: what a session lasts when the server does not say.
const SESSION_TIMEOUT_S: u64 = 60;

/// Other addresses that a server may send to, one after the other.
const MAX_REDIRECTS: usize = 3;

const READ_BYTES: usize = 64 << 10;

/// Why an attempt ended. All are tried again but [`Stopped`](Self::Stopped).
#[derive(Debug, thiserror::Error)]
pub(super) enum PullEnd {
    #[error("cannot connect to {0}: {1}")]
    Connect(String, io::Error),
    #[error("{0} does not answer within {ANSWER_TIMEOUT:?}")]
    NoAnswer(String),
    #[error("{method} was refused: {status} {reason}")]
    Refused {
        method: &'static str,
        status: u16,
        reason: String,
    },
    #[error("the server wants a user and a password: rtsp://USER:PASSWORD@HOST/...")]
    NoCredentials,
    #[error("the server refuses the user or the password")]
    WrongCredentials,
    #[error("the stream has no track that can be received: {0}")]
    NoTracks(String),
    #[error("the server's answer to SETUP has no transport that was asked for")]
    NoTransport,
    #[error("the server closed the connection")]
    Closed,
    #[error("the server has sent nothing for {PUBLISHER_SILENCE:?}")]
    Silent,
    #[error("it is not shown: {0}")]
    NotShown(String),
    #[error("its stream was ended: {0}")]
    Stopped(CloseReason),
    #[error("the server redirects too often")]
    Redirects,
    #[error(transparent)]
    Message(#[from] MessageError),
    #[error(transparent)]
    System(#[from] io::Error),
}

/// What is pulled.
pub(super) struct Target<'a> {
    pub(super) url: &'a Url,
    pub(super) credentials: Option<&'a Credentials>,
    pub(super) transport: PullTransport,
    pub(super) stream: &'a str,
    pub(super) ingests: &'a Ingests,
    pub(super) progress: &'a Progress,
}

/// A connection to a server.
struct Client {
    reader: OwnedReadHalf,
    writer: OwnedWriteHalf,
    framer: Framer,
    peer: SocketAddr,
    local: SocketAddr,
    cseq: u32,
    credentials: Option<Credentials>,
    signer: Option<Signer>,
    session: Option<String>,
    session_timeout: Duration,
    /// Packets that came between answers.
    early: Vec<(u8, bytes::Bytes)>,
}

/// How a track's packets travel.
enum Carrier {
    Interleaved(u8, u8),
    Udp(UdpPair),
}

/// Pulls until it ends.
pub(super) async fn run(target: &Target<'_>) -> PullEnd {
    let mut url = target.url.clone();
    for _ in 0..=MAX_REDIRECTS {
        match attempt(target, &url).await {
            Ok(elsewhere) => url = elsewhere,
            Err(end) => return end,
        }
    }
    PullEnd::Redirects
}

/// The URL that the server sends to; an error is the end in any case.
async fn attempt(target: &Target<'_>, url: &Url) -> Result<Url, PullEnd> {
    let mut client = Client::connect(url, target.credentials).await?;
    let described = client
        .ask(Method::Describe, url, &[(ACCEPT, "application/sdp".into())])
        .await?;
    if let Some(elsewhere) = redirect(&described) {
        return Ok(elsewhere);
    }
    granted("DESCRIBE", &described)?;
    let description = Description::read(&String::from_utf8_lossy(described.body()));
    for refused in &description.refused {
        tracing::warn!(stream = target.stream, %refused, "a track of a pulled stream is left out");
    }
    if description.tracks.is_empty() {
        let reason = description.refused.first().map(ToString::to_string);
        return Err(PullEnd::NoTracks(reason.unwrap_or_default()));
    }
    let base = [CONTENT_BASE, CONTENT_LOCATION].iter().find_map(|name| {
        let value = described.header(name)?;
        Url::parse(value.as_str()).ok()
    });
    let base = base.unwrap_or_else(|| url.clone());
    let (incoming_to, incoming) = mpsc::channel(INCOMING_QUEUE_PACKETS);
    let mut carriers = Vec::new();
    let mut transport = target.transport;
    for (place, track) in description.tracks.iter().enumerate() {
        let track_url = resolve(&base, &track.control).unwrap_or_else(|| base.clone());
        let carrier = match client.set_up(&track_url, transport, place).await {
            // What a server does not do on the connection it does in datagrams.
            Err(PullEnd::Refused { status: 461, .. })
                if target.transport == PullTransport::Auto && place == 0 =>
            {
                transport = PullTransport::Udp;
                client.set_up(&track_url, transport, place).await?
            }
            carrier => carrier?,
        };
        carriers.push(carrier);
    }
    for (place, carrier) in carriers.iter_mut().enumerate() {
        if let Carrier::Udp(pair) = carrier {
            pair.listen(place, &incoming_to, true);
            // Opens the way for the server's packets through a firewall.
            pair.send(false, &[0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])
                .await;
        }
    }
    let session_url = resolve(&base, &description.control).unwrap_or(base);
    let range = [(RANGE, "npt=0.000-".to_owned())];
    let playing = client.ask(Method::Play, &session_url, &range).await?;
    granted("PLAY", &playing)?;
    let receiver = Receiver::new(
        target.ingests.clone(),
        target.stream,
        client.peer,
        &description.tracks,
    );
    let mut pulling = Pulling {
        client,
        url: session_url,
        receiver,
        carriers,
        incoming,
        progress: target.progress,
        heard: Instant::now(),
    };
    let end = pulling.read().await;
    let Pulling {
        mut client,
        url,
        receiver,
        ..
    } = pulling;
    receiver.stop().await;
    if !matches!(
        end,
        PullEnd::Closed | PullEnd::System(_) | PullEnd::Message(_)
    ) {
        let _ = client.send(&Method::Teardown, &url, &[]).await;
    }
    Err(end)
}

/// While packets come.
struct Pulling<'a> {
    client: Client,
    url: Url,
    receiver: Receiver,
    carriers: Vec<Carrier>,
    incoming: mpsc::Receiver<Incoming>,
    progress: &'a Progress,
    heard: Instant,
}

impl Pulling<'_> {
    async fn read(&mut self) -> PullEnd {
        if let Err(reason) = self.receiver.begin().await {
            return PullEnd::NotShown(reason);
        }
        for (channel, bytes) in std::mem::take(&mut self.client.early) {
            self.on_channel(channel, &bytes);
        }
        let mut tick = interval(TICK);
        let mut keep_alive = interval(self.client.session_timeout / 2);
        keep_alive.reset();
        loop {
            let silent = self.heard + PUBLISHER_SILENCE;
            let Client { reader, framer, .. } = &mut self.client;
            framer.buffer().reserve(READ_BYTES);
            let done = tokio::select! {
                read = reader.read_buf(framer.buffer()) => match read {
                    Ok(0) => Err(PullEnd::Closed),
                    Ok(_) => self.take_messages(),
                    Err(error) => Err(error.into()),
                },
                Some(incoming) = self.incoming.recv() => {
                    self.take(incoming.track, incoming.from, incoming.is_rtcp, &incoming.bytes);
                    Ok(())
                }
                _ = tick.tick() => self.tick().await,
                _ = keep_alive.tick() => self.keep_alive().await,
                reason = self.receiver.closed() => Err(PullEnd::Stopped(reason)),
                () = sleep_until(silent.into()) => Err(PullEnd::Silent),
            };
            if let Err(end) = done {
                return end;
            }
        }
    }

    fn take_messages(&mut self) -> Result<(), PullEnd> {
        while let Some(message) = self.client.framer.next_message()? {
            match message {
                Message::Packet(channel, bytes) => self.on_channel(channel, &bytes),
                // Whether it likes to be kept alive or not.
                Message::Response(_) => {}
                // What servers ask of clients (REDIRECT, ANNOUNCE) shows in what follows.
                Message::Request(_) => {}
            }
        }
        Ok(())
    }

    fn on_channel(&mut self, channel: u8, bytes: &[u8]) {
        let of = |carrier: &Carrier| match carrier {
            Carrier::Interleaved(rtp, _) if *rtp == channel => Some(false),
            Carrier::Interleaved(_, rtcp) if *rtcp == channel => Some(true),
            _ => None,
        };
        let mut carriers = self.carriers.iter().enumerate();
        let found = carriers.find_map(|(track, carrier)| Some((track, of(carrier)?)));
        if let Some((track, is_rtcp)) = found {
            self.take(track, self.client.peer, is_rtcp, bytes);
        }
    }

    fn take(&mut self, track: usize, from: SocketAddr, is_rtcp: bool, bytes: &[u8]) {
        if !is_rtcp {
            self.heard = Instant::now();
        }
        self.progress
            .bytes
            .fetch_add(bytes.len() as u64, Ordering::Relaxed);
        self.receiver.take(track, from, is_rtcp, bytes);
    }

    async fn tick(&mut self) -> Result<(), PullEnd> {
        let told = self.receiver.tick().await.map_err(PullEnd::NotShown)?;
        let (packets, lost) = self.receiver.counts();
        self.progress.packets.store(packets, Ordering::Relaxed);
        self.progress.lost.store(lost, Ordering::Relaxed);
        self.progress
            .live
            .store(self.receiver.is_live(), Ordering::Relaxed);
        let mut interleaved = Vec::new();
        for (track, packet) in told {
            match &self.carriers[track] {
                Carrier::Interleaved(_, rtcp) => put_packet(&mut interleaved, *rtcp, &packet),
                Carrier::Udp(pair) => pair.send(true, &packet).await,
            }
        }
        match interleaved.is_empty() {
            true => Ok(()),
            false => self.client.write(&interleaved).await,
        }
    }

    async fn keep_alive(&mut self) -> Result<(), PullEnd> {
        self.client
            .send(&Method::GetParameter, &self.url, &[])
            .await
    }
}

impl Client {
    async fn connect(url: &Url, credentials: Option<&Credentials>) -> Result<Self, PullEnd> {
        let host = url.host_str().unwrap_or_default();
        let name = format!("{host}:{}", url.port().unwrap_or(554));
        let connecting = timeout(ANSWER_TIMEOUT, TcpStream::connect(&name)).await;
        let stream = connecting.map_err(|_| PullEnd::NoAnswer(name.clone()))?;
        let stream = stream.map_err(|error| PullEnd::Connect(name, error))?;
        stream.set_nodelay(true)?;
        let (peer, local) = (stream.peer_addr()?, stream.local_addr()?);
        let (reader, writer) = stream.into_split();
        Ok(Self {
            reader,
            writer,
            framer: Framer::new(),
            peer,
            local,
            cseq: 0,
            credentials: credentials.cloned(),
            signer: None,
            session: None,
            session_timeout: Duration::from_secs(SESSION_TIMEOUT_S),
            early: Vec::new(),
        })
    }

    /// Asks, and asks again with credentials if the server wants some.
    async fn ask(
        &mut self,
        method: Method,
        url: &Url,
        headers: &[(HeaderName, String)],
    ) -> Result<Response<Vec<u8>>, PullEnd> {
        for signed in [false, true] {
            self.send(&method, url, headers).await?;
            let answering = timeout(ANSWER_TIMEOUT, self.answer()).await;
            let answer = answering.map_err(|_| PullEnd::NoAnswer(self.peer.to_string()))??;
            if answer.status() != StatusCode::Unauthorized {
                self.note_session(&answer);
                return Ok(answer);
            }
            let credentials = self.credentials.as_ref().ok_or(PullEnd::NoCredentials)?;
            let challenge = answer.header(&WWW_AUTHENTICATE).map(|value| value.as_str());
            let signer = Signer::new(challenge.unwrap_or_default(), credentials);
            if signed || signer.is_none() {
                break;
            }
            self.signer = signer;
        }
        Err(PullEnd::WrongCredentials)
    }

    async fn send(
        &mut self,
        method: &Method,
        url: &Url,
        headers: &[(HeaderName, String)],
    ) -> Result<(), PullEnd> {
        self.cseq += 1;
        let mut request = Request::builder(method.clone(), Version::V1_0)
            .request_uri(url.clone())
            .header(CSEQ, self.cseq.to_string())
            .header(USER_AGENT, PRODUCT);
        if let Some(signer) = &mut self.signer {
            let name: &str = method.into();
            request = request.header(AUTHORIZATION, signer.sign(name, url.as_str()));
        }
        if let Some(session) = &self.session {
            request = request.header(SESSION, session.clone());
        }
        for (name, value) in headers {
            request = request.header(name.clone(), value.clone());
        }
        let mut text = Vec::new();
        let written = request.empty().write(&mut text);
        debug_assert!(written.is_ok(), "a vector takes everything");
        self.write(&text).await
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), PullEnd> {
        match timeout(WRITE_TIMEOUT, self.writer.write_all(bytes)).await {
            Ok(written) => Ok(written?),
            Err(_) => Err(PullEnd::NoAnswer(self.peer.to_string())),
        }
    }

    /// The answer to the latest request.
    async fn answer(&mut self) -> Result<Response<Vec<u8>>, PullEnd> {
        loop {
            while let Some(message) = self.framer.next_message()? {
                match message {
                    Message::Response(response) if self.is_latest(&response) => {
                        return Ok(response);
                    }
                    Message::Packet(channel, bytes)
                        if self.early.len() < INCOMING_QUEUE_PACKETS =>
                    {
                        self.early.push((channel, bytes));
                    }
                    _ => {}
                }
            }
            self.framer.buffer().reserve(READ_BYTES);
            if self.reader.read_buf(self.framer.buffer()).await? == 0 {
                return Err(PullEnd::Closed);
            }
        }
    }

    fn is_latest(&self, response: &Response<Vec<u8>>) -> bool {
        let cseq = response
            .header(&CSEQ)
            .map(|cseq| cseq.as_str().trim().parse());
        cseq == Some(Ok(self.cseq))
    }

    fn note_session(&mut self, answer: &Response<Vec<u8>>) {
        let Some(field) = answer.header(&SESSION).map(|value| value.as_str()) else {
            return;
        };
        let mut parts = field.split(';').map(str::trim);
        self.session = parts.next().map(str::to_owned);
        let seconds = parts.find_map(|part| part.strip_prefix("timeout="));
        if let Some(seconds) = seconds.and_then(|seconds| seconds.parse::<u64>().ok()) {
            self.session_timeout = Duration::from_secs(seconds.clamp(2, 3600));
        }
    }

    async fn set_up(
        &mut self,
        url: &Url,
        transport: PullTransport,
        place: usize,
    ) -> Result<Carrier, PullEnd> {
        let udp = match transport {
            PullTransport::Udp => {
                // Where the server sends from is told by its answer.
                Some(UdpPair::bind(self.local.ip(), self.peer.ip(), (0, 0)).await?)
            }
            PullTransport::Auto | PullTransport::Tcp => None,
        };
        let channels = (2 * place as u8, 2 * place as u8 + 1);
        let wanted = match &udp {
            Some(pair) => {
                let (rtp, rtcp) = pair.ports();
                format!("RTP/AVP;unicast;client_port={rtp}-{rtcp}")
            }
            None => format!(
                "RTP/AVP/TCP;unicast;interleaved={}-{}",
                channels.0, channels.1
            ),
        };
        let answer = self.ask(Method::Setup, url, &[(TRANSPORT, wanted)]).await?;
        granted("SETUP", &answer)?;
        let field = answer.header(&TRANSPORT).map(|value| value.as_str());
        let set_up = Granted::parse(field.unwrap_or_default());
        match udp {
            None => {
                let (rtp, rtcp) = set_up.interleaved.unwrap_or(channels);
                Ok(Carrier::Interleaved(rtp, rtcp))
            }
            Some(mut pair) => {
                let ports = set_up.server_port.ok_or(PullEnd::NoTransport)?;
                // Its packets may come from another machine.
                let source = set_up.source.and_then(|source| source.parse().ok());
                pair.set_peer(source.unwrap_or(self.peer.ip()), ports);
                Ok(Carrier::Udp(pair))
            }
        }
    }
}

fn granted(method: &'static str, answer: &Response<Vec<u8>>) -> Result<(), PullEnd> {
    match answer.status() {
        StatusCode::Ok => Ok(()),
        status => Err(PullEnd::Refused {
            method,
            status: status.into(),
            reason: answer.reason_phrase().to_owned(),
        }),
    }
}

fn redirect(answer: &Response<Vec<u8>>) -> Option<Url> {
    let moved = [
        StatusCode::MovedPermanently,
        StatusCode::Found,
        StatusCode::SeeOther,
    ];
    if !moved.contains(&answer.status()) {
        return None;
    }
    Url::parse(answer.header(&LOCATION)?.as_str()).ok()
}
