//! Who publishes a stream: a peer in a WHIP session, or a source in this process. The tables and
//! reports of [`Broadcast`](super::Broadcast) treat them alike.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use crate::broadcast::Session;
use crate::model::{
    CloseReason, IncomingStream, ProducedInfo, ProducedStream, TransportInfo, TransportKind,
};

/// What a WHIP session is in reports.
const WHIP: &str = "whip";

/// The publisher of a stream.
#[derive(Clone)]
pub(super) enum Publisher {
    /// A peer.
    Session(Arc<Session>),
    /// A source in this process.
    Produced(ProducedStream),
}

/// A publisher in a report.
#[derive(Debug, Clone, Serialize)]
pub struct PublisherDetails {
    /// What it is: `whip`, `player` and so on.
    pub source: &'static str,
    /// Its connection, or that it has none.
    #[serde(flatten)]
    pub stands_on: StandsOn,
}

/// What carries a publisher's media to the server.
#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
pub enum StandsOn {
    /// A connection.
    Transport(Box<TransportInfo>),
    /// Nothing: it is in this process.
    Producer(ProducedInfo),
}

impl Publisher {
    /// Its name in the engine: no other publisher, transport or source has the same.
    pub(super) fn id(&self) -> u64 {
        match self {
            Self::Session(session) => session.transport.id().0,
            Self::Produced(stream) => stream.id().0,
        }
    }

    /// What it is, in a word.
    pub(super) fn source(&self) -> &'static str {
        match self {
            Self::Session(_) => WHIP,
            Self::Produced(stream) => stream.source(),
        }
    }

    /// What it shares.
    pub(super) fn incoming(&self) -> &IncomingStream {
        match self {
            Self::Session(session) => session.transport.incoming(),
            Self::Produced(stream) => stream.incoming(),
        }
    }

    /// Whether nothing can be expected of it any more.
    pub(super) fn is_dead(&self) -> bool {
        match self {
            Self::Session(session) => session.is_dead(),
            Self::Produced(stream) => stream.is_ending(),
        }
    }

    /// How long it has been there.
    pub(super) fn age(&self) -> Duration {
        match self {
            Self::Session(session) => session.transport.age(),
            Self::Produced(stream) => stream.age(),
        }
    }

    /// Whether media comes in from it; what this process makes is taken to come.
    pub(super) fn is_heard(&self) -> bool {
        match self {
            Self::Session(session) => session.transport.is_heard(),
            Self::Produced(_) => true,
        }
    }

    /// Whether it shows one picture on purpose.
    pub(super) fn is_paused(&self) -> bool {
        match self {
            Self::Session(_) => false,
            Self::Produced(stream) => stream.is_paused(),
        }
    }

    /// For how long it has been heard, or silent, as it is now.
    pub(super) fn unchanged_for(&self) -> Duration {
        match self {
            Self::Session(session) => session.transport.unchanged_for(),
            Self::Produced(stream) => stream.age(),
        }
    }

    /// Whether viewers could begin with its picture at once.
    pub(super) fn has_picture_ready(&self) -> bool {
        match self {
            Self::Session(session) => session.transport.has_picture_ready(),
            Self::Produced(_) => true,
        }
    }

    /// Why it has ended, or is about to.
    pub(super) fn close_reason(&self) -> Option<CloseReason> {
        match self {
            Self::Session(session) => session.transport.close_reason(),
            Self::Produced(stream) => stream.close_reason(),
        }
    }

    /// Ends it.
    pub(super) fn close_for(&self, reason: CloseReason) {
        match self {
            Self::Session(session) => session.transport.close_for(reason),
            Self::Produced(stream) => stream.close_for(reason),
        }
    }

    /// Its session, if it has one.
    pub(super) fn session(&self) -> Option<&Arc<Session>> {
        match self {
            Self::Session(session) => Some(session),
            Self::Produced(_) => None,
        }
    }

    pub(super) fn details(&self) -> PublisherDetails {
        let stands_on = match self {
            Self::Session(session) => StandsOn::Transport(Box::new(session.transport.info())),
            Self::Produced(stream) => StandsOn::Producer(stream.info()),
        };
        PublisherDetails {
            source: self.source(),
            stands_on,
        }
    }
}

impl From<&Arc<Session>> for Publisher {
    fn from(session: &Arc<Session>) -> Self {
        debug_assert_eq!(session.kind, TransportKind::Publish);
        Self::Session(Arc::clone(session))
    }
}
