//! The handshake (RTMP specification 5.2): each side sends 1536 bytes, and the other's back. No
//! client since Flash needs the form with digests.

use bytes::{Buf, BytesMut};

use crate::clock::random_u32;

const VERSION: u8 = 3;
const BYTES: usize = 1536;

/// The peer speaks no RTMP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no RTMP: it began with the byte {0:#x}")]
pub struct NoRtmp(pub u8);

/// One side of a handshake.
#[derive(Debug)]
pub struct Handshake {
    is_server: bool,
    has_answered: bool,
}

impl Handshake {
    /// The side that is connected to.
    #[must_use]
    pub fn server() -> Self {
        Self {
            is_server: true,
            has_answered: false,
        }
    }

    /// The side that connects, with what it sends first.
    #[must_use]
    pub fn client() -> (Self, Vec<u8>) {
        let client = Self {
            is_server: false,
            has_answered: false,
        };
        (client, opening())
    }

    /// Takes what came, adds what is to be sent. Whether the handshake is over: what is left in
    /// `input` are chunks.
    ///
    /// # Errors
    /// [`NoRtmp`].
    pub fn advance(&mut self, input: &mut BytesMut, output: &mut BytesMut) -> Result<bool, NoRtmp> {
        if !self.has_answered {
            let Some(&version) = input.first() else {
                return Ok(false);
            };
            // 6 is the encrypted form, whose clients understand 3; HTTP and TLS are no RTMP.
            if !matches!(version, VERSION | 6) {
                return Err(NoRtmp(version));
            }
            if input.len() < 1 + BYTES {
                return Ok(false);
            }
            if self.is_server {
                output.extend_from_slice(&opening());
            }
            output.extend_from_slice(&input[1..=BYTES]);
            input.advance(1 + BYTES);
            self.has_answered = true;
        }
        // What comes back is not compared: some clients send other bytes.
        if input.len() < BYTES {
            return Ok(false);
        }
        input.advance(BYTES);
        Ok(true)
    }
}

fn opening() -> Vec<u8> {
    let mut bytes = vec![VERSION, 0, 0, 0, 0, 0, 0, 0, 0];
    while bytes.len() < 1 + BYTES {
        bytes.extend(random_u32().to_ne_bytes());
    }
    bytes
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // a test's unwrap is an assertion

    use super::*;

    #[test]
    fn both_sides_agree_in_pieces_of_any_length() {
        for piece in [1, 7, 1000, 5000] {
            let mut server = Handshake::server();
            let (mut client, opening) = Handshake::client();
            let mut to_server = BytesMut::from(&opening[..]);
            let (mut at_server, mut at_client) = (BytesMut::new(), BytesMut::new());
            let mut to_client = BytesMut::new();
            let mut over = [false; 2];
            while !(over[0] && over[1]) {
                let len = piece.min(to_server.len());
                at_server.extend_from_slice(&to_server.split_to(len));
                let len = piece.min(to_client.len());
                at_client.extend_from_slice(&to_client.split_to(len));
                if !over[0] {
                    over[0] = server.advance(&mut at_server, &mut to_client).unwrap();
                }
                if !over[1] {
                    over[1] = client.advance(&mut at_client, &mut to_server).unwrap();
                }
            }
        }
    }

    #[test]
    fn what_is_no_rtmp_is_told_at_its_first_byte() {
        let mut input = BytesMut::from(&b"GET / HTTP/1.1"[..]);
        let refused = Handshake::server().advance(&mut input, &mut BytesMut::new());
        assert_eq!(refused, Err(NoRtmp(b'G')));
    }
}
