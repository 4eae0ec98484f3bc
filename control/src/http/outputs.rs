//! Streams over HTTP, for players that know no WebRTC: files without an end, and HLS.
//!
//! What is in them, and who may be how slow, is [`Outputs`]'; here is only the form.

use std::convert::Infallible;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::net::SocketAddr;

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, Path, Request, State};
use axum::http::header::{
    CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, RETRY_AFTER, USER_AGENT,
    X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderValue, Method, StatusCode};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::options;
use bytes::Bytes;
use futures_util::stream;
use tokio_util::sync::CancellationToken;

use super::guard::{Guard, InAddress};
use super::reply::Refusal;
use super::server::Place;
use super::{cors, guard};
use crate::access::Right;
use crate::broadcast::BroadcastError;
use crate::output::{Asked, Content, File, HlsError, OutputError, OutputKind, Outputs, Sound};

/// The routes of streams for other players:
///
/// | path | what |
/// |---|---|
/// | `GET /{stream}/live.mp4` | fragmented MP4 without an end, from the latest keyframe on |
/// | `GET /{stream}/live.ts` | an MPEG transport stream, of H.264, H.265 and AAC or Opus |
/// | `GET /{stream}/index.m3u8` | HLS: the multivariant playlist |
/// | `GET /{stream}/media.m3u8` | the media playlist; blocking reload by `_HLS_msn` and `_HLS_part` |
/// | `GET /{stream}/hls/{folder}/{file}` | the segments, parts and initialization sections it names |
///
/// `?audio=aac` and `?audio=source` say which sound ([`Sound`]). Pages of all origins may read them.
pub fn outputs_router(outputs: Outputs) -> Router {
    let guard = Guard::of_stream(outputs.access(), Right::Watch, "http").takes_password();
    let preflight = || options(cors::preflight);
    Router::new()
        .route("/{stream}/live.mp4", preflight().get(mp4))
        .route("/{stream}/live.ts", preflight().get(ts))
        .route("/{stream}/index.m3u8", preflight().get(variant))
        .route("/{stream}/media.m3u8", preflight().get(media))
        .route("/{stream}/hls/{folder}/{file}", preflight().get(file))
        .route_layer(from_fn_with_state(guard, guard::check))
        .layer(axum::middleware::map_response(cors::allow_any_origin))
        .with_state(outputs)
}

impl IntoResponse for OutputError {
    fn into_response(self) -> Response {
        let is_absent = matches!(self, Self::Broadcast(BroadcastError::NotLive(_)));
        let text = self.to_string() + "\n";
        let status = match self {
            Self::Broadcast(error) => {
                return with_retry(Refusal::from(error).into_response(), is_absent);
            }
            Self::Codec(_) | Self::NoAacEncoder => StatusCode::NOT_ACCEPTABLE,
            Self::Sound => StatusCode::BAD_REQUEST,
            Self::Hls(HlsError::Missing) => StatusCode::NOT_FOUND,
            Self::Hls(HlsError::TooFar) => StatusCode::BAD_REQUEST,
            _ => StatusCode::SERVICE_UNAVAILABLE,
        };
        let response = (status, text).into_response();
        with_retry(response, status == StatusCode::SERVICE_UNAVAILABLE)
    }
}

/// A refusal that nobody may keep; with `retry` it may soon be otherwise.
fn with_retry(mut response: Response, retry: bool) -> Response {
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if retry {
        headers.insert(RETRY_AFTER, HeaderValue::from_static("2"));
    }
    response
}

async fn mp4(State(outputs): State<Outputs>, stream: Path<String>, request: Request) -> Response {
    live(&outputs, &stream, OutputKind::Mp4, "video/mp4", request).await
}

async fn ts(State(outputs): State<Outputs>, stream: Path<String>, request: Request) -> Response {
    live(&outputs, &stream, OutputKind::Ts, "video/mp2t", request).await
}

/// A file without an end.
async fn live(
    outputs: &Outputs,
    stream: &str,
    kind: OutputKind,
    content_type: &'static str,
    request: Request,
) -> Response {
    let reader = match Sound::asked(request.uri().query(), kind) {
        Ok(sound) => outputs.read(stream, kind, sound).await,
        Err(error) => Err(error),
    };
    let reader = match reader {
        Ok(reader) => reader,
        Err(error) => return error.into_response(),
    };
    let body = if request.method() == Method::HEAD {
        Body::empty()
    } else {
        // Its place among the connections is given up for the stream. A server other than ours counts
        // its connections itself.
        match request.extensions().get::<Place>().map(Place::stay) {
            Some(Some(connection)) => reader.hold(connection),
            Some(None) => return Refusal::LongConnections.into_response(),
            None => {}
        }
        let over = CancellationToken::new();
        let revoked = over.clone();
        let held = guard::grant(&request).map(|grant| grant.hold(move || revoked.cancel()));
        let state = (reader, over, held);
        Body::from_stream(stream::unfold(state, async |(mut reader, over, held)| {
            let bytes = over.run_until_cancelled(reader.next()).await??;
            Some((bytes.map_err(io::Error::other), (reader, over, held)))
        }))
    };
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    let buffering = HeaderName::from_static("x-accel-buffering");
    for (name, value) in [
        (CONTENT_TYPE, content_type),
        (CACHE_CONTROL, "no-store"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (CONNECTION, "close"),
        // Proxies of the nginx family gather answers before they pass them on.
        (buffering, "no"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

const PLAYLIST: &str = "application/vnd.apple.mpegurl";

/// Playlists are told anew with each part: caches between may answer those who ask at the same time.
const BRIEFLY: &str = "public, max-age=1";

/// What a playlist says once something is there does not change: it is asked for by this URL once.
const WHILE_LISTED: &str = "public, max-age=10";

/// Files do not change. What is no longer listed is not asked for.
const FOR_EVER: &str = "public, max-age=3600, immutable";

async fn variant(
    State(outputs): State<Outputs>,
    Path(stream): Path<String>,
    request: Request,
) -> Response {
    let text = match Sound::asked(request.uri().query(), OutputKind::Hls) {
        Ok(sound) => outputs.hls_variant(&stream, sound, reader(&request)).await,
        Err(error) => Err(error),
    };
    let text = text.map(|text| with_query(text, &InAddress::of(&request)));
    answer(text.map(|text| [text].into()), PLAYLIST, BRIEFLY)
}

async fn media(
    State(outputs): State<Outputs>,
    Path(stream): Path<String>,
    request: Request,
) -> Response {
    let asked = match asked(request.uri().query()) {
        Ok(asked) => asked,
        Err(why) => {
            let response = (StatusCode::BAD_REQUEST, why).into_response();
            return with_retry(response, false);
        }
    };
    let keep = if asked.is_some() {
        WHILE_LISTED
    } else {
        BRIEFLY
    };
    let text = match Sound::asked(request.uri().query(), OutputKind::Hls) {
        Ok(sound) => {
            let reader = reader(&request);
            outputs.hls_media(&stream, sound, asked, reader).await
        }
        Err(error) => Err(error),
    };
    let text = text.map(|text| with_query(text, &InAddress::of(&request)));
    answer(text.map(|text| [text].into()), PLAYLIST, keep)
}

async fn file(
    State(outputs): State<Outputs>,
    Path((stream, folder, name)): Path<(String, String, String)>,
) -> Response {
    let content = match File::parse(&name) {
        Some(file) => outputs.hls_file(&stream, &folder, file).await,
        None => Err(HlsError::Missing.into()),
    };
    answer(content, "video/mp4", FOR_EVER)
}

/// The delivery directives (8216bis 6.2.5.2). Others, and other parameters, are let pass.
fn asked(query: Option<&str>) -> Result<Option<Asked>, &'static str> {
    const WRONG: &str = "_HLS_msn and _HLS_part are decimal numbers\n";
    let parameters = || query.unwrap_or_default().split('&');
    let number = |name: &str| {
        let given = parameters().find_map(|parameter| parameter.strip_prefix(name));
        given.map(|digits| digits.parse::<u64>().map_err(|_| WRONG))
    };
    match (
        number("_HLS_msn=").transpose()?,
        number("_HLS_part=").transpose()?,
    ) {
        (Some(segment), part) => Ok(Some(Asked { segment, part })),
        (None, Some(_)) => Err("_HLS_part is of the segment in _HLS_msn, which is missing\n"),
        (None, None) => Ok(None),
    }
}

/// A playlist whose addresses have this query: players keep nothing of the address of the playlist.
fn with_query(playlist: Bytes, query: &str) -> Bytes {
    if query.is_empty() {
        return playlist;
    }
    // An address may have one already.
    let behind = |address: &str| match address.contains('?') {
        true => query.replacen('?', "&", 1),
        false => query.to_owned(),
    };
    let text = String::from_utf8_lossy(&playlist);
    let mut with = String::with_capacity(2 * text.len());
    for line in text.lines() {
        let address = line
            .split_once("URI=\"")
            .and_then(|(_, rest)| rest.split_once('"'));
        match address {
            Some((address, after)) => {
                let (before, after) = line.split_at(line.len() - after.len() - 1);
                with.extend([before, &behind(address), after]);
            }
            None if line.starts_with('#') => with.push_str(line),
            None => with.extend([line, &behind(line)]),
        }
        with.push('\n');
    }
    with.into()
}

/// Tells readers from each other, as far as can be seen: HLS has no connection that lasts.
fn reader(request: &Request) -> u64 {
    let mut hasher = DefaultHasher::new();
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>();
    peer.map(|peer| peer.ip()).hash(&mut hasher);
    for name in [HeaderName::from_static("x-forwarded-for"), USER_AGENT] {
        request.headers().get(&name).hash(&mut hasher);
    }
    hasher.finish()
}

/// Playlists and files.
fn answer(
    content: Result<Content, OutputError>,
    content_type: &'static str,
    keep: &'static str,
) -> Response {
    let content = match content {
        Ok(content) => content,
        Err(error) => return error.into_response(),
    };
    let len: usize = content.iter().map(Bytes::len).sum();
    let count = content.len();
    let pieces = (0..count).map(move |place| Ok::<_, Infallible>(content[place].clone()));
    let mut response = Response::new(Body::from_stream(stream::iter(pieces)));
    let headers = response.headers_mut();
    headers.insert(CONTENT_LENGTH, HeaderValue::from(len));
    for (name, value) in [
        (CONTENT_TYPE, content_type),
        (CACHE_CONTROL, keep),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn all_addresses_of_a_playlist_have_the_token() {
        let playlist = "#EXTM3U\n#EXT-X-MAP:URI=\"a/init0.mp4\"\n\
             #EXT-X-PART:DURATION=0.2,URI=\"a/part1.m4s\",INDEPENDENT=YES\n#EXTINF:2.0,\na/1.m4s\n";
        let expected = "#EXTM3U\n#EXT-X-MAP:URI=\"a/init0.mp4?token=x\"\n\
             #EXT-X-PART:DURATION=0.2,URI=\"a/part1.m4s?token=x\",INDEPENDENT=YES\n#EXTINF:2.0,\n\
             a/1.m4s?token=x\n";
        let bytes = Bytes::from_static(playlist.as_bytes());
        assert_eq!(with_query(bytes.clone(), "?token=x"), expected);
        assert_eq!(with_query(bytes, ""), playlist);
        let variant = Bytes::from_static(b"#EXTM3U\nmedia.m3u8?audio=aac\n");
        let expected = "#EXTM3U\nmedia.m3u8?audio=aac&token=x\n";
        assert_eq!(with_query(variant, "?token=x"), expected);
    }

    #[test]
    fn a_part_is_of_a_segment_and_both_are_numbers() {
        let both = asked(Some("audio=aac&_HLS_msn=7&_HLS_part=2"));
        let expected = Asked {
            segment: 7,
            part: Some(2),
        };
        assert_eq!(both, Ok(Some(expected)));
        assert_eq!(asked(Some("_HLS_skip=YES")), Ok(None));
        for wrong in [
            "_HLS_part=2",
            "_HLS_msn=",
            "_HLS_msn=1&_HLS_part=x",
            "_HLS_msn=99999999999999999999",
        ] {
            assert!(asked(Some(wrong)).is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn no_query_panics(query in "(_HLS_msn=|_HLS_part=|audio=|&|=|[0-9]{0,22}|\\PC){0,12}") {
            let (asked, sound) = (asked(Some(&query)), Sound::asked(Some(&query), OutputKind::Hls));
            prop_assert!(asked.is_err() || !query.starts_with("_HLS_part=") || query.contains("&_HLS_msn="));
            prop_assert!(sound.is_ok() || query.contains("audio="));
        }

        #[test]
        fn numbers_are_read(segment: u64, part: Option<u64>) {
            let query = match part {
                Some(part) => format!("_HLS_msn={segment}&_HLS_part={part}"),
                None => format!("_HLS_msn={segment}"),
            };
            prop_assert_eq!(asked(Some(&query)), Ok(Some(Asked { segment, part })));
        }
    }
}
