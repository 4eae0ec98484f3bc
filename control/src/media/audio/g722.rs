//! G.722 at 64 kbit/s (ITU-T G.722): each byte is two samples at 16 kHz, six bits of the lower half
//! of the spectrum and two of the upper one, both adaptive differential codes.

/// Figures 13 and 14 of the recommendation: mirror filters that join the two bands.
const QMF: [i32; 12] = [3, -11, 12, 32, -210, 951, 3876, -805, 362, -156, 53, -11];

const INVERSE_LOG: [i32; 32] = [
    2048, 2093, 2139, 2186, 2233, 2282, 2332, 2383, 2435, 2489, 2543, 2599, 2656, 2714, 2774, 2834,
    2896, 2960, 3025, 3091, 3158, 3228, 3298, 3371, 3444, 3520, 3597, 3676, 3756, 3838, 3922, 4008,
];

/// Six-bit codes of the lower band.
const LOW_SIX_BITS: [i32; 64] = [
    -136, -136, -136, -136, -24808, -21904, -19008, -16704, -14984, -13512, -12280, -11192, -10232,
    -9360, -8576, -7856, -7192, -6576, -6000, -5456, -4944, -4464, -4008, -3576, -3168, -2776,
    -2400, -2032, -1688, -1360, -1040, -728, 24808, 21904, 19008, 16704, 14984, 13512, 12280,
    11192, 10232, 9360, 8576, 7856, 7192, 6576, 6000, 5456, 4944, 4464, 4008, 3576, 3168, 2776,
    2400, 2032, 1688, 1360, 1040, 728, 432, 136, -432, -136,
];

/// Their upper four bits, by which the lower band adapts.
const LOW_FOUR_BITS: [i32; 16] = [
    0, -20456, -12896, -8968, -6288, -4240, -2584, -1200, 20456, 12896, 8968, 6288, 4240, 2584,
    1200, 0,
];

const LOW_STEPS: [i32; 8] = [-60, -30, 58, 172, 334, 538, 1198, 3042];
const LOW_STEP_OF: [usize; 16] = [0, 7, 6, 5, 4, 3, 2, 1, 7, 6, 5, 4, 3, 2, 1, 0];

/// Two-bit codes of the upper band.
const HIGH_TWO_BITS: [i32; 4] = [-7408, -1616, 7408, 1616];
const HIGH_STEPS: [i32; 3] = [0, -214, 798];
const HIGH_STEP_OF: [usize; 4] = [2, 1, 2, 1];

/// One band: its adaptive quantizer and its predictor of two poles and six zeros.
#[derive(Debug, Clone)]
struct Band {
    /// Estimate of the next sample, and the zeros' share in it.
    estimate: i32,
    zeros_estimate: i32,
    /// Logarithm of the step, and the step.
    log_step: i32,
    step: i32,
    /// Reconstructed samples, poles' coefficients, and the partial sums they adapt by.
    reconstructed: [i32; 2],
    poles: [i32; 2],
    partial: [i32; 2],
    /// Differences, and zeros' coefficients.
    differences: [i32; 6],
    zeros: [i32; 6],
}

impl Band {
    fn new(step: i32) -> Self {
        Self {
            estimate: 0,
            zeros_estimate: 0,
            log_step: 0,
            step,
            reconstructed: [0; 2],
            poles: [0; 2],
            partial: [0; 2],
            differences: [0; 6],
            zeros: [0; 6],
        }
    }

    /// Adapts the step (LOGSCL, SCALEL; LOGSCH, SCALEH).
    fn adapt_step(&mut self, change: i32, most: i32, shift: i32) {
        self.log_step = (((self.log_step * 127) >> 7) + change).clamp(0, most);
        let mantissa = INVERSE_LOG[((self.log_step >> 6) & 31) as usize];
        let exponent = shift - (self.log_step >> 11);
        let step = match exponent < 0 {
            true => mantissa << -exponent,
            false => mantissa >> exponent,
        };
        self.step = step << 2;
    }

    /// Adapts the predictor to a difference that was received (block 4), and estimates the next
    /// sample.
    fn adapt_predictor(&mut self, difference: i32) {
        let reconstructed = saturated(self.estimate + difference);
        let partial = saturated(self.zeros_estimate + difference);
        let same = |a: i32, b: i32| (a < 0) == (b < 0);

        // UPPOL2
        let mut change = saturated(self.poles[0] << 2);
        if same(partial, self.partial[0]) {
            change = -change;
        }
        change = change.min(32_767) >> 7;
        change += match same(partial, self.partial[1]) {
            true => 128,
            false => -128,
        };
        let second = (change + ((self.poles[1] * 32_512) >> 15)).clamp(-12_288, 12_288);
        // UPPOL1
        let toward = match same(partial, self.partial[0]) {
            true => 192,
            false => -192,
        };
        let first = saturated(toward + ((self.poles[0] * 32_640) >> 15));
        let most = saturated(15_360 - second);
        let first = first.clamp(-most, most);

        // UPZERO
        let toward = if difference == 0 { 0 } else { 128 };
        for (zero, &before) in self.zeros.iter_mut().zip(&self.differences) {
            let step = if same(difference, before) {
                toward
            } else {
                -toward
            };
            *zero = saturated(step + ((*zero * 32_640) >> 15));
        }

        // DELAYA
        self.differences.rotate_right(1);
        self.differences[0] = difference;
        self.reconstructed = [reconstructed, self.reconstructed[0]];
        self.partial = [partial, self.partial[0]];
        self.poles = [first, second];

        // FILTEP, FILTEZ, PREDIC
        let poles = self.poles.iter().zip(&self.reconstructed);
        let poles: i32 = poles
            .map(|(&pole, &sample)| (pole * saturated(sample * 2)) >> 15)
            .sum();
        let zeros = self.zeros.iter().zip(&self.differences);
        let zeros: i32 = zeros
            .map(|(&zero, &difference)| (zero * saturated(difference * 2)) >> 15)
            .sum();
        self.zeros_estimate = saturated(zeros);
        self.estimate = saturated(saturated(poles) + self.zeros_estimate);
    }
}

fn saturated(value: i32) -> i32 {
    value.clamp(-32_768, 32_767)
}

/// Decoder of one stream.
#[derive(Debug, Clone)]
pub(super) struct G722 {
    low: Band,
    high: Band,
    /// Sums and differences of the bands, the latest last.
    history: [i32; 24],
}

impl G722 {
    pub(super) fn new() -> Self {
        Self {
            low: Band::new(32),
            high: Band::new(8),
            history: [0; 24],
        }
    }

    /// Replaces `pcm` by the samples of a packet, two for each byte.
    pub(super) fn decode(&mut self, packet: &[u8], pcm: &mut Vec<f32>) {
        pcm.clear();
        for &byte in packet {
            let low = self.low_band(byte & 0x3f);
            let high = self.high_band(byte >> 6);
            self.history.copy_within(2.., 0);
            self.history[22] = low + high;
            self.history[23] = low - high;
            let pairs = || self.history.chunks_exact(2);
            let odd: i32 = pairs().zip(QMF).map(|(pair, tap)| pair[0] * tap).sum();
            let even = pairs().zip(QMF.iter().rev());
            let even: i32 = even.map(|(pair, tap)| pair[1] * tap).sum();
            for sample in [even, odd] {
                pcm.push(saturated(sample >> 11) as f32 / 32_768.0);
            }
        }
    }

    fn low_band(&mut self, code: u8) -> i32 {
        let band = &mut self.low;
        let fine = (band.step * LOW_SIX_BITS[usize::from(code)]) >> 15;
        let sample = (band.estimate + fine).clamp(-16_384, 16_383);
        let coarse = usize::from(code >> 2);
        let difference = (band.step * LOW_FOUR_BITS[coarse]) >> 15;
        band.adapt_step(LOW_STEPS[LOW_STEP_OF[coarse]], 18_432, 8);
        band.adapt_predictor(difference);
        sample
    }

    fn high_band(&mut self, code: u8) -> i32 {
        let band = &mut self.high;
        let code = usize::from(code);
        let difference = (band.step * HIGH_TWO_BITS[code]) >> 15;
        let sample = (band.estimate + difference).clamp(-16_384, 16_383);
        band.adapt_step(HIGH_STEPS[HIGH_STEP_OF[code]], 22_528, 10);
        band.adapt_predictor(difference);
        sample
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The beginning of a tone of 1 kHz, coded by an encoder of another origin, which decodes it to
    /// the very same samples.
    #[test]
    fn a_tone_is_decoded_to_the_bit() {
        let coded: [u8; 32] = [
            250, 152, 44, 142, 33, 146, 160, 160, 96, 240, 137, 199, 212, 223, 243, 238, 241, 123,
            215, 211, 215, 190, 244, 240, 114, 252, 151, 212, 215, 190, 244, 240,
        ];
        let expected: [i16; 64] = [
            0, -1, -1, 0, 0, -1, -1, 0, -1, -2, 0, 5, -1, -12, -5, 17, 7, -41, -14, 51, 48, -71,
            -38, 153, 254, 370, 734, 1296, 1632, 1262, 123, -1478, -2948, -3822, -4063, -3725,
            -2819, -1508, 7, 1512, 2827, 3740, 4120, 3881, 3024, 1661, 41, -1594, -3004, -3939,
            -4155, -3695, -2808, -1612, -80, 1597, 2966, 3793, 4094, 3847, 3019, 1667, 43, -1605,
        ];
        let mut pcm = Vec::new();
        G722::new().decode(&coded, &mut pcm);
        let decoded: Vec<i16> = pcm
            .iter()
            .map(|sample| (sample * 32_768.0) as i16)
            .collect();
        assert_eq!(decoded, expected);
    }
}
