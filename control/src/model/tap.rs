//! How a tokio task waits for its taps.
//!
//! The taps themselves are the engine's ([`Tap`](fanmill_engine::tap::Tap), made by
//! [`Encoding::create_tap`](crate::model::Encoding::create_tap)); all that this module adds is the
//! way from their [`Signal`] to a task.

use std::io;

use fanmill_engine::signal::Signal;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A [`Signal`] that a task waits for: one for all taps and producers of that task.
#[derive(Debug)]
pub struct TapSignal(AsyncFd<Signal>);

impl TapSignal {
    /// A signal that nobody has rung. Call it inside the runtime.
    ///
    /// # Errors
    /// When the process has no descriptor left.
    pub fn new() -> io::Result<Self> {
        let signal = AsyncFd::with_interest(Signal::new()?, Interest::READABLE)?;
        Ok(Self(signal))
    }

    /// What taps and producers are made with.
    pub fn signal(&self) -> Signal {
        self.0.get_ref().clone()
    }

    /// Waits until it is rung; returns at once when it was since the last look, and now and then
    /// without reason. Look at every tap until there is nothing left, then call it again. One task
    /// at a time. Nothing is lost when the future is dropped.
    pub async fn rung(&self) {
        let signal = self.0.get_ref();
        if !signal.arm() {
            return;
        }
        match self.0.readable().await {
            Ok(mut ready) => {
                signal.clear();
                ready.clear_ready();
            }
            // The runtime ends, and with it this task.
            Err(_) => std::future::pending().await,
        }
    }
}
