use proptest::prelude::*;

use super::*;

/// Writes what the specification says, bit by bit.
#[derive(Default)]
struct Writer(Vec<bool>);

impl Writer {
    fn bits(&mut self, value: u64, count: u32) -> &mut Self {
        (0..count)
            .rev()
            .for_each(|at| self.0.push(value >> at & 1 == 1));
        self
    }

    fn non_symmetric(&mut self, value: u64, n: u64) {
        let width = 64 - n.leading_zeros();
        let short = (1 << width) - n;
        match value < short {
            true => self.bits(value, width - 1),
            false => self
                .bits((value + short) >> 1, width - 1)
                .bits((value + short) & 1, 1),
        };
    }

    fn bytes(&self) -> Vec<u8> {
        let byte = |bits: &[bool]| {
            let value = bits
                .iter()
                .fold(0, |value, bit| value << 1 | u8::from(*bit));
            value << (8 - bits.len())
        };
        self.0.chunks(8).map(byte).collect()
    }
}

/// A structure as a model: per template its layer, its indications and its frame differences.
#[derive(Debug, Clone)]
struct Model {
    id_offset: u8,
    targets: usize,
    templates: Vec<(u8, u8, Vec<u8>, Vec<u8>)>,
    chains: Vec<u8>,
    resolutions: Option<Vec<(u16, u16)>>,
}

impl Model {
    fn write(&self, out: &mut Writer) {
        out.bits(self.id_offset.into(), 6);
        out.bits(self.targets as u64 - 1, 5);
        for pair in self.templates.windows(2) {
            let step = match (pair[1].0 - pair[0].0, pair[1].1 == pair[0].1) {
                (0, true) => 0,
                (0, false) => 1,
                _ => 2,
            };
            out.bits(step, 2);
        }
        out.bits(3, 2);
        for (.., indications, _) in &self.templates {
            indications.iter().for_each(|one| {
                out.bits((*one).into(), 2);
            });
        }
        for (.., differences) in &self.templates {
            for difference in differences {
                out.bits(1, 1).bits((*difference).into(), 4);
            }
            out.bits(0, 1);
        }
        let chains = self.chains.iter().max().map_or(0, |most| most + 1);
        out.non_symmetric(chains.into(), self.targets as u64 + 1);
        if chains > 0 {
            for chain in &self.chains {
                out.non_symmetric((*chain).into(), chains.into());
            }
            self.templates.iter().for_each(|_| {
                (0..chains).for_each(|chain| {
                    out.bits(u64::from(chain) + 1, 4);
                });
            });
        }
        out.bits(self.resolutions.is_some().into(), 1);
        for (width, height) in self.resolutions.iter().flatten() {
            out.bits((*width).into(), 16).bits((*height).into(), 16);
        }
    }
}

/// A descriptor with mandatory fields; and with the structure, if one is given.
fn descriptor(
    number: u16,
    template: u8,
    structure: Option<&Model>,
    custom: Option<&[u8]>,
) -> Vec<u8> {
    let mut out = Writer::default();
    out.bits(0b11, 2)
        .bits(template.into(), 6)
        .bits(number.into(), 16);
    if structure.is_none() && custom.is_none() {
        return out.bytes();
    }
    out.bits(structure.is_some().into(), 1).bits(0, 1);
    out.bits(custom.is_some().into(), 1).bits(0, 2);
    if let Some(structure) = structure {
        structure.write(&mut out);
    }
    for one in custom.into_iter().flatten() {
        out.bits((*one).into(), 2);
    }
    out.bytes()
}

fn models() -> impl Strategy<Value = Model> {
    let steps = prop::collection::vec(0u8..3, 0..20);
    (
        0u8..64,
        1usize..=32,
        steps,
        any::<bool>(),
        any::<bool>(),
        any::<u64>(),
    )
        .prop_map(|(id_offset, targets, steps, chained, sized, seed)| {
            let mut layers = vec![(0, 0)];
            for step in steps {
                let (spatial, temporal) = *layers.last().expect("it has one");
                layers.push(match step {
                    1 => (spatial, temporal + 1),
                    2 if spatial + 1 < MAX_SPATIAL_LAYERS => (spatial + 1, 0),
                    _ => (spatial, temporal),
                });
            }
            let mut seed = seed;
            let mut random = move |below: u64| {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (seed >> 33) % below
            };
            let most = layers
                .iter()
                .map(|layer| layer.0)
                .max()
                .expect("it has one");
            let templates = layers.into_iter().map(|(spatial, temporal)| {
                let indications = (0..targets).map(|_| random(4) as u8).collect();
                let differences = (0..random(4)).map(|_| random(16) as u8).collect();
                (spatial, temporal, indications, differences)
            });
            let templates = templates.collect();
            let chains = match chained {
                true => (0..targets).map(|target| target as u8 % 5).collect(),
                false => Vec::new(),
            };
            let size = |layer: u8| (u16::from(layer) * 320 + 319, u16::from(layer) * 180 + 179);
            Model {
                id_offset,
                targets,
                templates,
                chains,
                resolutions: sized.then(|| (0..=most).map(size).collect()),
            }
        })
}

proptest! {
    #[test]
    fn a_structure_is_read_as_it_was_written(model in models(), number: u16) {
        let mut known = None;
        let first = descriptor(number, model.id_offset, Some(&model), None);
        let frame = read(&first, &mut known).expect("it is whole");
        prop_assert_eq!((frame.descriptor.frame_number, frame.spatial, frame.temporal), (number, 0, 0));
        let size = |layer: u8| known.as_ref().and_then(|known| known.resolution(layer));
        for layer in 0..MAX_SPATIAL_LAYERS {
            let told = model.resolutions.as_ref();
            let expected = told.and_then(|sizes| sizes.get(usize::from(layer)));
            let expected = expected.map(|(w, h)| (u32::from(*w) + 1, u32::from(*h) + 1));
            prop_assert_eq!(size(layer).map(|size| (size.width, size.height)), expected);
        }
        for (place, (spatial, temporal, indications, _)) in model.templates.iter().enumerate() {
            let template = (model.id_offset + place as u8) % 64;
            let later = descriptor(number, template, None, None);
            prop_assert_eq!(later.len(), 3);
            let frame = read(&later, &mut known).expect("it is known");
            prop_assert_eq!((frame.spatial, frame.temporal), (*spatial, *temporal));
            for (target, bits) in indications.iter().enumerate() {
                prop_assert_eq!(frame.indications.of(target), Indication::of((*bits).into()));
            }
            let custom: Vec<u8> = indications.iter().map(|bits| 3 - bits).collect();
            let own = descriptor(number, template, None, Some(&custom));
            let frame = read(&own, &mut known).expect("it is known");
            for (target, bits) in custom.iter().enumerate() {
                prop_assert_eq!(frame.indications.of(target), Indication::of((*bits).into()));
            }
        }
        let beyond = (model.id_offset as usize + model.templates.len()) % 64;
        let unknown = descriptor(number, beyond as u8, None, None);
        prop_assert_eq!(read(&unknown, &mut known), None);
    }

    #[test]
    fn one_that_is_cut_changes_nothing(model in models()) {
        let whole = descriptor(1, model.id_offset, Some(&model), None);
        for len in 0..whole.len() {
            let mut known = None;
            prop_assert_eq!(read(&whole[..len], &mut known), None);
            prop_assert!(known.is_none());
        }
    }

    #[test]
    fn nothing_makes_it_panic_or_grow(descriptors: Vec<Vec<u8>>) {
        let mut known: Option<Box<Structure>> = None;
        for descriptor in descriptors {
            if let Some(frame) = read(&descriptor, &mut known) {
                let structure = known.as_ref().expect("it was read by one");
                let _ = structure.lets_rise(&frame);
                prop_assert!(structure.templates().len() <= MAX_TEMPLATES);
                prop_assert!(structure.targets <= MAX_DECODE_TARGETS);
                prop_assert!(frame.spatial < MAX_SPATIAL_LAYERS);
            }
        }
    }
}

#[test]
fn a_structure_of_too_many_layers_is_refused() {
    let mut out = Writer::default();
    out.bits(0b11, 2).bits(0, 6).bits(1, 16);
    out.bits(0b10000, 5).bits(0, 6).bits(0, 5);
    (0..u64::from(MAX_SPATIAL_LAYERS)).for_each(|_| {
        out.bits(2, 2);
    });
    out.bits(3, 2);
    (0..40).for_each(|_| {
        out.bits(0, 8);
    });
    assert_eq!(read(&out.bytes(), &mut None), None);
}

/// Two temporal layers of one spatial layer, as libwebrtc describes `L1T2`.
#[test]
fn a_frame_of_the_lowest_layer_lets_rise_where_it_says_switch() {
    let templates = [(0, 0, [2, 2]), (0, 0, [2, 3]), (0, 1, [0, 1])];
    let templates = templates.map(|(s, t, i)| (s, t, i.to_vec(), vec![0]));
    let model = Model {
        id_offset: 0,
        targets: 2,
        templates: templates.to_vec(),
        chains: vec![0, 0],
        resolutions: None,
    };
    let mut known = None;
    let mut lets_rise = |descriptor: &[u8]| {
        let frame = read(descriptor, &mut known).expect("it is whole");
        known.as_ref().expect("it is known").lets_rise(&frame)
    };
    assert!(lets_rise(&descriptor(1, 0, Some(&model), None)));
    assert!(!lets_rise(&descriptor(2, 1, None, None)));
    assert!(!lets_rise(&descriptor(3, 2, None, None)));
    assert_eq!(known.as_ref().map(|known| known.highest()), Some((0, 1)));
}
