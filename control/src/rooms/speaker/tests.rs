//! Conversations as levels: who is found to speak, and who is not.

use proptest::prelude::*;

use super::*;

/// Levels in -dBov, 20 ms apart, of people in a room.
struct Conversation {
    voices: Vec<Voice>,
    dominant: Option<usize>,
    /// Who was dominant after each step.
    told: Vec<Option<usize>>,
    units: usize,
}

impl Conversation {
    fn of(people: usize) -> Self {
        Self {
            voices: vec![Voice::default(); people],
            dominant: None,
            told: Vec::new(),
            units: 0,
        }
    }

    /// Goes on for a while, in which `level(person, unit)` is how loud somebody is.
    fn go_on(&mut self, time_ms: usize, level: impl Fn(usize, usize) -> u8) -> &mut Self {
        for _ in 0..time_ms / 100 {
            for (person, voice) in self.voices.iter_mut().enumerate() {
                let units = (self.units..self.units + UNITS).map(|unit| level(person, unit));
                voice.step(units);
            }
            self.units += UNITS;
            let voices = self.voices.iter().enumerate();
            self.dominant = dominant(self.dominant, voices);
            self.told.push(self.dominant);
        }
        self
    }

    /// These speak, the others are still.
    fn speak(&mut self, time_ms: usize, speakers: &[usize]) -> &mut Self {
        self.go_on(time_ms, |person, unit| match speakers.contains(&person) {
            true => speech(person, unit),
            false => room(person, unit),
        })
    }
}

/// Syllables of 200 ms with pauses of 40 ms, each as loud as it happens to be.
fn speech(person: usize, unit: usize) -> u8 {
    let unit = unit + 5 * person;
    match unit % 12 {
        10 | 11 => 62,
        within => 28 + ((unit / 12 * 7 + within * 3) % 11) as u8,
    }
}

/// A quiet room: the noise of a microphone.
fn room(person: usize, unit: usize) -> u8 {
    72 + ((unit * 5 + person * 3) % 7) as u8
}

#[test]
fn who_begins_to_speak_is_found_within_a_second() {
    let mut talk = Conversation::of(4);
    talk.speak(3000, &[]);
    assert_eq!(talk.dominant, None);
    talk.speak(1000, &[2]);
    assert_eq!(talk.dominant, Some(2));
    assert!(talk.voices[2].talks() && !talk.voices[1].talks());
}

#[test]
fn the_dominant_speaker_changes_with_the_conversation_and_stays_in_silence() {
    let mut talk = Conversation::of(3);
    talk.speak(2000, &[]);
    for speaker in [0, 1, 2, 1, 0] {
        talk.speak(4000, &[speaker]);
        assert_eq!(talk.dominant, Some(speaker));
        assert_eq!(talk.told[talk.told.len() - 20..], [Some(speaker); 20]);
    }
    talk.speak(5000, &[]);
    assert_eq!(talk.dominant, Some(0));
    assert!(talk.voices.iter().all(Voice::is_silent));
}

#[test]
fn a_cough_switches_neither_in_speech_nor_in_silence() {
    let mut talk = Conversation::of(2);
    talk.speak(1000, &[]).speak(3000, &[0]);
    let cough = |person: usize, unit: usize| match person {
        1 => 12 + (unit % 3) as u8,
        _ => speech(0, unit),
    };
    talk.go_on(300, cough);
    assert!(talk.voices[1].talks(), "it is heard all the same");
    talk.speak(1000, &[0]);
    talk.speak(3000, &[]);
    talk.go_on(300, |person, unit| match person {
        1 => cough(1, unit),
        _ => room(0, unit),
    });
    talk.speak(1000, &[]);
    assert!(
        talk.told[20..].iter().all(|told| *told == Some(0)),
        "{:?}",
        talk.told
    );
}

#[test]
fn of_two_who_speak_at_once_the_first_stays_until_it_ends() {
    let mut talk = Conversation::of(2);
    talk.speak(1000, &[]).speak(3000, &[0]);
    talk.speak(3000, &[0, 1]);
    assert_eq!(talk.told[20..], vec![Some(0); talk.told.len() - 20]);
    talk.speak(1500, &[1]);
    assert_eq!(talk.dominant, Some(1));
}

#[test]
fn a_pause_for_breath_does_not_give_the_floor_away() {
    let mut talk = Conversation::of(3);
    talk.speak(1000, &[])
        .speak(3000, &[1])
        .speak(400, &[])
        .speak(2000, &[1]);
    assert_eq!(talk.dominant, Some(1));
}

#[test]
fn who_is_as_loud_as_can_be_all_the_time_is_noise() {
    let mut talk = Conversation::of(2);
    let level = |person: usize, unit: usize| match person {
        0 => 0,
        _ => room(1, unit),
    };
    talk.go_on(60_000, level);
    assert!(talk.told.iter().all(Option::is_none));
    assert!(talk.voices[0].is_silent());
    // Others are heard beside it.
    talk.go_on(1500, |person, unit| match person {
        0 => 0,
        _ => speech(1, unit),
    });
    assert_eq!(talk.dominant, Some(1));
}

#[test]
fn noise_that_begins_is_taken_for_speech_for_some_seconds_only() {
    let mut talk = Conversation::of(2);
    talk.speak(2000, &[]);
    let fan = |person: usize, unit: usize| match person {
        0 => 40 + (unit % 3) as u8,
        _ => room(1, unit),
    };
    talk.go_on(120_000, fan);
    assert!(!talk.voices[0].talks(), "a fan is told from a voice");
}

#[test]
fn packets_of_other_lengths_and_pauses_in_sending_are_as_loud_as_they_say() {
    let step = |levels: &[u8]| {
        let mut voice = Voice::default();
        voice.step([70].into_iter());
        voice.step(levels.iter().copied());
        voice.talks()
    };
    assert!(step(&[30; 2]), "60 ms");
    assert!(step(&[30; 7]), "10 ms");
    assert!(!step(&[30, 70, 70, 70]));
    assert!(!step(&[]), "discontinuous transmission");
}

proptest! {
    /// Whatever levels come, the dominant speaker is one of the room's, and the order in which voices
    /// are listed decides nothing.
    #[test]
    fn anything_may_come_in_any_order(
        levels in prop::collection::vec(prop::collection::vec(prop::collection::vec(any::<u8>(), 0..8), 1..5), 1..80),
    ) {
        let mut voices = vec![Voice::default(); 4];
        let mut now = None;
        for step in levels {
            for (voice, levels) in voices.iter_mut().zip(step) {
                voice.step(levels.into_iter());
            }
            let one_way = dominant(now, voices.iter().enumerate());
            prop_assert!(one_way.is_none_or(|speaker| speaker < voices.len()));
            prop_assert!(now.is_none() || one_way.is_some(), "the floor is never taken from all");
            if one_way != now {
                let speaker = one_way.expect("somebody has won");
                prop_assert!(voices[speaker].talks() || voices[speaker].class > 0);
            }
            let keyed: Vec<_> = voices.iter().enumerate().collect();
            let other_way = dominant(now, keyed.into_iter().rev());
            // Equals may be taken either way.
            let scores = |of: Option<usize>| of.map(|of| voices[of].scores());
            prop_assert_eq!(scores(one_way).map(|s| s[1]), scores(other_way).map(|s| s[1]));
            now = one_way;
        }
    }

    /// A level that does not change is never speech, however loud.
    #[test]
    fn a_constant_level_is_never_speech(level in any::<u8>(), steps in 1..300) {
        let mut voice = Voice::default();
        for _ in 0..steps {
            voice.step([level; UNITS].into_iter());
            prop_assert!(voice.is_silent());
        }
        prop_assert_eq!(dominant(None, [(0, &voice)].into_iter()), None);
    }
}
