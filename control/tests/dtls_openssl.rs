//! Handshakes with a foreign implementation, OpenSSL's command line, over UDP on the loopback
//! interface. Needs the `openssl` program.

mod dtls_support;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, OnceLock};

use dtls_support::*;
use fanmill_control::dtls::{
    Backend, Ending, Fingerprint, FingerprintAlgorithm, Handshake, Keys, Limits, Role, SrtpProfile,
    Started,
};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::net::UdpSocket;
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

/// A key and a self-signed certificate made by OpenSSL.
struct Identity {
    directory: tempfile::TempDir,
    fingerprint: Fingerprint,
}

impl Identity {
    fn generate(algorithm: &[&str]) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let (key, pem, der) = ("key.pem", "certificate.pem", "certificate.der");
        let run = |arguments: &[&str]| {
            let output = std::process::Command::new("openssl")
                .args(arguments)
                .current_dir(&directory)
                .output()
                .expect("the openssl program is installed");
            assert!(
                output.status.success(),
                "{}",
                String::from_utf8_lossy(&output.stderr)
            );
        };
        let request = [
            "req", "-x509", "-nodes", "-subj", "/CN=peer", "-keyout", key, "-out", pem,
        ];
        run(&[&request[..], algorithm].concat());
        run(&["x509", "-in", pem, "-outform", "DER", "-out", der]);
        let der = std::fs::read(directory.path().join(der)).expect("openssl wrote it");
        let fingerprint = Fingerprint::of(FingerprintAlgorithm::Sha256, &der);
        Self {
            directory,
            fingerprint,
        }
    }

    fn ecdsa() -> Self {
        Self::generate(&["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"])
    }

    fn rsa() -> Self {
        Self::generate(&["-newkey", "rsa:2048"])
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

/// A running `openssl s_client` or `s_server`. Killed when dropped.
struct OpenSsl {
    _child: Child,
    /// End of file makes s_client close its association.
    stdin: Option<ChildStdin>,
    stdout: Lines<BufReader<ChildStdout>>,
}

impl OpenSsl {
    fn spawn(
        identity: &Identity,
        profiles: &str,
        profile: SrtpProfile,
        arguments: &[&str],
    ) -> Self {
        let material_len = profile.keying_material_len().to_string();
        let path = |name| -> Box<Path> { identity.path(name).into_boxed_path() };
        let mut child = Command::new("openssl")
            .args(arguments)
            .args(["-dtls1_2", "-timeout", "-use_srtp", profiles])
            .args([
                "-keymatexport",
                "EXTRACTOR-dtls_srtp",
                "-keymatexportlen",
                &material_len,
            ])
            .arg("-cert")
            .arg(&*path("certificate.pem"))
            .arg("-key")
            .arg(&*path("key.pem"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("the openssl program is installed");
        let stdin = child.stdin.take();
        let stdout = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        Self {
            _child: child,
            stdin,
            stdout,
        }
    }

    /// The rest of the first line that has `marker`, trimmed.
    async fn line_with(&mut self, marker: &str) -> String {
        soon(async {
            loop {
                let line = self
                    .stdout
                    .next_line()
                    .await
                    .expect("readable")
                    .expect("more output");
                if let Some((_, rest)) = line.split_once(marker) {
                    return rest.trim().to_owned();
                }
            }
        })
        .await
    }

    /// Asserts that OpenSSL derived the keys we did.
    async fn agrees_on(&mut self, keys: &Keys, role: Role, profile_name: &str) {
        let negotiated = self.line_with("SRTP Extension negotiated, profile=").await;
        assert_eq!(negotiated, profile_name);
        let material = from_hex(&self.line_with("Keying material: ").await);
        let (client, server) = match role {
            Role::Client => (&keys.local, &keys.remote),
            Role::Server => (&keys.remote, &keys.local),
        };
        let ours = [&client.key[..], &server.key, &client.salt, &server.salt].concat();
        assert_eq!(material, ours);
    }
}

/// Joins an association to a UDP socket. `peer` is known beforehand when we are the client, else
/// it is whoever sends first. The first `lost` datagrams with our last flight are not sent.
async fn bridge(
    backend: &impl Backend,
    handshake: Handshake,
    socket: UdpSocket,
    peer: Option<SocketAddr>,
    lost: usize,
) -> Peer {
    // try_send works only once the runtime knows the socket to be writable.
    socket.writable().await.expect("a UDP socket is");
    let socket = Arc::new(socket);
    let peer = Arc::new(peer.map_or_else(OnceLock::new, OnceLock::from));
    let left_to_lose = std::sync::Mutex::new(lost);
    let (out, to) = (Arc::clone(&socket), Arc::clone(&peer));
    let send = Arc::new(move |datagram: &[u8]| {
        let mut left = left_to_lose.lock().expect("not poisoned");
        if *left > 0 && has_change_cipher_spec(datagram) {
            *left -= 1;
        } else if let Some(to) = to.get() {
            out.try_send_to(datagram, *to)
                .expect("the loopback interface takes it");
        }
    });
    let Started {
        association,
        outcome,
        ended,
    } = backend
        .start(handshake, send)
        .expect("a sound configuration");
    let association = Arc::new(association);
    let inlet = Arc::downgrade(&association);
    tokio::spawn(async move {
        let mut buffer = vec![0; 2048];
        while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
            let Some(association) = inlet.upgrade() else {
                return;
            };
            let _ = peer.set(from);
            association.handle_datagram(&buffer[..length]);
        }
    });
    Peer {
        association,
        outcome,
        ended,
    }
}

async fn serve(openssl: &Identity, backend: &impl Backend, lost: usize) -> (Peer, SocketAddr) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a free port");
    let address = socket.local_addr().expect("it is bound");
    let handshake = Handshake::new(Role::Server, vec![openssl.fingerprint.clone()]);
    (
        bridge(backend, handshake, socket, None, lost).await,
        address,
    )
}

/// OpenSSL as client: its certificate's kind, its profiles in order, and how many of our last
/// flights get lost. Returns our counters.
async fn openssl_connects(
    identity: &Identity,
    profiles: &str,
    (profile, profile_name): (SrtpProfile, &str),
    lost: usize,
) -> u64 {
    let backend = backend(Limits::default());
    let (mut server, address) = serve(identity, &backend, lost).await;
    let arguments = ["s_client", "-connect", &address.to_string()];
    let mut client = OpenSsl::spawn(identity, profiles, profile, &arguments);
    let keys = keys(&mut server.outcome).await;
    assert_eq!(keys.profile, profile);
    assert_eq!(keys.peer_fingerprint, identity.fingerprint);
    client.agrees_on(&keys, Role::Server, profile_name).await;
    drop(client.stdin.take());
    assert_eq!(soon(server.ended).await, Ending::ByPeer);
    backend.counters().flights_repeated()
}

const GCM: (SrtpProfile, &str) = (SrtpProfile::AeadAes128Gcm, "SRTP_AEAD_AES_128_GCM");
const SHA1_80: (SrtpProfile, &str) = (SrtpProfile::Aes128CmHmacSha1_80, "SRTP_AES128_CM_SHA1_80");

#[tokio::test]
async fn an_openssl_client_with_an_ecdsa_certificate_gets_gcm_though_it_lists_sha1_80_first() {
    let profiles = "SRTP_AES128_CM_SHA1_80:SRTP_AEAD_AES_256_GCM:SRTP_AEAD_AES_128_GCM";
    openssl_connects(&Identity::ecdsa(), profiles, GCM, 0).await;
}

#[tokio::test]
async fn an_openssl_client_with_an_rsa_certificate_is_served() {
    openssl_connects(&Identity::rsa(), "SRTP_AES128_CM_SHA1_80", SHA1_80, 0).await;
}

#[tokio::test]
async fn an_openssl_client_that_lost_the_last_flight_gets_it_again() {
    let profiles = "SRTP_AEAD_AES_128_GCM";
    let repeated = openssl_connects(&Identity::ecdsa(), profiles, GCM, 1).await;
    assert!(repeated >= 1);
}

#[tokio::test]
async fn an_openssl_client_with_another_certificate_than_announced_is_refused() {
    let backend = backend(Limits::default());
    let (announced, presented) = (Identity::ecdsa(), Identity::rsa());
    let (mut server, address) = serve(&announced, &backend, 0).await;
    let arguments = ["s_client", "-connect", &address.to_string()];
    let _client = OpenSsl::spawn(&presented, GCM.1, GCM.0, &arguments);
    let refused = error(&mut server.outcome).await;
    let message = refused.to_string();
    assert!(
        message.contains(&presented.fingerprint.to_string()),
        "{message}"
    );
}

/// OpenSSL as server, with what it adds to ask for our certificate or not.
async fn openssl_accepts(identity: &Identity, asking: &[&str]) {
    let arguments = [&["s_server", "-accept", "127.0.0.1:0"], asking].concat();
    let mut server = OpenSsl::spawn(identity, GCM.1, GCM.0, &arguments);
    let address: SocketAddr = server
        .line_with("ACCEPT ")
        .await
        .parse()
        .expect("an address");
    let backend = backend(Limits::default());
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a free port");
    let handshake = Handshake::new(Role::Client, vec![identity.fingerprint.clone()]);
    let mut client = bridge(&backend, handshake, socket, Some(address), 0).await;
    let keys = keys(&mut client.outcome).await;
    assert_eq!(keys.profile, GCM.0);
    assert_eq!(keys.peer_fingerprint, identity.fingerprint);
    server.agrees_on(&keys, Role::Client, GCM.1).await;
    client.association.close();
    assert_eq!(soon(client.ended).await, Ending::Local);
    server.line_with("DONE").await;
}

#[tokio::test]
async fn an_openssl_server_with_an_ecdsa_certificate_that_asks_for_ours_accepts_us() {
    openssl_accepts(&Identity::ecdsa(), &["-verify", "1"]).await;
}

// As ffmpeg does when it offers setup:passive.
#[tokio::test]
async fn an_openssl_server_that_asks_for_no_certificate_accepts_us() {
    openssl_accepts(&Identity::ecdsa(), &[]).await;
}

#[tokio::test]
async fn an_openssl_server_with_an_rsa_certificate_accepts_us() {
    openssl_accepts(&Identity::rsa(), &[]).await;
}
