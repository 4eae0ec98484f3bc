//! Plain RTP in the configuration: which streams are received from the start, and on which ports.

use std::ops::RangeInclusive;
use std::path::PathBuf;

use super::{MAX_DESCRIPTION_BYTES, ReceiveSpec, Remote, StreamerError, parse};

/// Why a value of the configuration cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InletError {
    /// Not two parts.
    #[error("give a stream and the file of its SDP: cam1=/etc/fanmill/cam1.sdp")]
    Form,
    /// No range of ports.
    #[error("give the first and the last port, at least two, such as 5000-5999, or `any`")]
    Ports,
}

/// A stream and the file that describes what is received as it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inlet {
    /// The stream.
    pub stream: String,
    /// The SDP.
    pub file: PathBuf,
}

impl Inlet {
    /// Reads `STREAM=FILE`.
    ///
    /// # Errors
    /// [`InletError::Form`].
    pub fn parse(text: &str) -> Result<Self, InletError> {
        match text.split_once('=') {
            Some((stream, file)) if !stream.is_empty() && !file.is_empty() => Ok(Self {
                stream: stream.to_owned(),
                file: file.into(),
            }),
            _ => Err(InletError::Form),
        }
    }

    /// Reads the file. Call it before the server serves: it waits for the disk.
    ///
    /// # Errors
    /// [`StreamerError::File`], [`StreamerError::Description`].
    pub fn spec(&self) -> Result<ReceiveSpec, StreamerError> {
        let failed = |source| StreamerError::File {
            path: self.file.clone(),
            source,
        };
        let size = std::fs::metadata(&self.file).map_err(failed)?.len();
        if size > MAX_DESCRIPTION_BYTES as u64 {
            return Err(super::DescriptionError::TooLong.into());
        }
        let text = std::fs::read_to_string(&self.file).map_err(failed)?;
        Ok(ReceiveSpec {
            stream: self.stream.clone(),
            media: parse(&text)?,
            address: None,
            interface: None,
            remote: Remote::Learnt,
        })
    }
}

/// Ports to choose from; none: any that are free.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PortRange(pub Option<RangeInclusive<u16>>);

impl PortRange {
    /// Reads `FIRST-LAST`, or `any`.
    ///
    /// # Errors
    /// [`InletError::Ports`].
    pub fn parse(text: &str) -> Result<Self, InletError> {
        if text == "any" {
            return Ok(Self(None));
        }
        let ends = text.split_once('-').and_then(|(first, last)| {
            let first: u16 = first.trim().parse().ok()?;
            let last: u16 = last.trim().parse().ok()?;
            (first > 0 && first < last).then_some(first..=last)
        });
        let ends = ends.ok_or(InletError::Ports)?;
        Ok(Self(Some(ends)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_and_others_refused() {
        let inlet = Inlet::parse("cam1=/etc/cam=1.sdp");
        let expected = Inlet {
            stream: "cam1".to_owned(),
            file: "/etc/cam=1.sdp".into(),
        };
        assert_eq!(inlet, Ok(expected));
        assert_eq!(Inlet::parse("cam1"), Err(InletError::Form));
        assert_eq!(
            PortRange::parse("5000-5999"),
            Ok(PortRange(Some(5000..=5999)))
        );
        assert_eq!(PortRange::parse("any"), Ok(PortRange::default()));
        for wrong in ["5000", "5999-5000", "0-10", "5000-70000", "5000-5000"] {
            assert_eq!(PortRange::parse(wrong), Err(InletError::Ports), "{wrong}");
        }
    }
}
