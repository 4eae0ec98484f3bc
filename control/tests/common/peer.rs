//! A WebRTC client: full ICE as far as a lite server needs it, DTLS in either role, SRTP.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use stun::agent::TransactionId;
use stun::attributes::{
    ATTR_ICE_CONTROLLING, ATTR_PRIORITY, ATTR_USE_CANDIDATE, ATTR_USERNAME, AttrType,
};
use stun::fingerprint::FINGERPRINT;
use stun::integrity::MessageIntegrity;
use stun::message::{BINDING_REQUEST, Message, Setter};
use stun::textattrs::Username;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use webrtc_dtls::cipher_suite::CipherSuiteId;
use webrtc_dtls::config::{ClientAuthType, Config, ExtendedMasterSecretType};
use webrtc_dtls::conn::DTLSConn;
use webrtc_dtls::extension::extension_use_srtp::SrtpProtectionProfile;
use webrtc_srtp::config::Config as SrtpConfig;
use webrtc_srtp::context::Context;
use webrtc_srtp::protection_profile::ProtectionProfile;
use webrtc_util::Conn;

use super::media::Rtp;
use super::offer::{Answer, Offer, certificate, fingerprint_of};
use super::soon;

/// `bytes` random bytes in hexadecimal.
pub fn random(bytes: usize) -> String {
    let mut buffer = vec![0; bytes];
    aws_lc_rs::rand::fill(&mut buffer).unwrap();
    buffer.iter().map(|byte| format!("{byte:02x}")).collect()
}

struct RawAttribute(AttrType, Vec<u8>);

impl Setter for RawAttribute {
    fn add_to(&self, message: &mut Message) -> Result<(), stun::Error> {
        message.add(self.0, &self.1);
        Ok(())
    }
}

/// A connectivity check with nomination (RFC 8445 7.2.4).
fn check(local_ufrag: &str, answer: &Answer) -> Message {
    let name = format!("{}:{local_ufrag}", answer.ufrag);
    let pwd = answer.pwd.clone();
    let setters: Vec<Box<dyn Setter>> = vec![
        Box::new(BINDING_REQUEST),
        Box::new(TransactionId::new()),
        Box::new(Username::new(ATTR_USERNAME, name)),
        Box::new(RawAttribute(ATTR_PRIORITY, vec![0x6E, 0, 1, 0xFF])),
        Box::new(RawAttribute(ATTR_ICE_CONTROLLING, vec![7; 8])),
        Box::new(RawAttribute(ATTR_USE_CANDIDATE, Vec::new())),
        Box::new(MessageIntegrity::new_short_term_integrity(pwd)),
        Box::new(FINGERPRINT),
    ];
    let mut message = Message::new();
    message.build(&setters).unwrap();
    message
}

/// Where DTLS records come and go.
struct DtlsPath {
    socket: Arc<UdpSocket>,
    inbound: tokio::sync::Mutex<mpsc::Receiver<Vec<u8>>>,
}

#[async_trait]
impl Conn for DtlsPath {
    async fn connect(&self, _: SocketAddr) -> webrtc_util::Result<()> {
        Ok(())
    }

    async fn recv(&self, buffer: &mut [u8]) -> webrtc_util::Result<usize> {
        let Some(datagram) = self.inbound.lock().await.recv().await else {
            // An error would have the DTLS crate ask again for ever.
            return std::future::pending().await;
        };
        buffer[..datagram.len()].copy_from_slice(&datagram);
        Ok(datagram.len())
    }

    async fn recv_from(&self, buffer: &mut [u8]) -> webrtc_util::Result<(usize, SocketAddr)> {
        Ok((self.recv(buffer).await?, self.socket.peer_addr()?))
    }

    async fn send(&self, bytes: &[u8]) -> webrtc_util::Result<usize> {
        Ok(self.socket.send(bytes).await?)
    }

    async fn send_to(&self, bytes: &[u8], _: SocketAddr) -> webrtc_util::Result<usize> {
        self.send(bytes).await
    }

    fn local_addr(&self) -> webrtc_util::Result<SocketAddr> {
        Ok(self.socket.local_addr()?)
    }

    fn remote_addr(&self) -> Option<SocketAddr> {
        self.socket.peer_addr().ok()
    }

    async fn close(&self) -> webrtc_util::Result<()> {
        Ok(())
    }

    fn as_any(&self) -> &(dyn std::any::Any + Send + Sync) {
        self
    }
}

/// A connected client. Dropping it is how one vanishes: not a word to the server.
pub struct Peer {
    pub answer: Answer,
    ufrag: String,
    socket: Arc<UdpSocket>,
    reader: JoinHandle<()>,
    stun: mpsc::Receiver<Vec<u8>>,
    media: mpsc::Receiver<Vec<u8>>,
    dtls: DTLSConn,
    sealing: Mutex<Context>,
    opening: Mutex<Context>,
    byes: Vec<u32>,
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

/// A socket and what came in on it, sorted as RFC 7983 says.
struct Sorted {
    socket: Arc<UdpSocket>,
    reader: JoinHandle<()>,
    stun: mpsc::Receiver<Vec<u8>>,
    dtls: mpsc::Receiver<Vec<u8>>,
    media: mpsc::Receiver<Vec<u8>>,
}

impl Sorted {
    async fn open(remote: SocketAddr) -> Self {
        let socket = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
        socket.connect(remote).await.unwrap();
        let (to_stun, stun) = mpsc::channel(64);
        let (to_dtls, dtls) = mpsc::channel(64);
        let (to_media, media) = mpsc::channel(256);
        let from = Arc::clone(&socket);
        let reader = tokio::spawn(async move {
            let mut buffer = [0; 2048];
            while let Ok(len) = from.recv(&mut buffer).await {
                let queue = match buffer[0] {
                    0..=3 => &to_stun,
                    20..=63 => &to_dtls,
                    _ => &to_media,
                };
                // What nobody reads is lost, as in any socket.
                let _ = queue.try_send(buffer[..len].to_vec());
            }
        });
        Self {
            socket,
            reader,
            stun,
            dtls,
            media,
        }
    }
}

impl Peer {
    /// Connects as the answer says; panics if that fails.
    pub async fn connect(offer: &Offer, answer: &str) -> Self {
        soon(Self::try_connect(offer, answer))
            .await
            .expect("a connection")
    }

    pub async fn try_connect(offer: &Offer, answer: &str) -> Result<Self, webrtc_dtls::Error> {
        let answer = Answer::parse(answer);
        let mut sorted = Sorted::open(answer.candidate).await;
        checked(&sorted.socket, &mut sorted.stun, &offer.ufrag, &answer).await;
        let path = Arc::new(DtlsPath {
            socket: Arc::clone(&sorted.socket),
            inbound: tokio::sync::Mutex::new(sorted.dtls),
        });
        // The answer names the server's side (RFC 8842 5.3).
        let is_client = answer.setup == "passive";
        let dtls = DTLSConn::new(path, dtls_config(&answer), is_client, None).await;
        let dtls = dtls.inspect_err(|_| sorted.reader.abort())?;
        let (sealing, opening) = srtp(&dtls, is_client).await;
        Ok(Self {
            answer,
            ufrag: offer.ufrag.clone(),
            socket: sorted.socket,
            reader: sorted.reader,
            stun: sorted.stun,
            media: sorted.media,
            dtls,
            sealing: Mutex::new(sealing),
            opening: Mutex::new(opening),
            byes: Vec::new(),
        })
    }

    /// Sends a check and waits for its answer: consent (RFC 7675).
    pub async fn check(&mut self) {
        let check = checked(&self.socket, &mut self.stun, &self.ufrag, &self.answer);
        soon(check).await;
    }

    /// As after an ICE restart: the next checks bear these credentials.
    pub fn restarted(&mut self, ufrag: &str, fragment: &str) {
        self.ufrag = ufrag.to_owned();
        self.answer = self.answer.restarted(fragment);
    }

    /// Seals and sends an RTP packet.
    pub async fn send_rtp(&self, packet: &[u8]) {
        let sealed = self.sealing.lock().unwrap().encrypt_rtp(packet).unwrap();
        self.socket.send(&sealed).await.unwrap();
    }

    /// The next RTP packet; RTCP on the way is looked through for BYE.
    pub async fn recv_rtp(&mut self) -> Rtp {
        soon(async {
            loop {
                if let Some(rtp) = self.recv_media().await {
                    return rtp;
                }
            }
        })
        .await
    }

    /// Waits until RTCP says BYE; gives the SSRCs it says it to.
    pub async fn recv_byes(&mut self) -> Vec<u32> {
        soon(async {
            while self.byes.is_empty() {
                self.recv_media().await;
            }
        })
        .await;
        self.byes.clone()
    }

    async fn recv_media(&mut self) -> Option<Rtp> {
        let datagram = self.media.recv().await.expect("the reader runs");
        let mut opening = self.opening.lock().unwrap();
        // RFC 5761 4: RTCP by its packet type.
        if (192..=223).contains(&datagram[1]) {
            if let Ok(plain) = opening.decrypt_rtcp(&datagram) {
                self.byes.extend(super::media::byes(&plain));
            }
            return None;
        }
        // What is meant for a client that vanished from this port before does not open.
        let plain = opening.decrypt_rtp(&datagram).ok()?;
        Some(Rtp::parse(&plain))
    }

    /// Says close_notify.
    pub async fn close(&self) {
        soon(self.dtls.close()).await.unwrap();
    }

    /// Waits for the server's close_notify.
    pub async fn closed(&self) {
        let mut nothing = [0; 64];
        let read = soon(self.dtls.read(&mut nothing, None)).await;
        assert!(read.is_err(), "the server sent data");
    }
}

/// Sends checks until one is answered.
async fn checked(
    socket: &UdpSocket,
    stun: &mut mpsc::Receiver<Vec<u8>>,
    ufrag: &str,
    answer: &Answer,
) {
    let request = check(ufrag, answer);
    loop {
        socket.send(&request.raw).await.unwrap();
        while let Ok(Some(bytes)) =
            tokio::time::timeout(Duration::from_millis(500), stun.recv()).await
        {
            let mut response = Message::new();
            response.unmarshal_binary(&bytes).unwrap();
            if response.transaction_id == request.transaction_id {
                assert_eq!(response.typ, stun::message::BINDING_SUCCESS);
                let integrity = MessageIntegrity::new_short_term_integrity(answer.pwd.clone());
                integrity.check(&mut response).unwrap();
                return;
            }
        }
    }
}

fn dtls_config(answer: &Answer) -> Config {
    let expected = answer.fingerprint.clone();
    Config {
        certificates: vec![certificate().clone()],
        cipher_suites: vec![CipherSuiteId::Tls_Ecdhe_Ecdsa_With_Aes_128_Gcm_Sha256],
        srtp_protection_profiles: vec![
            SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm,
            SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80,
        ],
        client_auth: ClientAuthType::RequireAnyClientCert,
        extended_master_secret: ExtendedMasterSecretType::Require,
        flight_interval: Duration::from_millis(200),
        insecure_skip_verify: true,
        verify_peer_certificate: Some(Arc::new(move |chain, _| {
            if fingerprint_of(&chain[0]) == expected {
                Ok(())
            } else {
                Err(webrtc_dtls::Error::Other("not the server".to_owned()))
            }
        })),
        server_name: "server.invalid".to_owned(),
        ..Config::default()
    }
}

async fn srtp(dtls: &DTLSConn, is_client: bool) -> (Context, Context) {
    let profile = match dtls.selected_srtpprotection_profile() {
        SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm => ProtectionProfile::AeadAes128Gcm,
        SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80 => {
            ProtectionProfile::Aes128CmHmacSha1_80
        }
        other => panic!("{other:?} was not offered"),
    };
    let mut config = SrtpConfig {
        profile,
        ..SrtpConfig::default()
    };
    let state = dtls.connection_state().await;
    config
        .extract_session_keys_from_dtls(state, is_client)
        .await
        .unwrap();
    let context = |key, salt| Context::new(key, salt, profile, None, None).unwrap();
    let keys = &config.keys;
    (
        context(&keys.local_master_key, &keys.local_master_salt),
        context(&keys.remote_master_key, &keys.remote_master_salt),
    )
}
