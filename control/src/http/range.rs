//! Parts of files (RFC 9110 14): one range a request, which is what media elements ask for.

/// What of a file is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    /// All of it.
    All,
    /// From the first to the last byte, inclusive.
    Part(u64, u64),
    /// Something it has not.
    Nothing,
}

/// Reads a `Range` field for a file of `len` bytes. What is not understood, or asks for several
/// parts, is ignored, as 14.2 allows.
pub(super) fn asked(range: Option<&str>, len: u64) -> Asked {
    let Some(set) = range.and_then(|range| range.trim().strip_prefix("bytes=")) else {
        return Asked::All;
    };
    let Some((first, last)) = set.split_once('-') else {
        return Asked::All;
    };
    let (first, last) = (first.trim(), last.trim());
    let number = |digits: &str| digits.parse::<u64>().ok();
    if first.is_empty() {
        // The last bytes, so many.
        return match number(last) {
            Some(0) => Asked::Nothing,
            Some(_) if len == 0 => Asked::Nothing,
            Some(count) => Asked::Part(len - count.min(len), len - 1),
            None => Asked::All,
        };
    }
    let last = match last {
        "" => Some(u64::MAX),
        digits => number(digits),
    };
    match (number(first), last) {
        (Some(first), Some(last)) if first > last => Asked::All,
        (Some(first), Some(_)) if first >= len => Asked::Nothing,
        (Some(first), Some(last)) => Asked::Part(first, last.min(len - 1)),
        _ => Asked::All,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_rfc_9110_has_them() {
        for (range, expected) in [
            (None, Asked::All),
            (Some("bytes=0-"), Asked::Part(0, 99)),
            (Some("bytes=0-0"), Asked::Part(0, 0)),
            (Some("bytes=10-19"), Asked::Part(10, 19)),
            (Some("bytes=90-1000"), Asked::Part(90, 99)),
            (Some("bytes=-10"), Asked::Part(90, 99)),
            (Some("bytes=-1000"), Asked::Part(0, 99)),
            (Some("bytes=100-"), Asked::Nothing),
            (Some("bytes=-0"), Asked::Nothing),
            (Some("bytes=20-10"), Asked::All),
            (Some("bytes=0-1,5-6"), Asked::All),
            (Some("lines=0-1"), Asked::All),
            (Some("bytes=a-b"), Asked::All),
            (Some("bytes=99999999999999999999-"), Asked::All),
        ] {
            assert_eq!(asked(range, 100), expected, "{range:?}");
        }
        assert_eq!(asked(Some("bytes=0-"), 0), Asked::Nothing);
        assert_eq!(asked(Some("bytes=-5"), 0), Asked::Nothing);
    }
}
