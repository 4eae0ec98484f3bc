//! A fragment as one reader gets it: numbered from 1 and timed from 0 from where it began to read.
//!
//! VLC and others take a first fragment with another number, or a later time, for the rest of a file
//! that was cut. The media are not touched: only the `moof`, some hundred bytes, is written anew.

use bytes::Bytes;

/// Where the fields are in a fragment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Fields {
    /// The length of the `moof`.
    pub(super) moof_len: usize,
    /// Where `sequence_number` is.
    sequence_number: usize,
    /// Where each track's `baseMediaDecodeTime` of 64 bits is, in the order of the runs.
    times: Vec<usize>,
}

/// Boxes from `at` up to `end`: where each is, how long, and its type.
fn boxes(bytes: &[u8], at: usize, end: usize) -> impl Iterator<Item = (usize, usize, [u8; 4])> {
    let mut at = at;
    std::iter::from_fn(move || {
        let header = bytes.get(at..at + 8).filter(|_| at + 8 <= end)?;
        let (len, name) = header.split_first_chunk::<4>()?;
        let len = usize::try_from(u32::from_be_bytes(*len)).ok()?;
        let found = (at, len, name.try_into().ok()?);
        // Ours have no other form of length.
        at = at.checked_add(len.max(8))?;
        Some(found)
    })
}

impl Fields {
    /// Finds them in a fragment that [`mux`](crate::media::mux) made.
    pub(super) fn of(fragment: &[u8]) -> Option<Self> {
        let (_, moof_len, _) =
            boxes(fragment, 0, fragment.len()).find(|found| &found.2 == b"moof")?;
        let mut fields = Self {
            moof_len,
            ..Self::default()
        };
        for (at, len, name) in boxes(fragment, 8, moof_len) {
            match &name {
                b"mfhd" => fields.sequence_number = at + 12,
                b"traf" => {
                    let mut inside = boxes(fragment, at + 8, at + len);
                    fields
                        .times
                        .push(inside.find(|found| &found.2 == b"tfdt")?.0 + 12);
                }
                _ => {}
            }
        }
        (fields.sequence_number > 0).then_some(fields)
    }

    /// The `moof` with this number, and each run's time less what `earlier` says.
    pub(super) fn moof(
        &self,
        fragment: &Bytes,
        sequence_number: u32,
        earlier: impl Iterator<Item = u64>,
    ) -> Bytes {
        let mut moof = fragment[..self.moof_len].to_vec();
        let mut put = |at: usize, value: &[u8]| {
            if let Some(field) = moof.get_mut(at..at + value.len()) {
                field.copy_from_slice(value);
            }
        };
        put(self.sequence_number, &sequence_number.to_be_bytes());
        for (&at, earlier) in self.times.iter().zip(earlier) {
            let field = fragment
                .get(at..at + 8)
                .and_then(|field| field.try_into().ok());
            let time = u64::from_be_bytes(field.unwrap_or_default());
            put(at, &time.saturating_sub(earlier).to_be_bytes());
        }
        moof.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::mux::{Sample, TrackRun, fragment};

    fn made(sequence_number: u32, dts: [i64; 2]) -> Vec<u8> {
        let samples = dts.map(|dts| {
            [Sample {
                dts,
                composition_offset: 0,
                duration: 960,
                keyframe: true,
                data: vec![7; 100],
            }]
        });
        let runs = samples.iter().zip(0..).map(|(samples, track)| TrackRun {
            track,
            base: 0,
            samples,
        });
        fragment(sequence_number, &runs.collect::<Vec<_>>()).expect("it is small")
    }

    #[test]
    fn a_reader_who_comes_late_gets_what_the_first_one_got_of_another_time() {
        let late = Bytes::from(made(70_000, [1_000_000, 6_000_000_000]));
        let fields = Fields::of(&late).expect("it is whole");
        let earlier = [999_000, 5_999_999_000];
        let moof = fields.moof(&late, 1, earlier.into_iter());
        let mut first = moof.to_vec();
        first.extend_from_slice(&late[fields.moof_len..]);
        assert_eq!(first, made(1, [1_000, 1_000]));
    }

    #[test]
    fn what_is_no_fragment_has_no_fields() {
        for bytes in [
            &b""[..],
            b"\0\0\0\x08moof",
            b"\0\0\0\x10moof\0\0\0\x08mfhd",
            b"\0\0",
        ] {
            if let Some(fields) = Fields::of(bytes) {
                // Writing past the end is no panic.
                fields.moof(&Bytes::copy_from_slice(bytes), 1, std::iter::empty());
            }
        }
    }
}
