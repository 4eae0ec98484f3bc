//! Sample entries: what a file says of a track's codec, read from the track's first unit.
//!
//! A recording asks for one before a track begins. It must never take a field from a bitstream
//! without checking that it is there: a unit that does not parse has no entry.

use fanmill_engine::packet::codec::{BitReader, Codec, Resolution, resolution};
use shiguredo_mp4::boxes::{
    AudioSampleEntryFields, Av01Box, Av1cBox, Avc1Box, AvccBox, DopsBox, EsdsBox, Hev1Box, HvccBox,
    HvccNalUintArray, Mp4aBox, OpusBox, SampleEntry, UnknownBox, VisualSampleEntryFields, Vp08Box,
    Vp09Box, VpccBox,
};
use shiguredo_mp4::descriptors::{
    DecoderConfigDescriptor, DecoderSpecificInfo, EsDescriptor, SlConfigDescriptor,
};
use shiguredo_mp4::{BoxSize, BoxType, FixedPointNumber, Uint};

use crate::media::aac::AacConfig;
use crate::media::depacketize::{Unit, nals, sequence_header};

/// CICP code point for "unspecified" (ISO 23091-2).
const UNSPECIFIED: u8 = 2;

/// VP9 and VP8 levels are not in the bitstream; this one covers 4K.
const VP_LEVEL: u8 = 51;

/// What a file says of a track.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    /// The codec that came; what was made AAC of it has an [`aac_config`](Self::aac_config).
    pub codec: Codec,
    /// The picture's size; `None` for sound.
    pub size: Option<Resolution>,
    pub(super) entry: SampleEntry,
}

impl Description {
    /// Reads it from a unit that decoding can begin with; `None` if it does not say enough, or has a
    /// codec that MP4 files do not hold.
    #[must_use]
    pub fn of(unit: &Unit) -> Option<Self> {
        let begins = unit.keyframe.then_some(());
        begins.and_then(|()| Self::read(unit.codec, &unit.data))
    }

    /// Reads it from the bytes of such a unit.
    #[must_use]
    pub fn read(codec: Codec, data: &[u8]) -> Option<Self> {
        let (entry, size) = match codec {
            Codec::H264 => h264(data)?,
            Codec::H265 => h265(data)?,
            Codec::Vp8 => vp8(data)?,
            Codec::Vp9 => vp9(data)?,
            Codec::Av1 => av1(data)?,
            Codec::Opus => return Some(Self::sound(codec, opus())),
            Codec::Pcmu => return Some(Self::sound(codec, g711(*b"ulaw"))),
            Codec::Pcma => return Some(Self::sound(codec, g711(*b"alaw"))),
            Codec::G722 => return None,
        };
        let size = Some(size);
        Some(Self { codec, size, entry })
    }

    /// The same sound, as AAC with this AudioSpecificConfig.
    #[must_use]
    pub fn as_aac(&self, config: &[u8]) -> Self {
        Self::sound(self.codec, aac(config))
    }

    /// The AudioSpecificConfig, if it is AAC.
    #[must_use]
    pub fn aac_config(&self) -> Option<&[u8]> {
        let SampleEntry::Mp4a(mp4a) = &self.entry else {
            return None;
        };
        let info = &mp4a.esds_box.es.dec_config_descr.dec_specific_info;
        info.as_ref().map(|info| &info.payload[..])
    }

    fn sound(codec: Codec, entry: SampleEntry) -> Self {
        Self {
            codec,
            size: None,
            entry,
        }
    }
}

fn visual(size: Resolution) -> Option<VisualSampleEntryFields> {
    type Fields = VisualSampleEntryFields;
    // A track header holds 15 bits (ISO 14496-12 8.3.2).
    let side = |pixels: u32| u16::try_from(pixels).ok().filter(|&side| side < 0x8000);
    Some(Fields {
        data_reference_index: Fields::DEFAULT_DATA_REFERENCE_INDEX,
        width: side(size.width)?,
        height: side(size.height)?,
        horizresolution: Fields::DEFAULT_HORIZRESOLUTION,
        vertresolution: Fields::DEFAULT_VERTRESOLUTION,
        frame_count: Fields::DEFAULT_FRAME_COUNT,
        compressorname: [0; 32],
        depth: Fields::DEFAULT_DEPTH,
    })
}

fn h264(data: &[u8]) -> Option<(SampleEntry, Resolution)> {
    let of_type =
        |wanted| nals(data).find(move |nal| nal.first().is_some_and(|b| b & 0x1f == wanted));
    let (sps, pps) = (of_type(7)?, of_type(8)?);
    let size = resolution(Codec::H264, sps)?;
    let &[_, profile, compatibility, level, ..] = sps else {
        return None;
    };
    let mut avcc = AvccBox {
        avc_profile_indication: profile,
        profile_compatibility: compatibility,
        avc_level_indication: level,
        length_size_minus_one: Uint::new(3),
        sps_list: vec![sps.to_vec()],
        pps_list: vec![pps.to_vec()],
        chroma_format: None,
        bit_depth_luma_minus8: None,
        bit_depth_chroma_minus8: None,
        sps_ext_list: Vec::new(),
    };
    // ISO 14496-15 5.3.3.1.2: all profiles but these have the fields.
    if !matches!(profile, 66 | 77 | 88) {
        let (chroma, luma_depth, chroma_depth) = h264_formats(sps, profile)?;
        avcc.chroma_format = Some(Uint::new(chroma));
        avcc.bit_depth_luma_minus8 = Some(Uint::new(luma_depth));
        avcc.bit_depth_chroma_minus8 = Some(Uint::new(chroma_depth));
    }
    // The parameter sets stay in band too, where later ones may differ. Strictly that is avc3; but
    // more players know avc1, and those that decode recordings at all read the sets in band.
    let entry = SampleEntry::Avc1(Avc1Box {
        visual: visual(size)?,
        avcc_box: avcc,
        unknown_boxes: Vec::new(),
    });
    Some((entry, size))
}

/// H.264 7.3.2.1.1: chroma_format_idc and the bit depths minus 8.
fn h264_formats(sps: &[u8], profile: u8) -> Option<(u8, u8, u8)> {
    const WITH_FORMATS: [u8; 12] = [100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134];
    if !WITH_FORMATS.contains(&profile) {
        return Some((1, 0, 0));
    }
    let mut bits = BitReader::nal(sps.get(4..)?);
    bits.ue()?;
    let chroma = bits.ue()?;
    if chroma == 3 {
        bits.skip(1)?;
    }
    let (luma_depth, chroma_depth) = (bits.ue()?, bits.ue()?);
    let small = |value: u32, most| u8::try_from(value).ok().filter(|&v| v <= most);
    Some((
        small(chroma, 3)?,
        small(luma_depth, 6)?,
        small(chroma_depth, 6)?,
    ))
}

fn h265(data: &[u8]) -> Option<(SampleEntry, Resolution)> {
    let nal_type = |nal: &[u8]| nal.first().map_or(0, |header| header >> 1 & 0x3f);
    let of_type = |wanted| nals(data).find(move |nal| nal_type(nal) == wanted);
    let sets = [(32, of_type(32)?), (33, of_type(33)?), (34, of_type(34)?)];
    let sps = sets[1].1;
    let size = resolution(Codec::H265, sps)?;
    let hvcc = h265_config(sps, &sets)?;
    let entry = SampleEntry::Hev1(Hev1Box {
        visual: visual(size)?,
        hvcc_box: hvcc,
        unknown_boxes: Vec::new(),
    });
    Some((entry, size))
}

/// H.265 7.3.2.2.1 into ISO 14496-15 8.3.3.1.
fn h265_config(sps: &[u8], sets: &[(u8, &[u8]); 3]) -> Option<HvccBox> {
    let mut bits = BitReader::nal(sps.get(2..)?);
    bits.skip(4)?;
    let sub_layers_minus1 = bits.bits(3)?;
    let nested = bits.bits(1)?;
    let space_tier_profile = bits.bits(8)?;
    let compatibility = bits.bits(32)?;
    let constraints = u64::from(bits.bits(16)?) << 32 | u64::from(bits.bits(32)?);
    let level = bits.bits(8)?;
    let mut sub_layer_bits = 0;
    for _ in 0..sub_layers_minus1 {
        sub_layer_bits += bits.bits(1)? * 88 + bits.bits(1)? * 8;
    }
    if sub_layers_minus1 > 0 {
        bits.skip(2 * (8 - sub_layers_minus1) + sub_layer_bits)?;
    }
    bits.ue()?;
    let chroma = bits.ue().filter(|&chroma| chroma <= 3)?;
    if chroma == 3 {
        bits.skip(1)?;
    }
    bits.ue()?;
    bits.ue()?;
    if bits.flag()? {
        for _ in 0..4 {
            bits.ue()?;
        }
    }
    let luma_depth = bits.ue().filter(|&depth| depth <= 7)?;
    let chroma_depth = bits.ue().filter(|&depth| depth <= 7)?;
    let arrays = sets.iter().map(|(nal_type, nal)| HvccNalUintArray {
        // More may come in band.
        array_completeness: Uint::new(0),
        nal_unit_type: Uint::new(*nal_type),
        nalus: vec![nal.to_vec()],
    });
    Some(HvccBox {
        general_profile_space: Uint::new((space_tier_profile >> 6) as u8),
        general_tier_flag: Uint::new((space_tier_profile >> 5 & 1) as u8),
        general_profile_idc: Uint::new((space_tier_profile & 0x1f) as u8),
        general_profile_compatibility_flags: compatibility,
        general_constraint_indicator_flags: Uint::new(constraints),
        general_level_idc: level as u8,
        min_spatial_segmentation_idc: Uint::new(0),
        parallelism_type: Uint::new(0),
        chroma_format_idc: Uint::new(chroma as u8),
        bit_depth_luma_minus8: Uint::new(luma_depth as u8),
        bit_depth_chroma_minus8: Uint::new(chroma_depth as u8),
        avg_frame_rate: 0,
        constant_frame_rate: Uint::new(0),
        num_temporal_layers: Uint::new(sub_layers_minus1 as u8 + 1),
        temporal_id_nested: Uint::new(nested as u8),
        length_size_minus_one: Uint::new(3),
        nalu_arrays: arrays.collect(),
    })
}

fn vpcc(profile: u8, bit_depth: u8, subsampling: u8, full_range: bool) -> VpccBox {
    VpccBox {
        profile,
        level: VP_LEVEL,
        bit_depth: Uint::new(bit_depth),
        chroma_subsampling: Uint::new(subsampling),
        video_full_range_flag: Uint::new(u8::from(full_range)),
        colour_primaries: UNSPECIFIED,
        transfer_characteristics: UNSPECIFIED,
        matrix_coefficients: UNSPECIFIED,
        codec_initialization_data: Vec::new(),
    }
}

fn vp8(frame: &[u8]) -> Option<(SampleEntry, Resolution)> {
    // A payload descriptor that begins partition 0, then the frame.
    let payload: Vec<u8> = [0x10]
        .iter()
        .chain(frame.iter().take(10))
        .copied()
        .collect();
    let size = resolution(Codec::Vp8, &payload)?;
    let entry = SampleEntry::Vp08(Vp08Box {
        visual: visual(size)?,
        vpcc_box: vpcc(0, 8, 1, false),
        unknown_boxes: Vec::new(),
    });
    Some((entry, size))
}

fn vp9(frame: &[u8]) -> Option<(SampleEntry, Resolution)> {
    // A payload descriptor that begins a frame, then the frame.
    let payload: Vec<u8> = [0x08]
        .iter()
        .chain(frame.iter().take(32))
        .copied()
        .collect();
    let size = resolution(Codec::Vp9, &payload)?;
    // VP9 bitstream specification 6.2 and 6.2.2, up to what `resolution` has checked.
    const CS_RGB: u32 = 7;
    let mut bits = BitReader::new(frame);
    bits.skip(2)?;
    let profile = bits.bits(1)? | bits.bits(1)? << 1;
    bits.skip(if profile == 3 { 1 } else { 0 } + 4 + 24)?;
    let bit_depth = match profile >= 2 {
        true => 10 + 2 * bits.bits(1)?,
        false => 8,
    };
    let color_space = bits.bits(3)?;
    let full_range = color_space == CS_RGB || bits.flag()?;
    // VP Codec ISO Media File Format Binding: 1 is 4:2:0 with colocated samples, 2 is 4:2:2, 3 4:4:4.
    let subsampling = match (profile & 1, color_space) {
        (0, _) => 1,
        (_, CS_RGB) => 3,
        _ => match (bits.flag()?, bits.flag()?) {
            (true, true) => 1,
            (true, false) => 2,
            _ => 3,
        },
    };
    let entry = SampleEntry::Vp09(Vp09Box {
        visual: visual(size)?,
        vpcc_box: vpcc(profile as u8, bit_depth as u8, subsampling, full_range),
        unknown_boxes: Vec::new(),
    });
    Some((entry, size))
}

fn av1(data: &[u8]) -> Option<(SampleEntry, Resolution)> {
    let obu = sequence_header(data)?;
    // An aggregation header for one element that begins a sequence, then the OBU.
    let payload: Vec<u8> = [0x18].iter().chain(obu).copied().collect();
    let size = resolution(Codec::Av1, &payload)?;
    let entry = SampleEntry::Av01(Av01Box {
        visual: visual(size)?,
        av1c_box: av1_config(obu)?,
        unknown_boxes: Vec::new(),
    });
    Some((entry, size))
}

/// AV1 5.5.1 into AV1-ISOBMFF 2.3.3.
fn av1_config(obu: &[u8]) -> Option<Av1cBox> {
    let extension = usize::from(obu.first()? >> 2 & 1);
    let (_, header) = leb128(obu.get(1 + extension..)?)?;
    let mut bits = BitReader::new(header);
    let profile = bits.bits(3)?;
    bits.skip(1)?;
    let (level, tier) = if bits.flag()? {
        (bits.bits(5)?, 0)
    } else {
        av1_operating_points(&mut bits)?
    };
    let reduced = header.first()? & 0x08 != 0;
    av1_skip_to_color(&mut bits, reduced)?;
    let high_bitdepth = bits.bits(1)?;
    let twelve_bit = match profile == 2 && high_bitdepth == 1 {
        true => bits.bits(1)?,
        false => 0,
    };
    let monochrome = match profile {
        1 => 0,
        _ => bits.bits(1)?,
    };
    let described = bits.flag()?;
    let code_points = match described {
        true => (bits.bits(8)?, bits.bits(8)?, bits.bits(8)?),
        false => (2, 2, 2),
    };
    let (mut x, mut y, mut position) = (1, 1, 0);
    if monochrome == 1 {
        bits.skip(1)?;
    } else if code_points == (1, 13, 0) {
        (x, y) = (0, 0);
    } else {
        bits.skip(1)?;
        (x, y) = match (profile, twelve_bit) {
            (0, _) => (1, 1),
            (1, _) => (0, 0),
            (_, 0) => (1, 0),
            _ => match bits.bits(1)? {
                0 => (0, 0),
                _ => (1, bits.bits(1)?),
            },
        };
        if (x, y) == (1, 1) {
            position = bits.bits(2)?;
        }
    }
    Some(Av1cBox {
        seq_profile: Uint::new(profile as u8),
        seq_level_idx_0: Uint::new(level as u8),
        seq_tier_0: Uint::new(tier as u8),
        high_bitdepth: Uint::new(high_bitdepth as u8),
        twelve_bit: Uint::new(twelve_bit as u8),
        monochrome: Uint::new(monochrome as u8),
        chroma_subsampling_x: Uint::new(x as u8),
        chroma_subsampling_y: Uint::new(y as u8),
        chroma_sample_position: Uint::new(position as u8),
        initial_presentation_delay_minus_one: None,
        config_obus: obu.to_vec(),
    })
}

/// Level and tier of the first operating point; passes over the others.
fn av1_operating_points(bits: &mut BitReader<'_>) -> Option<(u32, u32)> {
    let mut delay_bits = None;
    if bits.flag()? {
        bits.skip(64)?;
        if bits.flag()? {
            let mut zeros = 0;
            while !bits.flag()? {
                zeros += 1;
            }
            bits.skip(if zeros < 32 { zeros } else { 0 })?;
        }
        if bits.flag()? {
            delay_bits = Some(bits.bits(5)? + 1);
            bits.skip(42)?;
        }
    }
    let display_delay = bits.flag()?;
    let mut first = None;
    for _ in 0..=bits.bits(5)? {
        bits.skip(12)?;
        let level = bits.bits(5)?;
        let tier = if level > 7 { bits.bits(1)? } else { 0 };
        first.get_or_insert((level, tier));
        if let Some(delay_bits) = delay_bits
            && bits.flag()?
        {
            bits.skip(2 * delay_bits + 1)?;
        }
        if display_delay && bits.flag()? {
            bits.skip(4)?;
        }
    }
    first
}

/// From the frame size to color_config.
fn av1_skip_to_color(bits: &mut BitReader<'_>, reduced: bool) -> Option<()> {
    let (width_bits, height_bits) = (bits.bits(4)? + 1, bits.bits(4)? + 1);
    bits.skip(width_bits + height_bits)?;
    if !reduced && bits.flag()? {
        // delta_frame_id_length_minus_2, additional_frame_id_length_minus_1.
        bits.skip(7)?;
    }
    // use_128x128_superblock, enable_filter_intra, enable_intra_edge_filter.
    bits.skip(3)?;
    if !reduced {
        // interintra, masked compound, warped motion, dual filter.
        bits.skip(4)?;
        if bits.flag()? {
            // Order hints: joint compound, reference frame motion vectors; their bits below.
            bits.skip(2)?;
            av1_skip_screen_content(bits)?;
            bits.skip(3)?;
        } else {
            av1_skip_screen_content(bits)?;
        }
    }
    // enable_superres, enable_cdef, enable_restoration.
    bits.skip(3)
}

fn av1_skip_screen_content(bits: &mut BitReader<'_>) -> Option<()> {
    // seq_choose_screen_content_tools, else seq_force_screen_content_tools.
    let may_be_screen = bits.flag()? || bits.flag()?;
    // seq_choose_integer_mv, else seq_force_integer_mv.
    if may_be_screen && !bits.flag()? {
        bits.skip(1)?;
    }
    Some(())
}

fn leb128(bytes: &[u8]) -> Option<(usize, &[u8])> {
    crate::media::depacketize::leb128(bytes)
}

fn audio(channels: u16, rate_hz: u16) -> AudioSampleEntryFields {
    AudioSampleEntryFields {
        data_reference_index: AudioSampleEntryFields::DEFAULT_DATA_REFERENCE_INDEX,
        channelcount: channels,
        samplesize: AudioSampleEntryFields::DEFAULT_SAMPLESIZE,
        samplerate: FixedPointNumber::new(rate_hz, 0),
    }
}

/// RFC 7587: always 48 kHz and two channels as the decoder is concerned. The recording begins amid
/// the stream, where there is nothing to skip.
fn opus() -> SampleEntry {
    SampleEntry::Opus(OpusBox {
        audio: audio(2, 48_000),
        dops_box: DopsBox {
            output_channel_count: 2,
            pre_skip: 0,
            input_sample_rate: 48_000,
            output_gain: 0,
        },
        unknown_boxes: Vec::new(),
    })
}

/// AAC (ISO 14496-14 5.6.1).
fn aac(config: &[u8]) -> SampleEntry {
    let said = AacConfig::parse(config);
    let channels = said.map_or(2, |said| said.channels.into());
    let rate_hz = said.and_then(|said| u16::try_from(said.rate_hz).ok());
    SampleEntry::Mp4a(Mp4aBox {
        audio: audio(channels, rate_hz.unwrap_or(48_000)),
        esds_box: EsdsBox {
            es: EsDescriptor {
                // 14496-14 3.1.2: in a file it is 0.
                es_id: 0,
                stream_priority: EsDescriptor::LOWEST_STREAM_PRIORITY,
                depends_on_es_id: None,
                url_string: None,
                ocr_es_id: None,
                dec_config_descr: DecoderConfigDescriptor {
                    object_type_indication:
                        DecoderConfigDescriptor::OBJECT_TYPE_INDICATION_AUDIO_ISO_IEC_14496_3,
                    stream_type: DecoderConfigDescriptor::STREAM_TYPE_AUDIO,
                    up_stream: DecoderConfigDescriptor::UP_STREAM_FALSE,
                    buffer_size_db: Uint::new(0),
                    max_bitrate: 0,
                    avg_bitrate: 0,
                    dec_specific_info: Some(DecoderSpecificInfo {
                        payload: config.to_vec(),
                    }),
                },
                sl_config_descr: SlConfigDescriptor,
            },
        },
        unknown_boxes: Vec::new(),
    })
}

/// G.711 as it came: `ulaw` and `alaw` are registered sample entries without boxes of their own.
fn g711(name: [u8; 4]) -> SampleEntry {
    let mut payload = vec![0; 6];
    let fields = audio(1, 8_000);
    payload.extend_from_slice(&fields.data_reference_index.get().to_be_bytes());
    payload.extend_from_slice(&[0; 8]);
    payload.extend_from_slice(&fields.channelcount.to_be_bytes());
    payload.extend_from_slice(&fields.samplesize.to_be_bytes());
    payload.extend_from_slice(&[0; 4]);
    payload.extend_from_slice(&fields.samplerate.integer.to_be_bytes());
    payload.extend_from_slice(&[0; 2]);
    let box_type = BoxType::Normal(name);
    SampleEntry::Unknown(UnknownBox {
        box_type,
        box_size: BoxSize::with_payload_size(box_type, payload.len() as u64),
        payload,
    })
}
