//! Streams that this server fetches from cameras and other RTSP servers.
//!
//! [`Rtsp`](super::Rtsp) has the registry: a task for each pull, which connects again and again until
//! it is stopped. While the other server is away its stream has no publisher; viewers stay.

mod auth;
mod client;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rtsp_types::Url;
use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use self::auth::Credentials;
use self::client::{PullEnd, Target};
use super::limits::MAX_PULLS;
use super::play::lock;
use crate::access::credentials::percent_decoded;
use crate::broadcast::BroadcastError;
use crate::ingest::Ingests;

/// Waits between attempts, the last one from then on.
const BACKOFF: [Duration; 6] = [
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
    Duration::from_secs(8),
    Duration::from_secs(15),
];

/// How packets shall come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PullTransport {
    /// On the connection; in datagrams if the server does not do that.
    #[default]
    Auto,
    /// On the connection.
    Tcp,
    /// In datagrams.
    Udp,
}

/// What is to be pulled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PullSpec {
    /// The stream that it becomes.
    pub stream: String,
    /// Where it is, with user and password if the server wants some.
    pub url: String,
    /// How packets shall come.
    pub transport: PullTransport,
}

impl PullSpec {
    /// Reads `STREAM=URL`, as the configuration has it.
    ///
    /// # Errors
    /// [`PullError::Form`], [`PullError::Url`].
    pub fn parse(text: &str) -> Result<Self, PullError> {
        let (stream, url) = text.split_once('=').ok_or(PullError::Form)?;
        let spec = Self {
            stream: stream.trim().to_owned(),
            url: url.trim().to_owned(),
            transport: PullTransport::Auto,
        };
        spec.read_url()?;
        Ok(spec)
    }

    /// The URL without what only the server's own door should see, and that.
    fn read_url(&self) -> Result<(Url, Option<Credentials>), PullError> {
        let mut url = Url::parse(&self.url).map_err(|_| PullError::Url)?;
        if url.scheme() != "rtsp" || url.host_str().is_none_or(str::is_empty) {
            return Err(PullError::Url);
        }
        let decode = percent_decoded;
        let credentials = (!url.username().is_empty()).then(|| Credentials {
            user: decode(url.username()),
            password: decode(url.password().unwrap_or_default()),
        });
        // Both can be taken away from a URL with a host.
        let _ = url.set_username("");
        let _ = url.set_password(None);
        Ok((url, credentials))
    }
}

/// Why nothing is pulled.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PullError {
    /// Not `STREAM=URL`.
    #[error("give a stream and its source, such as cam1=rtsp://user:password@192.0.2.9/stream1")]
    Form,
    /// No URL of RTSP.
    #[error("give a URL such as rtsp://user:password@192.0.2.9:554/stream1")]
    Url,
    /// The name cannot be one.
    #[error(transparent)]
    Stream(#[from] BroadcastError),
    /// It is pulled already.
    #[error("stream {0} is pulled already; stop that first (rtsp.stop)")]
    Taken(String),
    /// It is not pulled.
    #[error("stream {0} is not pulled; rtsp.list names those that are")]
    Unknown(String),
    /// Too many.
    #[error("{MAX_PULLS} streams are pulled; stop one first")]
    TooMany,
}

/// What a pull is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PullState {
    /// It connects, or waits for the first picture.
    Connecting,
    /// Its stream is there.
    Live,
    /// It waits to connect again.
    Waiting,
    /// Somebody ended its stream; it does not begin again.
    Ended,
}

/// A pull in a report.
#[derive(Debug, Clone, Serialize)]
pub struct PullInfo {
    /// The stream that it becomes.
    pub stream: String,
    /// Where it is, without the password.
    pub url: String,
    /// What it is doing.
    pub state: PullState,
    /// Why it was interrupted last.
    pub last_error: Option<String>,
    /// How often it was connected to.
    pub attempts: u32,
    /// Packets of the present connection.
    pub packets: u64,
    /// Packets missing of it.
    pub packets_lost: u64,
    /// Bytes since it was made.
    pub bytes: u64,
    /// Seconds since it was made.
    pub age_s: u64,
}

/// What a pull's task tells.
#[derive(Debug, Default)]
struct Progress {
    live: AtomicBool,
    waiting: AtomicBool,
    ended: AtomicBool,
    attempts: AtomicU32,
    packets: AtomicU64,
    lost: AtomicU64,
    bytes: AtomicU64,
    last_error: Mutex<Option<String>>,
}

struct Pull {
    url: Url,
    began: Instant,
    progress: Arc<Progress>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

/// All pulls of a server.
#[derive(Default)]
pub(super) struct Pulls(Mutex<BTreeMap<String, Pull>>);

impl Pulls {
    /// Begins to pull, on this runtime.
    pub(super) fn start(
        &self,
        spec: PullSpec,
        ingests: &Ingests,
        runtime: &Handle,
        stop: &CancellationToken,
    ) -> Result<PullInfo, PullError> {
        let (url, credentials) = spec.read_url()?;
        // Only to see whether the name can be one.
        ingests.broadcast().follow(&spec.stream)?;
        let mut pulls = lock(&self.0);
        let taken = pulls
            .get(&spec.stream)
            .filter(|pull| !pull.task.is_finished());
        if taken.is_some() {
            return Err(PullError::Taken(spec.stream));
        }
        if pulls.len() >= MAX_PULLS {
            return Err(PullError::TooMany);
        }
        let (progress, stop) = (Arc::<Progress>::default(), stop.child_token());
        let task = Task {
            stream: spec.stream.clone(),
            url: url.clone(),
            credentials,
            transport: spec.transport,
            ingests: ingests.clone(),
            progress: Arc::clone(&progress),
        };
        let stopped = stop.clone();
        let pull = Pull {
            url,
            began: Instant::now(),
            progress,
            stop,
            task: runtime.spawn(async move {
                tokio::select! {
                    () = stopped.cancelled() => {}
                    () = task.run() => {}
                }
            }),
        };
        let info = pull.info(&spec.stream);
        pulls.insert(spec.stream, pull);
        Ok(info)
    }

    /// Ends a pull; its stream is gone when this returns.
    pub(super) async fn stop(
        &self,
        stream: &str,
        ingests: &Ingests,
    ) -> Result<PullInfo, PullError> {
        let pull = lock(&self.0).remove(stream);
        let mut pull = pull.ok_or_else(|| PullError::Unknown(stream.to_owned()))?;
        pull.stop.cancel();
        // It has panicked, at the worst.
        let _ = (&mut pull.task).await;
        ingests.settled(stream).await;
        Ok(pull.info(stream))
    }

    pub(super) fn list(&self) -> Vec<PullInfo> {
        let pulls = lock(&self.0);
        pulls
            .iter()
            .map(|(stream, pull)| pull.info(stream))
            .collect()
    }
}

impl Pull {
    fn info(&self, stream: &str) -> PullInfo {
        let progress = &self.progress;
        let is = |flag: &AtomicBool| flag.load(Ordering::Relaxed);
        let state = if is(&progress.ended) || self.stop.is_cancelled() {
            PullState::Ended
        } else if is(&progress.live) {
            PullState::Live
        } else if is(&progress.waiting) {
            PullState::Waiting
        } else {
            PullState::Connecting
        };
        PullInfo {
            stream: stream.to_owned(),
            url: self.url.to_string(),
            state,
            last_error: lock(&progress.last_error).clone(),
            attempts: progress.attempts.load(Ordering::Relaxed),
            packets: progress.packets.load(Ordering::Relaxed),
            packets_lost: progress.lost.load(Ordering::Relaxed),
            bytes: progress.bytes.load(Ordering::Relaxed),
            age_s: self.began.elapsed().as_secs(),
        }
    }
}

/// What a pull does.
struct Task {
    stream: String,
    url: Url,
    credentials: Option<Credentials>,
    transport: PullTransport,
    ingests: Ingests,
    progress: Arc<Progress>,
}

impl Task {
    async fn run(self) {
        let mut failures = 0;
        loop {
            let target = Target {
                url: &self.url,
                credentials: self.credentials.as_ref(),
                transport: self.transport,
                stream: &self.stream,
                ingests: &self.ingests,
                progress: &self.progress,
            };
            self.progress.attempts.fetch_add(1, Ordering::Relaxed);
            let end = client::run(&target).await;
            let was_live = self.progress.live.swap(false, Ordering::Relaxed);
            let (stream, url, error) = (&self.stream, self.url.as_str(), end.to_string());
            *lock(&self.progress.last_error) = Some(error.clone());
            if matches!(end, PullEnd::Stopped(_)) {
                self.progress.ended.store(true, Ordering::Relaxed);
                tracing::info!(stream, url, error, "a pull ends");
                return;
            }
            failures = if was_live { 0 } else { failures + 1 };
            let wait = BACKOFF[failures.min(BACKOFF.len() - 1)];
            tracing::warn!(stream, url, error, again_in = ?wait, "a pull was interrupted");
            self.progress.waiting.store(true, Ordering::Relaxed);
            tokio::time::sleep(wait).await;
            self.progress.waiting.store(false, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // a test's unwrap is an assertion

    use super::*;

    #[test]
    fn credentials_are_taken_from_the_url_and_never_shown() {
        let spec = PullSpec::parse("cam1=rtsp://us%40er:p%3Aw@192.0.2.9/h264?channel=1").unwrap();
        let (url, credentials) = spec.read_url().unwrap();
        assert_eq!(spec.stream, "cam1");
        assert_eq!(url.as_str(), "rtsp://192.0.2.9/h264?channel=1");
        let credentials = credentials.unwrap();
        assert_eq!(
            (credentials.user.as_str(), credentials.password.as_str()),
            ("us@er", "p:w")
        );
        assert!(!format!("{credentials:?}").contains("p:w"));
    }

    #[test]
    fn what_is_no_source_is_refused() {
        for text in [
            "cam1",
            "cam1=",
            "cam1=http://192.0.2.9/",
            "cam1=rtsp:",
            "cam1=rtsp:///x",
        ] {
            assert!(PullSpec::parse(text).is_err(), "{text}");
        }
    }
}
