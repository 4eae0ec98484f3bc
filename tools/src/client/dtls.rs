//! The client side of a DTLS-SRTP handshake, by the `dtls` crate over a socket that also carries
//! ICE.
//!
//! Called by [`super::join`] once the pair is valid. When the keys are exported the crate's tasks
//! are ended without a word to the server (a close_notify would end the session), so that a
//! joined viewer costs no task and no buffer.

use std::any::Any;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use fanmill_engine::packet::Kind;
use fanmill_engine::srtp::{KeyMaterial, Profile};
use rustls::crypto::{CryptoProvider, ring};
use tokio::net::UdpSocket;
use tokio_util::sync::CancellationToken;
use webrtc_dtls::cipher_suite::CipherSuiteId;
use webrtc_dtls::config::{Config, ExtendedMasterSecretType};
use webrtc_dtls::conn::DTLSConn;
use webrtc_dtls::crypto::Certificate;
use webrtc_dtls::extension::extension_use_srtp::SrtpProtectionProfile;
use webrtc_util::{Conn, KeyingMaterialExporter};

use super::SrtpKeys;
use super::ice::IceAgent;
use crate::clock::now_us;

/// A lost datagram of a handshake is repeated after this time.
const FLIGHT_INTERVAL: Duration = Duration::from_millis(250);
/// Media that arrived ahead of the keys: kept, up to this many packets.
const MAX_EARLY: usize = 256;
const MAX_DATAGRAM_BYTES: usize = 2048;

/// Why there are no keys.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DtlsError {
    /// The crate gave up.
    #[error("{0}")]
    Protocol(String),
    /// The certificate is not the one the answer announced.
    #[error("the server's certificate does not match the fingerprint in its answer")]
    Fingerprint,
    /// The server chose no SRTP profile this client knows.
    #[error("the server chose no SRTP protection profile that was offered")]
    NoProfile,
}

/// The certificate that every client of this process shows.
#[derive(Clone)]
pub struct Identity {
    certificate: Certificate,
    fingerprint: String,
}

impl Identity {
    /// Makes a key and a self-signed certificate.
    ///
    /// # Errors
    /// [`DtlsError::Protocol`] when the system gives no randomness.
    pub fn generate() -> Result<Self, DtlsError> {
        // The crate builds rustls verifiers it never uses here, and rustls refuses to choose a
        // provider by itself once two are compiled in.
        if CryptoProvider::get_default().is_none() {
            let _ = ring::default_provider().install_default();
        }
        let certificate = Certificate::generate_self_signed(vec!["bench.invalid".to_owned()])
            .map_err(protocol)?;
        let der = certificate.certificate.first();
        let der = der.ok_or_else(|| DtlsError::Protocol("no certificate was made".to_owned()))?;
        let fingerprint = sha256(der)
            .iter()
            .map(|byte| format!("{byte:02X}"))
            .collect::<Vec<_>>()
            .join(":");
        Ok(Self {
            certificate,
            fingerprint,
        })
    }

    /// The value of `a=fingerprint:sha-256`.
    #[must_use]
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
    let mut out = [0; 32];
    out.copy_from_slice(digest.as_ref());
    out
}

/// A client's socket while it joins: DTLS goes to the crate, STUN to the agent, media is kept.
pub struct JoiningSocket {
    socket: Mutex<Option<Arc<UdpSocket>>>,
    remote: SocketAddr,
    ice: Mutex<Option<IceAgent>>,
    early: Mutex<Vec<Vec<u8>>>,
    done: CancellationToken,
}

impl JoiningSocket {
    /// Wraps a connected socket and the agent of its pair.
    #[must_use]
    pub fn new(socket: UdpSocket, remote: SocketAddr, ice: IceAgent) -> Self {
        Self {
            socket: Mutex::new(Some(Arc::new(socket))),
            remote,
            ice: Mutex::new(Some(ice)),
            early: Mutex::default(),
            done: CancellationToken::new(),
        }
    }

    fn with_ice<T>(&self, f: impl FnOnce(&mut IceAgent) -> T) -> Option<T> {
        let mut ice = self.ice.lock().unwrap_or_else(PoisonError::into_inner);
        ice.as_mut().map(f)
    }

    /// Ends all reading and writing; returns the agent, and the media that came early.
    pub fn finish(&self) -> (Option<IceAgent>, Vec<Vec<u8>>) {
        self.done.cancel();
        let mut socket = self.socket.lock().unwrap_or_else(PoisonError::into_inner);
        socket.take();
        let ice = self
            .ice
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let mut early = self.early.lock().unwrap_or_else(PoisonError::into_inner);
        (ice, std::mem::take(&mut *early))
    }

    fn socket(&self) -> Option<Arc<UdpSocket>> {
        let socket = self.socket.lock().unwrap_or_else(PoisonError::into_inner);
        socket.clone()
    }

    /// Receives one datagram; returns its length if it is DTLS.
    async fn receive(&self, buffer: &mut [u8]) -> Option<usize> {
        let socket = self.socket()?;
        let len = tokio::select! {
            () = self.done.cancelled() => return None,
            received = socket.recv(buffer) => received.unwrap_or(0),
        };
        let datagram = &buffer[..len];
        match Kind::of(datagram) {
            Kind::Dtls => return Some(len),
            Kind::Stun => {
                let answer = self.with_ice(|ice| ice.handle(now_us(), self.remote, datagram));
                if let Some(answer) = answer.flatten() {
                    // As good as lost on the way.
                    let _ = socket.send(&answer).await;
                }
            }
            Kind::Rtp | Kind::Rtcp => {
                let mut early = self.early.lock().unwrap_or_else(PoisonError::into_inner);
                if early.len() < MAX_EARLY {
                    early.push(datagram.to_vec());
                }
            }
            _ => {}
        }
        Some(0)
    }

    /// Sends what the agent has due, forever.
    async fn drive_ice(&self) {
        loop {
            let polled = self.with_ice(|ice| (ice.poll(now_us()), ice.deadline_us()));
            let Some((request, due_us)) = polled else {
                return;
            };
            if let (Some(request), Some(socket)) = (request, self.socket()) {
                let _ = socket.send(&request).await;
            }
            let pause_us = due_us.saturating_sub(now_us()).clamp(1_000, 20_000);
            tokio::time::sleep(Duration::from_micros(pause_us)).await;
        }
    }

    /// Checks the pair until it is valid.
    pub async fn check(&self) {
        let mut buffer = [0; MAX_DATAGRAM_BYTES];
        let receive = async {
            while self.with_ice(|ice| ice.is_valid()) == Some(false) {
                self.receive(&mut buffer).await;
            }
        };
        tokio::select! {
            () = self.drive_ice() => {}
            () = receive => {}
        }
    }
}

#[async_trait]
impl Conn for JoiningSocket {
    async fn connect(&self, _addr: SocketAddr) -> webrtc_util::Result<()> {
        Ok(())
    }

    // It must never fail: the crate's read loop would spin on the error.
    async fn recv(&self, buffer: &mut [u8]) -> webrtc_util::Result<usize> {
        loop {
            match self.receive(buffer).await {
                Some(0) => {}
                Some(len) => return Ok(len),
                None => std::future::pending().await,
            }
        }
    }

    async fn recv_from(&self, buffer: &mut [u8]) -> webrtc_util::Result<(usize, SocketAddr)> {
        Ok((self.recv(buffer).await?, self.remote))
    }

    async fn send(&self, datagram: &[u8]) -> webrtc_util::Result<usize> {
        if let Some(socket) = self.socket() {
            // What the system refuses is repeated by the handshake's timer.
            let _ = socket.send(datagram).await;
        }
        Ok(datagram.len())
    }

    async fn send_to(&self, datagram: &[u8], _to: SocketAddr) -> webrtc_util::Result<usize> {
        self.send(datagram).await
    }

    fn local_addr(&self) -> webrtc_util::Result<SocketAddr> {
        let socket = self.socket().ok_or(webrtc_util::Error::ErrClosedListener)?;
        Ok(socket.local_addr()?)
    }

    fn remote_addr(&self) -> Option<SocketAddr> {
        Some(self.remote)
    }

    async fn close(&self) -> webrtc_util::Result<()> {
        Ok(())
    }

    fn as_any(&self) -> &(dyn Any + Send + Sync) {
        self
    }
}

/// Runs the handshake over a valid pair, offering `profiles` in order, and exports the keys.
///
/// # Errors
/// [`DtlsError`]. There is no deadline here: wrap it in one.
pub async fn handshake(
    socket: &Arc<JoiningSocket>,
    identity: &Identity,
    fingerprint: [u8; 32],
    profiles: &[Profile],
) -> Result<SrtpKeys, DtlsError> {
    let conn = Arc::clone(socket) as Arc<dyn Conn + Send + Sync>;
    let config = config(identity, fingerprint, profiles);
    let conn = tokio::select! {
        () = socket.drive_ice() => return Err(DtlsError::Protocol("the socket is closed".into())),
        conn = DTLSConn::new(conn, config, true, None) => conn.map_err(protocol)?,
    };
    let keys = export(&conn, fingerprint).await;
    socket.done.cancel();
    {
        // From here on nothing of the crate's reaches the network.
        let mut socket = socket.socket.lock().unwrap_or_else(PoisonError::into_inner);
        socket.take();
    }
    let _ = conn.close().await;
    keys
}

async fn export(conn: &DTLSConn, fingerprint: [u8; 32]) -> Result<SrtpKeys, DtlsError> {
    let state = conn.connection_state().await;
    let presented = state.peer_certificates.first();
    if presented.is_none_or(|der| sha256(der) != fingerprint) {
        return Err(DtlsError::Fingerprint);
    }
    let profile = Profile::from_id(conn.selected_srtpprotection_profile() as u16)
        .ok_or(DtlsError::NoProfile)?;
    // RFC 5764 4.2.
    let label = "EXTRACTOR-dtls_srtp";
    let exported = state
        .export_keying_material(label, &[], KeyMaterial::exporter_len(profile))
        .await
        .map_err(protocol)?;
    SrtpKeys::new(profile, exported).map_err(protocol)
}

fn config(identity: &Identity, fingerprint: [u8; 32], profiles: &[Profile]) -> Config {
    let to_crate = |profile: &Profile| match profile {
        Profile::AeadAes128Gcm => SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm,
        Profile::AeadAes256Gcm => SrtpProtectionProfile::Srtp_Aead_Aes_256_Gcm,
        Profile::Aes128CmSha1_80 => SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80,
    };
    Config {
        certificates: vec![identity.certificate.clone()],
        cipher_suites: vec![
            CipherSuiteId::Tls_Ecdhe_Ecdsa_With_Aes_128_Gcm_Sha256,
            CipherSuiteId::Tls_Ecdhe_Rsa_With_Aes_128_Gcm_Sha256,
        ],
        srtp_protection_profiles: profiles.iter().map(to_crate).collect(),
        extended_master_secret: ExtendedMasterSecretType::Require,
        flight_interval: FLIGHT_INTERVAL,
        // The fingerprint is the authentication, not a chain of issuers (RFC 8827 6.5).
        insecure_skip_verify: true,
        verify_peer_certificate: Some(Arc::new(move |chain, _| match chain.first() {
            Some(der) if sha256(der) == fingerprint => Ok(()),
            _ => Err(webrtc_dtls::Error::Other(
                DtlsError::Fingerprint.to_string(),
            )),
        })),
        server_name: "bench.invalid".to_owned(),
        ..Config::default()
    }
}

fn protocol(error: impl std::fmt::Display) -> DtlsError {
    DtlsError::Protocol(error.to_string())
}
