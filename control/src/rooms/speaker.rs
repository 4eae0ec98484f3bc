//! Who speaks, told from how loud everybody is.
//!
//! After I. Volfin and I. Cohen, "Dominant speaker identification for multipoint videoconferencing"
//! (Computer Speech and Language 27, 2013): each voice is judged over three spans of time at once, 20 ms,
//! 100 ms and 1 s, and another one becomes dominant only if it wins over all of them. So a cough is
//! too short, a pause for breath too, and of two who speak at once the one who did before stays. The
//! paper counts active bands of the spectrum in a frame; a level (RFC 6464) has none, so the level itself
//! is told in as many classes, and what does not rise above a voice's own noise is silence.
//!
//! Pure: a room pushes a step of 100 ms for each voice and asks. Nothing here knows a clock or a member.

use std::sync::LazyLock;
use std::time::Duration;

use fanmill_engine::levels::SILENCE;

/// How often each voice is given its levels.
pub const STEP: Duration = Duration::from_millis(100);

/// Levels in a step, of 20 ms each: the paper's N2.
const UNITS: usize = 5;

/// Steps over which a voice is judged at the longest: the paper's N3.
const STEPS: usize = 10;

/// Classes of levels: the paper's N1.
const CLASSES: u8 = 13;

/// Decibels in a class.
const CLASS_DB: u8 = 10;

/// A unit above this class is speech: louder than -47 dBov.
const SPEECH_CLASS: u8 = 7;

/// A step with at least so many units of speech is talked in.
const TALKED_UNITS: u8 = 3;

/// Steps of nothing but speech, of the last second, without which nobody becomes dominant: a cough in a
/// silence is no speech either.
const LEAST_STEPS: u8 = 4;

/// What a voice must win by over 20 ms, 100 ms and 1 s: logarithms of the ratio of scores.
const WINS_BY: [f64; 3] = [3.0, 2.0, 0.0];

/// Levels after which the noise of a voice is looked at anew: 15 s.
const NOISE_LEVELS: u32 = 750;

/// The logarithms of the scores of each number of active parts, for the three spans.
static SCORES: LazyLock<[Vec<f64>; 3]> = LazyLock::new(|| {
    [
        scores(u32::from(CLASSES), 0.78),
        scores(UNITS as u32, 24.0),
        scores(STEPS as u32, 47.0),
    ]
});

/// How likely so many active parts of `all` are in speech, against in silence: parts are active by
/// chance in speech, and rarely, by an exponential law, in silence.
fn scores(all: u32, lambda: f64) -> Vec<f64> {
    /// In place of what is so unlikely that its score is not positive.
    const LEAST: f64 = 1e-10;
    let mut combinations = 1.0;
    let each = (0..=all).map(|active| {
        let of = f64::from(active);
        let score =
            f64::ln(combinations) + f64::from(all) * f64::ln(0.5) - f64::ln(lambda) + lambda * of;
        combinations *= f64::from(all - active) / (of + 1.0);
        score.max(LEAST).ln()
    });
    each.collect()
}

/// What is known of one voice.
#[derive(Debug, Clone, Default)]
pub struct Voice {
    noise: Noise,
    /// The class of the latest level.
    class: u8,
    /// Units of speech in each of the latest steps.
    steps: [u8; STEPS],
    next: usize,
}

impl Voice {
    /// Takes in the levels of another step, in -dBov, oldest first: however many came in that time. With
    /// none it was silent.
    pub fn step(&mut self, levels: impl ExactSizeIterator<Item = u8>) {
        let mut came = [SILENCE; 16];
        let count = levels.len().min(came.len());
        for (place, level) in came.iter_mut().zip(levels) {
            *place = level;
        }
        let mut speech = 0;
        self.class = 0;
        for unit in (0..UNITS).filter(|_| count > 0) {
            // Packets may be of other lengths than 20 ms, or late.
            let loudness = SILENCE - came[unit * count / UNITS].min(SILENCE);
            self.class = match self.noise.rises_with(loudness) {
                true => loudness / CLASS_DB,
                false => 0,
            };
            speech += u8::from(self.class > SPEECH_CLASS);
        }
        self.steps[self.next] = speech;
        self.next = (self.next + 1) % STEPS;
    }

    /// Whether it talked in the latest step.
    #[must_use]
    pub fn talks(&self) -> bool {
        let latest = (self.next + STEPS - 1) % STEPS;
        self.steps[latest] >= TALKED_UNITS
    }

    /// Whether it has not made a sound that could be speech for a second.
    #[must_use]
    pub fn is_silent(&self) -> bool {
        self.steps.iter().all(|speech| *speech == 0)
    }

    /// Steps of nothing but speech in the last second.
    fn spoken_steps(&self) -> u8 {
        let full = self
            .steps
            .iter()
            .filter(|speech| usize::from(**speech) == UNITS);
        full.count() as u8
    }

    /// The logarithms of its scores over the three spans.
    fn scores(&self) -> [f64; 3] {
        let latest = (self.next + STEPS - 1) % STEPS;
        let active = [self.class, self.steps[latest], self.spoken_steps()];
        std::array::from_fn(|span| SCORES[span][usize::from(active[span])])
    }
}

/// The level of a voice's noise: the least that was lately heard of it.
#[derive(Debug, Clone, Default)]
struct Noise {
    /// 0: not known.
    loudness: u8,
    /// What it will be next, if it is higher.
    next: u8,
    levels: u32,
}

impl Noise {
    /// Takes in a loudness (127 is the loudest, 0 none at all) and says whether it rises above the noise.
    fn rises_with(&mut self, loudness: u8) -> bool {
        if loudness > 0 {
            self.learn(loudness);
        }
        loudness > 0 && loudness >= self.loudness.saturating_add(CLASS_DB)
    }

    fn learn(&mut self, loudness: u8) {
        if self.loudness == 0 || loudness < self.loudness {
            *self = Self {
                loudness,
                ..Self::default()
            };
            return;
        }
        self.next = match self.next {
            0 => loudness,
            next => next.min(loudness),
        };
        self.levels += 1;
        if self.levels >= NOISE_LEVELS {
            // Upwards only by half the way, so that a long speech without a pause does not hide itself.
            let between = f64::from(self.loudness) * f64::from(self.next);
            *self = Self {
                loudness: between.sqrt() as u8,
                ..Self::default()
            };
        }
    }
}

/// Who is the dominant speaker now, if `current` was until now: `current` stays unless another wins.
/// With nobody until now the others compete with silence.
pub fn dominant<'a, K: Copy + PartialEq>(
    current: Option<K>,
    voices: impl Iterator<Item = (K, &'a Voice)> + Clone,
) -> Option<K> {
    let silence = Voice::default();
    let of_current = voices.clone().find(|(key, _)| Some(*key) == current);
    let (current, holder) = match of_current {
        Some((key, voice)) => (Some(key), voice),
        None => (None, &silence),
    };
    let held = holder.scores();
    let mut winner = current;
    let mut wins_by = WINS_BY[1];
    for (key, voice) in voices {
        if Some(key) == current || voice.spoken_steps() < LEAST_STEPS {
            continue;
        }
        let scores = voice.scores();
        let margin: [f64; 3] = std::array::from_fn(|span| scores[span] - held[span]);
        let wins = margin.iter().zip(WINS_BY).all(|(margin, by)| *margin > by);
        // Of several the one that is most active now.
        if wins && margin[1] > wins_by {
            (winner, wins_by) = (Some(key), margin[1]);
        }
    }
    winner
}

#[cfg(test)]
mod tests;
