#![allow(clippy::unwrap_used)] // a failed unwrap is the test's failure

use proptest::prelude::*;

use super::*;

/// A packet with two CSRCs and an eight-byte extension.
const FULL: [u8; 33] = [
    0xb2, 0xe0, 0x12, 0x34, 1, 2, 3, 4, 5, 6, 7, 8, // fixed: P, X, CC=2, M, PT 96
    0, 0, 0, 9, 0, 0, 0, 10, // CSRCs
    0xbe, 0xde, 0, 2, 0x10, 0xaa, 0, 0, 0, 0, 0, 0, // extension of two words
    1, // payload: one byte of padding
];

#[test]
fn every_field_of_a_full_header_is_read() {
    let header = RtpHeader::parse(&FULL).unwrap();
    assert_eq!(
        header,
        RtpHeader {
            padding: true,
            marker: true,
            payload_type: 96,
            sequence_number: 0x1234,
            timestamp: 0x0102_0304,
            ssrc: 0x0506_0708,
            csrc_count: 2,
            header_len: 32,
            extension: Some(ExtensionBlock {
                profile: 0xbede,
                offset: 24,
                len: 8
            }),
        }
    );
    assert_eq!(header.csrcs(&FULL).collect::<Vec<_>>(), [9, 10]);
}

#[test]
fn a_header_cut_anywhere_is_refused() {
    for len in 0..32 {
        assert!(matches!(
            RtpHeader::parse(&FULL[..len]),
            Err(RtpError::Truncated { .. })
        ));
    }
    assert!(RtpHeader::parse(&FULL[..32]).is_ok());
}

#[test]
fn another_version_is_refused() {
    let mut packet = FULL;
    packet[0] = 0x40;
    assert_eq!(RtpHeader::parse(&packet), Err(RtpError::Version(1)));
}

#[test]
fn an_extension_longer_than_any_datagram_is_refused() {
    let mut packet = [0u8; 16];
    packet[0] = 0x90;
    packet[14..].fill(0xff);
    assert!(matches!(
        RtpHeader::parse(&packet),
        Err(RtpError::TooLong(_))
    ));
}

#[test]
fn padding_must_fit_the_payload() {
    assert_eq!(padding_len(&[7, 7, 2]), Ok(2));
    assert_eq!(padding_len(&[3, 3, 3]), Ok(3));
    assert_eq!(
        padding_len(&[4, 4, 4]),
        Err(RtpError::Padding {
            padding: 4,
            payload: 3
        })
    );
    assert_eq!(
        padding_len(&[1, 0]),
        Err(RtpError::Padding {
            padding: 0,
            payload: 2
        })
    );
    assert_eq!(
        padding_len(&[]),
        Err(RtpError::Padding {
            padding: 0,
            payload: 0
        })
    );
}

#[test]
fn newer_counts_around_the_circle() {
    assert!(seq_newer(0, 65535));
    assert!(!seq_newer(65535, 0));
    assert!(!seq_newer(5, 5));
    assert!(seq_newer(0x7fff, 0));
    assert!(!seq_newer(0x8000, 0) && !seq_newer(0, 0x8000));
    assert!(timestamp_newer(10, u32::MAX));
    assert!(!timestamp_newer(u32::MAX, 10));
}

#[test]
fn packets_sent_before_the_first_received_one_number_below_it() {
    let mut extender = SequenceExtender::new();
    assert_eq!(extender.extend(0), 1 << 16);
    assert_eq!(extender.extend(65535), (1 << 16) - 1);
    assert_eq!(extender.extend(32769), 32769);
    assert_eq!(extender.highest(), Some(1 << 16));
}

#[test]
fn a_restart_numbers_above_all_before() {
    let mut extender = SequenceExtender::new();
    let before = extender.extend(65000);
    let after = extender.restart(3);
    assert!(after > before + 0x1_0000);
    assert_eq!(after as u16, 3);
    assert_eq!(extender.extend(4), after + 1);
}

proptest! {
    #[test]
    fn arbitrary_bytes_parse_within_bounds_or_fail(packet in prop::collection::vec(any::<u8>(), 0..80)) {
        if let Ok(header) = RtpHeader::parse(&packet) {
            prop_assert!(header.header_len <= packet.len());
            prop_assert_eq!(header.csrcs(&packet).count(), usize::from(header.csrc_count));
            if let Some(extension) = header.extension {
                prop_assert_eq!(usize::from(extension.offset + extension.len), header.header_len);
            }
        }
        if let Ok(padding) = padding_len(&packet) {
            prop_assert!((1..=packet.len()).contains(&padding));
        }
    }

    #[test]
    fn reordered_and_lossy_numbers_extend_to_what_was_sent(
        start in any::<u16>(),
        steps in prop::collection::vec(-3000i64..3000, 1..200),
    ) {
        let mut extender = SequenceExtender::new();
        let mut sent = SequenceExtender::START + u64::from(start);
        prop_assert_eq!(extender.extend(start), sent);
        let mut highest = sent;
        for step in steps {
            sent = highest.wrapping_add_signed(step);
            prop_assert_eq!(extender.peek(sent as u16), sent);
            prop_assert_eq!(extender.extend(sent as u16), sent);
            highest = highest.max(sent);
            prop_assert_eq!(extender.highest(), Some(highest));
        }
    }
}
