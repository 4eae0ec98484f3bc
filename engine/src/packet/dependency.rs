//! The dependency descriptor (AV1 RTP payload specification, appendix A): which frame a packet belongs
//! to, and whether a receiver can begin with it, without a look at the payload.
//!
//! Publishers of any codec may send it. Where they do, it counts and not the payload, which may be
//! encrypted end to end (SFrame, insertable streams). Read by routing for each packet that has it.

pub mod structure;

use super::read_u16;

/// What each packet's descriptor says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DependencyDescriptor {
    /// The packet is the first of its frame.
    pub start_of_frame: bool,
    /// The packet is the last of its frame.
    pub end_of_frame: bool,
    /// The template that the frame's layer and dependencies are made of.
    pub template_id: u8,
    /// Running number of the frame, modulo 2^16.
    pub frame_number: u16,
    /// The descriptor has a template structure: a coded video sequence begins with this frame.
    pub has_structure: bool,
}

impl DependencyDescriptor {
    /// What the fields that each descriptor has take (A.8.1).
    pub const MANDATORY_BYTES: usize = 3;

    /// Reads the fields that each descriptor begins with; `None` if it is cut.
    #[must_use]
    pub fn parse(data: &[u8]) -> Option<Self> {
        let first = *data.first()?;
        Some(Self {
            start_of_frame: first & 0x80 != 0,
            end_of_frame: first & 0x40 != 0,
            template_id: first & 0x3f,
            frame_number: read_u16(data, 1)?,
            has_structure: data
                .get(Self::MANDATORY_BYTES)
                .is_some_and(|flags| flags & 0x80 != 0),
        })
    }

    /// Whether a receiver that has seen nothing can begin with this packet.
    #[must_use]
    pub fn starts_keyframe(&self) -> bool {
        self.start_of_frame && self.has_structure
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_with_a_structure_is_a_beginning_and_its_other_packets_are_not() {
        let first = DependencyDescriptor::parse(&[0x80, 0x12, 0x34, 0x80, 0]);
        let first = first.expect("whole");
        assert_eq!((first.template_id, first.frame_number), (0, 0x1234));
        assert!(first.starts_keyframe());
        for other in [
            &[0x80, 0x12, 0x35][..],
            &[0xc1, 0x12, 0x35],
            &[0x40, 0x12, 0x34, 0x80, 0],
            &[0x80, 0x12, 0x34, 0x7f, 0],
        ] {
            let other = DependencyDescriptor::parse(other).expect("whole");
            assert!(!other.starts_keyframe(), "{other:?}");
        }
    }

    #[test]
    fn a_cut_one_says_nothing() {
        for len in 0..3 {
            assert_eq!(DependencyDescriptor::parse(&[0xc0, 0, 1][..len]), None);
        }
    }
}
