//! Where the handlers of HLS find what is complete, and wait for what is not.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Semaphore, watch};

use super::TARGET_DURATION_S;

/// 8216bis 6.2.5.2: who waits longer for a playlist is told that the server is not able.
const LONGEST_WAIT: Duration = Duration::from_secs(3 * TARGET_DURATION_S.unsigned_abs());

/// The bytes of a file, in pieces that files share.
pub type Content = Arc<[Bytes]>;

/// A file of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum File {
    /// An initialization section.
    Init(u64),
    /// A segment.
    Segment(u64),
    /// A part.
    Part(u64),
}

/// What a playlist is to tell of when it is answered (8216bis 6.2.5.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked {
    /// `_HLS_msn`: the segment.
    pub segment: u64,
    /// `_HLS_part`: its part, from 0; `None` is all of it.
    pub part: Option<u64>,
}

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HlsError {
    /// No such file, or not any more.
    #[error("there is no such segment; the playlist names those there are")]
    Missing,
    /// A segment far in the future.
    #[error("_HLS_msn is more than the next segment; ask for the playlist without it")]
    TooFar,
    /// It did not come about in time.
    #[error("nothing new has come of this stream; try again later")]
    Late,
    /// As many wait as may.
    #[error("as many requests wait for segments as may; try again later")]
    TooManyWaiting,
}

/// What is complete of a stream.
#[derive(Debug)]
pub(super) struct Stock {
    /// The number of the segment that is being made.
    pub(super) segment: u64,
    /// How many parts of it there are.
    pub(super) parts: u64,
    /// The number of the next part of all.
    pub(super) next_part: u64,
    /// There are whole segments.
    pub(super) has_segments: bool,
    /// Where the files are: those of another folder are of another time.
    pub(super) folder: String,
    pub(super) media: Bytes,
    pub(super) variant: Bytes,
    pub(super) files: HashMap<File, Content>,
    pub(super) ended: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub(in crate::output) struct Shelf(watch::Sender<Option<Arc<Stock>>>);

impl Asked {
    fn is_in(&self, stock: &Stock) -> bool {
        let part = |part| self.segment == stock.segment && part < stock.parts;
        self.segment < stock.segment || self.part.is_some_and(part)
    }
}

impl File {
    /// A file by its name; `None` is the name of none.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let (stem, extension) = name.rsplit_once('.')?;
        // One name for each file: no signs, no leading zeros.
        let number = |digits: &str| {
            let number: u64 = digits.parse().ok()?;
            (number.to_string() == digits).then_some(number)
        };
        match (
            extension,
            stem.strip_prefix("init"),
            stem.strip_prefix("part"),
        ) {
            ("mp4", Some(digits), _) => number(digits).map(Self::Init),
            ("m4s", _, Some(digits)) => number(digits).map(Self::Part),
            ("m4s", None, None) => number(stem).map(Self::Segment),
            _ => None,
        }
    }
}

impl Shelf {
    pub(super) fn put(&self, stock: Stock) {
        self.0.send_replace(Some(Arc::new(stock)));
    }

    /// Nothing is there any more.
    pub(in crate::output) fn clear(&self) {
        self.0.send_replace(None);
    }

    /// The multivariant playlist, as soon as there is one.
    pub(in crate::output) async fn variant(&self, places: &Semaphore) -> Result<Bytes, HlsError> {
        let stock = self.wait(places, |_| true).await?;
        Ok(stock.variant.clone())
    }

    /// The media playlist, as soon as it has what is asked for.
    pub(in crate::output) async fn media(
        &self,
        asked: Option<Asked>,
        places: &Semaphore,
    ) -> Result<Bytes, HlsError> {
        // Players that know no parts take a playlist without segments for an error.
        let stock = self.wait(places, |stock| stock.has_segments).await?;
        let Some(asked) = asked else {
            return Ok(stock.media.clone());
        };
        if asked.segment > stock.segment + 1 {
            return Err(HlsError::TooFar);
        }
        let stock = self.wait(places, |stock| asked.is_in(stock) || stock.ended);
        Ok(stock.await?.media.clone())
    }

    /// A file; the part that playlists hint at as soon as it is there.
    pub(in crate::output) async fn file(
        &self,
        folder: &str,
        file: File,
        places: &Semaphore,
    ) -> Result<Content, HlsError> {
        let stock = self.0.borrow().clone().ok_or(HlsError::Missing)?;
        let hinted = stock.folder == folder && !stock.ended && file == File::Part(stock.next_part);
        let stock = match hinted {
            true => {
                self.wait(places, |now| now.next_part != stock.next_part)
                    .await?
            }
            false => stock,
        };
        let content = stock.files.get(&file).filter(|_| stock.folder == folder);
        content.cloned().ok_or(HlsError::Missing)
    }

    /// Waits until what is there is as it should be.
    async fn wait(
        &self,
        places: &Semaphore,
        is_right: impl Fn(&Stock) -> bool,
    ) -> Result<Arc<Stock>, HlsError> {
        let mut stock = self.0.subscribe();
        let mut is_right = |stock: &Option<Arc<Stock>>| stock.as_deref().is_some_and(&is_right);
        if let Some(now) = stock.borrow().clone()
            && is_right(&Some(Arc::clone(&now)))
        {
            return Ok(now);
        }
        let place = places.try_acquire().map_err(|_| HlsError::TooManyWaiting)?;
        let waited = tokio::time::timeout(LONGEST_WAIT, stock.wait_for(&mut is_right)).await;
        drop(place);
        match waited {
            Ok(Ok(stock)) => stock.clone().ok_or(HlsError::Late),
            // The stream's output has ended.
            Ok(Err(_)) => Err(HlsError::Missing),
            Err(_) => Err(HlsError::Late),
        }
    }
}

#[cfg(test)]
impl Shelf {
    /// The media playlist as it is.
    pub(super) fn now(&self) -> Option<String> {
        let stock = self.0.borrow().clone()?;
        String::from_utf8(stock.media.to_vec()).ok()
    }
}
