//! What the home of an encoding knows of its layers: reads off each packet which one it is part of, and
//! measures each.
//!
//! Any codec may tell it in the dependency descriptor, VP8 and VP9 also in the payload descriptor; a
//! stream that tells nothing is looked at for a bit and no more. Called by
//! [`Source`](super::source::Source) with every packet; never changes one.

use crate::counters::LayerCounters;
use crate::packet::codec::{Codec, Resolution, Vp8Descriptor, Vp9Descriptor};
use crate::packet::dependency::structure::{self, Structure};
use crate::packet::extension::Extension;
use crate::packet::layer::{LayerMark, MAX_LAYERS};
use crate::pool::Slot;

/// Reads the layers of one encoding.
#[derive(Debug, Default)]
pub(crate) struct LayerReader {
    structure: Option<Box<Structure>>,
    /// Spatial layers of VP9 that are not predicted from lower ones.
    independent: u8,
    resolutions: [Option<Resolution>; MAX_LAYERS],
    measured: [[Measured; MAX_LAYERS]; MAX_LAYERS],
}

/// For so many publications a layer of which nothing comes is still told as it was: of a picture that
/// changes seldom, some have no frame for a second.
const REMEMBERED: u8 = 3;

/// What came of one layer, without those below it, since that was last published.
#[derive(Debug, Default, Clone, Copy)]
struct Measured {
    bytes: u64,
    frames: u64,
    /// Publications since something came.
    silent: u8,
}

impl LayerReader {
    /// What a packet says of its layer, if it does. The dependency descriptor counts where there is one, as what
    /// looks like a payload descriptor may be something else, encrypted end to end.
    pub(crate) fn read(&mut self, codec: Codec, slot: &Slot) -> Option<LayerMark> {
        let described = self.described(slot);
        let told = match (codec, &described) {
            (Codec::Vp8, None) => vp8(slot.payload()),
            (Codec::Vp9, _) => self.vp9(slot.payload(), described.as_ref()),
            _ => None,
        };
        told.or(described)
    }

    /// What a payload of VP9 says, if it does not contradict the dependency descriptor.
    fn vp9(&mut self, payload: &[u8], described: Option<&LayerMark>) -> Option<LayerMark> {
        // RFC 9628 4.2: the L bit.
        if payload.first()? & 0x20 == 0 {
            return None;
        }
        let descriptor = Vp9Descriptor::parse(payload)?;
        let (spatial, temporal) = (descriptor.spatial_id?, descriptor.temporal_id?);
        let agrees = |mark: &LayerMark| {
            let layer = (mark.spatial, mark.temporal) == (spatial, temporal);
            layer && mark.starts_frame == descriptor.start_of_frame
        };
        if !described.is_none_or(agrees) {
            return None;
        }
        let intra = !descriptor.inter_picture_predicted && !descriptor.inter_layer_predicted;
        if descriptor.start_of_frame && spatial > 0 && !descriptor.inter_picture_predicted {
            // A key picture tells whether the layer needs those below it.
            let bit = 1 << spatial;
            self.independent = self.independent & !bit | if intra { bit } else { 0 };
        }
        if descriptor.resolution.is_some() {
            let sizes = descriptor.resolutions.iter();
            let known = self.resolutions.iter_mut().zip(sizes);
            known.for_each(|(known, size)| *known = *size);
        }
        Some(LayerMark {
            known: true,
            spatial,
            temporal,
            starts_frame: descriptor.start_of_frame,
            ends_frame: descriptor.end_of_frame,
            intra,
            rise_from: match descriptor.switching_up_point {
                true => temporal,
                false => LayerMark::NO_RISE,
            },
            independent: self.independent,
            teaches: described.is_some_and(|mark| mark.teaches),
            ..LayerMark::NONE
        })
    }

    fn described(&mut self, slot: &Slot) -> Option<LayerMark> {
        let extensions = &slot.info.extensions;
        let descriptor = extensions.get(slot.bytes(), Extension::DependencyDescriptor)?;
        let frame = structure::read(descriptor, &mut self.structure);
        let (Some(frame), Some(structure)) = (frame, self.structure.as_deref()) else {
            return Some(LayerMark {
                unread: true,
                ..LayerMark::NONE
            });
        };
        let teaches = frame.descriptor.has_structure;
        if teaches {
            let sizes = (0u8..).map(|spatial| structure.resolution(spatial));
            let known = self.resolutions.iter_mut().zip(sizes);
            known.for_each(|(known, size)| *known = size);
        }
        Some(LayerMark {
            known: true,
            spatial: frame.spatial,
            temporal: frame.temporal,
            starts_frame: frame.descriptor.start_of_frame,
            ends_frame: frame.descriptor.end_of_frame,
            teaches,
            rise_from: match structure.lets_rise(&frame) {
                true => frame.temporal,
                false => LayerMark::NO_RISE,
            },
            ..LayerMark::NONE
        })
    }

    /// Counts a packet of a layer.
    pub(crate) fn measure(&mut self, mark: &LayerMark, payload_len: usize) {
        if !mark.known {
            return;
        }
        let place = |layer: u8| usize::from(layer).min(MAX_LAYERS - 1);
        let measured = &mut self.measured[place(mark.spatial)][place(mark.temporal)];
        measured.bytes += payload_len as u64;
        measured.frames += u64::from(mark.starts_frame);
    }

    /// Copies the measures of the time since the last call to where the control plane reads them.
    pub(crate) fn publish(&mut self, to: &LayerCounters, elapsed_us: u64) {
        for (spatial, of_spatial) in self.measured.iter_mut().enumerate() {
            let size = self.resolutions[spatial];
            let (width, height) = size.map_or((0, 0), |size| (size.width, size.height));
            to.width[spatial].set(u64::from(width));
            to.height[spatial].set(u64::from(height));
            for (temporal, measured) in of_spatial.iter_mut().enumerate() {
                let now = Measured {
                    silent: match measured.bytes {
                        0 => measured.silent.saturating_add(1),
                        _ => 0,
                    },
                    ..Measured::default()
                };
                let measured = std::mem::replace(measured, now);
                if (1..REMEMBERED).contains(&now.silent) {
                    continue;
                }
                let per_second = |count: u64| {
                    let count = count.saturating_mul(1_000_000);
                    count.checked_div(elapsed_us).unwrap_or(0)
                };
                to.bitrate_bps[spatial][temporal].set(per_second(measured.bytes * 8));
                let millihertz = per_second(measured.frames * 1000);
                to.frames_per_1000_s[spatial][temporal].set(millihertz);
            }
        }
        to.independent.set(u64::from(self.independent));
    }
}

fn vp8(payload: &[u8]) -> Option<LayerMark> {
    // RFC 7741 4.2: the X bit, then the T bit.
    let [0x80..=0xff, extensions, ..] = *payload else {
        return None;
    };
    if extensions & 0x20 == 0 {
        return None;
    }
    let descriptor = Vp8Descriptor::parse(payload)?;
    let temporal = descriptor.temporal_id?;
    let sync = descriptor.layer_sync && temporal > 0;
    Some(LayerMark {
        known: true,
        temporal,
        starts_frame: descriptor.start_of_partition && descriptor.partition_index == 0,
        // Of a frame that depends on the lowest layer alone, nobody lacks anything.
        rise_from: if sync { 0 } else { LayerMark::NO_RISE },
        ..LayerMark::NONE
    })
}
