//! The server that streams are measured with: on loopback, with one shard.

use std::time::Duration;

use fanmill_control::dtls;
use fanmill_control::model::{MediaServer, MediaServerConfig, MediaServerError};
use fanmill_engine::{EngineConfig, Forwarding};

/// Starts it.
pub fn start() -> Result<MediaServer, MediaServerError> {
    MediaServer::start(MediaServerConfig {
        engine: EngineConfig {
            address: [127, 0, 0, 1].into(),
            base_port: 0,
            shards: 1,
            receive_buffer_bytes: 1 << 20,
            send_buffer_bytes: 1 << 20,
            forwarding: Forwarding::default(),
        },
        public_ips: Vec::new(),
        consent_timeout: Duration::from_secs(30),
        max_transports: 10,
        publish_bitrate_max_bps: 10_000_000,
        dtls: dtls::Limits::default(),
    })
}
