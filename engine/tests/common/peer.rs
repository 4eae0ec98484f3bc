//! A peer without opinions: sends checks and sealed packets, opens what it gets.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use fanmill_engine::command::IceCredentials;
use fanmill_engine::counters::TransportCounters;
use fanmill_engine::ids::{ShardId, TransportId};
use fanmill_engine::io::sim::SimPeer;
use fanmill_engine::srtp::Profile;
use stun::agent::TransactionId as StunTransaction;
use stun::attributes::{ATTR_ICE_CONTROLLING, ATTR_PRIORITY, ATTR_USE_CANDIDATE, ATTR_USERNAME};
use stun::attributes::{AttrType, RawAttribute};
use stun::fingerprint::FINGERPRINT;
use stun::integrity::MessageIntegrity;
use stun::message::{BINDING_REQUEST, BINDING_SUCCESS, Getter, Message, Setter};
use stun::textattrs::Username;
use stun::xoraddr::XorMappedAddress;
use webrtc_srtp::context::Context;
use webrtc_srtp::protection_profile::ProtectionProfile;
use webrtc_util::marshal::Unmarshal;

/// An RTCP packet of the foreign implementation.
pub type Rtcp = Box<dyn rtcp::packet::Packet + Send + Sync>;

/// Master key and salt, of any profile's length.
#[derive(Clone)]
pub struct Secret([u8; 46]);

impl Secret {
    pub fn new(seed: u64, direction: u8) -> Self {
        let mut bytes = [direction; 46];
        for (place, byte) in bytes.iter_mut().enumerate() {
            *byte ^= (seed >> (8 * (place % 8))) as u8 ^ place as u8;
        }
        Self(bytes)
    }

    pub fn parts(&self, profile: Profile) -> (&[u8], &[u8]) {
        (
            &self.0[..profile.key_len()],
            &self.0[32..32 + profile.salt_len()],
        )
    }

    fn context(&self, profile: Profile) -> Context {
        let foreign = match profile {
            Profile::AeadAes128Gcm => ProtectionProfile::AeadAes128Gcm,
            Profile::AeadAes256Gcm => ProtectionProfile::AeadAes256Gcm,
            Profile::Aes128CmSha1_80 => ProtectionProfile::Aes128CmHmacSha1_80,
        };
        let (key, salt) = self.parts(profile);
        Context::new(key, salt, foreign, None, None).unwrap()
    }
}

/// A received RTP packet.
#[derive(Debug, Clone)]
pub struct Rtp {
    /// As it came.
    pub sealed: Vec<u8>,
    pub header: rtp::header::Header,
    pub payload: Vec<u8>,
}

impl Rtp {
    pub fn parse(sealed: &[u8], plain: &[u8]) -> Self {
        let mut rest = plain;
        let packet = rtp::packet::Packet::unmarshal(&mut rest).unwrap();
        Self {
            sealed: sealed.to_vec(),
            header: packet.header,
            payload: packet.payload.to_vec(),
        }
    }

    pub fn extension(&self, id: u8) -> Option<Vec<u8>> {
        self.header.get_extension(id).map(|data| data.to_vec())
    }

    pub fn number(&self, id: u8) -> Option<u64> {
        let data = self.extension(id)?;
        Some(data.iter().fold(0, |n, byte| n << 8 | u64::from(*byte)))
    }
}

/// One end of a transport.
pub struct Peer {
    pub id: TransportId,
    pub shard: ShardId,
    pub socket: SimPeer,
    pub server: SocketAddr,
    pub ice: IceCredentials,
    pub profile: Profile,
    pub client_secret: Secret,
    pub server_secret: Secret,
    pub counters: Arc<TransportCounters>,
    seal: Context,
    open: Context,
    transactions: u64,
    /// Binding success responses, with the address each says it saw.
    pub answers: Vec<SocketAddr>,
    pub rtp: Vec<Rtp>,
    pub rtcp: Vec<Rtcp>,
    /// Datagrams that are neither STUN nor open with the keys.
    pub unreadable: Vec<Vec<u8>>,
}

impl Peer {
    pub fn new(
        id: TransportId,
        shard: ShardId,
        socket: SimPeer,
        server: SocketAddr,
        ice: IceCredentials,
        profile: Profile,
        counters: Arc<TransportCounters>,
    ) -> Self {
        let client_secret = Secret::new(id.0, 0x55);
        let server_secret = Secret::new(id.0, 0xaa);
        Self {
            id,
            shard,
            socket,
            server,
            ice,
            profile,
            seal: client_secret.context(profile),
            open: server_secret.context(profile),
            client_secret,
            server_secret,
            counters,
            transactions: id.0 << 32,
            answers: Vec::new(),
            rtp: Vec::new(),
            rtcp: Vec::new(),
            unreadable: Vec::new(),
        }
    }

    pub fn send(&self, datagram: &[u8]) {
        self.socket.send(self.server, datagram);
    }

    /// Sends a connectivity check.
    pub fn check(&mut self, use_candidate: bool) {
        let request = self.binding_request(use_candidate);
        self.send(&request);
    }

    pub fn binding_request(&mut self, use_candidate: bool) -> Vec<u8> {
        self.transactions += 1;
        let mut id = [0; 12];
        id[4..].copy_from_slice(&self.transactions.to_be_bytes());
        binding_request(&self.ice, id, use_candidate)
    }

    pub fn seal_rtp(&mut self, plain: &[u8]) -> Vec<u8> {
        self.try_seal_rtp(plain).unwrap()
    }

    /// `None` for what the foreign implementation does not take for RTP.
    pub fn try_seal_rtp(&mut self, plain: &[u8]) -> Option<Vec<u8>> {
        Some(self.seal.encrypt_rtp(plain).ok()?.to_vec())
    }

    pub fn send_rtp(&mut self, plain: &[u8]) {
        let sealed = self.seal_rtp(plain);
        self.send(&sealed);
    }

    pub fn seal_rtcp(&mut self, packets: &[Rtcp]) -> Vec<u8> {
        let plain = rtcp::packet::marshal(packets).unwrap();
        self.seal_plain_rtcp(&plain)
    }

    pub fn seal_plain_rtcp(&mut self, plain: &[u8]) -> Vec<u8> {
        self.seal.encrypt_rtcp(plain).unwrap().to_vec()
    }

    pub fn send_rtcp(&mut self, packet: impl rtcp::packet::Packet + Send + Sync + 'static) {
        let sealed = self.seal_rtcp(&[Box::new(packet)]);
        self.send(&sealed);
    }

    /// Takes in what has arrived.
    pub fn receive(&mut self) {
        while let Some((from, datagram)) = self.socket.receive() {
            assert_eq!(from, self.server, "only its shard sends to a peer");
            self.take(&datagram);
        }
    }

    pub fn take(&mut self, datagram: &[u8]) {
        match datagram {
            [0..=3, ..] => self.take_answer(datagram),
            [128..=191, 192..=223, ..] => match self.open.decrypt_rtcp(datagram) {
                Ok(plain) => {
                    let packets = rtcp::packet::unmarshal(&mut Bytes::from(plain.to_vec()));
                    self.rtcp.extend(packets.unwrap());
                }
                Err(_) => self.unreadable.push(datagram.to_vec()),
            },
            [128..=191, ..] => match self.open.decrypt_rtp(datagram) {
                Ok(plain) => self.rtp.push(Rtp::parse(datagram, &plain)),
                Err(_) => self.unreadable.push(datagram.to_vec()),
            },
            _ => self.unreadable.push(datagram.to_vec()),
        }
    }

    fn take_answer(&mut self, datagram: &[u8]) {
        let mut message = Message::new();
        message.unmarshal_binary(datagram).unwrap();
        assert_eq!(message.typ, BINDING_SUCCESS);
        FINGERPRINT.check(&message).unwrap();
        integrity(&self.ice.local_pwd).check(&mut message).unwrap();
        let mut address = XorMappedAddress::default();
        address.get_from(&message).unwrap();
        self.answers.push(SocketAddr::new(address.ip, address.port));
    }

    /// Takes the RTP packets of one SSRC out of what was received.
    pub fn take_rtp(&mut self, ssrc: u32) -> Vec<Rtp> {
        self.receive();
        let (taken, left) = std::mem::take(&mut self.rtp)
            .into_iter()
            .partition(|packet| packet.header.ssrc == ssrc);
        self.rtp = left;
        taken
    }

    /// Takes the RTCP packets of one kind out of what was received.
    pub fn take_rtcp<T: Clone + 'static>(&mut self) -> Vec<T> {
        self.receive();
        let mut taken = Vec::new();
        self.rtcp
            .retain(|packet| match packet.as_any().downcast_ref::<T>() {
                Some(packet) => {
                    taken.push(packet.clone());
                    false
                }
                None => true,
            });
        taken
    }
}

fn integrity(password: &str) -> MessageIntegrity {
    MessageIntegrity::new_short_term_integrity(password.to_owned())
}

/// A check as a full agent in the controlling role sends it.
pub fn binding_request(ice: &IceCredentials, id: [u8; 12], use_candidate: bool) -> Vec<u8> {
    let raw = |typ: AttrType, value: &[u8]| -> Box<dyn Setter> {
        Box::new(RawAttribute {
            typ,
            length: 0,
            value: value.to_vec(),
        })
    };
    let username = format!("{}:peer", ice.local_ufrag);
    let mut setters: Vec<Box<dyn Setter>> = vec![
        Box::new(BINDING_REQUEST),
        Box::new(StunTransaction(id)),
        Box::new(Username::new(ATTR_USERNAME, username)),
        raw(ATTR_PRIORITY, &1u32.to_be_bytes()),
        raw(ATTR_ICE_CONTROLLING, &7u64.to_be_bytes()),
    ];
    if use_candidate {
        setters.push(raw(ATTR_USE_CANDIDATE, &[]));
    }
    setters.push(Box::new(integrity(&ice.local_pwd)));
    setters.push(Box::new(FINGERPRINT));
    let mut message = Message::new();
    message.build(&setters).unwrap();
    message.raw
}
