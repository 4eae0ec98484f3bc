//! The packet index and the replay window of one received SSRC (RFC 3711 3.3).
//!
//! The shard keeps one window per SSRC: it asks for the index of a packet, checks it, opens the
//! packet and only then has the index accepted, so that a forged packet leaves no mark.

use super::{PACKET_INDEX_END, SrtpError};

#[cfg(test)]
mod tests;

/// How far behind the highest accepted index a packet may still arrive, in packets.
///
/// RFC 3711 3.3.2 asks for at least 64. Retransmissions sent on the original SSRC come a round
/// trip late; 1024 packets are 200 ms of a 40 Mbit/s stream.
pub const REPLAY_WINDOW_LEN: u64 = 1024;

const WORD_BITS: u64 = u64::BITS as u64;
const WORDS: usize = (REPLAY_WINDOW_LEN / WORD_BITS) as usize;
const _: () = assert!(REPLAY_WINDOW_LEN.is_multiple_of(WORD_BITS));

/// Which of the latest packet indices of one SSRC were accepted.
#[derive(Debug, Clone, Default)]
pub struct ReplayWindow {
    highest: Option<u64>,
    /// Bit `index % REPLAY_WINDOW_LEN` is set when that index, within the window, was accepted.
    accepted: [u64; WORDS],
}

impl ReplayWindow {
    /// A window that has seen nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// The highest index accepted so far.
    pub fn highest(&self) -> Option<u64> {
        self.highest
    }

    /// The 48-bit index a packet with this sequence number most likely has: the one nearest to the
    /// highest index accepted. A stream not seen before is taken to be at rollover counter 0.
    ///
    /// At the end of the index space the result may be [`PACKET_INDEX_END`] or more, which
    /// [`check`](Self::check) and opening refuse.
    // RFC 3711 3.3.1 and appendix A. A sequence number that would lie before the first packet of
    // rollover counter 0 cannot be a late one, so it is taken as one far ahead.
    pub fn estimate(&self, seq: u16) -> u64 {
        const HALF: u64 = 1 << 15;
        const CYCLE: u64 = 1 << 16;
        let Some(highest) = self.highest else {
            return u64::from(seq);
        };
        let index = (highest & !(CYCLE - 1)) | u64::from(seq);
        if index > highest + HALF {
            index.checked_sub(CYCLE).unwrap_or(index)
        } else if index + HALF < highest {
            index + CYCLE
        } else {
            index
        }
    }

    /// Whether a packet of this index may be opened.
    ///
    /// # Errors
    /// [`SrtpError::Replayed`] for an index accepted before, [`SrtpError::TooOld`] for one behind
    /// the window, [`SrtpError::IndexExhausted`] for one past the end of the index space.
    pub fn check(&self, index: u64) -> Result<(), SrtpError> {
        if index >= PACKET_INDEX_END {
            return Err(SrtpError::IndexExhausted);
        }
        let Some(highest) = self.highest else {
            return Ok(());
        };
        if index > highest {
            return Ok(());
        }
        if highest - index >= REPLAY_WINDOW_LEN {
            return Err(SrtpError::TooOld);
        }
        let (word, bit) = position(index);
        if self.accepted[word] & bit != 0 {
            return Err(SrtpError::Replayed);
        }
        Ok(())
    }

    /// Marks an index as received. Call it only after the packet was authenticated.
    ///
    /// An index behind the window, or past the index space, changes nothing.
    pub fn accept(&mut self, index: u64) {
        if index >= PACKET_INDEX_END {
            return;
        }
        match self.highest {
            Some(highest) if index <= highest => {
                if highest - index >= REPLAY_WINDOW_LEN {
                    return;
                }
            }
            Some(highest) => self.advance(highest, index),
            None => self.highest = Some(index),
        }
        let (word, bit) = position(index);
        self.accepted[word] |= bit;
    }

    /// Moves the window up to `index`, forgetting what its bits meant a window ago.
    fn advance(&mut self, highest: u64, index: u64) {
        if index - highest >= REPLAY_WINDOW_LEN {
            self.accepted = [0; WORDS];
        } else {
            for skipped in highest + 1..=index {
                let (word, bit) = position(skipped);
                self.accepted[word] &= !bit;
            }
        }
        self.highest = Some(index);
    }
}

fn position(index: u64) -> (usize, u64) {
    let slot = index % REPLAY_WINDOW_LEN;
    ((slot / WORD_BITS) as usize, 1 << (slot % WORD_BITS))
}
