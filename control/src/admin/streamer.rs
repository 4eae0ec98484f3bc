//! The methods about plain RTP.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use serde::Deserialize;
use serde_json::json;

use super::{Caller, Methods, Reason, RpcError};
use crate::streamer::{
    MAX_DESCRIPTION_BYTES, MediaDescription, ReceiveSpec, Remote, RtcpPort, RtpFormat, SdesKey,
    SendSpec, StreamerError, StreamerInfo, Streamers, parse,
};

/// The payload type of what is described without one.
const FIRST_DYNAMIC_TYPE: u8 = 96;

/// Hops that packets to a group may take if nothing is said: none beyond this network.
const DEFAULT_TTL: u8 = 1;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StreamerName {
    streamer: u64,
}

#[derive(Deserialize, Default, Clone, Copy, PartialEq)]
#[serde(rename_all = "lowercase")]
enum Direction {
    #[default]
    In,
    Out,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Create {
    stream: String,
    #[serde(default)]
    direction: Direction,
    #[serde(default)]
    sdp: Option<String>,
    #[serde(default)]
    sdp_file: Option<PathBuf>,
    #[serde(default)]
    media: Option<Vec<Medium>>,
    #[serde(default)]
    address: Option<IpAddr>,
    #[serde(default)]
    interface: Option<String>,
    #[serde(default)]
    remote: Option<String>,
    #[serde(default)]
    to: Option<SocketAddr>,
    #[serde(default)]
    ttl: Option<u8>,
    #[serde(default)]
    rtcp_mux: bool,
    #[serde(default)]
    srtp: bool,
}

/// What is received, without an SDP.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Medium {
    codec: String,
    #[serde(default)]
    port: u16,
    #[serde(default)]
    payload_type: Option<u8>,
    #[serde(default)]
    clock_rate: Option<u32>,
    #[serde(default)]
    channels: Option<u8>,
    #[serde(default)]
    fmtp: String,
    #[serde(default)]
    address: Option<IpAddr>,
    #[serde(default)]
    rtcp_mux: bool,
    #[serde(default)]
    rtcp_port: Option<u16>,
    #[serde(default)]
    crypto: Option<String>,
}

/// Adds `streamer.*`.
pub fn add_streamer_methods(methods: &mut Methods, streamers: &Streamers) {
    let of = streamers.clone();
    methods.add(
        "streamer.create",
        "Receives plain RTP as a stream: described by an SDP (sdp, sdp_file) or by media ([{codec, \
         port}, ...]). With direction \"out\" it sends a stream to an address (to: \"ip:port\") and \
         says the SDP for VLC or ffplay.",
        move |_: Caller, create: Create| {
            let of = of.clone();
            async move {
                match create.direction {
                    Direction::In => create.receive(&of).await,
                    Direction::Out => create.send(&of).await,
                }
            }
        },
    );
    let of = streamers.clone();
    methods.add(
        "streamer.stop",
        "Ends a session of plain RTP; viewers of what it received stay and wait.",
        move |_: Caller, StreamerName { streamer }: StreamerName| {
            let of = of.clone();
            async move { of.stop(streamer).await.map_err(|error| refused(&error)) }
        },
    );
    let of = streamers.clone();
    methods.add(
        "streamer.list",
        "Every session of plain RTP: its ports, whom it hears, what was lost and left out.",
        move |_: Caller, Nothing {}| {
            let list = of.list();
            async move { Ok(list) }
        },
    );
    let of = streamers.clone();
    methods.add(
        "streamer.sdp",
        "The SDP of what a session sends, to be handed to its receivers.",
        move |_: Caller, StreamerName { streamer }: StreamerName| {
            let sdp = of.sdp(streamer).map_err(|error| refused(&error));
            async move { sdp.map(|sdp| json!({ "streamer": streamer, "sdp": sdp })) }
        },
    );
}

impl Create {
    async fn receive(self, streamers: &Streamers) -> Result<StreamerInfo, RpcError> {
        if self.to.is_some() || self.ttl.is_some() || self.rtcp_mux || self.srtp {
            let problem = "is said of what is sent: give direction \"out\" with it";
            return Err(RpcError::invalid_params(
                "to, ttl, rtcp_mux or srtp",
                problem,
            ));
        }
        let media = self.described().await?;
        let spec = ReceiveSpec {
            stream: self.stream,
            media,
            address: self.address,
            interface: self.interface,
            remote: remote(self.remote.as_deref())?,
        };
        streamers.receive(spec).map_err(|error| refused(&error))
    }

    async fn described(&self) -> Result<Vec<MediaDescription>, RpcError> {
        let text = match (&self.sdp, &self.sdp_file, &self.media) {
            (Some(sdp), None, None) => sdp.clone(),
            (None, Some(path), None) => read(path).await?,
            (None, None, Some(media)) => {
                return media.iter().map(|medium| medium.description()).collect();
            }
            _ => {
                let problem = "give one of sdp, sdp_file and media";
                return Err(RpcError::invalid_params("sdp", problem));
            }
        };
        parse(&text).map_err(|error| RpcError::invalid_params("sdp", error))
    }

    async fn send(self, streamers: &Streamers) -> Result<StreamerInfo, RpcError> {
        let is_receiving = self.sdp.is_some()
            || self.sdp_file.is_some()
            || self.media.is_some()
            || self.address.is_some()
            || self.remote.is_some();
        if is_receiving {
            let problem =
                "a session that sends needs only stream, to, ttl, interface, rtcp_mux, srtp";
            return Err(RpcError::invalid_params("direction", problem));
        }
        let missing = || RpcError::invalid_params("to", "say where to send: \"ip:port\"");
        let spec = SendSpec {
            stream: self.stream,
            to: self.to.ok_or_else(missing)?,
            ttl: self.ttl.unwrap_or(DEFAULT_TTL),
            interface: self.interface,
            rtcp_mux: self.rtcp_mux,
            key: self.srtp.then(SdesKey::random),
        };
        streamers.send(spec).await.map_err(|error| refused(&error))
    }
}

/// Reads a description; nothing of what it says is trusted but that it is text.
async fn read(path: &PathBuf) -> Result<String, RpcError> {
    let refused = |problem: String| RpcError::invalid_params("sdp_file", problem);
    let size = tokio::fs::metadata(path).await.map(|file| file.len());
    match size {
        Ok(size) if size > MAX_DESCRIPTION_BYTES as u64 => {
            return Err(refused("the file is too long for an SDP".to_owned()));
        }
        Ok(_) => {}
        Err(error) => return Err(refused(error.to_string())),
    }
    let text = tokio::fs::read_to_string(path).await;
    text.map_err(|error| refused(error.to_string()))
}

impl Medium {
    fn description(&self) -> Result<MediaDescription, RpcError> {
        let refused = |problem: String| RpcError::invalid_params("media", problem);
        let (rate, channels) = defaults(&self.codec);
        let rate = self.clock_rate.unwrap_or(rate);
        let channels = self.channels.unwrap_or(channels);
        let format = RtpFormat::new(&self.codec, rate, channels, &self.fmtp);
        let format = format.map_err(|error| refused(error.to_string()))?;
        let of_static = (0..FIRST_DYNAMIC_TYPE)
            .find(|&number| RtpFormat::of_static_type(number).as_ref() == Some(&format));
        let payload_type = self
            .payload_type
            .or(of_static)
            .unwrap_or(FIRST_DYNAMIC_TYPE);
        if payload_type > 127 {
            return Err(refused("payload_type is 0 to 127".to_owned()));
        }
        let key = self.crypto.as_deref().map(SdesKey::parse).transpose();
        Ok(MediaDescription {
            address: self.address.or(Some(Ipv4Addr::LOCALHOST.into())),
            port: self.port,
            rtcp: match (self.rtcp_mux, self.rtcp_port) {
                (true, _) => RtcpPort::Muxed,
                (false, Some(port)) => RtcpPort::Other(port),
                (false, None) => RtcpPort::Next,
            },
            formats: vec![(payload_type, format)],
            key: key.map_err(|error| refused(error.to_string()))?,
        })
    }
}

/// Clock rate and channels that a codec has if nothing is said.
fn defaults(codec: &str) -> (u32, u8) {
    match codec.to_ascii_uppercase().as_str() {
        "OPUS" => (48_000, 2),
        "PCMU" | "PCMA" | "G722" => (8_000, 1),
        "MPEG4-GENERIC" | "MP4A-LATM" => (48_000, 2),
        _ => (90_000, 1),
    }
}

fn remote(text: Option<&str>) -> Result<Remote, RpcError> {
    let Some(text) = text else {
        return Ok(Remote::Learnt);
    };
    let fixed = text.parse().map(Remote::Fixed);
    let remote = fixed.or_else(|_| text.parse().map(Remote::Host));
    remote.map_err(|_| RpcError::invalid_params("remote", "give \"ip\" or \"ip:port\""))
}

fn refused(error: &StreamerError) -> RpcError {
    let reason = match error {
        StreamerError::Unknown(_) => Reason::NotFound,
        StreamerError::TooMany(_) => Reason::LimitReached,
        StreamerError::Port(_) => return RpcError::invalid_params("to", error),
        StreamerError::Stream(_) => return RpcError::invalid_params("stream", error),
        _ => Reason::Conflict,
    };
    RpcError::new(reason, error.to_string())
}
