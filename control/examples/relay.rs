//! The object model as a library, without HTTP: one publisher, two viewers, and a relay between
//! them.
//!
//! ```sh
//! cargo run --example relay -- publisher.sdp viewer1.sdp viewer2.sdp
//! ```
//!
//! Each file holds an SDP offer as a browser makes it: the first of a peer that sends, the others
//! of peers that receive (`RTCPeerConnection.createOffer()`, after candidates are gathered or
//! not). The answers are printed in the same order, each after a line that names its file; give
//! them to the peers (`setRemoteDescription`), and the viewers see what the publisher sends until
//! Ctrl-C. How offers and answers travel is the application's business, which is the point: WHIP
//! and WHEP are one way, and `fanmill serve` is these same calls behind them.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use anyhow::{Context, Result};
use fanmill_control::dtls;
use fanmill_control::model::{Endpoint, MediaServer, MediaServerConfig, Transport};
use fanmill_control::sdp::Offer;
use fanmill_engine::{EngineConfig, Forwarding};

/// A publisher and two viewers that see it. Dropping it leaves them connected; the media server
/// keeps them until they go or it ends.
pub struct Relay {
    /// Sends.
    pub publisher: Transport,
    /// Receive.
    pub viewers: [Transport; 2],
    /// The answers for the publisher and the viewers.
    pub answers: [String; 3],
}

impl Relay {
    /// Answers three offers, the publisher's first, and connects what they came to.
    ///
    /// # Errors
    /// An offer that cannot be answered, or codecs that do not fit. What was made for the others
    /// goes when its peer never comes, or with the media server.
    pub fn new(endpoint: &Endpoint, offers: [&[u8]; 3]) -> Result<Self> {
        let [publish, view, view_too] = offers.map(Offer::parse);
        let who = [
            "the publisher's offer",
            "the first viewer's offer",
            "the second viewer's offer",
        ];
        let publish = publish.context(who[0])?;
        let (view, view_too) = (view.context(who[1])?, view_too.context(who[2])?);
        let (publisher, answer) = endpoint.publish(&publish).context(who[0])?;
        let (first, first_answer) = endpoint.view(&view).context(who[1])?;
        let (second, second_answer) = endpoint.view(&view_too).context(who[2])?;
        // Nobody is connected yet, and need not be: media flows as soon as both sides are.
        for viewer in [&first, &second] {
            viewer.outgoing().attach_to(publisher.incoming())?;
        }
        Ok(Self {
            publisher,
            viewers: [first, second],
            answers: [answer, first_answer, second_answer],
        })
    }
}

/// A media server for peers on this machine, on one core and a port of the system's choice.
pub fn config() -> MediaServerConfig {
    MediaServerConfig {
        engine: EngineConfig {
            address: IpAddr::V4(Ipv4Addr::LOCALHOST),
            base_port: 0,
            shards: 1,
            receive_buffer_bytes: 4 << 20,
            send_buffer_bytes: 4 << 20,
            forwarding: Forwarding::default(),
        },
        public_ips: Vec::new(),
        consent_timeout: Duration::from_secs(30),
        max_transports: 3,
        publish_bitrate_max_bps: 10_000_000,
        dtls: dtls::Limits::default(),
    }
}

#[tokio::main]
#[allow(dead_code, reason = "its test includes this file for the relay alone")]
async fn main() -> Result<()> {
    let files: Vec<_> = std::env::args().skip(1).collect();
    let [publisher, first, second] = &files[..] else {
        anyhow::bail!("usage: relay PUBLISHER.sdp VIEWER1.sdp VIEWER2.sdp");
    };
    let read = |file| std::fs::read(file).with_context(|| format!("cannot read {file}"));
    let offers = [read(publisher)?, read(first)?, read(second)?];

    let server = MediaServer::start(config())?;
    let endpoint = server.create_endpoint();
    let relay = Relay::new(&endpoint, offers.each_ref().map(Vec::as_slice))?;
    for (file, answer) in files.iter().zip(&relay.answers) {
        println!("# answer to {file}\n{answer}");
    }

    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted?,
        reason = relay.publisher.closed() => println!("# the publisher has gone: {reason}"),
    }
    server.terminate(Duration::from_secs(1)).await;
    Ok(())
}
