//! Which layer a frame belongs to: the template structure that a keyframe's descriptor brings, by which
//! the descriptors of later packets are read. The home of a rendition keeps it.
//!
//! Everything is bounded: a structure has at most [`MAX_TEMPLATES`] templates and
//! [`MAX_DECODE_TARGETS`] decode targets, and spatial layers beyond [`MAX_SPATIAL_LAYERS`] are refused.

use crate::packet::codec::{BitReader, Resolution};
use crate::packet::dependency::DependencyDescriptor;

#[cfg(test)]
mod tests;

/// Most templates of a structure: their ids have six bits.
pub const MAX_TEMPLATES: usize = 64;

/// Most decode targets of a structure: their count has five bits.
pub const MAX_DECODE_TARGETS: usize = 32;

/// Most spatial layers that are read.
pub const MAX_SPATIAL_LAYERS: u8 = 8;

/// What a frame is to a decode target (A.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Indication {
    /// Not part of it.
    NotPresent,
    /// Part of it, and nothing refers to it.
    Discardable,
    /// Whoever decodes it can decode all of the target that follows.
    Switch,
    /// Part of it.
    Required,
}

impl Indication {
    const fn of(bits: u64) -> Self {
        match bits & 3 {
            0 => Self::NotPresent,
            1 => Self::Discardable,
            2 => Self::Switch,
            _ => Self::Required,
        }
    }
}

/// Indications for all decode targets, two bits for each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Indications(u64);

impl Indications {
    /// What the frame is to this decode target.
    #[must_use]
    pub const fn of(self, target: usize) -> Indication {
        if target < MAX_DECODE_TARGETS {
            Indication::of(self.0 >> (2 * target))
        } else {
            Indication::NotPresent
        }
    }

    fn read(bits: &mut BitReader<'_>, targets: usize) -> Option<Self> {
        (0..targets).try_fold(Self::default(), |all, target| {
            Some(Self(all.0 | u64::from(bits.bits(2)?) << (2 * target)))
        })
    }
}

/// What frames of one template have in common.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Template {
    /// Spatial layer.
    pub spatial: u8,
    /// Temporal layer.
    pub temporal: u8,
    /// What such a frame is to each decode target, unless it says otherwise.
    pub indications: Indications,
}

/// A template dependency structure (A.8.2). It needs no memory but its own, so that one can take the
/// place of another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Structure {
    id_offset: u8,
    targets: usize,
    templates: [Template; MAX_TEMPLATES],
    count: usize,
    /// By spatial layer, the decode target that has most of its temporal layers.
    fluent: [Option<u8>; MAX_SPATIAL_LAYERS as usize],
    resolutions: [Option<Resolution>; MAX_SPATIAL_LAYERS as usize],
}

impl Structure {
    /// The highest spatial and temporal layer that any template has.
    #[must_use]
    pub fn highest(&self) -> (u8, u8) {
        let templates = self.templates().iter();
        templates.fold((0, 0), |(spatial, temporal), template| {
            (
                spatial.max(template.spatial),
                temporal.max(template.temporal),
            )
        })
    }

    /// The size of the picture of a spatial layer, if it is said.
    #[must_use]
    pub fn resolution(&self, spatial: u8) -> Option<Resolution> {
        *self.resolutions.get(usize::from(spatial))?
    }

    /// Whether a frame lets whoever has it, and what it refers to, go on with every temporal layer of
    /// its spatial layer.
    #[must_use]
    pub fn lets_rise(&self, frame: &Frame) -> bool {
        let target = self.fluent.get(usize::from(frame.spatial)).copied();
        target
            .flatten()
            .is_some_and(|target| frame.indications.of(usize::from(target)) == Indication::Switch)
    }

    fn note_fluent(&mut self) {
        let mut temporal = [0; MAX_SPATIAL_LAYERS as usize];
        for target in 0..self.targets {
            let (spatial, highest) = self.layer_of(target);
            let spatial = usize::from(spatial);
            if self.fluent[spatial].is_none() || highest >= temporal[spatial] {
                temporal[spatial] = highest;
                self.fluent[spatial] = Some(target as u8);
            }
        }
    }

    /// The highest layers of a decode target (A.8.2, `decode_target_layers`).
    fn layer_of(&self, target: usize) -> (u8, u8) {
        let present = self
            .templates()
            .iter()
            .filter(|template| template.indications.of(target) != Indication::NotPresent);
        present.fold((0, 0), |(spatial, temporal), template| {
            (
                spatial.max(template.spatial),
                temporal.max(template.temporal),
            )
        })
    }

    fn templates(&self) -> &[Template] {
        &self.templates[..self.count]
    }

    fn template(&self, id: u8) -> Option<&Template> {
        let position = (id + 64 - self.id_offset) % 64;
        self.templates().get(usize::from(position))
    }

    fn read(bits: &mut BitReader<'_>) -> Option<Self> {
        let mut structure = Self {
            id_offset: bits.bits(6)? as u8,
            targets: bits.bits(5)? as usize + 1,
            templates: [Template::default(); MAX_TEMPLATES],
            count: 0,
            fluent: [None; MAX_SPATIAL_LAYERS as usize],
            resolutions: [None; MAX_SPATIAL_LAYERS as usize],
        };
        structure.read_layers(bits)?;
        let (targets, count) = (structure.targets, structure.count);
        for template in &mut structure.templates[..count] {
            template.indications = Indications::read(bits, targets)?;
        }
        structure.note_fluent();
        for _ in 0..count {
            // Frame differences: a flag before each says that it follows.
            while bits.flag()? {
                bits.skip(4)?;
            }
        }
        let chains = non_symmetric(bits, targets as u32 + 1)?;
        if chains > 0 {
            for _ in 0..targets {
                non_symmetric(bits, chains)?;
            }
            bits.skip(4 * chains * count as u32)?;
        }
        if bits.flag()? {
            let (highest, _) = structure.highest();
            for size in &mut structure.resolutions[..=usize::from(highest)] {
                let (width, height) = (bits.bits(16)? + 1, bits.bits(16)? + 1);
                *size = Resolution::new(width, height);
            }
        }
        Some(structure)
    }

    /// A.8.2, `template_layers`.
    fn read_layers(&mut self, bits: &mut BitReader<'_>) -> Option<()> {
        let (mut spatial, mut temporal) = (0, 0);
        loop {
            if spatial >= MAX_SPATIAL_LAYERS {
                return None;
            }
            let template = self.templates.get_mut(self.count)?;
            (template.spatial, template.temporal) = (spatial, temporal);
            self.count += 1;
            match bits.bits(2)? {
                0 => {}
                1 => temporal += 1,
                2 => (spatial, temporal) = (spatial + 1, 0),
                _ => return Some(()),
            }
        }
    }
}

/// `ns(n)` of the AV1 specification: a number below `n`.
fn non_symmetric(bits: &mut BitReader<'_>, n: u32) -> Option<u32> {
    let width = u32::BITS - n.leading_zeros();
    let short = (1 << width) - n;
    let value = bits.bits(width - 1)?;
    if value < short {
        return Some(value);
    }
    Some((value << 1) - short + bits.bits(1)?)
}

/// What a descriptor says of the frame that its packet is part of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// What each descriptor says.
    pub descriptor: DependencyDescriptor,
    /// Spatial layer.
    pub spatial: u8,
    /// Temporal layer.
    pub temporal: u8,
    /// What the frame is to each decode target.
    pub indications: Indications,
}

/// Reads a descriptor by the structure it brings, which is put in place of the known one, or else by
/// that. `None` if it is cut, or of a structure that is not known.
pub fn read(descriptor: &[u8], known: &mut Option<Box<Structure>>) -> Option<Frame> {
    let mandatory = DependencyDescriptor::parse(descriptor)?;
    let (mut own, mut custom) = (None, false);
    let extended = descriptor.get(DependencyDescriptor::MANDATORY_BYTES..)?;
    let mut bits = BitReader::new(extended);
    if !extended.is_empty() {
        // template_dependency_structure_present_flag.
        bits.skip(1)?;
        let active = bits.flag()?;
        custom = bits.flag()?;
        bits.skip(2)?;
        if mandatory.has_structure {
            own = Some(Structure::read(&mut bits)?);
        }
        if active {
            let targets = own.as_ref().or(known.as_deref())?.targets;
            bits.skip(targets as u32)?;
        }
    }
    let structure = own.as_ref().or(known.as_deref())?;
    let template = structure.template(mandatory.template_id)?;
    let indications = match custom {
        true => Indications::read(&mut bits, structure.targets)?,
        false => template.indications,
    };
    let frame = Frame {
        descriptor: mandatory,
        spatial: template.spatial,
        temporal: template.temporal,
        indications,
    };
    if let Some(own) = own {
        match known {
            Some(known) => **known = own,
            None => *known = Some(Box::new(own)),
        }
    }
    Some(frame)
}
