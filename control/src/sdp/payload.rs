//! The formats of an m-section: `a=rtpmap`, `a=fmtp`, `a=rtcp-fb`; retransmission formats are folded
//! into the formats they repair (RFC 4588 8), and redundant ones into those they repeat (RFC 2198 5). The m-section parser feeds it line by line and
//! takes the list of codecs at the end, because clients write the lines in any order.

use super::codec::{Redundancy, RtcpFeedback};
use super::error::{SdpError, check_room};
use super::limits::{MAX_FMTP_PARAMETERS, MAX_FORMATS};

/// One parameter of an `a=fmtp` line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FmtpParameter {
    /// Its name, as written.
    pub name: String,
    /// Its value; `None` for a list without names, such as `0-15`.
    pub value: Option<String>,
}

/// A codec of the offer, known to this server or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OfferedCodec {
    /// RTP payload type, 0 to 127.
    pub payload_type: u8,
    /// Encoding name, as written.
    pub encoding_name: String,
    /// RTP clock rate in Hz.
    pub clock_rate: u32,
    /// Audio channels; 1 where the offer says nothing.
    pub channels: u8,
    /// Format parameters in the order offered.
    pub fmtp: Vec<FmtpParameter>,
    /// Feedback messages that the client understands.
    pub feedback: RtcpFeedback,
    /// Payload type of its retransmissions.
    pub rtx_payload_type: Option<u8>,
    /// Its redundant form.
    pub redundancy: Option<Redundancy>,
}

impl OfferedCodec {
    /// The value of a format parameter; names are compared without case.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        parameter(&self.fmtp, name)
    }
}

fn parameter<'a>(fmtp: &'a [FmtpParameter], name: &str) -> Option<&'a str> {
    fmtp.iter()
        .find(|parameter| parameter.name.eq_ignore_ascii_case(name))
        .and_then(|parameter| parameter.value.as_deref())
}

/// The one format that a redundant one is made of: `111/111` says so for two blocks at most.
fn repeated(fmtp: &[FmtpParameter]) -> Option<u8> {
    let mut blocks = fmtp.first()?.name.split('/');
    let first = blocks.next()?;
    let alike = blocks.all(|block| block == first);
    first.parse().ok().filter(|_| alike)
}

#[derive(Debug, Default)]
struct Format {
    payload_type: u8,
    rtpmap: Option<(String, u32, u8)>,
    fmtp: Vec<FmtpParameter>,
    feedback: RtcpFeedback,
}

/// The format lines of one m-section as they are collected.
#[derive(Debug, Default)]
pub(crate) struct FormatTable {
    formats: Vec<Format>,
    wildcard_feedback: RtcpFeedback,
}

impl FormatTable {
    /// Begins with the format list of the m-line. A format that is no payload type is left out.
    pub(crate) fn new(fmt: &str) -> Result<Self, SdpError> {
        let mut formats: Vec<Format> = Vec::new();
        for (i, field) in fmt.split_ascii_whitespace().enumerate() {
            check_room(i, MAX_FORMATS, "formats in an m-section")?;
            let Ok(payload_type) = field.parse::<u8>() else {
                continue;
            };
            let known = formats
                .iter()
                .any(|format| format.payload_type == payload_type);
            if payload_type < 128 && !known {
                formats.push(Format {
                    payload_type,
                    ..Format::default()
                });
            }
        }
        Ok(Self {
            formats,
            wildcard_feedback: RtcpFeedback::default(),
        })
    }

    // Lines for a payload type that the m-line does not list are left out: Firefox writes them.
    fn format_of<'a>(&mut self, value: &'a str) -> Option<(&mut Format, &'a str)> {
        let (payload_type, rest) = value.split_once(' ')?;
        let payload_type: u8 = payload_type.parse().ok()?;
        let format = self
            .formats
            .iter_mut()
            .find(|format| format.payload_type == payload_type)?;
        Some((format, rest.trim()))
    }

    /// Takes the value of an `a=rtpmap:` line. The first one of a payload type counts.
    pub(crate) fn push_rtpmap(&mut self, value: &str) {
        let Some((format, rest)) = self.format_of(value) else {
            return;
        };
        let mut fields = rest.split('/');
        let name = fields.next().unwrap_or_default();
        let clock_rate = fields.next().and_then(|rate| rate.parse::<u32>().ok());
        let channels = fields.next().map_or(Ok(1), str::parse::<u8>);
        if let (None, Some(clock_rate), Ok(channels)) = (&format.rtpmap, clock_rate, channels) {
            format.rtpmap = Some((name.to_owned(), clock_rate, channels));
        }
    }

    /// Takes the value of an `a=fmtp:` line.
    pub(crate) fn push_fmtp(&mut self, value: &str) -> Result<(), SdpError> {
        let Some((format, rest)) = self.format_of(value) else {
            return Ok(());
        };
        for field in rest
            .split(';')
            .map(str::trim)
            .filter(|field| !field.is_empty())
        {
            check_room(
                format.fmtp.len(),
                MAX_FMTP_PARAMETERS,
                "parameters of a format (a=fmtp)",
            )?;
            let (name, value) = match field.split_once('=') {
                Some((name, value)) => (name.trim(), Some(value.trim().to_owned())),
                None => (field, None),
            };
            format.fmtp.push(FmtpParameter {
                name: name.to_owned(),
                value,
            });
        }
        Ok(())
    }

    /// Takes the value of an `a=rtcp-fb:` line.
    pub(crate) fn push_feedback(&mut self, value: &str) {
        // RFC 4585 4.2: "*" stands for every payload type of the m-section.
        if let Some(feedback) = value.strip_prefix("* ") {
            self.wildcard_feedback.add(feedback);
        } else if let Some((format, feedback)) = self.format_of(value) {
            format.feedback.add(feedback);
        }
    }

    /// The codecs in the order of the m-line. Formats without `a=rtpmap` are left out: the static
    /// payload types are none that this server carries.
    pub(crate) fn into_codecs(self) -> Vec<OfferedCodec> {
        let retransmissions: Vec<(u8, u8, u32)> = self
            .formats
            .iter()
            .filter_map(|format| {
                let (name, clock_rate, _) = format.rtpmap.as_ref()?;
                let apt = parameter(&format.fmtp, "apt")?.parse().ok()?;
                name.eq_ignore_ascii_case("rtx")
                    .then_some((apt, format.payload_type, *clock_rate))
            })
            .collect();
        let redundant: Vec<(usize, u8, u8, u32, u8)> = self
            .formats
            .iter()
            .enumerate()
            .filter_map(|(place, format)| {
                let (name, clock_rate, channels) = format.rtpmap.as_ref()?;
                let repeats = repeated(&format.fmtp)?;
                name.eq_ignore_ascii_case("red").then_some((
                    place,
                    repeats,
                    format.payload_type,
                    *clock_rate,
                    *channels,
                ))
            })
            .collect();
        let mut codecs = Vec::with_capacity(self.formats.len());
        for (place, format) in self.formats.into_iter().enumerate() {
            let Some((encoding_name, clock_rate, channels)) = format.rtpmap else {
                continue;
            };
            if encoding_name.eq_ignore_ascii_case("rtx") {
                continue;
            }
            let payload_type = format.payload_type;
            // RFC 4588 8.6: the clock rate of a retransmission is that of what it repairs.
            let rtx_payload_type = retransmissions
                .iter()
                .find(|&&(apt, _, rate)| apt == payload_type && rate == clock_rate)
                .map(|&(_, rtx, _)| rtx);
            let redundancy = redundant
                .iter()
                .find(|&&(_, repeats, _, rate, count)| {
                    (repeats, rate, count) == (payload_type, clock_rate, channels)
                })
                .map(|&(at, _, payload_type, ..)| Redundancy {
                    payload_type,
                    is_preferred: at < place,
                });
            codecs.push(OfferedCodec {
                payload_type,
                encoding_name,
                clock_rate,
                channels,
                fmtp: format.fmtp,
                feedback: format.feedback.union(self.wildcard_feedback),
                rtx_payload_type,
                redundancy,
            });
        }
        codecs
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // a failed unwrap is the failed test
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn retransmission_formats_are_folded_into_what_they_repair() {
        let mut table = FormatTable::new("96 97 98 99").unwrap();
        table.push_fmtp("97 apt=96").unwrap();
        table.push_rtpmap("97 rtx/90000");
        table.push_rtpmap("96 VP8/90000");
        table.push_rtpmap("98 rtx/48000");
        table.push_fmtp("98 apt=96").unwrap();
        table.push_rtpmap("99 rtx/90000");
        table.push_fmtp("99 apt=33").unwrap();
        let codecs = table.into_codecs();
        assert_eq!(codecs.len(), 1);
        assert_eq!(codecs[0].rtx_payload_type, Some(97));
    }

    #[test]
    fn a_redundant_format_is_folded_into_what_it_repeats() {
        let redundancy = |formats: &str, red: &str, fmtp: &str| {
            let mut table = FormatTable::new(formats).unwrap();
            table.push_rtpmap("111 opus/48000/2");
            table.push_rtpmap(&format!("63 {red}"));
            table.push_fmtp(&format!("63 {fmtp}")).unwrap();
            let codecs = table.into_codecs();
            let opus = codecs.iter().find(|codec| codec.payload_type == 111);
            opus.unwrap().redundancy
        };
        let found = |is_preferred| {
            Some(Redundancy {
                payload_type: 63,
                is_preferred,
            })
        };
        assert_eq!(redundancy("111 63", "red/48000/2", "111/111"), found(false));
        assert_eq!(
            redundancy("63 111", "red/48000/2", "111/111/111"),
            found(true)
        );
        for (red, fmtp) in [
            ("red/8000", "111/111"),
            ("red/48000", "111/111"),
            ("red/48000/2", "111/0"),
            ("red/48000/2", "96/96"),
            ("red/48000/2", ""),
            ("opus/48000/2", "111/111"),
        ] {
            assert_eq!(redundancy("111 63", red, fmtp), None, "{red} {fmtp}");
        }
    }

    #[test]
    fn feedback_for_all_formats_applies_to_each() {
        let mut table = FormatTable::new("96 97").unwrap();
        table.push_feedback("* nack pli");
        table.push_feedback("97 transport-cc");
        table.push_feedback("55 ccm fir");
        table.push_rtpmap("96 VP8/90000");
        table.push_rtpmap("97 VP9/90000");
        let codecs = table.into_codecs();
        assert!(codecs.iter().all(|codec| codec.feedback.nack_pli));
        assert!(codecs[1].feedback.transport_cc && !codecs[0].feedback.transport_cc);
        assert!(!codecs[0].feedback.ccm_fir);
    }

    #[test]
    fn the_first_mapping_of_a_payload_type_counts() {
        let mut table = FormatTable::new("111 111").unwrap();
        table.push_rtpmap("111 opus/48000/2");
        table.push_rtpmap("111 PCMU/8000");
        let codecs = table.into_codecs();
        assert_eq!(codecs.len(), 1);
        assert_eq!(codecs[0].encoding_name, "opus");
    }

    proptest! {
        #[test]
        fn no_format_line_panics(fmt in "[0-9 ]*|\\PC*", lines in proptest::collection::vec(
            "[0-9*]{1,3} [a-zA-Z0-9/=; .-]*|\\PC*", 0..20)) {
            let Ok(mut table) = FormatTable::new(&fmt) else { return Ok(()) };
            for line in &lines {
                table.push_rtpmap(line);
                let _ = table.push_fmtp(line);
                table.push_feedback(line);
            }
            prop_assert!(table.into_codecs().len() <= MAX_FORMATS);
        }
    }
}
