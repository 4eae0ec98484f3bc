//! Session descriptions (SDP) of publishers and of servers that are pulled: which tracks there are, by
//! which URL each is set up, and what its payloads are.

use rtsp_types::Url;

use super::limits::MAX_TRACKS;
use crate::streamer::{DescriptionError, RtpFormat, parse};

/// A track that can be received.
#[derive(Debug, Clone)]
pub struct Described {
    /// What `a=control` says, empty if nothing.
    pub control: String,
    /// What each payload type is.
    pub formats: Vec<(u8, RtpFormat)>,
}

/// What a description comes to.
#[derive(Debug, Clone, Default)]
pub struct Description {
    /// The session's own `a=control`, empty if there is none.
    pub control: String,
    /// The tracks that can be received.
    pub tracks: Vec<Described>,
    /// Why others cannot.
    pub refused: Vec<DescriptionError>,
}

impl Description {
    /// Reads a description; each media section for itself, so that one that cannot be received leaves
    /// the others alone.
    #[must_use]
    pub fn read(sdp: &str) -> Self {
        let mut sections = vec![String::new()];
        for line in sdp.lines() {
            if line.trim_start().starts_with("m=") {
                sections.push(String::new());
            }
            if let Some(section) = sections.last_mut() {
                section.push_str(line);
                section.push('\n');
            }
        }
        let mut sections = sections.into_iter();
        let session = sections.next().unwrap_or_default();
        let mut description = Self {
            control: control(&session),
            ..Self::default()
        };
        let media = sections.filter(|media| {
            let media = media.trim_start();
            media.starts_with("m=audio") || media.starts_with("m=video")
        });
        for media in media.take(MAX_TRACKS) {
            match parse(&format!("{session}{media}")) {
                Ok(parsed) => description
                    .tracks
                    .extend(parsed.into_iter().map(|one| Described {
                        control: control(&media),
                        formats: one.formats,
                    })),
                Err(error) => description.refused.push(error),
            }
        }
        description
    }
}

fn control(section: &str) -> String {
    let mut lines = section.lines().map(str::trim);
    let control = lines.find_map(|line| line.strip_prefix("a=control:"));
    control.unwrap_or_default().trim().to_owned()
}

/// The URL that `control` means under this base (RFC 2326 C.1.1, and as clients and servers take it:
/// it is appended, whatever the base ends with).
#[must_use]
pub fn resolve(base: &Url, control: &str) -> Option<Url> {
    let is_absolute = |scheme: &str| {
        let start = control.get(..scheme.len());
        start.is_some_and(|start| start.eq_ignore_ascii_case(scheme))
    };
    if control.is_empty() || control == "*" {
        return Some(base.clone());
    }
    if is_absolute("rtsp://") {
        return Url::parse(control).ok();
    }
    let base = base.as_str();
    let slash = if base.ends_with('/') { "" } else { "/" };
    Url::parse(&format!("{base}{slash}{control}")).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // a test's unwrap is an assertion

    use proptest::prelude::*;

    use super::*;

    const FFMPEG: &str = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=No Name\r\nc=IN IP4 127.0.0.1\r\n\
        t=0 0\r\na=tool:libavformat 59.27.100\r\nm=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n\
        a=fmtp:96 packetization-mode=1; profile-level-id=42C01E\r\na=control:streamid=0\r\n\
        m=audio 0 RTP/AVP 97\r\nb=AS:64\r\na=rtpmap:97 MPA/90000\r\na=control:streamid=1\r\n\
        m=application 0 RTP/AVP 107\r\na=control:streamid=2\r\n";

    #[test]
    fn tracks_that_can_be_received_are_told_from_others() {
        let description = Description::read(FFMPEG);
        assert_eq!(description.tracks.len(), 1);
        assert_eq!(description.tracks[0].control, "streamid=0");
        assert_eq!(description.tracks[0].formats[0].0, 96);
        let refused = description.refused[0].to_string();
        assert!(refused.contains("MPA is not received"), "{refused}");
    }

    #[test]
    fn a_control_is_appended_or_stands_for_itself() {
        let base = |text| Url::parse(text).unwrap();
        for (from, control, expected) in [
            ("rtsp://h/s", "*", "rtsp://h/s"),
            ("rtsp://h/s", "", "rtsp://h/s"),
            ("rtsp://h/s/", "trackID=1", "rtsp://h/s/trackID=1"),
            ("rtsp://h/s?a=b", "trackID=1", "rtsp://h/s?a=b/trackID=1"),
            ("rtsp://h/s", "RTSP://h/other", "rtsp://h/other"),
        ] {
            let resolved = resolve(&base(from), control).unwrap();
            assert_eq!(resolved.as_str(), expected);
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read(
            text in "(m=video 0 RTP/AVP 96\n|m=audio|a=control:|a=rtpmap:96 VP8/90000\n|\n|\\PC){0,30}",
        ) {
            let description = Description::read(&text);
            let base = Url::parse("rtsp://h/s").unwrap();
            for track in description.tracks {
                let _ = resolve(&base, &track.control);
            }
        }
    }
}
