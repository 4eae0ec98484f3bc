//! How a tokio task waits for its taps.
//!
//! The taps themselves are the engine's ([`Tap`](fanmill_engine::tap::Tap), made by
//! [`Encoding::create_tap`](crate::model::Encoding::create_tap)); all that this module adds is the
//! way from their [`Signal`] to a task.

use std::io;
use std::os::fd::AsFd;

use fanmill_engine::signal::Signal;
use tokio::net::unix::pipe::Receiver;

/// A [`Signal`] that a task waits for: one for all taps and producers of that task.
#[derive(Debug)]
pub struct TapSignal {
    signal: Signal,
    /// The signal's eventfd for the reactor: to read and poll it is what a pipe's end is.
    descriptor: Receiver,
}

impl TapSignal {
    /// A signal that nobody has rung. Call it inside the runtime.
    ///
    /// # Errors
    /// When the process has no descriptor left.
    pub fn new() -> io::Result<Self> {
        let signal = Signal::new()?;
        let descriptor = signal.as_fd().try_clone_to_owned()?;
        let descriptor = Receiver::from_owned_fd_unchecked(descriptor)?;
        Ok(Self { signal, descriptor })
    }

    /// What taps and producers are made with.
    pub fn signal(&self) -> Signal {
        self.signal.clone()
    }

    /// Waits until it is rung; returns at once when it was since the last look, and now and then
    /// without reason. Look at every tap until there is nothing left, then call it again. One task
    /// at a time. Nothing is lost when the future is dropped.
    pub async fn rung(&self) {
        if !self.signal.arm() {
            return;
        }
        // An error: the runtime ends, and with it this task.
        if self.descriptor.readable().await.is_err() {
            std::future::pending::<()>().await;
        }
        // The reactor learns that the descriptor is no longer readable by reading too much.
        while self.descriptor.try_read(&mut [0; 8]).is_ok() {}
        self.signal.clear();
    }
}
