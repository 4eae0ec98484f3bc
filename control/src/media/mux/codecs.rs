//! What playlists and content types say of a track: the `codecs` parameter (RFC 6381 and the codecs'
//! own bindings to MP4).

use fanmill_engine::packet::codec::Codec;
use shiguredo_mp4::boxes::{HvccBox, SampleEntry, VpccBox};

use super::Description;

impl Description {
    /// Its element of the `codecs` parameter, such as `avc1.42E01F`.
    #[must_use]
    pub fn codecs(&self) -> String {
        match &self.entry {
            SampleEntry::Avc1(avc1) => {
                let avcc = &avc1.avcc_box;
                format!(
                    "avc1.{:02X}{:02X}{:02X}",
                    avcc.avc_profile_indication,
                    avcc.profile_compatibility,
                    avcc.avc_level_indication
                )
            }
            SampleEntry::Hev1(hev1) => format!("hev1.{}", h265(&hev1.hvcc_box)),
            SampleEntry::Vp08(vp08) => format!("vp08.{}", vp(&vp08.vpcc_box)),
            SampleEntry::Vp09(vp09) => format!("vp09.{}", vp(&vp09.vpcc_box)),
            SampleEntry::Av01(av01) => {
                let av1c = &av01.av1c_box;
                let tier = if av1c.seq_tier_0.get() == 0 { 'M' } else { 'H' };
                let bits = match (av1c.high_bitdepth.get(), av1c.twelve_bit.get()) {
                    (0, _) => 8,
                    (_, 0) => 10,
                    _ => 12,
                };
                format!(
                    "av01.{}.{:02}{tier}.{bits:02}",
                    av1c.seq_profile.get(),
                    av1c.seq_level_idx_0.get()
                )
            }
            // AAC-LC: the object type in MP4, and that of AAC.
            SampleEntry::Mp4a(_) => "mp4a.40.2".to_owned(),
            _ => match self.codec {
                Codec::Pcmu => "ulaw".to_owned(),
                Codec::Pcma => "alaw".to_owned(),
                _ => "opus".to_owned(),
            },
        }
    }

    /// Whether a player set up for this one can go on with the other: parameter sets may differ, which
    /// are in band, but neither size nor profile.
    #[must_use]
    pub fn is_alike(&self, other: &Self) -> bool {
        let same = self.codec == other.codec && self.size == other.size;
        same && self.codecs() == other.codecs()
    }
}

/// VP Codec ISO Media File Format Binding: profile, level and bit depth.
fn vp(vpcc: &VpccBox) -> String {
    format!(
        "{:02}.{:02}.{:02}",
        vpcc.profile,
        vpcc.level,
        vpcc.bit_depth.get()
    )
}

/// ISO 14496-15 E.3.
fn h265(hvcc: &HvccBox) -> String {
    let space = ["", "A", "B", "C"][usize::from(hvcc.general_profile_space.get() & 3)];
    let tier = if hvcc.general_tier_flag.get() == 0 {
        'L'
    } else {
        'H'
    };
    let mut text = format!(
        "{space}{}.{:X}.{tier}{}",
        hvcc.general_profile_idc.get(),
        hvcc.general_profile_compatibility_flags.reverse_bits(),
        hvcc.general_level_idc
    );
    // Six bytes, without the zeros at the end.
    let constraints = hvcc.general_constraint_indicator_flags.get().to_be_bytes();
    let constraints = &constraints[2..];
    let len = constraints.iter().rposition(|&byte| byte != 0);
    for byte in &constraints[..len.map_or(0, |last| last + 1)] {
        text.push_str(&format!(".{byte:X}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Level 3.1, constrained baseline, 1280x720.
    const SPS: [u8; 26] = [
        0x67, 0x42, 0xc0, 0x1f, 0x8c, 0x8d, 0x40, 0x50, 0x1e, 0xd0, 0x0f, 0x08, 0x84, 0x6a, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0x80,
    ];

    fn h264(level: u8) -> Option<Description> {
        let mut sps = SPS;
        sps[3] = level;
        let mut unit = Vec::new();
        for nal in [&sps[..], &[0x68, 0xce, 0x3c, 0x80], &[0x65, 0x88]] {
            unit.extend_from_slice(&u32::try_from(nal.len()).ok()?.to_be_bytes());
            unit.extend_from_slice(nal);
        }
        Description::read(Codec::H264, &unit)
    }

    #[test]
    fn an_h264_track_is_named_by_profile_constraints_and_level() {
        let description = h264(0x1f).expect("the parameter sets are whole");
        assert_eq!(description.codecs(), "avc1.42C01F");
    }

    #[test]
    fn a_track_of_another_level_is_not_alike() {
        let [low, high] = [0x1f, 0x28].map(|level| h264(level).expect("the sets are whole"));
        assert!(low.is_alike(&low));
        assert!(!low.is_alike(&high));
    }

    #[test]
    fn sound_is_named_by_its_codec() {
        let opus = Description::read(Codec::Opus, &[0xfc]).expect("sound needs no header");
        assert_eq!(opus.codecs(), "opus");
        let aac = opus.as_aac(&[0x11, 0x90]);
        assert_eq!(aac.codecs(), "mp4a.40.2");
        assert_eq!(aac.aac_config(), Some(&[0x11, 0x90][..]));
    }
}
