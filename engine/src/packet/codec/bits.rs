//! Reads bit by bit, as video bitstream headers are written. Past the end everything is `None`.

/// A cursor over bits, for who reads parameter sets and frame headers, highest bit of each byte first.
#[derive(Clone, Debug)]
pub struct BitReader<'a> {
    rest: &'a [u8],
    current: u8,
    bits_left: u8,
    /// Zero bytes just passed, and whether a 3 after two of them is to be left out.
    zeros: u8,
    emulation_prevention: bool,
}

impl<'a> BitReader<'a> {
    /// Reads the bytes as they are.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self {
            rest: bytes,
            current: 0,
            bits_left: 0,
            zeros: 0,
            emulation_prevention: false,
        }
    }

    /// Reads the payload of a NAL unit, leaving out the emulation prevention bytes (H.264 7.3.1).
    pub fn nal(bytes: &'a [u8]) -> Self {
        Self {
            emulation_prevention: true,
            ..Self::new(bytes)
        }
    }

    fn next_byte(&mut self) -> Option<u8> {
        let (&first, rest) = self.rest.split_first()?;
        self.rest = rest;
        if self.emulation_prevention && self.zeros >= 2 && first == 3 {
            self.zeros = 0;
            return self.next_byte();
        }
        self.zeros = if first == 0 {
            self.zeros.saturating_add(1)
        } else {
            0
        };
        Some(first)
    }

    /// The next bit.
    pub fn flag(&mut self) -> Option<bool> {
        if self.bits_left == 0 {
            self.current = self.next_byte()?;
            self.bits_left = 8;
        }
        self.bits_left -= 1;
        Some(self.current >> self.bits_left & 1 != 0)
    }

    /// The next `count` bits, at most 32.
    pub fn bits(&mut self, count: u32) -> Option<u32> {
        let mut value = 0;
        for _ in 0..count {
            value = value << 1 | u32::from(self.flag()?);
        }
        Some(value)
    }

    /// Passes over `count` bits.
    pub fn skip(&mut self, count: u32) -> Option<()> {
        for _ in 0..count {
            self.flag()?;
        }
        Some(())
    }

    /// An unsigned Exp-Golomb code (H.264 9.1) below 2^32 - 1.
    pub fn ue(&mut self) -> Option<u32> {
        let mut zeros = 0;
        while !self.flag()? {
            zeros += 1;
            if zeros > 31 {
                return None;
            }
        }
        Some((1 << zeros) - 1 + self.bits(zeros)?)
    }

    /// A signed Exp-Golomb code (H.264 9.1.1).
    pub fn se(&mut self) -> Option<i64> {
        let code = i64::from(self.ue()?);
        Some(if code & 1 == 1 {
            (code + 1) / 2
        } else {
            -code / 2
        })
    }
}
