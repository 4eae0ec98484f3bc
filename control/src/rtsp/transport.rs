//! The `Transport` header field (RFC 2326 12.39): how the packets of a track travel.
//!
//! Read leniently, as clients write it; of several alternatives the first that works is taken.

/// How a track's packets travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lower {
    /// In UDP, from or to these ports of the client: RTP, RTCP.
    Udp(u16, u16),
    /// Between the messages of the connection, on these channels if it says which.
    Interleaved(Option<(u8, u8)>),
}

/// What a client asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// How packets travel.
    pub lower: Lower,
    /// From the client to the server (`mode=record`).
    pub records: bool,
}

impl Wanted {
    /// The first alternative of a `Transport` field that this server has: RTP/AVP over UDP unicast,
    /// or interleaved.
    #[must_use]
    pub fn parse(field: &str) -> Option<Self> {
        field.split(',').find_map(alternative)
    }
}

/// What a server says it has set up: its ports, or the channels.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Granted {
    /// The server's ports for RTP and RTCP.
    pub server_port: Option<(u16, u16)>,
    /// The channels for RTP and RTCP.
    pub interleaved: Option<(u8, u8)>,
    /// Where the packets come from, if not from the server itself.
    pub source: Option<String>,
}

impl Granted {
    /// Reads the field of an answer.
    #[must_use]
    pub fn parse(field: &str) -> Self {
        let mut granted = Self::default();
        for (name, value) in parameters(field) {
            match name.as_str() {
                "server_port" => granted.server_port = pair(value),
                "interleaved" => granted.interleaved = pair(value),
                "source" => granted.source = Some(value.to_owned()),
                _ => {}
            }
        }
        granted
    }
}

fn alternative(text: &str) -> Option<Wanted> {
    let spec = text.split(';').next()?.trim().to_ascii_uppercase();
    let interleaved = match spec.as_str() {
        "RTP/AVP" | "RTP/AVP/UDP" | "RTP/AVPF" | "RTP/AVPF/UDP" => false,
        "RTP/AVP/TCP" | "RTP/AVPF/TCP" => true,
        _ => return None,
    };
    let (mut ports, mut channels, mut records, mut multicast) = (None, None, false, false);
    for (name, value) in parameters(text) {
        match name.as_str() {
            "client_port" => ports = pair(value),
            "interleaved" => channels = pair(value),
            "multicast" => multicast = true,
            "mode" => {
                let mode = value.to_ascii_lowercase();
                records = mode == "record" || mode == "receive";
            }
            _ => {}
        }
    }
    let lower = match (interleaved, ports) {
        (true, _) => Lower::Interleaved(channels),
        // Port 0 is where nobody listens.
        (false, Some((rtp, rtcp))) if rtp != 0 && rtcp != 0 && !multicast => Lower::Udp(rtp, rtcp),
        (false, _) => return None,
    };
    Some(Wanted { lower, records })
}

/// The parameters after the first semicolon: names in lower case, values without quotes.
fn parameters(text: &str) -> impl Iterator<Item = (String, &str)> {
    text.split(';').skip(1).map(|parameter| {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        let value = value.trim().trim_matches('"');
        (name.trim().to_ascii_lowercase(), value)
    })
}

/// `5000-5001`, or `5000`, which implies the next one.
fn pair<T: std::str::FromStr + Copy + Into<u32> + TryFrom<u32>>(value: &str) -> Option<(T, T)> {
    match value.split_once('-') {
        Some((first, second)) => Some((first.trim().parse().ok()?, second.trim().parse().ok()?)),
        None => {
            let first: T = value.parse().ok()?;
            Some((first, T::try_from(first.into() + 1).ok()?))
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // a test's unwrap is an assertion

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_clients_write_is_understood() {
        let udp = |records| Wanted {
            lower: Lower::Udp(5000, 5001),
            records,
        };
        let tcp = |channels, records| Wanted {
            lower: Lower::Interleaved(channels),
            records,
        };
        for (text, expected) in [
            // ffmpeg
            ("RTP/AVP/UDP;unicast;client_port=5000-5001", udp(false)),
            (
                "RTP/AVP/UDP;unicast;client_port=5000-5001;mode=record",
                udp(true),
            ),
            (
                "RTP/AVP/TCP;unicast;interleaved=0-1;mode=record",
                tcp(Some((0, 1)), true),
            ),
            // live555, GStreamer
            ("RTP/AVP;unicast;client_port=5000-5001", udp(false)),
            (
                "RTP/AVP;unicast;client_port=5000-5001;mode=\"PLAY\"",
                udp(false),
            ),
            ("RTP/AVP/TCP;unicast;mode=\"RECORD\"", tcp(None, true)),
            (
                "RTP/AVP;multicast,RTP/AVP/UDP;unicast;client_port=5000, RTP/AVP/TCP",
                udp(false),
            ),
            (
                "RTP/SAVP;unicast;client_port=1-2,RTP/AVP/TCP;interleaved=2-3",
                tcp(Some((2, 3)), false),
            ),
        ] {
            assert_eq!(Wanted::parse(text), Some(expected), "{text}");
        }
        for text in [
            "",
            "RTP/AVP",
            "RTP/AVP;multicast;client_port=5000-5001",
            "RTP/AVP;unicast;client_port=0-1",
            "RTP/AVP;unicast;client_port=65535",
            "RAW/RAW/UDP;unicast;client_port=5000-5001",
        ] {
            assert_eq!(Wanted::parse(text), None, "{text}");
        }
    }

    #[test]
    fn an_answer_says_the_servers_ports_or_channels() {
        let granted = Granted::parse(
            "RTP/AVP;unicast;source=192.0.2.9;client_port=5000-5001;server_port=6970-6971;ssrc=1",
        );
        assert_eq!(granted.server_port, Some((6970, 6971)));
        assert_eq!(granted.source.as_deref(), Some("192.0.2.9"));
        let granted = Granted::parse("RTP/AVP/TCP;unicast;interleaved=4-5");
        assert_eq!(granted.interleaved, Some((4, 5)));
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "[ -~]{0,80}") {
            let _ = Wanted::parse(&text);
            let _ = Granted::parse(&text);
        }

        #[test]
        fn any_parameters_are_read_or_refused(
            text in "(RTP/AVP(/TCP|/UDP)?(;(interleaved|client_port|mode|unicast)(=[0-9]{0,6}(-[0-9]{0,6})?)?){0,5},?){1,3}",
        ) {
            let _ = Wanted::parse(&text);
        }
    }
}
