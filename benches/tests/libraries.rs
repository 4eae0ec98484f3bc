//! The libraries that are measured beside each other do the same job, to the last byte.

use fanmill_benches::libraries::{LIBRARIES, Session};
use fanmill_benches::packets::{Master, OVERHEAD_BYTES, PACKET_BYTES, packet};
use fanmill_engine::srtp::Profile;

/// Every library that has the profile, with its name.
fn sessions(profile: Profile, number: usize) -> Vec<(&'static str, Box<dyn Session>)> {
    let master = Master::new(profile, number);
    let session = |library: &'static fanmill_benches::libraries::Library| {
        Some((library.name, library.session(profile, &master)?))
    };
    LIBRARIES.iter().filter_map(session).collect()
}

/// What is tried: each profile, packet size and a few viewers and indices.
fn each_case(check: impl Fn(Profile, usize, u16, usize)) {
    for profile in Profile::ALL {
        for len in PACKET_BYTES {
            for (number, sequence_number) in [(0, 0), (1, 1), (700, 40_000)] {
                check(profile, number, sequence_number, len);
            }
        }
    }
}

fn seal(session: &mut dyn Session, plain: &[u8], index: u64) -> Vec<u8> {
    let mut out = vec![0; plain.len() + OVERHEAD_BYTES];
    let len = session.seal(index, plain, &mut out);
    out.truncate(len);
    out
}

fn open(session: &mut dyn Session, sealed: &[u8], index: u64) -> Option<Vec<u8>> {
    let mut out = vec![0; sealed.len()];
    let len = session.open(index, sealed, &mut out)?;
    out.truncate(len);
    Some(out)
}

#[test]
fn all_libraries_seal_a_packet_into_the_same_bytes() {
    each_case(|profile, number, sequence_number, len| {
        let plain = packet(sequence_number, len);
        let index = sequence_number.into();
        let mut sessions = sessions(profile, number);
        assert!(sessions.len() > 2, "{profile}: there is nothing to compare");
        let expected = seal(&mut *sessions[0].1, &plain, index);
        assert_eq!(expected.len(), len + profile.tag_len());
        for (name, session) in &mut sessions {
            let sealed = seal(&mut **session, &plain, index);
            assert!(sealed == expected, "{name} differs under {profile}");
        }
    });
}

#[test]
fn all_libraries_open_what_the_engine_sealed_and_nothing_that_was_altered() {
    each_case(|profile, number, sequence_number, len| {
        let plain = packet(sequence_number, len);
        let index = sequence_number.into();
        let mut sessions = sessions(profile, number);
        let sealed = seal(&mut *sessions[0].1, &plain, index);
        for (name, session) in &mut sessions {
            let opened = open(&mut **session, &sealed, index);
            assert!(opened.as_ref() == Some(&plain), "{name} under {profile}");
        }
        for at in [1, 20, len, sealed.len() - 1] {
            let mut altered = sealed.clone();
            altered[at] ^= 1;
            for (name, session) in &mut sessions {
                let opened = open(&mut **session, &altered, index);
                assert!(opened.is_none(), "{name} under {profile}, byte {at}");
            }
        }
    });
}
