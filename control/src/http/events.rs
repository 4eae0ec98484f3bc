//! WHEP's extension of server-sent events (draft-ietf-wish-whep-02, "Server Sent Events extension";
//! later revisions leave extensions to documents of their own): a viewer POSTs to its session which
//! events it wants, and reads them as a `text/event-stream` (HTML, 9.2) at the URL it is given.
//!
//! What happens to streams is [`Broadcast`](crate::broadcast::Broadcast)'s; here is only the form.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, Request, State};
use axum::http::header::{CACHE_CONTROL, CONNECTION, HeaderName, LOCATION};
use axum::http::{HeaderValue, Method, StatusCode};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde_json::{Map, Value, json};

use crate::broadcast::{EncodingInfo, EventKind, Session, StreamEvent};
use crate::http::HttpState;
use crate::http::guard::InAddress;
use crate::http::reply::Refusal;
use crate::http::server::Place;
use crate::http::session::{ACCEPT_POST, body, check_type, insert, options};
use crate::model::TransportKind;
use crate::sdp::MediaKind;

const JSON: &str = "application/json";
const STREAMS_METHODS: &str = "OPTIONS, POST";
const STREAM_METHODS: &str = "OPTIONS, GET, DELETE";

/// Proxies and firewalls forget connections on which nothing is sent.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// The extension's relation type, in the `Link` of a new session.
const RELATION: &str = "urn:ietf:params:whep:ext:core:server-sent-events";

/// The value of the `Link` field that tells a viewer where to ask for events.
pub(super) fn link(address: &str, query: &str, session: &Session) -> String {
    let names: Vec<_> = kinds(session).iter().copied().map(name).collect();
    let names = names.join(",");
    format!("<{address}/sse{query}>; rel=\"{RELATION}\"; events=\"{names}\"")
}

/// The events there are of what a session watches.
fn kinds(session: &Session) -> &'static [EventKind] {
    match session.is_of_room() {
        true => &EventKind::OF_ROOMS,
        false => &EventKind::OF_STREAMS,
    }
}

/// Requests to where event streams are made, below a viewer's session.
pub(super) async fn streams(
    State(state): State<HttpState>,
    Path((stream, id)): Path<(String, String)>,
    request: Request,
) -> Result<Response, Refusal> {
    match *request.method() {
        Method::POST => {
            let session = state.broadcast.session(TransportKind::View, &stream, &id)?;
            create(&session, request).await
        }
        Method::OPTIONS => Ok(options(STREAMS_METHODS, ACCEPT_POST, JSON)),
        _ => Err(Refusal::Method(STREAMS_METHODS)),
    }
}

/// Requests to an event stream.
pub(super) async fn one(
    State(state): State<HttpState>,
    Path((stream, id, subscription)): Path<(String, String, String)>,
    request: Request,
) -> Result<Response, Refusal> {
    let session = || state.broadcast.session(TransportKind::View, &stream, &id);
    match *request.method() {
        Method::GET => read(&state, &session()?, &subscription, &request),
        Method::DELETE => {
            session()?.unsubscribe(&subscription)?;
            Ok(StatusCode::OK.into_response())
        }
        Method::OPTIONS => {
            let accept = HeaderName::from_static("accept");
            Ok(options(STREAM_METHODS, accept, "text/event-stream"))
        }
        _ => Err(Refusal::Method(STREAM_METHODS)),
    }
}

async fn create(session: &Session, request: Request) -> Result<Response, Refusal> {
    let query = InAddress::of(&request);
    let (parts, content) = request.into_parts();
    let content = body(Request::from_parts(parts.clone(), content)).await?;
    let wanted = if content.is_empty() {
        kinds(session).to_vec()
    } else {
        check_type(&parts.headers, JSON)?;
        wanted(&content, kinds(session))?
    };
    let subscription = session.subscribe(&wanted)?;
    let mut response = StatusCode::CREATED.into_response();
    let location = format!(
        "/whep/{}/{}/sse/{}{query}",
        session.stream(),
        session.id(),
        subscription.id()
    );
    insert(response.headers_mut(), LOCATION, &location);
    Ok(response)
}

/// The events named in a JSON array. Others than ours are let pass: later revisions have more.
fn wanted(content: &[u8], ours: &[EventKind]) -> Result<Vec<EventKind>, Refusal> {
    let names: Vec<String> =
        serde_json::from_slice(content).map_err(|error| Refusal::Events(error.to_string()))?;
    let ours = ours.iter().copied();
    let wanted = ours
        .clone()
        .filter(|kind| names.iter().any(|given| given == name(*kind)));
    let wanted: Vec<_> = wanted.collect();
    if wanted.is_empty() {
        let ours: Vec<_> = ours.map(name).collect();
        return Err(Refusal::Events(format!("there are {}", ours.join(", "))));
    }
    Ok(wanted)
}

fn read(
    state: &HttpState,
    session: &Arc<Session>,
    id: &str,
    request: &Request,
) -> Result<Response, Refusal> {
    // A server other than ours counts its connections itself.
    let place = request.extensions().get::<Place>();
    let stay = place.map(|place| place.stay().ok_or(Refusal::LongConnections));
    let stay = stay.transpose()?;
    let reader = state.broadcast.read_events(session, id)?;
    // The m-section that layers are of, by its place in the session description.
    let mut media = session.transport().negotiated().media.iter();
    let video = media.find(|media| media.kind == MediaKind::Video);
    let video = video.map(|media| media.index);
    let events = stream::unfold((reader, stay), move |(mut reader, stay)| async move {
        let event = reader.next().await?;
        Some((Ok::<_, Infallible>(write(&event, video)), (reader, stay)))
    });
    let alive = KeepAlive::new().interval(HEARTBEAT);
    let mut response = Sse::new(events).keep_alive(alive).into_response();
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // Its place among the connections is given up for the stream.
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    // Proxies of the nginx family gather answers before they pass them on.
    let buffering = HeaderName::from_static("x-accel-buffering");
    headers.insert(buffering, HeaderValue::from_static("no"));
    Ok(response)
}

const fn name(kind: EventKind) -> &'static str {
    match kind {
        EventKind::Active => "active",
        EventKind::Inactive => "inactive",
        EventKind::Layers => "layers",
        EventKind::Paused => "paused",
        EventKind::ViewerCount => "viewercount",
        EventKind::Room => "room",
        EventKind::Slots => "slots",
        EventKind::Speaker => "speaker",
    }
}

fn write(event: &StreamEvent, video: Option<usize>) -> Event {
    let (kind, data) = match event {
        StreamEvent::Active => (EventKind::Active, json!({})),
        StreamEvent::Inactive => (EventKind::Inactive, json!({})),
        StreamEvent::Paused(paused) => (EventKind::Paused, json!({ "paused": paused })),
        StreamEvent::ViewerCount(count) => {
            (EventKind::ViewerCount, json!({ "viewercount": count }))
        }
        StreamEvent::Room(room) => (EventKind::Room, json!(**room)),
        StreamEvent::Slots(slots) => (EventKind::Slots, json!(**slots)),
        StreamEvent::Speaker(member) => {
            (EventKind::Speaker, json!({ "member": member.as_deref() }))
        }
        StreamEvent::Layers(layers) => {
            let layers: Vec<_> = layers.iter().map(layer).collect();
            let index = video.unwrap_or_default().to_string();
            (EventKind::Layers, json!({ index: layers }))
        }
    };
    Event::default().event(name(kind)).data(data.to_string())
}

/// A layer without bitrate is one that is not to be had. A paused one is: it comes if it is chosen.
fn layer(layer: &EncodingInfo) -> Value {
    // Encodings that were announced by SSRC alone have no rid.
    let mut fields = Map::from_iter([("rid".to_owned(), layer.name.clone().into())]);
    let bitrate_bps = match (layer.active, layer.paused) {
        (true, _) => layer.bitrate_bps,
        (false, true) => layer.full_bitrate_bps,
        (false, false) => 0,
    };
    let known = [
        ("bitrate", bitrate_bps),
        ("width", layer.width),
        ("height", layer.height),
    ];
    for (name, value) in known.into_iter().filter(|(_, value)| *value != 0) {
        fields.insert(name.to_owned(), value.into());
    }
    if layer.active && !layer.layers.is_empty() {
        let layers = layer.layers.iter().map(|one| {
            json!({
                "spatialLayerId": one.spatial_layer,
                "temporalLayerId": one.temporal_layer,
                "bitrate": one.bitrate_bps,
                "width": one.width,
                "height": one.height,
                "framerate": one.frames_per_second.round(),
            })
        });
        fields.insert("layers".to_owned(), layers.collect());
    }
    fields.into()
}
