//! The nearest known name to a mistyped one, for error messages.
//!
//! Called by the configuration reader and the admin socket. Never used to guess what was meant:
//! the mistake is still refused.

/// Similarity (Jaro-Winkler, 0 to 1) from which a suggestion helps more than it misleads.
const ALIKE: f64 = 0.75;

/// Names longer than this are no typing mistake; comparing them would only cost time.
const MAX_COMPARED_BYTES: usize = 128;

/// The name of `known` most like `name`, if one is like it at all.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if name.len() > MAX_COMPARED_BYTES {
        return None;
    }
    known
        .into_iter()
        .map(|candidate| (strsim::jaro_winkler(name, candidate), candidate))
        .filter(|(likeness, _)| *likeness >= ALIKE)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: [&str; 4] = ["udp-ip", "udp-port", "http", "shards"];

    #[test]
    fn a_mistyped_name_finds_its_neighbour() {
        assert_eq!(nearest("udp_ip", KNOWN), Some("udp-ip"));
        assert_eq!(nearest("shard", KNOWN), Some("shards"));
        assert_eq!(nearest("udp-prot", KNOWN), Some("udp-port"));
    }

    #[test]
    fn a_name_like_none_gets_no_suggestion() {
        assert_eq!(nearest("colour", KNOWN), None);
        assert_eq!(nearest(&"udp-ip".repeat(50), KNOWN), None);
    }
}
