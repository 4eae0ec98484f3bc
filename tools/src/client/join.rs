//! The whole conversation of one client: offer, answer, connectivity check, handshake.

use std::net::{SocketAddr, ToSocketAddrs, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use fanmill_engine::srtp::Profile;
use reqwest::{Client, Url};

use super::dtls::{self, Identity, JoiningSocket};
use super::ice::{Credentials, IceAgent};
use super::sdp::{Answer, Offer, Slots, Ssrcs, VideoCodec};
use super::{JoinError, SrtpKeys, signalling};
use crate::clock::now_ns;
use crate::net;

/// How long one candidate of the server is tried.
const CANDIDATE_TIMEOUT: Duration = Duration::from_secs(2);
/// The longest a client may take.
const JOIN_TIMEOUT: Duration = Duration::from_secs(30);

/// What all clients of a run have in common.
pub struct Context {
    /// The HTTP client.
    pub http: Client,
    /// Bearer token for the endpoints.
    pub token: Option<String>,
    /// The certificate they show.
    pub identity: Identity,
    /// SRTP profiles offered, in order.
    pub profiles: Vec<Profile>,
    /// The video codec.
    pub video: VideoCodec,
    /// Whether publishers send audio.
    pub audio: bool,
    /// Whether their packets of audio say how loud it is.
    pub levels: bool,
    /// The tracks that viewers ask for.
    pub slots: Slots,
    /// Whether header extensions are offered.
    pub extensions: bool,
    /// Whether sockets take coalesced datagrams.
    pub gro: bool,
    /// Receive buffer of each socket, in bytes.
    pub receive_buffer_bytes: usize,
}

/// A client that has joined.
pub struct Session {
    /// Its connected, non-blocking socket.
    pub socket: UdpSocket,
    /// The server's address.
    pub remote: SocketAddr,
    /// Its ICE agent, which must be polled for consent.
    pub ice: IceAgent,
    /// The SRTP keys.
    pub keys: SrtpKeys,
    /// The server's answer.
    pub answer: Answer,
    /// Media that arrived ahead of the keys.
    pub early: Vec<Vec<u8>>,
    /// When the offer was posted.
    pub posted_ns: u64,
    /// When the answer was there.
    pub answered_ns: u64,
    /// When a connectivity check had succeeded.
    pub checked_ns: u64,
    /// When the keys were there.
    pub keyed_ns: u64,
    /// The session resource to DELETE.
    pub resource: Option<Url>,
}

/// Joins a stream at `endpoint`: as its publisher if `ssrcs` are given, else as a viewer.
///
/// # Errors
/// [`JoinError`]. A session the server made is deleted again.
pub async fn join(
    context: &Context,
    endpoint: &Url,
    ssrcs: Option<Ssrcs>,
) -> Result<Session, JoinError> {
    let mut resource = None;
    let joined = tokio::time::timeout(
        JOIN_TIMEOUT,
        converse(context, endpoint, ssrcs, &mut resource),
    );
    let result = joined
        .await
        .unwrap_or(Err(JoinError::Timeout(JOIN_TIMEOUT.as_secs())));
    if let (Err(_), Some(resource)) = (&result, resource) {
        signalling::delete(&context.http, resource, context.token.as_deref()).await;
    }
    result
}

async fn converse(
    context: &Context,
    endpoint: &Url,
    ssrcs: Option<Ssrcs>,
    resource: &mut Option<Url>,
) -> Result<Session, JoinError> {
    let local = net::local_address_towards(resolve(endpoint).await?)?;
    let socket = net::open(local, context.receive_buffer_bytes, context.gro)?;
    let mut random = [0; 40];
    aws_lc_rs::rand::fill(&mut random)
        .map_err(|_| std::io::Error::other("the system gives no randomness"))?;
    let (for_ice, for_seed) = random.split_at(32);
    let credentials = Credentials::from_random(std::array::from_fn(|i| for_ice[i]));
    let seed = u64::from_be_bytes(std::array::from_fn(|i| for_seed[i]));
    let offer = Offer {
        ssrcs,
        slots: match ssrcs {
            Some(_) => Slots {
                audio: u8::from(context.audio),
                video: 1,
            },
            None => context.slots,
        },
        levels: context.levels && ssrcs.is_some(),
        video: context.video,
        extensions: context.extensions,
        ice: &credentials,
        fingerprint: context.identity.fingerprint(),
        candidate: socket.local_addr()?,
    };
    let posted_ns = now_ns();
    let token = context.token.as_deref();
    let created = signalling::post(&context.http, endpoint, token, offer.to_sdp()).await?;
    resource.clone_from(&created.resource);
    let answered_ns = now_ns();
    let answer = Answer::parse(&created.answer)?;
    let ice = IceAgent::new(&credentials, &answer.ice, seed);
    let (joining, remote) = check(&socket, &answer, ice).await?;
    let checked_ns = now_ns();
    let fingerprint = answer.fingerprint;
    let keys = dtls::handshake(&joining, &context.identity, fingerprint, &context.profiles).await;
    let (ice, early) = joining.finish();
    let (Ok(keys), Some(ice)) = (&keys, ice) else {
        return Err(keys.err().unwrap_or(dtls::DtlsError::NoProfile).into());
    };
    Ok(Session {
        socket,
        remote,
        ice,
        keys: keys.clone(),
        answer,
        early,
        posted_ns,
        answered_ns,
        checked_ns,
        keyed_ns: now_ns(),
        resource: created.resource,
    })
}

/// Tries the server's candidates in order of priority until one answers.
async fn check(
    socket: &UdpSocket,
    answer: &Answer,
    ice: IceAgent,
) -> Result<(Arc<JoiningSocket>, SocketAddr), JoinError> {
    let family = socket.local_addr()?.is_ipv4();
    let mut ice = Some(ice);
    let candidates = answer.candidates.iter();
    for &remote in candidates.filter(|candidate| candidate.is_ipv4() == family) {
        let Some(mut agent) = ice.take() else {
            break;
        };
        agent.restart_checks();
        socket.connect(remote)?;
        let reader = tokio::net::UdpSocket::from_std(socket.try_clone()?)?;
        let joining = Arc::new(JoiningSocket::new(reader, remote, agent));
        if tokio::time::timeout(CANDIDATE_TIMEOUT, joining.check())
            .await
            .is_ok()
        {
            return Ok((joining, remote));
        }
        ice = joining.finish().0;
    }
    let candidates: Vec<_> = answer.candidates.iter().map(ToString::to_string).collect();
    Err(JoinError::Unreachable {
        candidates: candidates.join(", "),
    })
}

async fn resolve(endpoint: &Url) -> Result<SocketAddr, JoinError> {
    let host = endpoint.host_str().unwrap_or_default();
    let host = host
        .trim_start_matches('[')
        .trim_end_matches(']')
        .to_owned();
    let port = endpoint.port_or_known_default().unwrap_or(80);
    if let Ok(ip) = host.parse() {
        return Ok(SocketAddr::new(ip, port));
    }
    let lookup = move || {
        (host.as_str(), port)
            .to_socket_addrs()
            .map(|mut all| all.next())
    };
    let found = tokio::task::spawn_blocking(lookup)
        .await
        .map_err(std::io::Error::other)??;
    found.ok_or_else(|| std::io::Error::other("the host has no address").into())
}
