//! What a client asks for, and the answers (RFC 2326 10 and 11): reading a stream. Publishing one is in
//! [`publish`](super::publish).

use std::sync::Arc;

use rtsp_types::headers::{
    CONTENT_BASE, CONTENT_TYPE, HeaderName, PUBLIC, RANGE, REQUIRE, RTP_INFO, SESSION, TRANSPORT,
    UNSUPPORTED,
};
use rtsp_types::{Method, Request, StatusCode, Url};

use super::connection::{Carrier, Connection, End, Flow, Of, Running, Session, SetUp};
use super::limits::MAX_TRACKS;
use super::message::{answer, field};
use super::play::FeedError;
use super::publish::announced_track;
use super::random;
use super::reading::Reading;
use super::sessions::Direction;
use super::transport::{Lower, Wanted};
use super::udp::UdpPair;
use crate::access::Right;
use crate::broadcast::BroadcastError;

pub(super) type Asked = Request<Vec<u8>>;

/// What the server can be asked.
const METHODS: &str = "OPTIONS, DESCRIBE, ANNOUNCE, SETUP, PLAY, PAUSE, RECORD, TEARDOWN, \
     GET_PARAMETER, SET_PARAMETER";

/// How the last part of a track's URL begins, as the description says.
pub(super) const TRACK: &str = "trackID=";

/// An answer that grants.
#[derive(Default)]
pub(super) struct Reply {
    pub(super) headers: Vec<(HeaderName, String)>,
    pub(super) body: Vec<u8>,
    /// What begins when the answer is written.
    pub(super) then: Then,
}

#[derive(Default)]
pub(super) enum Then {
    #[default]
    GoOn,
    Run(Flow),
    End,
}

/// An answer that refuses.
#[derive(Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    reason: Option<String>,
    pub(super) headers: Vec<(HeaderName, String)>,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, reason: impl ToString) -> Self {
        Self {
            status,
            reason: Some(reason.to_string()),
            headers: Vec::new(),
        }
    }
}

impl From<StatusCode> for Refusal {
    fn from(status: StatusCode) -> Self {
        Self {
            status,
            reason: None,
            headers: Vec::new(),
        }
    }
}

impl From<FeedError> for Refusal {
    fn from(error: FeedError) -> Self {
        let status = match &error {
            FeedError::Stream(BroadcastError::Name)
            | FeedError::NotLive(_)
            | FeedError::UnknownTrack(_) => StatusCode::NotFound,
            FeedError::Ended(_) => StatusCode::Gone,
            FeedError::Silent(_) | FeedError::Stream(_) | FeedError::System(_) => {
                StatusCode::ServiceUnavailable
            }
        };
        Self::new(status, error)
    }
}

impl From<std::io::Error> for Refusal {
    fn from(error: std::io::Error) -> Self {
        let reason = format!("the server has no UDP ports left: {error}; use TCP");
        Self::new(StatusCode::ServiceUnavailable, reason)
    }
}

impl Connection {
    /// Carries out a request and answers it.
    pub(super) async fn request(&mut self, request: &Asked) -> Result<(), End> {
        let (mut text, then) = match self.carry_out(request).await {
            Ok(reply) => {
                let mut answer = answer(request, StatusCode::Ok).ok_or(End::NoCseq)?;
                if let Some(session) = &self.session {
                    let seconds = self.shared.limits.session_timeout.as_secs();
                    answer = answer.header(SESSION, format!("{};timeout={seconds}", session.id));
                }
                for (name, value) in reply.headers {
                    answer = answer.header(name, value);
                }
                let mut text = Vec::new();
                let written = answer.build(reply.body).write(&mut text);
                debug_assert!(written.is_ok(), "a vector takes everything");
                (text, reply.then)
            }
            Err(refusal) => (refused(request, refusal)?, Then::GoOn),
        };
        self.write(&text).await?;
        text.clear();
        match then {
            Then::GoOn => Ok(()),
            Then::End => Err(End::TornDown),
            Then::Run(flow) => {
                self.begin(flow);
                Ok(())
            }
        }
    }

    async fn carry_out(&mut self, request: &Asked) -> Result<Reply, Refusal> {
        if let Some(required) = field(request, &REQUIRE) {
            return Err(Refusal {
                status: StatusCode::OptionNotSupported,
                reason: None,
                headers: vec![(UNSUPPORTED, required.to_owned())],
            });
        }
        self.check_session(request)?;
        match request.method() {
            Method::Options => Ok(Reply {
                headers: vec![(PUBLIC, METHODS.to_owned())],
                ..Reply::default()
            }),
            Method::Describe => self.describe(request).await,
            Method::Announce => self.announce(request),
            Method::Setup => self.set_up(request).await,
            Method::Record => self.record().await,
            Method::Play => self.play(request),
            Method::Pause => self.pause(),
            Method::Teardown => Ok(Reply {
                then: Then::End,
                ..Reply::default()
            }),
            // RFC 2326 10.8: without a body they keep the session alive.
            Method::GetParameter | Method::SetParameter => Ok(Reply::default()),
            _ => Err(StatusCode::NotImplemented.into()),
        }
    }

    /// A request that names a session means ours.
    fn check_session(&self, request: &Asked) -> Result<(), Refusal> {
        let Some(named) = field(request, &SESSION) else {
            return Ok(());
        };
        let named = named.split(';').next().unwrap_or_default().trim();
        match &self.session {
            Some(session) if session.id == named => Ok(()),
            _ => Err(StatusCode::SessionNotFound.into()),
        }
    }

    async fn describe(&mut self, request: &Asked) -> Result<Reply, Refusal> {
        let url = url(request)?;
        let (stream, _) = target(url)?;
        self.check_token(Right::Watch, stream, request)?;
        let feed = self.shared.feeds.open(stream)?;
        let media = feed.description().await?;
        let host = self.local.ip().to_canonical();
        let family = if host.is_ipv4() { "IP4" } else { "IP6" };
        let unspecified = if host.is_ipv4() { "0.0.0.0" } else { "::" };
        let id = random() >> 1;
        let body = format!(
            "v=0\r\no=- {id} 1 IN {family} {host}\r\ns={stream}\r\n\
             c=IN {family} {unspecified}\r\nt=0 0\r\na=control:*\r\na=range:npt=now-\r\n{media}"
        );
        let mut base = url.clone();
        base.set_query(None);
        base.set_path(&format!("/{stream}/"));
        self.of = Some(Of::Feed(feed));
        Ok(Reply {
            headers: vec![
                (CONTENT_TYPE, "application/sdp".to_owned()),
                (CONTENT_BASE, base.to_string()),
            ],
            body: body.into_bytes(),
            ..Reply::default()
        })
    }

    async fn set_up(&mut self, request: &Asked) -> Result<Reply, Refusal> {
        let url = url(request)?;
        let wanted = field(request, &TRANSPORT).and_then(Wanted::parse);
        let wanted = wanted.ok_or_else(|| {
            Refusal::new(
                StatusCode::UnsupportedTransport,
                "use RTP/AVP over UDP unicast with client_port, or RTP/AVP/TCP",
            )
        })?;
        let (of, place) = self.track_of(request, url, wanted.records).await?;
        if let Some(session) = &self.session {
            if session.of.stream() != of.stream() {
                return Err(StatusCode::AggregateOperationNotAllowed.into());
            }
            let taken = session.tracks.iter().any(|track| track.place == place);
            if session.running.is_some() || taken || session.tracks.len() >= MAX_TRACKS {
                return Err(StatusCode::MethodNotValidInThisState.into());
            }
        }
        let publishes = matches!(of, Of::Announced(_));
        let (carrier, transport) = self.carrier(wanted.lower, place, publishes).await?;
        let session = self.session.get_or_insert_with(|| Session {
            id: format!("{:016x}", random()),
            of,
            tracks: Vec::new(),
            running: None,
        });
        session.tracks.push(SetUp { place, carrier });
        Ok(Reply {
            headers: vec![(TRANSPORT, transport)],
            ..Reply::default()
        })
    }

    /// What is set up by this URL: the stream that was announced or described, or another that is
    /// described now; and the place of the track.
    async fn track_of(
        &mut self,
        request: &Asked,
        url: &Url,
        records: bool,
    ) -> Result<(Of, usize), Refusal> {
        let known = self.session.as_ref().map(|session| &session.of);
        let known = known.or(self.of.as_ref());
        if let Some(Of::Announced(announced)) = known {
            let place = announced_track(announced, url)?;
            return Ok((Of::Announced(Arc::clone(announced)), place));
        }
        if records {
            return Err(StatusCode::MethodNotValidInThisState.into());
        }
        let (stream, track) = target(url)?;
        let place = track.unwrap_or(0);
        self.check_token(Right::Watch, stream, request)?;
        let known = self.session.as_ref().map(|session| &session.of);
        let known = known.or(self.of.as_ref());
        let feed = match known {
            Some(Of::Feed(feed)) if feed.stream() == stream => Arc::clone(feed),
            _ => {
                let feed = self.shared.feeds.open(stream)?;
                feed.description().await?;
                self.of = Some(Of::Feed(Arc::clone(&feed)));
                feed
            }
        };
        if !feed.has_track(place) {
            return Err(FeedError::UnknownTrack(stream.to_owned()).into());
        }
        Ok((Of::Feed(feed), place))
    }

    /// Makes what a track's packets travel by, and says it to the client.
    async fn carrier(
        &self,
        lower: Lower,
        track: usize,
        with_rtp: bool,
    ) -> Result<(Carrier, String), Refusal> {
        match lower {
            Lower::Interleaved(channels) => {
                let used = self.session.iter().flat_map(|session| &session.tracks);
                let used: Vec<u8> = used
                    .filter_map(|track| match track.carrier {
                        Carrier::Interleaved(rtp, rtcp) => Some([rtp, rtcp]),
                        Carrier::Udp(_) => None,
                    })
                    .flatten()
                    .collect();
                let is_free = |&(rtp, rtcp): &(u8, u8)| {
                    rtp != rtcp && !used.contains(&rtp) && !used.contains(&rtcp)
                };
                let free = (0..u8::MAX / 2).map(|n| (2 * n, 2 * n + 1)).find(is_free);
                let (rtp, rtcp) = channels
                    .filter(is_free)
                    .or(free)
                    .ok_or(StatusCode::UnsupportedTransport)?;
                let text = format!("RTP/AVP/TCP;unicast;interleaved={rtp}-{rtcp}");
                Ok((Carrier::Interleaved(rtp, rtcp), text))
            }
            Lower::Udp(rtp, rtcp) => {
                let mut pair = UdpPair::bind(self.local.ip(), self.peer.ip(), (rtp, rtcp)).await?;
                pair.listen(track, &self.incoming_to, with_rtp);
                let (own_rtp, own_rtcp) = pair.ports();
                let text = format!(
                    "RTP/AVP;unicast;client_port={rtp}-{rtcp};server_port={own_rtp}-{own_rtcp}"
                );
                Ok((Carrier::Udp(pair), text))
            }
        }
    }

    fn play(&mut self, request: &Asked) -> Result<Reply, Refusal> {
        let base = url(request)?.clone();
        let session = self.session.as_ref();
        let session = session.ok_or(StatusCode::MethodNotValidInThisState)?;
        let Of::Feed(feed) = &session.of else {
            return Err(StatusCode::MethodNotValidInThisState.into());
        };
        let range = (RANGE, "npt=now-".to_owned());
        if session.running.is_some() {
            // It plays; some clients ask again to keep it alive.
            return Ok(Reply {
                headers: vec![range],
                ..Reply::default()
            });
        }
        let places: Vec<usize> = session.tracks.iter().map(|track| track.place).collect();
        let reader = feed.join(&places)?;
        let infos = reader.starts.iter().map(|start| {
            let mut url = base.clone();
            url.set_query(None);
            url.set_path(&format!("/{}/{TRACK}{}", feed.stream(), start.track));
            let (first, timestamp) = (start.sequence_number, start.timestamp);
            format!("url={url};seq={first};rtptime={timestamp}")
        });
        let infos = infos.collect::<Vec<_>>().join(",");
        let udp = |track: &SetUp| matches!(track.carrier, Carrier::Udp(_));
        let paced = session.tracks.iter().any(udp);
        let mut headers = vec![range];
        if !infos.is_empty() {
            headers.push((RTP_INFO, infos));
        }
        Ok(Reply {
            headers,
            then: Then::Run(Flow::Read(Reading::new(reader, paced))),
            ..Reply::default()
        })
    }

    /// Lets media flow.
    fn begin(&mut self, flow: Flow) {
        let (shared, peer) = (Arc::clone(&self.shared), self.peer);
        let Some(session) = &mut self.session else {
            return;
        };
        let udp = |track: &SetUp| matches!(track.carrier, Carrier::Udp(_));
        let transport = match session.tracks.iter().any(udp) {
            true => "udp",
            false => "tcp",
        };
        let direction = match flow {
            Flow::Read(_) => Direction::Play,
            Flow::Publish(_) => Direction::Record,
        };
        let stream = session.of.stream();
        let entered = shared.enter(stream, direction, transport, peer);
        tracing::info!(stream, %peer, transport, ?direction, "RTSP session begins");
        session.running = Some(Running { flow, entered });
    }

    fn pause(&mut self) -> Result<Reply, Refusal> {
        let session = self.session.as_mut();
        let session = session.ok_or(StatusCode::MethodNotValidInThisState)?;
        if matches!(session.of, Of::Announced(_)) {
            return Err(StatusCode::MethodNotValidInThisState.into());
        }
        session.running = None;
        Ok(Reply::default())
    }
}

fn refused(request: &Asked, refusal: Refusal) -> Result<Vec<u8>, End> {
    let mut answer = answer(request, refusal.status).ok_or(End::NoCseq)?;
    if let Some(reason) = refusal.reason {
        let status = refusal.status.to_string();
        answer = answer.reason_phrase(format!("{status}: {}", one_line(&reason)));
    }
    for (name, value) in refusal.headers {
        answer = answer.header(name, value);
    }
    let mut text = Vec::new();
    let written = answer.empty().write(&mut text);
    debug_assert!(written.is_ok(), "a vector takes everything");
    Ok(text)
}

/// What fits the first line of an answer.
fn one_line(text: &str) -> String {
    let printable = text.chars().filter(|c| !c.is_control());
    printable.take(300).collect()
}

pub(super) fn url(request: &Asked) -> Result<&Url, Refusal> {
    let url = request.request_uri();
    url.ok_or_else(|| {
        Refusal::new(
            StatusCode::BadRequest,
            "say of which stream: rtsp://HOST/STREAM",
        )
    })
}

/// The stream that a URL names, and the place of the track if it names one.
pub(super) fn target(url: &Url) -> Result<(&str, Option<usize>), Refusal> {
    // Clients append the track to the URL they were given, be there a query in it or not.
    let path = url.path().trim_matches('/');
    let (path, track) = match (path.rsplit_once('/'), url.query()) {
        (Some((path, last)), _) if last.starts_with(TRACK) => (path, Some(last)),
        (_, Some(query)) => (
            path,
            query.rsplit('/').next().filter(|t| t.starts_with(TRACK)),
        ),
        _ => (path, None),
    };
    let number = |track: &str| {
        let number = track[TRACK.len()..].parse::<usize>();
        number.map_err(|_| Refusal::from(StatusCode::NotFound))
    };
    Ok((path, track.map(number).transpose()?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // a test's unwrap is an assertion

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_url_names_a_stream_and_perhaps_a_track() {
        for (text, expected) in [
            ("rtsp://h:8554/cam", ("cam", None)),
            ("rtsp://h:8554/cam/", ("cam", None)),
            ("rtsp://h/cam/trackID=1", ("cam", Some(1))),
            ("rtsp://h/cam?token=x", ("cam", None)),
            ("rtsp://h/cam?token=x/trackID=2", ("cam", Some(2))),
            ("rtsp://h/cam/trackID=1?token=x", ("cam", Some(1))),
            ("rtsp://h/live/cam", ("live/cam", None)),
        ] {
            let url = Url::parse(text).unwrap();
            assert_eq!(target(&url).unwrap(), expected, "{text}");
        }
        let url = Url::parse("rtsp://h/cam/trackID=x").unwrap();
        assert_eq!(target(&url).unwrap_err().status, StatusCode::NotFound);
    }

    proptest! {
        #[test]
        fn any_url_names_something_or_nothing(text in "rtsp://h(/|trackID=|[ -~]|\\PC){0,20}") {
            if let Ok(url) = Url::parse(&text) {
                let _ = target(&url);
            }
        }
    }
}
