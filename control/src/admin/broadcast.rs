//! The methods about the server, its streams and its transports.

use std::time::Instant;

use fanmill_engine::counters::DropReason;
use fanmill_engine::ids::{ShardId, TransportId};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Caller, Methods, Reason, RpcError, selection};
use crate::broadcast::{Broadcast, BroadcastError, DelayBounds, Role};
use crate::model::{Transport, TransportInfo};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StreamName {
    stream: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TransportName {
    transport: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Attachment {
    transport: u64,
    stream: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StreamSettings {
    stream: String,
    playout_delay: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Choice {
    stream: String,
    publisher: Role,
}

/// A transport in a list: what it is, and for which stream.
#[derive(Serialize)]
struct ListedTransport {
    #[serde(flatten)]
    info: TransportInfo,
    stream: Option<String>,
}

/// Adds `server.info`, `stream.*` and `transport.*`.
pub fn add_broadcast_methods(methods: &mut Methods, broadcast: &Broadcast) {
    add_server_methods(methods, broadcast);
    add_stream_methods(methods, broadcast);
    add_transport_methods(methods, broadcast);
}

fn add_server_methods(methods: &mut Methods, broadcast: &Broadcast) {
    let started = Instant::now();
    let of = broadcast.clone();
    methods.add(
        "server.info",
        "Version, uptime, and what each shard runs on and has done, with every drop by reason.",
        move |_: Caller, Nothing {}| {
            let of = of.clone();
            async move { Ok(server_info(&of, started)) }
        },
    );
}

fn add_stream_methods(methods: &mut Methods, broadcast: &Broadcast) {
    let of = broadcast.clone();
    methods.add(
        "stream.list",
        "Every stream that is live or waited for.",
        move |_: Caller, Nothing {}| {
            let of = of.clone();
            async move { Ok(of.streams()) }
        },
    );
    let of = broadcast.clone();
    methods.add(
        "stream.get",
        "One stream: tracks with their layers, bitrates and loss, its publisher and its viewers.",
        move |_: Caller, StreamName { stream }: StreamName| {
            let of = of.clone();
            async move { of.stream(&stream).map_err(refused) }
        },
    );
    let of = broadcast.clone();
    methods.add(
        "stream.stop",
        "Ends whoever publishes a stream, a peer or a source in the server; viewers stay.",
        move |_: Caller, StreamName { stream }: StreamName| {
            let of = of.clone();
            async move {
                of.stop(&stream).map_err(refused)?;
                Ok(json!({ "stream": stream }))
            }
        },
    );
    let of = broadcast.clone();
    methods.add(
        "stream.set",
        "Sets how long viewers hold a stream before they show it: MIN-MAX in milliseconds, or null.",
        move |_: Caller, StreamSettings { stream, playout_delay }: StreamSettings| {
            let of = of.clone();
            async move {
                let bounds = playout_delay.as_deref().map(str::parse::<DelayBounds>);
                let invalid = |error| RpcError::invalid_params("playout_delay", error);
                let bounds = bounds.transpose().map_err(invalid)?;
                of.set_playout_delay(&stream, bounds).map_err(refused)?;
                Ok(json!({ "stream": stream, "playout_delay": bounds }))
            }
        },
    );
    let of = broadcast.clone();
    methods.add(
        "stream.use",
        "Shows all viewers of a stream its `primary` or its `backup` publisher.",
        move |_: Caller, Choice { stream, publisher }: Choice| {
            let of = of.clone();
            async move {
                let answer = json!({ "stream": stream, "publisher": publisher });
                // Many viewers are many commands to the data plane.
                let changed = move || of.use_publisher(&stream, publisher);
                let changed = tokio::task::spawn_blocking(changed).await;
                changed.map_err(|_| defect())?.map_err(refused)?;
                Ok(answer)
            }
        },
    );
    let of = broadcast.clone();
    methods.add(
        "stream.attach",
        "Shows the viewer on a transport another stream, live; it need not do anything.",
        move |_: Caller, Attachment { transport, stream }: Attachment| {
            let of = of.clone();
            async move {
                let viewer = of.viewer_on(transport).map_err(refused)?;
                of.attach(&viewer, &stream).map_err(refused)?;
                Ok(json!({ "transport": transport, "stream": stream }))
            }
        },
    );
    let of = broadcast.clone();
    methods.add(
        "stream.detach",
        "Shows the viewer on a transport nothing any more; it stays connected.",
        move |_: Caller, TransportName { transport }: TransportName| {
            let of = of.clone();
            async move {
                let viewer = of.viewer_on(transport).map_err(refused)?;
                of.detach(&viewer).map_err(refused)?;
                Ok(json!({ "transport": transport }))
            }
        },
    );
}

fn add_transport_methods(methods: &mut Methods, broadcast: &Broadcast) {
    let of = broadcast.clone();
    methods.add(
        "transport.list",
        "Every publisher's and viewer's connection.",
        move |_: Caller, Nothing {}| {
            let of = of.clone();
            async move {
                let all = of.server().transports();
                Ok(all
                    .iter()
                    .map(|transport| listed(&of, transport))
                    .collect::<Vec<_>>())
            }
        },
    );
    let of = broadcast.clone();
    methods.add(
        "transport.get",
        "One connection, with the counts of its tracks.",
        move |_: Caller, TransportName { transport }: TransportName| {
            let of = of.clone();
            async move {
                let transport = find(&of, transport)?;
                let tracks = tracks(&transport);
                Ok(json!({ "transport": listed(&of, &transport), "tracks": tracks }))
            }
        },
    );
    let of = broadcast.clone();
    methods.add(
        "transport.select",
        "Chooses what the viewer on a transport gets: an encoding by its name (rid) and layers by hand, \
         the best up to max_width, max_height, max_spatial_layer and max_temporal_layer, or what fits a \
         target_bitrate_bps; without any of these the best.",
        move |_: Caller, choice: selection::Choice| {
            let of = of.clone();
            async move {
                let transport = choice.transport;
                let selection = choice.selection()?;
                let viewer = of.viewer_on(transport).map_err(refused)?;
                let select = move || of.select(&viewer, None, &selection);
                let selected = tokio::task::spawn_blocking(select).await;
                selected.map_err(|_| defect())?.map_err(refused)?;
                Ok(json!({ "transport": transport }))
            }
        },
    );
    let of = broadcast.clone();
    methods.add(
        "transport.close",
        "Ends a connection; the peer is told.",
        move |_: Caller, TransportName { transport }: TransportName| {
            let of = of.clone();
            async move {
                find(&of, transport)?.close();
                Ok(json!({ "transport": transport }))
            }
        },
    );
}

fn find(broadcast: &Broadcast, id: u64) -> Result<Transport, RpcError> {
    let transport = broadcast.server().transport(TransportId(id));
    transport.ok_or_else(|| RpcError::new(Reason::NotFound, format!("there is no transport {id}")))
}

fn defect() -> RpcError {
    RpcError::new(Reason::Failed, "the change failed; the log says more")
}

fn refused(error: BroadcastError) -> RpcError {
    let reason = match error {
        BroadcastError::UnknownSession
        | BroadcastError::UnknownStream(_)
        | BroadcastError::NotLive(_)
        | BroadcastError::UnknownEncoding(..)
        | BroadcastError::NoPublisher(..) => Reason::NotFound,
        _ => Reason::Conflict,
    };
    RpcError::new(reason, error.to_string())
}

fn listed(broadcast: &Broadcast, transport: &Transport) -> ListedTransport {
    ListedTransport {
        info: transport.info(),
        stream: broadcast.stream_of(transport.id()),
    }
}

fn tracks(transport: &Transport) -> Vec<Value> {
    let counts = |snapshot: Vec<(&'static str, u64)>| -> Value {
        snapshot
            .into_iter()
            .map(|(name, value)| (name.to_owned(), Value::from(value)))
            .collect()
    };
    let incoming = transport.incoming().tracks().iter().flat_map(|track| {
        track.encodings().iter().map(|encoding| {
            json!({
                "direction": "in",
                "kind": track.kind().to_string(),
                "mid": track.mid(),
                "rid": encoding.rid(),
                "active": encoding.is_active(),
                "counters": counts(encoding.counters().snapshot()),
            })
        })
    });
    let outgoing = transport.outgoing().tracks().iter().map(|track| {
        json!({
            "direction": "out",
            "kind": track.kind().to_string(),
            "mid": track.mid(),
            "attached": track.attached_to().is_some(),
            "counters": counts(track.counters().snapshot()),
        })
    });
    incoming.chain(outgoing).collect()
}

fn server_info(broadcast: &Broadcast, started: Instant) -> Value {
    let server = broadcast.server();
    let shards = server.shard_reports().iter().map(|report| {
        let grants = &report.grants;
        let features: Value = grants
            .features()
            .iter()
            .map(|(name, on)| ((*name).to_owned(), json!(on)))
            .collect();
        json!({
            "shard": report.shard.0,
            "core": report.core,
            "address": grants.local_address.to_string(),
            "receive_buffer_bytes": grants.receive_buffer.granted_bytes,
            "send_buffer_bytes": grants.send_buffer.granted_bytes,
            "features": features,
            "send_ns": grants.send_costs.as_ref().map(|costs| json!({
                "single": costs.single_ns,
                "trains": costs.trains_ns,
                "least_train": costs.least_train(),
            })),
            "counters": shard_counts(broadcast, report.shard),
        })
    });
    let dtls = server.dtls_counters();
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "pid": std::process::id(),
        "uptime_s": started.elapsed().as_secs(),
        "fingerprint_sha256": server.fingerprint_sha256(),
        "transports": server.transport_count(),
        "streams": broadcast.stream_count(),
        "access": broadcast.access().info(),
        "handshakes": { "completed": dtls.completed(), "failed": dtls.failed() },
        "shards": shards.collect::<Vec<_>>(),
    })
}

fn shard_counts(broadcast: &Broadcast, shard: ShardId) -> Value {
    let Some(counters) = broadcast.server().engine().counters(shard) else {
        return Value::Null;
    };
    let transit = counters.transit.snapshot();
    let dropped = DropReason::ALL.iter().filter_map(|reason| {
        let count = counters.dropped(*reason);
        (count > 0).then(|| (reason.name().to_owned(), json!(count)))
    });
    json!({
        "datagrams_received": counters.datagrams_received.get(),
        "packets_routed": counters.packets_routed.get(),
        "packets_sent": counters.packets_sent.get(),
        "sends": counters.sends.get(),
        "packets_padded": counters.packets_padded.get(),
        "padding_bytes": counters.padding_bytes.get(),
        "checks_answered": counters.checks_answered.get(),
        "transports": counters.transports.get(),
        "producers": counters.producers.get(),
        "slots_in_use": counters.slots_in_use.get(),
        "slots_tapped": counters.slots_tapped.get(),
        "turns": counters.turns.get(),
        "lag_us": counters.lag_us.get(),
        "viewers_shed": counters.viewers_shed.get(),
        "joins_from_cache": counters.joins_from_cache.get(),
        "caches_dropped": counters.caches_dropped.get(),
        "transit_us": {
            "p50": transit.quantile_us(0.5),
            "p99": transit.quantile_us(0.99),
            "p999": transit.quantile_us(0.999),
        },
        "dropped": dropped.collect::<Value>(),
    })
}
