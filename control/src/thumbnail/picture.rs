//! Decoded pictures, made smaller, and written as JPEG.

use jpeg_encoder::{ColorType, Encoder, EncodingError};

/// Quality of the JPEG, of 100.
const QUALITY: u8 = 80;

/// From this height on colours are those of BT.709 where nothing else is said, as decoders take it.
const HD_HEIGHT: usize = 720;

/// A plane of a picture: rows without padding, several samples for each pixel.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Plane {
    width: usize,
    height: usize,
    samples: usize,
    data: Vec<u8>,
}

/// A decoded picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Picture {
    width: usize,
    height: usize,
    planes: Planes,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Planes {
    Rgb(Plane),
    /// Limited range, colour at half of the width and height.
    Yuv([Plane; 3]),
}

/// A small picture, in RGB.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Small {
    pub(super) width: u16,
    pub(super) height: u16,
    pub(super) rgb: Vec<u8>,
}

impl Picture {
    /// Of three bytes a pixel; `None` if there are not as many as it needs.
    pub(super) fn rgb(width: usize, height: usize, data: Vec<u8>) -> Option<Self> {
        let plane = Plane::new(width, height, 3, data)?;
        let planes = Planes::Rgb(plane);
        Some(Self {
            width,
            height,
            planes,
        })
    }

    /// Of planes in 4:2:0; `None` if one has not as many samples as it needs.
    pub(super) fn yuv420(width: usize, height: usize, [y, u, v]: [Vec<u8>; 3]) -> Option<Self> {
        let half = |data| Plane::new(width.div_ceil(2), height.div_ceil(2), 1, data);
        let planes = Planes::Yuv([Plane::new(width, height, 1, y)?, half(u)?, half(v)?]);
        Some(Self {
            width,
            height,
            planes,
        })
    }

    /// The same picture, within these bounds; never larger than it is.
    pub(super) fn shrink(&self, max_width: u32, max_height: u32) -> Small {
        let (max_width, max_height) = (max_width as usize, max_height as usize);
        let (mut width, mut height) = (self.width, self.height);
        if width > max_width {
            height = (height * max_width / width).max(1);
            width = max_width;
        }
        if height > max_height {
            width = (width * max_height / height).max(1);
            height = max_height;
        }
        let rgb = match &self.planes {
            Planes::Rgb(plane) => plane.shrink(width, height),
            Planes::Yuv(planes) => {
                let [y, u, v] = planes.each_ref().map(|plane| plane.shrink(width, height));
                let to_rgb = conversion(self.height >= HD_HEIGHT);
                let pixels = y.iter().zip(&u).zip(&v);
                pixels.flat_map(|((y, u), v)| to_rgb(*y, *u, *v)).collect()
            }
        };
        // Within the bounds, which are those of a thumbnail.
        Small {
            width: width as u16,
            height: height as u16,
            rgb,
        }
    }
}

/// Limited range to RGB, by BT.709 or BT.601.
fn conversion(is_hd: bool) -> impl Fn(u8, u8, u8) -> [u8; 3] {
    let (red, blue) = if is_hd {
        (0.2126, 0.0722)
    } else {
        (0.299, 0.114)
    };
    let green = 1.0 - red - blue;
    move |y: u8, u: u8, v: u8| {
        let y = (f32::from(y) - 16.0) * 255.0 / 219.0;
        let (u, v) = [u, v]
            .map(|colour| (f32::from(colour) - 128.0) * 255.0 / 112.0)
            .into();
        let r = y + (1.0 - red) * v;
        let b = y + (1.0 - blue) * u;
        let g = (y - red * r - blue * b) / green;
        [r, g, b].map(|colour| colour.round().clamp(0.0, 255.0) as u8)
    }
}

impl Plane {
    fn new(width: usize, height: usize, samples: usize, data: Vec<u8>) -> Option<Self> {
        let needs = width.checked_mul(height)?.checked_mul(samples)?;
        (needs > 0 && data.len() == needs).then_some(Self {
            width,
            height,
            samples,
            data,
        })
    }

    /// Each pixel is the mean of those it stands for, or the one it lies in.
    fn shrink(&self, width: usize, height: usize) -> Vec<u8> {
        let span = |at: usize, of: usize, all: usize| {
            let first = at * all / of;
            let end = ((at + 1) * all / of).max(first + 1);
            first..end
        };
        let mut out = Vec::with_capacity(width * height * self.samples);
        for y in 0..height {
            let rows = span(y, height, self.height);
            for x in 0..width {
                let columns = span(x, width, self.width);
                let count = (rows.len() * columns.len()) as u32;
                for sample in 0..self.samples {
                    let mut sum = 0;
                    for row in rows.clone() {
                        let row = row * self.width;
                        for column in columns.clone() {
                            sum += u32::from(self.data[(row + column) * self.samples + sample]);
                        }
                    }
                    out.push(((sum + count / 2) / count) as u8);
                }
            }
        }
        out
    }
}

impl Small {
    /// As a JPEG file.
    ///
    /// # Errors
    /// If the encoder has any.
    pub(super) fn jpeg(&self) -> Result<Vec<u8>, EncodingError> {
        let mut file = Vec::with_capacity(self.rgb.len() / 8);
        let encoder = Encoder::new(&mut file, QUALITY);
        encoder.encode(&self.rgb, self.width, self.height, ColorType::Rgb)?;
        Ok(file)
    }
}
