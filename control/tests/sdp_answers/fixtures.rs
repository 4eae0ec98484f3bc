//! The recorded offers, and one set of local parameters to answer them all with.

use std::path::PathBuf;

use fanmill_control::sdp::{
    Answer, IceCredentials, LocalParameters, LocalTrack, NegotiatedMedia, Offer, SdpError,
    TrackLimits, answer_publisher, answer_viewer,
};

pub fn directory() -> PathBuf {
    PathBuf::from(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../tests/fixtures/sdp"
    ))
}

#[derive(Debug, Clone)]
pub struct Fixture {
    pub name: String,
    pub text: String,
}

impl Fixture {
    pub fn load(name: &str) -> Self {
        let text = std::fs::read_to_string(directory().join(format!("{name}.sdp"))).unwrap();
        Self {
            name: name.to_owned(),
            text,
        }
    }

    pub fn is_publisher(&self) -> bool {
        self.name.contains("whip")
    }

    pub fn answer(&self) -> Result<Answer, SdpError> {
        answer(&self.text, self.is_publisher())
    }
}

pub fn all() -> Vec<Fixture> {
    let mut names: Vec<String> = std::fs::read_dir(directory())
        .unwrap()
        .filter_map(|entry| {
            let name = entry.unwrap().file_name().into_string().unwrap();
            name.strip_suffix(".sdp").map(str::to_owned)
        })
        .collect();
    names.sort();
    assert_eq!(names.len(), 57, "fixtures were added or lost");
    names.iter().map(|name| Fixture::load(name)).collect()
}

pub fn local() -> LocalParameters {
    LocalParameters {
        ice: IceCredentials::new("fanm", "0123456789abcdefghijkl").unwrap(),
        fingerprint_sha256: (0..32)
            .map(|i| format!("{i:02X}"))
            .collect::<Vec<_>>()
            .join(":"),
        candidates: vec![
            "192.0.2.1:50000".parse().unwrap(),
            "[2001:db8::1]:50000".parse().unwrap(),
        ],
        session_id: 4_611_686_018_427_387_904,
        session_version: 1,
        cname: "fanmill".to_owned(),
    }
}

pub fn track(media: &NegotiatedMedia) -> LocalTrack {
    let index = u32::try_from(media.index).unwrap();
    LocalTrack {
        stream_id: "stage".to_owned(),
        track_id: format!("{}{}", media.kind, media.track_index.unwrap()),
        ssrc: 1000 + index,
        rtx_ssrc: Some(2000 + index),
    }
}

pub fn answer(offer: &str, is_publisher: bool) -> Result<Answer, SdpError> {
    let offer = Offer::parse(offer)?;
    if is_publisher {
        answer_publisher(&offer, &local())
    } else {
        answer_viewer(&offer, &local(), TrackLimits { audio: 1, video: 1 }, track)
    }
}

/// The lines of the session level and of each m-section, cut at `m=` and in no other way.
pub fn sections(text: &str) -> Vec<Vec<&str>> {
    let mut sections = vec![Vec::new()];
    for line in text.lines() {
        if line.starts_with("m=") {
            sections.push(Vec::new());
        }
        sections.last_mut().unwrap().push(line);
    }
    sections
}

/// The values of an attribute in the lines of a section.
pub fn values<'a>(section: &[&'a str], name: &str) -> Vec<&'a str> {
    let prefix = format!("a={name}:");
    section
        .iter()
        .filter_map(|line| line.strip_prefix(prefix.as_str()))
        .collect()
}
