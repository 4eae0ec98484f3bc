//! Waiting for what can be observed. Used by every part of the harness and by the tests instead
//! of pauses of a guessed length.

use std::fmt::Debug;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

const PERIOD: Duration = Duration::from_millis(50);

/// Asks `probe` until `good` holds of what it observed, and returns that. After `limit` the error
/// names `what` was awaited and the last observation.
///
/// # Errors
/// If `limit` passes first, or at once if `probe` fails.
pub async fn until<T: Debug>(
    what: &str,
    limit: Duration,
    mut probe: impl AsyncFnMut() -> Result<T>,
    good: impl Fn(&T) -> bool,
) -> Result<T> {
    let start = Instant::now();
    loop {
        let seen = probe().await?;
        if good(&seen) {
            return Ok(seen);
        }
        if start.elapsed() > limit {
            bail!("waited {limit:?} for {what}; last seen: {seen:?}");
        }
        tokio::time::sleep(PERIOD).await;
    }
}
