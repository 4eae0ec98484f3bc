//! Logging: human-readable lines on standard error, through a filter that can be replaced while
//! the server runs.
//!
//! `fanmill serve` installs it once; the admin method `log.set` replaces the filter. Nothing here
//! is ever called from a media thread.

use std::io::IsTerminal;
use std::sync::{Arc, Mutex, PoisonError};

use tracing::Subscriber;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{EnvFilter, Registry, fmt, reload};

/// Longer than any filter a person writes; matching cost grows with the number of directives.
const MAX_FILTER_BYTES: usize = 4096;

/// The level names a filter may hold alone, to tell a typing mistake from a target's name.
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// Why a filter was refused or could not be installed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// The filter is not made of `tracing` directives.
    #[error(
        "`{filter}` is not a log filter ({problem}): use a level (error, warn, info, debug, \
         trace) or directives such as info,fanmill_control=debug"
    )]
    Filter {
        /// The filter as given, cut to a printable length.
        filter: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A global subscriber was installed before.
    #[error("logging is installed already: install it once, at start")]
    Installed,
    /// The subscriber is gone, so nothing is logged any more.
    #[error("the log is closed: restart the server")]
    Closed,
}

/// Replaces the filter of the log it came with. Clones control the same log.
#[derive(Clone, Debug)]
pub struct LogControl {
    handle: reload::Handle<EnvFilter, Registry>,
    current: Arc<Mutex<String>>,
}

impl LogControl {
    /// Replaces the filter and returns the one it replaced.
    ///
    /// # Errors
    /// [`LogError::Filter`] (the old filter stays), [`LogError::Closed`].
    pub fn set(&self, filter: &str) -> Result<String, LogError> {
        let parsed = parse(filter)?;
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        self.handle.reload(parsed).map_err(|_| LogError::Closed)?;
        Ok(std::mem::replace(&mut *current, filter.to_owned()))
    }
}

/// Parses a filter strictly: nothing in it is ignored.
///
/// # Errors
/// [`LogError::Filter`].
pub fn parse(filter: &str) -> Result<EnvFilter, LogError> {
    let refused = |problem: String| LogError::Filter {
        filter: filter
            .chars()
            .filter(|c| !c.is_control())
            .take(80)
            .collect(),
        problem,
    };
    if filter.trim().is_empty() {
        return Err(refused("it is empty".to_owned()));
    }
    if filter.len() > MAX_FILTER_BYTES {
        return Err(refused(format!("longer than {MAX_FILTER_BYTES} bytes")));
    }
    // A lone misspelt level would pass as the name of a target and silence everything else.
    for word in filter
        .split(',')
        .map(|word| word.trim().to_ascii_lowercase())
    {
        let level = crate::config::nearest(&word, LEVELS);
        if let Some(level) = level.filter(|level| *level != word) {
            return Err(refused(format!("`{word}`: did you mean `{level}`?")));
        }
    }
    // No regular expressions: the filter may come over the admin socket.
    EnvFilter::builder()
        .with_regex(false)
        .parse(filter)
        .map_err(|e| refused(e.to_string()))
}

/// A subscriber that writes to `writer`, and the control of its filter.
///
/// # Errors
/// [`LogError::Filter`].
pub fn subscriber<W>(
    filter: &str,
    writer: W,
    colours: bool,
) -> Result<(impl Subscriber + Send + Sync, LogControl), LogError>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let (layer, handle) = reload::Layer::new(parse(filter)?);
    let subscriber = tracing_subscriber::registry()
        .with(layer)
        .with(fmt::layer().with_writer(writer).with_ansi(colours));
    let current = Arc::new(Mutex::new(filter.to_owned()));
    Ok((subscriber, LogControl { handle, current }))
}

/// Installs the process's log on standard error, coloured if that is a terminal.
///
/// # Errors
/// [`LogError::Filter`], [`LogError::Installed`].
pub fn install(filter: &str) -> Result<LogControl, LogError> {
    let colours = std::io::stderr().is_terminal();
    let (subscriber, control) = subscriber(filter, std::io::stderr, colours)?;
    tracing::subscriber::set_global_default(subscriber).map_err(|_| LogError::Installed)?;
    Ok(control)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // a test's unwrap is an assertion

    use super::*;
    use std::io::Write;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_replaced_filter_takes_effect_and_names_the_old_one() {
        let lines = Lines::default();
        let writer = lines.clone();
        let (subscriber, control) = subscriber("info", move || writer.clone(), false).unwrap();
        tracing::subscriber::with_default(subscriber, || {
            tracing::debug!("first");
            assert_eq!(control.set("debug").unwrap(), "info");
            tracing::debug!("second");
            assert_eq!(control.set("error").unwrap(), "debug");
            tracing::warn!("third");
        });
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        assert!(!text.contains("first") && text.contains("second") && !text.contains("third"));
        assert!(matches!(control.set("debug"), Err(LogError::Closed)));
    }

    #[test]
    fn a_bad_filter_is_refused_and_the_old_one_stays() {
        let (subscriber, control) = subscriber("info", std::io::sink, false).unwrap();
        for bad in ["", "  ", "info,x=loud", "infoo", "deubg", "x=y=z=debug"] {
            assert!(
                matches!(control.set(bad), Err(LogError::Filter { .. })),
                "{bad}"
            );
        }
        assert!(matches!(
            control.set(&"a,".repeat(4096)),
            Err(LogError::Filter { .. })
        ));
        assert_eq!(control.set("WARN").unwrap(), "info");
        assert_eq!(
            control.set("info,fanmill_control=debug,hyper").unwrap(),
            "WARN"
        );
        drop(subscriber);
    }
}
