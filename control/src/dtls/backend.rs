//! The backend built on the `dtls` crate: one task a handshake.
//!
//! The task waits for the ClientHello (as a server), for its turn, runs the crate's handshake over
//! a [`VirtualConn`], exports the keys and ends, and with it everything of the crate's. What the
//! crate does not do itself is done here, in the guard and by the [`Association`]: the deadline,
//! the choice of the SRTP profile, the limits, the end.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::{Instant, timeout_at};
use webrtc_dtls::Error as CrateError;
use webrtc_dtls::cipher_suite::CipherSuiteId;
use webrtc_dtls::config::{ClientAuthType, Config, ExtendedMasterSecretType};
use webrtc_dtls::conn::DTLSConn;
use webrtc_dtls::extension::extension_use_srtp::SrtpProtectionProfile;
use webrtc_dtls::signature_hash_algorithm::SignatureScheme;
use webrtc_dtls::state::State;
use webrtc_util::KeyingMaterialExporter;

use super::association::{Association, Ended, Ending, Inbound, Orders, Outcome, Shared, Started};
use super::certificate::Certificate;
use super::client_hello::{ClientHello, ECDHE_ECDSA_AES_128_GCM_SHA256};
use super::conn::VirtualConn;
use super::counters::Counters;
use super::error::{AlertDescription, DtlsError};
use super::fingerprint::{Fingerprint, FingerprintAlgorithm};
use super::guard::{Budget, Guard};
use super::protection::{Protection, Secrets};
use super::record;
use super::srtp::{EXPORTER_LABEL, Keys, SrtpProfile, split_keying_material};
use super::{Backend, Handshake, Limits, Role, SendDatagram};

/// The crate repeats a flight at this fixed interval, without back-off. Its default of 1 s makes
/// every lost datagram a visible stall.
const FLIGHT_INTERVAL: Duration = Duration::from_millis(150);
/// Handshake bytes per record: with record, handshake, UDP and IPv6 headers 1223 bytes, below the
/// least MTU of IPv6.
const MTU: usize = 1150;

/// The `dtls` crate as backend. One per process; cheap to share.
#[derive(Debug)]
pub struct DtlsCrate {
    certificate: Certificate,
    limits: Limits,
    gate: Arc<Gate>,
    counters: Arc<Counters>,
}

impl DtlsCrate {
    /// A backend that shows `certificate` in every handshake.
    pub fn new(certificate: Certificate, limits: Limits) -> Self {
        let gate = Arc::new(Gate {
            running: Arc::new(Semaphore::new(
                limits.max_running.min(Semaphore::MAX_PERMITS),
            )),
            waiting: Semaphore::new(limits.max_waiting.min(Semaphore::MAX_PERMITS)),
        });
        Self {
            certificate,
            limits,
            gate,
            counters: Arc::default(),
        }
    }

    /// What was dropped, completed and failed so far.
    pub fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }
}

impl Backend for DtlsCrate {
    fn fingerprint(&self) -> &Fingerprint {
        self.certificate.fingerprint()
    }

    fn start(&self, handshake: Handshake, send: SendDatagram) -> Result<Started, DtlsError> {
        if handshake.peer_fingerprints.is_empty() {
            return Err(DtlsError::NoExpectedFingerprint);
        }
        if handshake.srtp_profiles.is_empty() {
            return Err(DtlsError::NoCommonSrtpProfile {
                offered: Vec::new(),
            });
        }
        let budget = Budget {
            datagrams: self.limits.max_datagrams,
            bytes: self.limits.max_bytes,
        };
        let guard = Guard::new(handshake.role, budget, Arc::clone(&self.counters));
        let counters = Arc::clone(&self.counters);
        let (association, shared, orders) = Association::new(guard, counters, send);
        let (outcome_sender, outcome) = oneshot::channel();
        let (ended_sender, ended) = oneshot::channel();
        let driver = Driver {
            deadline: Instant::now() + handshake.deadline,
            handshake,
            certificate: self.certificate.clone(),
            limits: self.limits,
            gate: Arc::clone(&self.gate),
            shared,
        };
        let task = tokio::spawn(driver.run(orders, outcome_sender, ended_sender));
        association.runs_as(task.abort_handle());
        Ok(Started {
            association,
            outcome: Outcome(outcome),
            ended: Ended(ended),
        })
    }
}

/// Bounds how many handshakes work at once.
#[derive(Debug)]
struct Gate {
    running: Arc<Semaphore>,
    waiting: Semaphore,
}

impl Gate {
    async fn enter(&self) -> Result<OwnedSemaphorePermit, DtlsError> {
        if let Ok(permit) = Arc::clone(&self.running).try_acquire_owned() {
            return Ok(permit);
        }
        let _place = self
            .waiting
            .try_acquire()
            .map_err(|_| DtlsError::TooManyHandshakes)?;
        let permit = Arc::clone(&self.running).acquire_owned().await;
        permit.map_err(|_| DtlsError::Abandoned)
    }
}

/// The state of one handshake's task.
struct Driver {
    handshake: Handshake,
    deadline: Instant,
    certificate: Certificate,
    limits: Limits,
    gate: Arc<Gate>,
    shared: Arc<Shared>,
}

impl Driver {
    async fn run(
        self,
        Orders { inbound, stop }: Orders,
        outcome: oneshot::Sender<Result<Keys, DtlsError>>,
        ended: oneshot::Sender<Ending>,
    ) {
        let shared = &self.shared;
        let result = tokio::select! {
            biased;
            () = stop.cancelled() => Err(if shared.is_closing() {
                DtlsError::Closed
            } else {
                DtlsError::Flooded {
                    datagrams: self.limits.max_datagrams,
                    bytes: self.limits.max_bytes,
                }
            }),
            result = timeout_at(self.deadline, self.establish(inbound)) => result
                .unwrap_or_else(|_| Err(DtlsError::Timeout { alert: shared.plaintext_alert() })),
        };
        match result {
            Ok((conn, keys, protection)) => {
                shared.counters.count_completed();
                shared.establish(protection, ended);
                // The session may have lost interest; the association lives until it is dropped.
                let _ = outcome.send(Ok(keys));
                // Last: it ends the crate's tasks, and nobody should wait for that.
                drop(conn);
            }
            Err(error) => {
                shared.counters.count_failed();
                tracing::debug!(%error, role = ?self.handshake.role, "no DTLS association");
                shared.end();
                let _ = outcome.send(Err(error));
                let _ = ended.send(Ending::HandshakeFailed);
            }
        }
    }

    async fn establish(
        &self,
        mut inbound: mpsc::Receiver<Inbound>,
    ) -> Result<(DTLSConn, Keys, Protection), DtlsError> {
        let profiles = match self.handshake.role {
            Role::Client => self.handshake.srtp_profiles.clone(),
            Role::Server => vec![self.answer_client_hello(&mut inbound).await?],
        };
        let _permit = self.gate.enter().await?;
        let presented = Arc::new(OnceLock::new());
        let config = self.config(&profiles, Arc::clone(&presented));
        let conn = Arc::new(VirtualConn::new(inbound, Arc::clone(&self.shared)));
        let is_client = self.handshake.role == Role::Client;
        let conn = DTLSConn::new(conn, config, is_client, None)
            .await
            .map_err(|error| match presented.get() {
                Some(presented) => DtlsError::FingerprintMismatch {
                    presented: presented.clone(),
                },
                None => from_crate(error),
            })?;
        let (keys, protection) = self.export(&conn).await?;
        Ok((conn, keys, protection))
    }

    /// Waits for the first ClientHello and picks the SRTP profile.
    async fn answer_client_hello(
        &self,
        inbound: &mut mpsc::Receiver<Inbound>,
    ) -> Result<SrtpProfile, DtlsError> {
        let hello = loop {
            match inbound.recv().await {
                Some(Inbound::ClientHello(hello)) => break hello,
                // What precedes the ClientHello belongs to no handshake.
                Some(Inbound::Records(_)) => {}
                None => return Err(DtlsError::Abandoned),
            }
        };
        tracing::debug!(?hello, "ClientHello");
        choose_profile(&hello, &self.handshake.srtp_profiles).map_err(|(error, alert)| {
            (self.shared.send)(&record::fatal_alert(alert.0));
            error
        })
    }

    fn config(&self, profiles: &[SrtpProfile], presented: Arc<OnceLock<Fingerprint>>) -> Config {
        let expected = self.handshake.peer_fingerprints.clone();
        // AES-GCM only: the crate's CBC suites panic on short plaintexts.
        let cipher_suites = match self.handshake.role {
            Role::Server => vec![CipherSuiteId::Tls_Ecdhe_Ecdsa_With_Aes_128_Gcm_Sha256],
            Role::Client => vec![
                CipherSuiteId::Tls_Ecdhe_Ecdsa_With_Aes_128_Gcm_Sha256,
                CipherSuiteId::Tls_Ecdhe_Rsa_With_Aes_128_Gcm_Sha256,
            ],
        };
        Config {
            certificates: vec![self.certificate.as_crate().clone()],
            cipher_suites,
            // All the crate can verify, ours first.
            signature_schemes: vec![
                SignatureScheme::EcdsaWithP256AndSha256,
                SignatureScheme::EcdsaWithP384AndSha384,
                SignatureScheme::Pkcs1WithSha256,
                SignatureScheme::Pkcs1WithSha384,
                SignatureScheme::Pkcs1WithSha512,
                SignatureScheme::Ed25519,
            ],
            srtp_protection_profiles: profiles.iter().copied().map(to_crate).collect(),
            client_auth: ClientAuthType::RequireAnyClientCert,
            // RFC 7627; also what binds the handshake where the crate does not compare Finished.
            extended_master_secret: ExtendedMasterSecretType::Require,
            flight_interval: FLIGHT_INTERVAL,
            mtu: MTU,
            // The fingerprint is the authentication, not a chain of issuers (RFC 8827 6.5).
            insecure_skip_verify: true,
            verify_peer_certificate: Some(Arc::new(move |chain, _| {
                verify_fingerprint(&expected, chain)
                    .map(drop)
                    .map_err(|error| {
                        if let DtlsError::FingerprintMismatch {
                            presented: fingerprint,
                        } = &error
                        {
                            let _ = presented.set(fingerprint.clone());
                        }
                        CrateError::Other(error.to_string())
                    })
            })),
            server_name: "fanmill.invalid".to_owned(),
            ..Config::default()
        }
    }

    async fn export(&self, conn: &DTLSConn) -> Result<(Keys, Protection), DtlsError> {
        let state = conn.connection_state().await;
        // The crate has asked the same already; keys must not depend on when it asks.
        let peer_fingerprint =
            verify_fingerprint(&self.handshake.peer_fingerprints, &state.peer_certificates)?;
        let profile = SrtpProfile::from_id(conn.selected_srtpprotection_profile() as u16)
            .ok_or_else(|| DtlsError::NoCommonSrtpProfile {
                offered: Vec::new(),
            })?;
        let material = state
            .export_keying_material(EXPORTER_LABEL, &[], profile.keying_material_len())
            .await
            .map_err(|error| DtlsError::Protocol(Box::new(error)))?;
        let (local, remote) = split_keying_material(profile, self.handshake.role, &material)
            .ok_or_else(|| DtlsError::Protocol("the keying material has a wrong length".into()))?;
        let protection = self.protection(&state)?;
        let keys = Keys {
            profile,
            local,
            remote,
            peer_fingerprint,
        };
        Ok((keys, protection))
    }

    /// What remains of the crate's connection.
    fn protection(&self, state: &State) -> Result<Protection, DtlsError> {
        let logged = state
            .key_log_data()
            .map_err(|error| DtlsError::Protocol(Box::new(error)))?;
        let role = self.handshake.role;
        let (client_random, server_random) = match role {
            Role::Client => (&logged.local_random, &logged.remote_random),
            Role::Server => (&logged.remote_random, &logged.local_random),
        };
        let secrets = Secrets {
            master_secret: &logged.master_secret,
            client_random,
            server_random,
        };
        Protection::derive(role, &secrets, self.shared.next_protected())
            .ok_or_else(|| DtlsError::Protocol("the record keys cannot be derived".into()))
    }
}

fn choose_profile(
    hello: &ClientHello,
    preference: &[SrtpProfile],
) -> Result<SrtpProfile, (DtlsError, AlertDescription)> {
    if !hello.offers_dtls_1_2() {
        return Err((
            DtlsError::NoCommonVersion,
            AlertDescription::PROTOCOL_VERSION,
        ));
    }
    if !hello
        .cipher_suites
        .contains(&ECDHE_ECDSA_AES_128_GCM_SHA256)
    {
        return Err((
            DtlsError::NoCommonCipherSuite,
            AlertDescription::HANDSHAKE_FAILURE,
        ));
    }
    if !hello.extended_master_secret {
        let alert = AlertDescription::INSUFFICIENT_SECURITY;
        return Err((DtlsError::NoExtendedMasterSecret, alert));
    }
    hello.choose_srtp_profile(preference).ok_or_else(|| {
        let offered = hello.srtp_profiles.clone();
        (
            DtlsError::NoCommonSrtpProfile { offered },
            AlertDescription::INSUFFICIENT_SECURITY,
        )
    })
}

// RFC 8122 5: the fingerprint is of the certificate the peer shows first, its own.
fn verify_fingerprint(
    expected: &[Fingerprint],
    chain: &[Vec<u8>],
) -> Result<Fingerprint, DtlsError> {
    let certificate = chain.first().ok_or(DtlsError::NoPeerCertificate)?;
    let presented = Fingerprint::of(FingerprintAlgorithm::Sha256, certificate);
    if expected
        .iter()
        .any(|fingerprint| fingerprint.matches(certificate))
    {
        Ok(presented)
    } else {
        Err(DtlsError::FingerprintMismatch { presented })
    }
}

fn to_crate(profile: SrtpProfile) -> SrtpProtectionProfile {
    match profile {
        SrtpProfile::Aes128CmHmacSha1_80 => SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80,
        SrtpProfile::AeadAes128Gcm => SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm,
        SrtpProfile::AeadAes256Gcm => SrtpProtectionProfile::Srtp_Aead_Aes_256_Gcm,
    }
}

fn from_crate(error: CrateError) -> DtlsError {
    match error {
        CrateError::ErrAlertFatalOrClose => DtlsError::Alert,
        CrateError::ErrClientCertificateRequired => DtlsError::NoPeerCertificate,
        CrateError::ErrClientRequiredButNoServerEms
        | CrateError::ErrServerRequiredButNoClientEms => DtlsError::NoExtendedMasterSecret,
        CrateError::ErrCipherSuiteNoIntersection => DtlsError::NoCommonCipherSuite,
        CrateError::ErrUnsupportedProtocolVersion => DtlsError::NoCommonVersion,
        CrateError::ErrRequestedButNoSrtpExtension
        | CrateError::ErrClientNoMatchingSrtpProfile
        | CrateError::ErrServerNoMatchingSrtpProfile => DtlsError::NoCommonSrtpProfile {
            offered: Vec::new(),
        },
        error => DtlsError::Protocol(Box::new(error)),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn hello() -> ClientHello {
        ClientHello {
            legacy_version: 0xfefd,
            has_cookie: false,
            cipher_suites: vec![0xc02f, ECDHE_ECDSA_AES_128_GCM_SHA256],
            supported_versions: vec![],
            srtp_profiles: vec![1, 8],
            extended_master_secret: true,
        }
    }

    fn refusal(hello: &ClientHello) -> DtlsError {
        choose_profile(hello, &SrtpProfile::PREFERENCE)
            .unwrap_err()
            .0
    }

    #[test]
    fn the_preferred_profile_among_the_offered_is_chosen() {
        let chosen = choose_profile(&hello(), &SrtpProfile::PREFERENCE).unwrap();
        assert_eq!(chosen, SrtpProfile::AeadAes256Gcm);
    }

    #[test]
    fn a_hello_without_something_we_require_is_refused_by_name() {
        let dtls_1_3_only = ClientHello {
            supported_versions: vec![0xfefc],
            ..hello()
        };
        assert!(matches!(
            refusal(&dtls_1_3_only),
            DtlsError::NoCommonVersion
        ));
        let dtls_1_0 = ClientHello {
            legacy_version: 0xfeff,
            ..hello()
        };
        assert!(matches!(refusal(&dtls_1_0), DtlsError::NoCommonVersion));
        let rsa_only = ClientHello {
            cipher_suites: vec![0xc02f],
            ..hello()
        };
        assert!(matches!(refusal(&rsa_only), DtlsError::NoCommonCipherSuite));
        let without_ems = ClientHello {
            extended_master_secret: false,
            ..hello()
        };
        assert!(matches!(
            refusal(&without_ems),
            DtlsError::NoExtendedMasterSecret
        ));
        let without_srtp = ClientHello {
            srtp_profiles: vec![],
            ..hello()
        };
        let error = refusal(&without_srtp);
        assert!(matches!(error, DtlsError::NoCommonSrtpProfile { offered } if offered.is_empty()));
    }

    #[test]
    fn a_peer_without_a_certificate_is_refused() {
        let expected = [Fingerprint::of(
            FingerprintAlgorithm::Sha256,
            b"certificate",
        )];
        let error = verify_fingerprint(&expected, &[]).unwrap_err();
        assert!(matches!(error, DtlsError::NoPeerCertificate));
        // Only the first certificate speaks for the peer.
        let chain = [b"another".to_vec(), b"certificate".to_vec()];
        let error = verify_fingerprint(&expected, &chain).unwrap_err();
        assert!(matches!(error, DtlsError::FingerprintMismatch { .. }));
        assert!(verify_fingerprint(&expected, &chain[1..]).is_ok());
    }
}
