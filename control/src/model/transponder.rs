//! Chooses which encoding of a track a viewer gets.

use std::sync::Mutex;

use crate::model::incoming::{Encoding, IncomingTrack};

/// How the encoding is chosen.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Selection {
    /// The best that comes in.
    #[default]
    Automatic,
    /// The one with this rid while it comes in, else the best.
    Rid(String),
}

/// One viewer's choice for one track.
#[derive(Debug, Default)]
pub struct Transponder(Mutex<Selection>);

impl Transponder {
    /// How it chooses now.
    pub fn selection(&self) -> Selection {
        self.guard().clone()
    }

    /// Changes how it chooses.
    pub fn select(&self, selection: Selection) {
        *self.guard() = selection;
    }

    /// The encoding the viewer shall get.
    pub fn choose<'a>(&self, track: &'a IncomingTrack) -> &'a Encoding {
        let wanted = match &*self.guard() {
            Selection::Automatic => None,
            Selection::Rid(rid) => track
                .encodings()
                .iter()
                .find(|encoding| encoding.rid() == Some(rid) && encoding.is_active()),
        };
        wanted.unwrap_or_else(|| track.best_encoding())
    }

    fn guard(&self) -> std::sync::MutexGuard<'_, Selection> {
        self.0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
