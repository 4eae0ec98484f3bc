//! A few answers kept as files, so that a change of their text is seen and meant. Set
//! `FANMILL_BLESS=1` to write them anew.

use crate::fixtures::{Fixture, directory};

fn check(name: &str) {
    let answer = Fixture::load(name).answer().unwrap().sdp;
    let path = directory().join("answers").join(format!("{name}.sdp"));
    if std::env::var_os("FANMILL_BLESS").is_some() {
        std::fs::write(&path, &answer).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap();
    assert_eq!(answer, expected, "{} differs", path.display());
}

#[test]
fn the_answer_to_a_chromium_simulcast_publisher_is_unchanged() {
    check("chromium-whip-simulcast3-vp8");
}

#[test]
fn the_answer_to_a_firefox_viewer_with_a_data_channel_is_unchanged() {
    check("firefox-whep-recvonly-datachannel");
}

#[test]
fn the_answer_to_an_ffmpeg_publisher_is_unchanged() {
    check("ffmpeg9-whip-h264-opus");
}

#[test]
fn the_answer_to_a_gstreamer_viewer_is_unchanged() {
    check("gstreamer-whep-vp8");
}
