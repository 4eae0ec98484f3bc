//! The tables of `fanmill ctl streams` and `fanmill ctl transports`, from the JSON of
//! `stream.list` and `transport.list`.
//!
//! Fields that a newer server adds are ignored; those it does not know are shown as `-`.

use serde::Deserialize;
use serde_json::Value;

use super::CtlError;
use crate::cli::table::{Align, Table};

/// An element of `stream.list`.
#[derive(Debug, Deserialize)]
struct Stream {
    name: String,
    live: bool,
    viewers: u64,
    uptime_s: Option<u64>,
    #[serde(default)]
    publishers: Vec<Publisher>,
    #[serde(default)]
    tracks: Vec<Track>,
}

#[derive(Debug, Deserialize)]
struct Publisher {
    role: String,
    on_air: bool,
}

#[derive(Debug, Deserialize)]
struct Track {
    kind: String,
    codec: Option<String>,
    bitrate_bps: Option<u64>,
    packets_received: Option<u64>,
    packets_lost: Option<u64>,
}

/// An element of `transport.list`.
#[derive(Debug, Deserialize)]
struct Transport {
    id: Value,
    kind: String,
    stream: Option<String>,
    remote_address: Option<String>,
    ice_state: Option<String>,
    dtls_state: Option<String>,
    srtp_profile: Option<String>,
    rtt_ms: Option<f64>,
    packets_sent: Option<u64>,
    packets_received: Option<u64>,
    age_s: Option<u64>,
}

pub(super) fn streams(answer: Value) -> Result<String, CtlError> {
    let streams: Vec<Stream> = serde_json::from_value(answer).map_err(|source| CtlError::Form {
        method: "stream.list",
        source,
    })?;
    if streams.is_empty() {
        return Ok("no streams\n".to_owned());
    }
    let mut table = Table::new(&[
        ("NAME", Align::Left),
        ("LIVE", Align::Left),
        ("VIEWERS", Align::Right),
        ("TRACKS", Align::Left),
        ("BITRATE", Align::Right),
        ("LOSS", Align::Right),
        ("UPTIME", Align::Right),
    ]);
    for stream in streams {
        let bitrates: Vec<u64> = stream.tracks.iter().filter_map(|t| t.bitrate_bps).collect();
        let bitrate_bps = (!bitrates.is_empty()).then(|| sum(bitrates));
        let live = live(&stream);
        table.row([
            stream.name,
            live.to_owned(),
            stream.viewers.to_string(),
            tracks(&stream.tracks),
            or_dash(bitrate_bps.map(bitrate)),
            loss(&stream.tracks),
            or_dash(stream.uptime_s.map(duration)),
        ]);
    }
    Ok(table.render())
}

pub(super) fn transports(answer: Value) -> Result<String, CtlError> {
    let transports: Vec<Transport> =
        serde_json::from_value(answer).map_err(|source| CtlError::Form {
            method: "transport.list",
            source,
        })?;
    if transports.is_empty() {
        return Ok("no transports\n".to_owned());
    }
    let mut table = Table::new(&[
        ("ID", Align::Left),
        ("KIND", Align::Left),
        ("STREAM", Align::Left),
        ("REMOTE ADDRESS", Align::Left),
        ("ICE", Align::Left),
        ("DTLS", Align::Left),
        ("SRTP", Align::Left),
        ("RTT", Align::Right),
        ("SENT", Align::Right),
        ("RECEIVED", Align::Right),
        ("AGE", Align::Right),
    ]);
    for transport in transports {
        let id = match transport.id {
            Value::String(id) => id,
            other => other.to_string(),
        };
        table.row([
            id,
            transport.kind,
            or_dash(transport.stream),
            or_dash(transport.remote_address),
            or_dash(transport.ice_state),
            or_dash(transport.dtls_state),
            or_dash(transport.srtp_profile),
            or_dash(transport.rtt_ms.map(|ms| format!("{ms:.1} ms"))),
            or_dash(transport.packets_sent.map(|n| n.to_string())),
            or_dash(transport.packets_received.map(|n| n.to_string())),
            or_dash(transport.age_s.map(duration)),
        ]);
    }
    Ok(table.render())
}

pub(super) fn or_dash(cell: Option<String>) -> String {
    cell.filter(|cell| !cell.is_empty())
        .unwrap_or_else(|| "-".to_owned())
}

fn sum(numbers: impl IntoIterator<Item = u64>) -> u64 {
    numbers.into_iter().fold(0, u64::saturating_add)
}

/// Whether it is live, and whether that is by its backup.
fn live(stream: &Stream) -> &'static str {
    let mut publishers = stream.publishers.iter();
    if publishers.any(|publisher| publisher.on_air && publisher.role == "backup") {
        return "backup";
    }
    if stream.live { "yes" } else { "no" }
}

/// `audio opus, video VP8`
fn tracks(tracks: &[Track]) -> String {
    let name = |track: &Track| match &track.codec {
        Some(codec) => format!("{} {codec}", track.kind),
        None => track.kind.clone(),
    };
    or_dash(Some(tracks.iter().map(name).collect::<Vec<_>>().join(", ")))
}

/// The share of packets lost over all tracks; their number where the whole is not known.
fn loss(tracks: &[Track]) -> String {
    let lost: Vec<u64> = tracks.iter().filter_map(|t| t.packets_lost).collect();
    let received: Vec<u64> = tracks.iter().filter_map(|t| t.packets_received).collect();
    if lost.is_empty() {
        return or_dash(None);
    }
    let lost = sum(lost);
    match lost.saturating_add(sum(received)) {
        all if all > lost => format!("{:.2} %", 100.0 * lost as f64 / all as f64),
        _ => lost.to_string(),
    }
}

fn bitrate(bps: u64) -> String {
    match bps {
        0..1_000 => format!("{bps} b/s"),
        1_000..1_000_000 => format!("{:.0} kb/s", bps as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.2} Mb/s", bps as f64 / 1e6),
        _ => format!("{:.2} Gb/s", bps as f64 / 1e9),
    }
}

pub(super) fn duration(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{minutes}m{:02}s", seconds % 60),
        3600..86_400 => format!("{hours}h{:02}m", minutes % 60),
        _ => format!("{days}d{:02}h", hours % 24),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // a test's unwrap is an assertion

    use super::*;
    use serde_json::json;

    #[test]
    fn quantities_are_short_and_have_units() {
        for (bps, text) in [
            (0, "0 b/s"),
            (64_000, "64 kb/s"),
            (2_564_000, "2.56 Mb/s"),
            (9_876_543_210, "9.88 Gb/s"),
        ] {
            assert_eq!(bitrate(bps), text);
        }
        for (seconds, text) in [
            (59, "59s"),
            (61, "1m01s"),
            (3_720, "1h02m"),
            (90_000, "1d01h"),
        ] {
            assert_eq!(duration(seconds), text);
        }
    }

    #[test]
    fn loss_is_a_share_where_the_whole_is_known() {
        let track = |received, lost| Track {
            kind: "video".to_owned(),
            codec: None,
            bitrate_bps: None,
            packets_received: received,
            packets_lost: lost,
        };
        assert_eq!(
            loss(&[track(Some(90), Some(10)), track(Some(100), Some(0))]),
            "5.00 %"
        );
        assert_eq!(loss(&[track(None, Some(7))]), "7");
        assert_eq!(loss(&[track(Some(5), None)]), "-");
        assert_eq!(loss(&[track(Some(0), Some(0))]), "0");
        assert_eq!(
            loss(&[track(Some(u64::MAX), Some(u64::MAX))]),
            u64::MAX.to_string()
        );
    }

    #[test]
    fn an_answer_of_another_form_is_an_error_not_a_panic() {
        for answer in [json!(null), json!({}), json!([1]), json!([{"name": 5}])] {
            assert!(matches!(
                streams(answer.clone()),
                Err(CtlError::Form { .. })
            ));
            assert!(matches!(transports(answer), Err(CtlError::Form { .. })));
        }
    }

    #[test]
    fn nothing_is_said_in_words() {
        assert_eq!(streams(json!([])).unwrap(), "no streams\n");
        assert_eq!(transports(json!([])).unwrap(), "no transports\n");
    }
}
