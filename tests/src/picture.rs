//! Grey pictures and what can be said of them: that they show something, and that they move.

use std::io::Cursor;

use anyhow::{Result, bail};

/// A picture in 8-bit grey, row by row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    /// Pixels in a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// `width * height` values.
    pub grey: Vec<u8>,
}

impl Picture {
    /// Decodes an 8-bit RGB or RGBA PNG, as browsers take screenshots.
    ///
    /// # Errors
    /// If it is anything else.
    pub fn from_png(png: &[u8]) -> Result<Picture> {
        let mut reader = png::Decoder::new(Cursor::new(png)).read_info()?;
        let Some(size) = reader.output_buffer_size() else {
            bail!("the picture is too large")
        };
        let mut pixels = vec![0; size];
        let info = reader.next_frame(&mut pixels)?;
        let samples = info.color_type.samples();
        if info.bit_depth != png::BitDepth::Eight || samples < 3 {
            bail!(
                "{:?} at {:?} is not a screenshot",
                info.color_type,
                info.bit_depth
            );
        }
        let mean = |pixel: &[u8]| {
            pixel[..3]
                .iter()
                .map(|&value| u32::from(value))
                .sum::<u32>()
                / 3
        };
        let grey = pixels[..info.buffer_size()]
            .chunks_exact(samples)
            .map(|p| mean(p) as u8);
        Ok(Picture {
            width: info.width as usize,
            height: info.height as usize,
            grey: grey.collect(),
        })
    }

    /// The variance of the grey values: 0 for a blank picture, thousands for a test card.
    pub fn variance(&self) -> f64 {
        let count = self.grey.len().max(1) as f64;
        let mean = self.grey.iter().map(|&value| f64::from(value)).sum::<f64>() / count;
        self.grey
            .iter()
            .map(|&value| (f64::from(value) - mean).powi(2))
            .sum::<f64>()
            / count
    }

    /// How many pixels differ from `other` by more than what a codec blurs.
    pub fn changed_pixels(&self, other: &Picture) -> usize {
        let pairs = self.grey.iter().zip(&other.grey);
        pairs.filter(|(a, b)| a.abs_diff(**b) > 24).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blank_picture_has_no_variance_and_a_change_is_counted() {
        let blank = Picture {
            width: 4,
            height: 2,
            grey: vec![90; 8],
        };
        assert_eq!(blank.variance(), 0.0);
        let mut other = blank.clone();
        other.grey[3] = 200;
        other.grey[4] = 100;
        assert!(other.variance() > 1000.0);
        assert_eq!(blank.changed_pixels(&other), 1);
    }
}
