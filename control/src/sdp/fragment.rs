//! ICE fragments, `application/trickle-ice-sdpfrag` (RFC 8840 9): what a client sends with PATCH
//! when it trickles candidates or restarts ICE (RFC 9725 4.3), and what the server answers to a
//! restart.

use std::fmt::Write as _;

use super::answer::LocalParameters;
use super::error::{SdpError, quote};
use super::ice::{CandidateList, IceCandidate, IceCredentials, host_candidate_line};
use super::media::{MediaKind, parse_mid};
use super::negotiate::Negotiated;
use super::offer::check_size;

/// The part of a fragment that is about one m-section.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FragmentMedia {
    /// `a=mid`; `None` for lines before the first m-line.
    pub mid: Option<String>,
    /// Candidates that can be reached.
    pub candidates: Vec<IceCandidate>,
    /// How many candidates were left out.
    pub ignored_candidates: usize,
    /// `a=end-of-candidates`.
    pub end_of_candidates: bool,
}

/// A fragment as the client sent it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IceFragment {
    /// The credentials that the candidates belong to.
    pub credentials: Option<IceCredentials>,
    /// What it says of each m-section. All share one transport, so [`Self::candidates`] is what
    /// callers want.
    pub media: Vec<FragmentMedia>,
}

impl IceFragment {
    /// Reads the body of a PATCH request. Lines that have no place in a fragment are passed over.
    ///
    /// # Errors
    /// [`SdpError::TooLarge`], [`SdpError::TooMany`], [`SdpError::InvalidAttribute`], and
    /// [`SdpError::Syntax`] when the body is no text, or has no ICE attribute at all.
    pub fn parse(body: impl AsRef<[u8]>) -> Result<Self, SdpError> {
        let body = body.as_ref();
        check_size(body)?;
        let text = std::str::from_utf8(body).map_err(|error| SdpError::Syntax {
            reason: quote(&error.to_string()),
        })?;
        let mut reader = Reader::default();
        for line in text.lines() {
            reader.read(line.trim_end())?;
        }
        reader.finish()
    }

    /// All candidates, whatever m-section they came with.
    pub fn candidates(&self) -> impl Iterator<Item = &IceCandidate> {
        self.media.iter().flat_map(|media| &media.candidates)
    }

    /// Whether no more candidates will follow.
    pub fn end_of_candidates(&self) -> bool {
        self.media.iter().any(|media| media.end_of_candidates)
    }

    /// Whether the client restarts ICE: the fragment has credentials that differ from `current`.
    pub fn is_restart(&self, current: &IceCredentials) -> bool {
        // RFC 8839 4.4.1.1.1: a restart changes both; either is enough to tell.
        self.credentials
            .as_ref()
            .is_some_and(|credentials| credentials != current)
    }
}

#[derive(Debug, Default)]
struct Reader {
    ufrag: Option<String>,
    pwd: Option<String>,
    media: Vec<(Option<String>, CandidateList, bool)>,
    saw_ice: bool,
}

impl Reader {
    fn read(&mut self, line: &str) -> Result<(), SdpError> {
        if line.starts_with("m=") {
            self.media.push((None, CandidateList::default(), false));
        }
        let Some(attribute) = line.strip_prefix("a=") else {
            return Ok(());
        };
        let (name, value) = attribute.split_once(':').unwrap_or((attribute, ""));
        let value = value.trim();
        match name {
            "ice-ufrag" => set_once(&mut self.ufrag, "ice-ufrag", value)?,
            "ice-pwd" => set_once(&mut self.pwd, "ice-pwd", value)?,
            "mid" => self.current().0 = Some(parse_mid(value)?),
            "candidate" => self.current().1.push(value),
            "end-of-candidates" => self.current().2 = true,
            _ => return Ok(()),
        }
        self.saw_ice = true;
        Ok(())
    }

    fn current(&mut self) -> &mut (Option<String>, CandidateList, bool) {
        if self.media.is_empty() {
            self.media.push((None, CandidateList::default(), false));
        }
        let last = self.media.len() - 1;
        &mut self.media[last]
    }

    fn finish(self) -> Result<IceFragment, SdpError> {
        if !self.saw_ice {
            return Err(SdpError::Syntax {
                reason: "no ICE attribute (a=ice-ufrag, a=candidate ...) in it; send a fragment \
                         of RFC 8840"
                    .to_owned(),
            });
        }
        let credentials = match (&self.ufrag, &self.pwd) {
            (Some(ufrag), Some(pwd)) => Some(IceCredentials::new(ufrag, pwd)?),
            (None, None) => None,
            _ => {
                return Err(SdpError::Syntax {
                    reason: "a=ice-ufrag and a=ice-pwd belong together; send both".to_owned(),
                });
            }
        };
        let media = self
            .media
            .into_iter()
            .map(|(mid, candidates, end_of_candidates)| FragmentMedia {
                mid,
                candidates: candidates.usable,
                ignored_candidates: candidates.ignored,
                end_of_candidates,
            })
            .collect();
        Ok(IceFragment { credentials, media })
    }
}

// One transport carries everything, so there can be one pair of credentials only.
fn set_once(
    slot: &mut Option<String>,
    attribute: &'static str,
    value: &str,
) -> Result<(), SdpError> {
    match slot {
        Some(known) if known != value => Err(SdpError::invalid(
            attribute,
            if attribute == "ice-pwd" {
                "(hidden)"
            } else {
                value
            },
            "all m-sections of a fragment share the credentials of the bundle (RFC 9143)",
        )),
        _ => {
            *slot = Some(value.to_owned());
            Ok(())
        }
    }
}

/// The body of the 200 response to an ICE restart (RFC 9725 4.3.3): the new local credentials and
/// candidates of the session that `negotiated` describes.
pub fn restart_fragment(negotiated: &Negotiated, local: &LocalParameters) -> String {
    let mut body = String::from("a=ice-lite\r\na=ice-options:trickle ice2\r\n");
    if !negotiated.bundle.is_empty() {
        line(
            &mut body,
            format_args!("a=group:BUNDLE {}", negotiated.bundle.join(" ")),
        );
    }
    // RFC 9725 4.3.3: only the tagged m-section of the bundle.
    if let Some(media) = negotiated.tagged_media() {
        let kind = if media.kind == MediaKind::Audio {
            "audio"
        } else {
            "video"
        };
        let payload_type = media.codecs.first().map_or(0, |codec| codec.payload_type);
        line(
            &mut body,
            format_args!("m={kind} 9 UDP/TLS/RTP/SAVPF {payload_type}"),
        );
        if let Some(mid) = &media.mid {
            line(&mut body, format_args!("a=mid:{mid}"));
        }
    }
    line(&mut body, format_args!("a=ice-ufrag:{}", local.ice.ufrag));
    line(&mut body, format_args!("a=ice-pwd:{}", local.ice.pwd));
    for (rank, &address) in local.candidates.iter().enumerate() {
        line(
            &mut body,
            format_args!("a=candidate:{}", host_candidate_line(address, rank)),
        );
    }
    body.push_str("a=end-of-candidates\r\n");
    body
}

fn line(body: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a `String` cannot fail.
    let _ = write!(body, "{text}\r\n");
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // a failed unwrap is the failed test
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TRICKLE: &str = "a=group:BUNDLE 0 1\r\n\
        m=audio 9 UDP/TLS/RTP/SAVPF 111\r\n\
        a=mid:0\r\n\
        a=ice-ufrag:EsAw\r\n\
        a=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1\r\n\
        a=candidate:1387637174 1 udp 2122260223 192.0.2.1 61764 typ host generation 0\r\n\
        a=candidate:1 1 udp 2122260223 aaaa.local 61764 typ host\r\n\
        a=end-of-candidates\r\n";

    #[test]
    fn a_trickled_candidate_is_read_with_its_credentials() {
        let fragment = IceFragment::parse(TRICKLE).unwrap();
        assert_eq!(fragment.media[0].mid.as_deref(), Some("0"));
        assert_eq!(fragment.candidates().count(), 1);
        assert_eq!(fragment.media[0].ignored_candidates, 1);
        assert!(fragment.end_of_candidates());
    }

    #[test]
    fn new_credentials_are_a_restart_and_old_ones_are_not() {
        let fragment = IceFragment::parse(TRICKLE).unwrap();
        let current = fragment.credentials.clone().unwrap();
        assert!(!fragment.is_restart(&current));
        let old = IceCredentials::new("abcd", &"x".repeat(22)).unwrap();
        assert!(fragment.is_restart(&old));
        let bare = IceFragment::parse("a=candidate:1 1 udp 1 192.0.2.1 5 typ host\n").unwrap();
        assert!(!bare.is_restart(&old));
        assert_eq!(bare.candidates().count(), 1);
    }

    #[test]
    fn half_of_the_credentials_are_refused() {
        assert!(IceFragment::parse("a=ice-ufrag:EsAw\r\n").is_err());
        let two = TRICKLE.replace("a=end", "a=ice-ufrag:other\r\na=end");
        assert!(matches!(
            IceFragment::parse(two),
            Err(SdpError::InvalidAttribute { .. })
        ));
    }

    #[test]
    fn a_body_that_is_no_fragment_is_refused() {
        assert!(IceFragment::parse("").is_err());
        assert!(IceFragment::parse("{\"candidate\": \"\"}").is_err());
        assert!(IceFragment::parse([0xFF, 0xFE]).is_err());
        let giant = "a=candidate:1 1 udp 1 192.0.2.1 5 typ host\r\n".repeat(40_000);
        assert!(matches!(
            IceFragment::parse(giant),
            Err(SdpError::TooLarge { .. })
        ));
    }

    proptest! {
        #[test]
        fn no_body_panics(lines in proptest::collection::vec(
            "(a=|m=)?(mid:|ice-ufrag:|ice-pwd:|candidate:|end-of-candidates)?\\PC*", 0..30)) {
            let _ = IceFragment::parse(lines.join("\r\n"));
        }
    }
}
