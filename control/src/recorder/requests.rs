//! What is asked of [`StreamRecorders`], as JSON has it: the same on the admin socket and over HTTP.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{RecorderError, RecorderInfo, RecorderSpec, StreamRecorders};

/// Makes a recorder.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Create {
    /// The stream's name.
    pub stream: String,
    /// Where to, as a path or template.
    #[serde(default)]
    pub path: Option<String>,
    /// Hold so many seconds instead.
    #[serde(default)]
    pub hold_s: Option<u64>,
    /// Make each file progressive when it is complete.
    #[serde(default)]
    pub progressive: bool,
    /// The simulcast encoding.
    #[serde(default)]
    pub rid: Option<String>,
}

/// Ends a recorder.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stop {
    /// Its name.
    pub recorder: u64,
}

/// Writes what a recorder holds.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Flush {
    /// Its name.
    pub recorder: u64,
    /// Where to, as a path or template.
    #[serde(default)]
    pub path: Option<String>,
}

/// What was written.
#[derive(Debug, Serialize)]
pub struct Flushed {
    /// By which recorder.
    pub recorder: u64,
    /// Where.
    pub path: String,
    /// How long it lasts.
    pub duration_ms: u64,
}

impl Create {
    /// Does it. Call it inside the runtime.
    ///
    /// # Errors
    /// [`RecorderError`].
    pub fn run(self, recorders: &StreamRecorders) -> Result<RecorderInfo, RecorderError> {
        recorders.create(&RecorderSpec {
            stream: self.stream,
            path: self.path,
            hold: self.hold_s.map(Duration::from_secs),
            progressive: self.progressive,
            rid: self.rid,
            by_rule: false,
        })
    }
}

impl Stop {
    /// Does it; returns when its files are complete.
    ///
    /// # Errors
    /// [`RecorderError`].
    pub async fn run(self, recorders: &StreamRecorders) -> Result<RecorderInfo, RecorderError> {
        recorders.stop(self.recorder).await
    }
}

impl Flush {
    /// Does it; returns when the file is complete.
    ///
    /// # Errors
    /// [`RecorderError`].
    pub async fn run(self, recorders: &StreamRecorders) -> Result<Flushed, RecorderError> {
        let recorders = recorders.recorders();
        let (path, duration) = recorders.flush(self.recorder, self.path.as_deref()).await?;
        Ok(Flushed {
            recorder: self.recorder,
            path,
            duration_ms: u64::try_from(duration.as_millis()).unwrap_or(u64::MAX),
        })
    }
}
