//! What an m-section says of its media sources: stream and track (RFC 8830), synchronisation
//! sources and their groups (RFC 5576), restrictions and simulcast (RFC 8851, RFC 8853). The
//! m-section parser fills these tables; a line that cannot be read is left out, for the media can
//! do without it.

use super::error::{SdpError, check_room};
use super::limits::{
    MAX_CNAME_BYTES, MAX_MSID_BYTES, MAX_RID_BYTES, MAX_RIDS, MAX_SIMULCAST_LAYERS,
    MAX_SSRC_GROUPS, MAX_SSRCS,
};

/// Stream and track identifiers, `a=msid`, as the client wrote them (Firefox puts braces around).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Msid {
    /// Identifier of the MediaStream; `-` for a track without one.
    pub stream_id: String,
    /// Identifier of the MediaStreamTrack, where given.
    pub track_id: Option<String>,
}

impl Msid {
    /// Reads the value of `a=msid:`, or of the `msid` attribute of an `a=ssrc` line. `None` when an
    /// identifier is missing or too long.
    pub fn parse(value: &str) -> Option<Self> {
        let mut fields = value.split_ascii_whitespace();
        let stream_id = fields.next()?.to_owned();
        let track_id = fields.next().map(str::to_owned);
        let fits = |id: &str| id.len() <= MAX_MSID_BYTES;
        (fits(&stream_id) && track_id.as_deref().is_none_or(fits)).then_some(Self {
            stream_id,
            track_id,
        })
    }
}

/// One synchronisation source that the client announces with `a=ssrc`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SsrcSource {
    /// The source.
    pub ssrc: u32,
    /// Its canonical name.
    pub cname: Option<String>,
    /// Its stream and track, where a client says it here.
    pub msid: Option<Msid>,
}

/// Why sources belong together (RFC 5576 4.2).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum SsrcGroupSemantics {
    /// `FID`: a source and its retransmissions.
    FlowIdentification,
    /// `SIM`: simulcast layers, lowest first.
    Simulcast,
    /// `FEC` and `FEC-FR`: a source and what repairs it.
    ForwardErrorCorrection,
}

/// `a=ssrc-group`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SsrcGroup {
    /// Why they belong together.
    pub semantics: SsrcGroupSemantics,
    /// The sources, in the order given.
    pub ssrcs: Vec<u32>,
}

/// The sources of one encoding: the media and its retransmissions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct EncodingSsrc {
    /// The source of the media.
    pub ssrc: u32,
    /// The source of its retransmissions (RFC 4588), where announced.
    pub rtx_ssrc: Option<u32>,
}

/// The `a=ssrc` and `a=ssrc-group` lines of an m-section.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct SourceTable {
    pub(crate) sources: Vec<SsrcSource>,
    pub(crate) groups: Vec<SsrcGroup>,
}

impl SourceTable {
    /// Takes the value of an `a=ssrc:` line.
    pub(crate) fn push_source(&mut self, value: &str) -> Result<(), SdpError> {
        let (ssrc, attribute) = value.split_once(' ').unwrap_or((value, ""));
        let Ok(ssrc) = ssrc.trim().parse::<u32>() else {
            return Ok(());
        };
        let index = match self.sources.iter().position(|source| source.ssrc == ssrc) {
            Some(index) => index,
            None => {
                check_room(self.sources.len(), MAX_SSRCS, "synchronisation sources")?;
                self.sources.push(SsrcSource {
                    ssrc,
                    cname: None,
                    msid: None,
                });
                self.sources.len() - 1
            }
        };
        let source = &mut self.sources[index];
        match attribute.trim().split_once(':') {
            Some(("cname", cname)) if cname.len() <= MAX_CNAME_BYTES => {
                source.cname = Some(cname.to_owned());
            }
            Some(("msid", msid)) => source.msid = Msid::parse(msid),
            _ => {}
        }
        Ok(())
    }

    /// Takes the value of an `a=ssrc-group:` line.
    pub(crate) fn push_group(&mut self, value: &str) -> Result<(), SdpError> {
        let mut fields = value.split_ascii_whitespace();
        let semantics = match fields.next() {
            Some("FID") => SsrcGroupSemantics::FlowIdentification,
            Some("SIM") => SsrcGroupSemantics::Simulcast,
            Some("FEC" | "FEC-FR") => SsrcGroupSemantics::ForwardErrorCorrection,
            _ => return Ok(()),
        };
        check_room(
            self.groups.len(),
            MAX_SSRC_GROUPS,
            "groups of synchronisation sources",
        )?;
        let mut ssrcs = Vec::new();
        for field in fields {
            let Ok(ssrc) = field.parse() else {
                return Ok(());
            };
            check_room(ssrcs.len(), MAX_SSRCS, "synchronisation sources in a group")?;
            ssrcs.push(ssrc);
        }
        self.groups.push(SsrcGroup { semantics, ssrcs });
        Ok(())
    }

    /// The encodings: simulcast layers in the order of their `SIM` group, otherwise sources in the
    /// order they are announced.
    pub(crate) fn encodings(&self) -> Vec<EncodingSsrc> {
        use SsrcGroupSemantics::{FlowIdentification, ForwardErrorCorrection, Simulcast};
        let of = |wanted: SsrcGroupSemantics| {
            self.groups
                .iter()
                .filter(move |group| group.semantics == wanted)
        };
        let is_secondary = |ssrc: u32| {
            of(FlowIdentification)
                .chain(of(ForwardErrorCorrection))
                .any(|group| group.ssrcs.iter().skip(1).any(|&member| member == ssrc))
        };
        let firsts = of(FlowIdentification).filter_map(|group| group.ssrcs.first().copied());
        let announced = of(Simulcast)
            .flat_map(|group| group.ssrcs.iter().copied())
            .chain(self.sources.iter().map(|source| source.ssrc))
            .chain(firsts);
        let mut encodings: Vec<EncodingSsrc> = Vec::new();
        for ssrc in announced {
            let known = encodings.iter().any(|encoding| encoding.ssrc == ssrc);
            if known || is_secondary(ssrc) || encodings.len() == MAX_SSRCS {
                continue;
            }
            let rtx_ssrc = of(FlowIdentification)
                .find(|group| group.ssrcs.first() == Some(&ssrc))
                .and_then(|group| group.ssrcs.get(1).copied());
            encodings.push(EncodingSsrc { ssrc, rtx_ssrc });
        }
        encodings
    }
}

/// One `a=rid` line that the client sends by (RFC 8851).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rid {
    /// The identifier, as it stands in the RTP stream id header extension.
    pub id: String,
    /// Payload types it is restricted to; empty when it is not.
    pub payload_types: Vec<u8>,
}

impl Rid {
    /// Reads the value of an `a=rid:` line with the direction `send`.
    pub(crate) fn parse_send(value: &str) -> Option<Self> {
        let mut fields = value.splitn(3, ' ');
        let id = fields.next()?;
        if fields.next()?.trim() != "send" || !is_rid(id) {
            return None;
        }
        let parameters = fields.next().unwrap_or_default();
        let mut payload_types = Vec::new();
        for parameter in parameters.split(';') {
            let Some(list) = parameter.trim().strip_prefix("pt=") else {
                continue;
            };
            payload_types = list
                .split(',')
                .filter_map(|pt| pt.trim().parse().ok())
                .collect();
        }
        payload_types.truncate(super::limits::MAX_FORMATS);
        Some(Self {
            id: id.to_owned(),
            payload_types,
        })
    }
}

// RFC 8852 3.3 allows letters and digits only; RFC 8851 10 also "-" and "_", and clients use them.
fn is_rid(id: &str) -> bool {
    (1..=MAX_RID_BYTES).contains(&id.len())
        && id
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
}

/// The `a=rid` and `a=simulcast` lines of an m-section.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct SimulcastTable {
    pub(crate) rids: Vec<Rid>,
    /// Identifiers in the `send` list of `a=simulcast`, first alternatives only.
    send: Vec<String>,
}

impl SimulcastTable {
    /// Takes the value of an `a=rid:` line.
    pub(crate) fn push_rid(&mut self, value: &str) -> Result<(), SdpError> {
        let Some(rid) = Rid::parse_send(value) else {
            return Ok(());
        };
        if self.rids.iter().any(|known| known.id == rid.id) {
            return Ok(());
        }
        check_room(self.rids.len(), MAX_RIDS, "restriction identifiers (a=rid)")?;
        self.rids.push(rid);
        Ok(())
    }

    /// Takes the value of an `a=simulcast:` line.
    pub(crate) fn push_simulcast(&mut self, value: &str) {
        // RFC 8853 5.1: direction and list alternate; ";" parts streams, "," alternatives of one,
        // "~" marks one that starts paused.
        let mut fields = value.split_ascii_whitespace();
        while let (Some(direction), Some(list)) = (fields.next(), fields.next()) {
            if direction == "send" {
                self.send = list
                    .split(';')
                    .filter_map(|stream| stream.split(',').next())
                    .map(|id| id.trim_start_matches('~').to_owned())
                    .take(MAX_RIDS)
                    .collect();
            }
        }
    }

    /// The layers to accept, in the order offered.
    pub(crate) fn layers(&self) -> Vec<&Rid> {
        let mut layers: Vec<&Rid> = Vec::new();
        for id in &self.send {
            let Some(rid) = self.rids.iter().find(|rid| rid.id == *id) else {
                continue;
            };
            if !layers.contains(&rid) && layers.len() < MAX_SIMULCAST_LAYERS {
                layers.push(rid);
            }
        }
        layers
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // a failed unwrap is the failed test
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn table(sources: &[&str], groups: &[&str]) -> SourceTable {
        let mut table = SourceTable::default();
        sources
            .iter()
            .for_each(|line| table.push_source(line).unwrap());
        groups
            .iter()
            .for_each(|line| table.push_group(line).unwrap());
        table
    }

    #[test]
    fn retransmissions_belong_to_their_encoding() {
        let table = table(
            &["1 cname:a", "2 cname:a", "3 cname:a"],
            &["FID 1 2", "FID 3 4"],
        );
        let expected = [(1, Some(2)), (3, Some(4))];
        let encodings: Vec<_> = table
            .encodings()
            .iter()
            .map(|encoding| (encoding.ssrc, encoding.rtx_ssrc))
            .collect();
        assert_eq!(encodings, expected);
    }

    #[test]
    fn simulcast_layers_keep_the_order_of_their_group() {
        let table = table(
            &["9 cname:a", "5 cname:a", "7 cname:a"],
            &["SIM 5 7 9", "FID 7 70"],
        );
        let order: Vec<_> = table
            .encodings()
            .iter()
            .map(|encoding| encoding.ssrc)
            .collect();
        assert_eq!(order, [5, 7, 9]);
    }

    #[test]
    fn layers_without_a_rid_line_are_left_out() {
        let mut table = SimulcastTable::default();
        for rid in [
            "l send",
            "m send pt=96,97;max-width=320",
            "x recv",
            "bad id send",
        ] {
            table.push_rid(rid).unwrap();
        }
        table.push_simulcast("recv x send m,alt;~l;ghost;m");
        let layers: Vec<_> = table.layers().iter().map(|rid| rid.id.clone()).collect();
        assert_eq!(layers, ["m", "l"]);
        assert_eq!(table.layers()[0].payload_types, [96, 97]);
    }

    #[test]
    fn too_many_sources_are_refused() {
        let mut table = SourceTable::default();
        let refused = (0..10_000).find_map(|ssrc| table.push_source(&format!("{ssrc} x")).err());
        assert!(matches!(
            refused,
            Some(SdpError::TooMany {
                limit: MAX_SSRCS,
                ..
            })
        ));
    }

    #[test]
    fn an_msid_keeps_the_braces_of_the_client() {
        let msid = Msid::parse("{9e69} {e9fa}").unwrap();
        assert_eq!(msid.stream_id, "{9e69}");
        assert_eq!(msid.track_id.as_deref(), Some("{e9fa}"));
        assert_eq!(Msid::parse(&"x".repeat(65)), None);
        assert_eq!(Msid::parse(""), None);
    }

    proptest! {
        #[test]
        fn no_source_line_panics(lines in proptest::collection::vec(
            "(FID |SIM |send |recv |[a-z] send )?[0-9a-z;,~: ]*|\\PC*", 0..20)) {
            let mut sources = SourceTable::default();
            let mut simulcast = SimulcastTable::default();
            for line in &lines {
                let _ = sources.push_source(line);
                let _ = sources.push_group(line);
                let _ = simulcast.push_rid(line);
                simulcast.push_simulcast(line);
                let _ = Msid::parse(line);
            }
            prop_assert!(sources.encodings().len() <= MAX_SSRCS);
            prop_assert!(simulcast.layers().len() <= MAX_SIMULCAST_LAYERS);
        }
    }
}
