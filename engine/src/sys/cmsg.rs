//! Control messages as recvmsg(2) leaves them: `cmsg_len`, `cmsg_level`, `cmsg_type`, then data, each
//! message padded to a whole word; see cmsg(3).

pub(crate) const HEADER_BYTES: usize = size_of::<libc::cmsghdr>();
pub(crate) const WORD_BYTES: usize = size_of::<usize>();

/// Room that one message with `data` bytes takes: CMSG_SPACE.
pub(crate) const fn space(data: usize) -> usize {
    HEADER_BYTES + data.next_multiple_of(WORD_BYTES)
}

/// One control message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ControlMessage<'a> {
    pub(crate) level: i32,
    pub(crate) kind: i32,
    pub(crate) data: &'a [u8],
}

/// The messages in `control`, up to the first that does not fit.
pub(crate) fn messages(control: &[u8]) -> impl Iterator<Item = ControlMessage<'_>> {
    let mut rest = control;
    std::iter::from_fn(move || {
        let len = usize::from_ne_bytes(*rest.first_chunk()?);
        let level = i32::from_ne_bytes(*rest.get(WORD_BYTES..)?.first_chunk()?);
        let kind = i32::from_ne_bytes(*rest.get(WORD_BYTES + 4..)?.first_chunk()?);
        let data = rest.get(HEADER_BYTES..len)?;
        // The last message may lack its padding.
        let next = len.checked_next_multiple_of(WORD_BYTES)?;
        rest = rest.get(next..).unwrap_or_default();
        Some(ControlMessage { level, kind, data })
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A message as the kernel writes it.
    pub(crate) fn message(level: i32, kind: i32, data: &[u8]) -> Vec<u8> {
        let mut bytes = (HEADER_BYTES + data.len()).to_ne_bytes().to_vec();
        bytes.extend(level.to_ne_bytes());
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(data);
        bytes.resize(bytes.len().next_multiple_of(WORD_BYTES), 0);
        bytes
    }

    #[test]
    fn messages_are_read_one_after_the_other() {
        let mut control = message(libc::SOL_SOCKET, 1, &[1, 2, 3]);
        control.extend(message(libc::SOL_UDP, 2, &[4; 8]));
        assert_eq!(control.len(), space(3) + space(8));
        let read: Vec<_> = messages(&control)
            .map(|message| (message.level, message.kind, message.data.to_vec()))
            .collect();
        assert_eq!(
            read,
            [
                (libc::SOL_SOCKET, 1, vec![1, 2, 3]),
                (libc::SOL_UDP, 2, vec![4; 8]),
            ]
        );
    }

    #[test]
    fn a_message_that_claims_an_absurd_length_ends_the_list() {
        for len in [0, 1, usize::MAX, usize::MAX - 6] {
            let mut control = message(libc::SOL_SOCKET, 1, &[0; 4]);
            control[..WORD_BYTES].copy_from_slice(&len.to_ne_bytes());
            assert_eq!(messages(&control).count(), 0);
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..96)) {
            prop_assert!(messages(&bytes).count() <= bytes.len() / HEADER_BYTES);
        }
    }
}
