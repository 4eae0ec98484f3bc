//! The server under test, and requests to it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use fanmill_control::broadcast::{Broadcast, BroadcastLimits};
use fanmill_control::dtls;
use fanmill_control::http::{self, HttpLimits};
use fanmill_control::model::{MediaServer, MediaServerConfig};
use fanmill_engine::ids::ShardId;
use fanmill_engine::{EngineConfig, Forwarding};
use reqwest::{Client, Method, Response};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::soon;

pub const SDP: &str = "application/sdp";
pub const FRAGMENT: &str = "application/trickle-ice-sdpfrag";

/// How the server under test differs from the usual.
pub struct Options {
    pub shards: usize,
    pub consent_timeout: Duration,
    pub max_transports: usize,
    pub broadcast: BroadcastLimits,
    pub http: HttpLimits,
    pub ice_servers: Vec<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            shards: 1,
            consent_timeout: Duration::from_secs(30),
            max_transports: 10_000,
            broadcast: BroadcastLimits {
                max_streams: 1000,
                max_viewers_per_stream: 10_000,
            },
            http: HttpLimits::default(),
            ice_servers: Vec::new(),
        }
    }
}

pub fn media_config(options: &Options) -> MediaServerConfig {
    MediaServerConfig {
        engine: EngineConfig {
            address: IpAddr::V4(Ipv4Addr::LOCALHOST),
            base_port: 0,
            shards: options.shards,
            receive_buffer_bytes: 1 << 20,
            send_buffer_bytes: 1 << 20,
            forwarding: Forwarding::default(),
        },
        public_ips: Vec::new(),
        consent_timeout: options.consent_timeout,
        max_transports: options.max_transports,
        publish_bitrate_max_bps: 10_000_000,
        dtls: dtls::Limits::default(),
    }
}

pub struct Server {
    pub media: MediaServer,
    pub broadcast: Broadcast,
    pub address: SocketAddr,
    pub client: Client,
    shards: u16,
    stop: CancellationToken,
    http: JoinHandle<()>,
}

impl Server {
    pub async fn start(options: Options) -> Self {
        let media = MediaServer::start(media_config(&options)).unwrap();
        let broadcast = Broadcast::new(media.clone(), options.broadcast);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let router = http::router(broadcast.clone(), &options.ice_servers);
        let http = http::serve(listener, router, options.http, stop.clone());
        Self {
            media,
            broadcast,
            address,
            client: Client::new(),
            shards: options.shards as u16,
            stop,
            http: tokio::spawn(http),
        }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// A request with the given header fields and body.
    pub async fn request(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<reqwest::Body>,
    ) -> Response {
        let method: Method = method.parse().unwrap();
        let mut request = self.client.request(method, self.url(path)).body(body);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        soon(request.send()).await.unwrap()
    }

    /// POSTs an offer.
    pub async fn post(&self, path: &str, offer: &str) -> Response {
        self.request("POST", path, &[("content-type", SDP)], offer.to_owned())
            .await
    }

    pub async fn delete(&self, path: &str) -> u16 {
        self.request("DELETE", path, &[], "")
            .await
            .status()
            .as_u16()
    }

    /// POSTs an offer that must be taken; gives the session's path and the answer.
    pub async fn create(&self, path: &str, offer: &str) -> (String, String) {
        let response = self.post(path, offer).await;
        let status = response.status().as_u16();
        let location = response.headers().get("location").cloned();
        let body = response.text().await.unwrap();
        assert_eq!(status, 201, "{body}");
        (location.unwrap().to_str().unwrap().to_owned(), body)
    }

    /// Transports the shards still have.
    pub fn engine_transports(&self) -> u64 {
        (0..self.shards)
            .map(|shard| {
                let counters = self.media.engine().counters(ShardId(shard)).unwrap();
                counters.transports.get()
            })
            .sum()
    }

    /// Ends it; what hangs is seen here.
    pub async fn stop(self) {
        self.stop.cancel();
        soon(self.media.terminate(Duration::from_secs(2))).await;
        soon(self.http).await.unwrap();
    }
}

/// A header field of a response, which must have it once.
#[track_caller]
pub fn header<'a>(response: &'a Response, name: &str) -> &'a str {
    let mut values = response.headers().get_all(name).iter();
    let value = values.next().unwrap_or_else(|| panic!("no {name}"));
    assert!(values.next().is_none(), "{name} more than once");
    value.to_str().unwrap()
}

/// A recorded offer.
pub fn recorded(name: &str) -> String {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/sdp");
    std::fs::read_to_string(format!("{directory}/{name}.sdp")).unwrap()
}
