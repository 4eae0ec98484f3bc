//! `fanmill serve`: starts the parts of the server in order, and stops them in reverse.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use fanmill_engine::{EngineConfig, Forwarding, ShardReport};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::ServeArgs;
use super::listen;
use super::shutdown::Shutdown;
use crate::access::Access;
use crate::admin::{
    AdminError, AdminServer, Methods, add_access_methods, add_broadcast_methods, add_event_methods,
    add_ingest_methods, add_log_methods, add_output_methods, add_player_methods, add_push_methods,
    add_recorder_methods, add_room_methods, add_rtmp_methods, add_rtsp_methods,
    add_streamer_methods, add_thumbnail_methods,
};
use crate::broadcast::{Broadcast, BroadcastLimits};
use crate::config::{Config, ConfigError, Listen};
use crate::http::{self, HttpLimits};
use crate::ingest::Ingests;
use crate::log::{self, LogControl, LogError};
use crate::media::audio::AudioOptions;
use crate::model::{MediaServer, MediaServerConfig, MediaServerError};
use crate::output::Outputs;
use crate::player::{Players, Recordings};
use crate::recorder::{DiskPolicy, RecorderConfig, Recorders, Rule, StreamRecorders};
use crate::rtmp::{Rtmp, RtmpLimits, TlsError, TlsFiles};
use crate::rtsp::{PullSpec, Rtsp, RtspLimits};
use crate::streamer::{Inlet, PortRange, StreamerError, Streamers};
use crate::thumbnail::Thumbnails;

/// How long saying goodbye to all peers may take.
const FAREWELL: Duration = Duration::from_millis(1200);

/// How long running admin requests may hold up the end after that.
const DRAIN: Duration = Duration::from_millis(500);

pub(super) const EXAMPLES: &str = "\
Examples:
  fanmill serve
  fanmill serve --http 0.0.0.0:8080 --udp-ip 192.0.2.10 --shards 8
  fanmill serve --http 0.0.0.0:8080 --udp-ip 0.0.0.0 --public-ip 203.0.113.7
  fanmill serve --udp-ip :: --public-ip 203.0.113.7 --public-ip 2001:db8::7
  fanmill serve --config /etc/fanmill.toml --log info,fanmill_control=debug

The file has the same names:
  http = \"0.0.0.0:8080\"
  udp-ip = \"0.0.0.0\"
  public-ip = [\"203.0.113.7\"]";

/// Why the server did not start, or stopped. All are fatal.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The configuration was refused.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The log could not be opened.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The admin socket could not be opened.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// The HTTP address could not be had.
    #[error("cannot listen for HTTP on {address}: {source}; is another server running there?")]
    Http {
        /// What was asked for.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The RTSP server's threads could not be made.
    #[error("cannot start the RTSP server: {0}; raise the limits of processes and open files")]
    Rtsp(#[source] io::Error),
    /// The address of another server could not be had.
    #[error("cannot listen for --{key} on {address}: {source}; is another server running there?")]
    Listen {
        /// The key.
        key: &'static str,
        /// What was asked for.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// Certificate or key are of no use.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The recorder did not start.
    #[error("cannot record to {}: {source}; name another directory with --recordings", path.display())]
    Recordings {
        /// Where to.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A session of plain RTP did not start.
    #[error("cannot receive plain RTP as {stream:?}: {source}")]
    PlainRtp {
        /// The stream.
        stream: String,
        /// Why.
        source: Box<StreamerError>,
    },
    /// The media server did not start.
    #[error(transparent)]
    Media(#[from] MediaServerError),
    /// The control plane's threads or signal handlers could not be made.
    #[error("cannot start the control plane: {0}; check the limits on threads and open files")]
    Runtime(#[source] io::Error),
}

/// Serves until a signal.
///
/// # Errors
/// [`ServeError`].
pub fn run(args: ServeArgs) -> Result<(), ServeError> {
    let config = args.load()?;
    let log = log::install(&config.log)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .thread_name("control")
        .enable_all()
        .build()
        .map_err(ServeError::Runtime)?;
    runtime.block_on(serve(config, log))
}

async fn serve(config: Config, log: LogControl) -> Result<(), ServeError> {
    let shutdown = Shutdown::on_signals().map_err(ServeError::Runtime)?;
    let listener = TcpListener::bind(config.http)
        .await
        .map_err(|source| ServeError::Http {
            address: config.http,
            source,
        })?;
    let server = MediaServer::start(media_config(&config))?;
    server.shard_reports().iter().for_each(report_shard);
    let limits = BroadcastLimits {
        max_streams: config.max_streams,
        max_viewers_per_stream: config.max_viewers_per_stream,
    };
    let broadcast = Broadcast::new(server.clone(), limits);
    let rules = config.playout_rules();
    broadcast.set_playout_rules(rules.expect("the configuration was validated"));
    broadcast.set_takeover_back(config.takeover_back);
    let configured = config.configure_access(broadcast.access());
    configured.expect("the configuration was validated");
    warn_if_open(&config, broadcast.access());
    let mut methods = Methods::new();
    add_log_methods(&mut methods, log);
    add_broadcast_methods(&mut methods, &broadcast);
    add_access_methods(&mut methods, broadcast.access());
    add_event_methods(&mut methods, broadcast.events());
    add_room_methods(&mut methods, broadcast.rooms());
    let players = Players::new(broadcast.clone(), Recordings::new(&config.recordings));
    add_player_methods(&mut methods, &players);
    let audio = AudioOptions {
        opus_bitrate_bps: config.opus_bitrate_bps,
    };
    let ingests = Ingests::new(broadcast.clone(), audio);
    add_ingest_methods(&mut methods, &ingests);
    let streamers = start_streamers(&config, ingests.clone())?;
    add_streamer_methods(&mut methods, &streamers);
    let rtmp = start_rtmp(&config, ingests.clone(), shutdown.token()).await?;
    add_rtmp_methods(&mut methods, &rtmp);
    add_push_methods(&mut methods, &rtmp.pushes());
    let recorders = start_recorders(&config, &broadcast)?;
    add_recorder_methods(&mut methods, &recorders);
    let rtsp = start_rtsp(&config, ingests.clone()).await?;
    add_rtsp_methods(&mut methods, &rtsp);
    let outputs = Outputs::start(broadcast.clone()).map_err(ServeError::Runtime)?;
    add_output_methods(&mut methods, &outputs);
    let thumbnails = Thumbnails::new(broadcast.clone(), players.recordings().clone());
    add_thumbnail_methods(&mut methods, &thumbnails, recorders.recorders().directory());
    let admin = AdminServer::bind(&config.admin, methods)?;
    tracing::info!(path = %config.admin.display(), "admin socket open");
    let mut admin = tokio::spawn(admin.run(shutdown.token()));

    let router = http::router(broadcast, &config.ice_server);
    let router = router.merge(http::recordings_router(players));
    let router = router.merge(http::ingests_router(ingests));
    let router = router.merge(http::recorders_router(recorders.clone()));
    let router = router.merge(http::thumbnails_router(thumbnails));
    let router = router.merge(http::outputs_router(outputs));
    let address = listener.local_addr().unwrap_or(config.http);
    let http = http::serve(listener, router, http_limits(), shutdown.token());
    let mut http = tokio::spawn(http);
    tracing::info!("ready: open http://{address}/");

    shutdown.begun().await;
    // While their streams are there: each file ends with the last packet that came.
    let stopped = tokio::time::timeout(FAREWELL, recorders.recorders().stop_all());
    if stopped.await.is_err() {
        tracing::warn!("the disk is behind: recordings are closed at the next start");
    }
    rtsp.stop();
    let _ = tokio::time::timeout(DRAIN, rtmp.ended()).await;
    server.terminate(FAREWELL).await;
    let drained = async { (&mut admin).await.is_ok() & (&mut http).await.is_ok() };
    if tokio::time::timeout(DRAIN, drained).await.is_err() {
        tracing::warn!("requests were still running; abandoned");
        admin.abort();
        http.abort();
    }
    tracing::info!("stopped");
    Ok(())
}

/// Says so if everybody in reach may publish.
fn warn_if_open(config: &Config, access: &Access) {
    let doors = [
        ("http", Listen::At(config.http)),
        ("rtmp", config.rtmp),
        ("rtmps", config.rtmps),
        ("rtsp", config.rtsp),
    ];
    for (key, listen) in doors {
        if let Listen::At(address) | Listen::Usually(address) = listen
            && !address.ip().is_loopback()
            && !access.is_enforced()
        {
            tracing::warn!(
                key,
                %address,
                "whoever reaches this address may publish, watch and record: set publish-token and \
                 operate-token, and watch-token if not everybody may watch"
            );
        }
    }
}

/// Serves RTSP, and begins to pull what is configured.
async fn start_rtsp(config: &Config, ingests: Ingests) -> Result<Rtsp, ServeError> {
    let listener = listen::bind("rtsp", config.rtsp).await?;
    let listener = listener.map(TcpListener::into_std).transpose();
    let rtsp = listener
        .and_then(|listener| Rtsp::start(ingests, listener, RtspLimits::default()))
        .map_err(ServeError::Rtsp)?;
    if let Some(address) = rtsp.address() {
        tracing::info!("RTSP at rtsp://{address}/NAME");
    }
    for pull in &config.rtsp_pull {
        // Their form was checked; a name that cannot be one, or is there twice, was not.
        if let Err(error) = PullSpec::parse(pull).and_then(|spec| rtsp.pull(spec)) {
            tracing::error!(%error, "a stream of rtsp-pull is not pulled");
        }
    }
    Ok(rtsp)
}

/// Listens for RTMP and RTMPS.
async fn start_rtmp(
    config: &Config,
    ingests: Ingests,
    stop: CancellationToken,
) -> Result<Rtmp, ServeError> {
    let rtmp = Rtmp::new(ingests, RtmpLimits::default(), stop);
    if let Some(listener) = listen::bind("rtmp", config.rtmp).await? {
        rtmp.listen(listener);
    }
    if let Some(listener) = listen::bind("rtmps", config.rtmps).await?
        && let (Some(certificate), Some(key)) = (&config.tls_cert, &config.tls_key)
    {
        let files = TlsFiles {
            certificate: certificate.clone(),
            key: key.clone(),
        };
        rtmp.listen_tls(listener, &files)?;
    }
    for address in rtmp.info().addresses {
        tracing::info!("RTMP at {address}/live/NAME");
    }
    Ok(rtmp)
}

/// Closes what a crash left open, and begins to record by the rules.
fn start_recorders(config: &Config, broadcast: &Broadcast) -> Result<StreamRecorders, ServeError> {
    let defaults = RecorderConfig::new(config.recordings.clone());
    let sync_after = Duration::from_millis(config.recording_sync_ms);
    let recorders = Recorders::start(RecorderConfig {
        fragment: Duration::from_millis(config.recording_fragment_ms),
        wait: Duration::from_millis(config.recording_wait_ms),
        disk: DiskPolicy {
            sync_after: (!sync_after.is_zero()).then_some(sync_after),
            ..defaults.disk
        },
        events: broadcast.events().clone(),
        ..defaults
    });
    let recorders = recorders.map_err(|source| ServeError::Recordings {
        path: config.recordings.clone(),
        source,
    })?;
    // The configuration was checked: every rule can be read.
    let rules = config
        .record
        .iter()
        .filter_map(|rule| Rule::parse(rule).ok());
    Ok(StreamRecorders::new(
        broadcast.clone(),
        recorders,
        rules.collect(),
    ))
}

/// Begins to receive the plain RTP that the configuration describes.
fn start_streamers(config: &Config, ingests: Ingests) -> Result<Streamers, ServeError> {
    // The configuration was checked: all of this can be read.
    let ports = PortRange::parse(&config.rtp_ports).unwrap_or_default();
    let streamers = Streamers::new(ingests, ports.0);
    for inlet in config
        .rtp_in
        .iter()
        .filter_map(|text| Inlet::parse(text).ok())
    {
        let received = inlet.spec().and_then(|spec| streamers.receive(spec));
        received.map_err(|source| ServeError::PlainRtp {
            stream: inlet.stream,
            source: Box::new(source),
        })?;
    }
    Ok(streamers)
}

/// HTTP connections, within what the system lets this process open: half of it, and a quarter for
/// those who read events, since the shards, the admin socket and whatever else is opened shall not
/// go short.
fn http_limits() -> HttpLimits {
    let mut files = getrlimit(Resource::Nofile);
    if files.current != files.maximum {
        let raised = Rlimit {
            current: files.maximum,
            ..files
        };
        match setrlimit(Resource::Nofile, raised) {
            Ok(()) => files = getrlimit(Resource::Nofile),
            Err(error) => tracing::debug!(%error, "cannot raise the limit of open files"),
        }
    }
    let mut limits = HttpLimits::default();
    if let Some(files) = files.current {
        let half = usize::try_from(files / 2).unwrap_or(usize::MAX);
        limits.max_connections = limits.max_connections.min(half.max(1));
        limits.max_event_streams = limits.max_event_streams.min((half / 2).max(1));
    }
    limits
}

/// Socket buffers asked for: 100 ms at 1.3 Gbit/s.
const SOCKET_BUFFER_BYTES: usize = 16 << 20;

fn media_config(config: &Config) -> MediaServerConfig {
    MediaServerConfig {
        engine: EngineConfig {
            address: config.udp_ip,
            base_port: config.udp_port,
            shards: config.shards,
            receive_buffer_bytes: SOCKET_BUFFER_BYTES,
            send_buffer_bytes: SOCKET_BUFFER_BYTES,
            forwarding: Forwarding {
                train_wait_us: config.train_wait_us,
                audio_train_wait_us: config.audio_train_wait_us,
                max_lag_us: config.max_lag_ms * 1000,
                max_cache_us: config.frame_cache_ms * 1000,
                publisher_silence_us: config.takeover_after_ms * 1000,
                pause_unwatched_us: config.pause_unwatched_s * 1_000_000,
                seed: std::process::id().into(),
            },
        },
        public_ips: config.public_ip.clone(),
        consent_timeout: Duration::from_secs(config.consent_timeout_s),
        max_transports: config.max_transports,
        publish_bitrate_max_bps: config.publish_bitrate_max_bps,
        dtls: crate::dtls::Limits::default(),
    }
}

/// Says what a shard got, and warns of what it did not.
fn report_shard(report: &ShardReport) {
    let grants = &report.grants;
    let missing = grants
        .features()
        .into_iter()
        .filter(|(_, granted)| !granted);
    let missing: Vec<_> = missing.map(|(name, _)| name).collect();
    tracing::info!(
        shard = report.shard.0,
        core = report.core,
        address = %grants.local_address,
        kernel = grants.kernel_release,
        receive_buffer_bytes = grants.receive_buffer.granted_bytes,
        send_buffer_bytes = grants.send_buffer.granted_bytes,
        "shard started"
    );
    if !missing.is_empty() {
        tracing::warn!(
            shard = report.shard.0,
            missing = missing.join(", "),
            "not granted by the kernel"
        );
    }
    if grants.receive_buffer.granted_bytes < grants.receive_buffer.asked_bytes {
        tracing::warn!(
            shard = report.shard.0,
            asked_bytes = grants.receive_buffer.asked_bytes,
            granted_bytes = grants.receive_buffer.granted_bytes,
            "small receive buffer: bursts may be lost; raise net.core.rmem_max"
        );
    }
}
