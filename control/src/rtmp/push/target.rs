//! Where a push goes: `rtmp://HOST[:PORT]/APP/KEY`, or `rtmps://`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio_rustls::TlsConnector;

/// Where systems keep whom they trust.
const BUNDLES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Names the file instead, as for OpenSSL.
const BUNDLE_VARIABLE: &str = "SSL_CERT_FILE";

/// Why an address is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{shown}` is no address to push to: {problem}; write rtmp://HOST/APP/KEY")]
pub struct TargetError {
    shown: String,
    problem: &'static str,
}

/// Whom to trust cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} is no PEM file with certificates: {problem}", path.display())]
pub struct CaFileError {
    path: PathBuf,
    problem: String,
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) tls: bool,
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) app: String,
    /// Whoever has it can publish there: it is in no list and no log.
    pub(super) key: String,
    shown: String,
    /// Trusted beside those of the system.
    trusted: Vec<CertificateDer<'static>>,
}

impl Target {
    pub(super) fn parse(url: &str) -> Result<Self, TargetError> {
        let (tls, rest) = match url.split_once("://") {
            Some(("rtmp", rest)) => (false, rest),
            Some(("rtmps", rest)) => (true, rest),
            // What it is cannot be told, so that none of it is shown.
            _ => return Err(error("...", "it begins with neither rtmp:// nor rtmps://")),
        };
        let scheme = if tls { "rtmps" } else { "rtmp" };
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let shown = format!("{scheme}://{authority}/...");
        if authority.contains('@') {
            let shown = format!("{scheme}://...");
            return Err(error(&shown, "user names are not supported"));
        }
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !authority.ends_with(']') => {
                let port = port
                    .parse()
                    .map_err(|_| error(&shown, "the port is no number"))?;
                (host, port)
            }
            _ => (authority, if tls { 443 } else { 1935 }),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() {
            return Err(error(&shown, "it has no host"));
        }
        // A query belongs to the key, whatever slashes it has.
        let path_end = path.find('?').unwrap_or(path.len());
        let slash = path[..path_end].rfind('/');
        let slash = slash.ok_or_else(|| error(&shown, "it has no application or no key"))?;
        let (app, key) = (&path[..slash], &path[slash + 1..]);
        if app.is_empty() || key.is_empty() {
            return Err(error(&shown, "its application or key is empty"));
        }
        Ok(Self {
            tls,
            host: host.to_owned(),
            port,
            app: app.to_owned(),
            key: key.to_owned(),
            shown: format!("{scheme}://{authority}/{app}/..."),
            trusted: Vec::new(),
        })
    }

    /// Trusts the certificates in a PEM file, and those they have issued, beside those of the system.
    pub(super) fn trust(&mut self, file: &Path) -> Result<(), CaFileError> {
        let error = |problem: String| CaFileError {
            path: file.to_owned(),
            problem,
        };
        let read = CertificateDer::pem_file_iter(file)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|problem| error(problem.to_string()))?;
        if read.is_empty() {
            return Err(error("there is none in it".to_owned()));
        }
        let mut store = RootCertStore::empty();
        for certificate in &read {
            let added = store.add(certificate.clone());
            added.map_err(|problem| error(problem.to_string()))?;
        }
        self.trusted = read;
        Ok(())
    }

    /// The address without its key.
    pub(super) fn shown(&self) -> &str {
        &self.shown
    }

    /// What `connect` says of it.
    pub(super) fn tc_url(&self) -> String {
        self.shown.trim_end_matches("/...").to_owned()
    }

    /// TLS towards it, and the name its certificate is to have.
    pub(super) fn connector(&self) -> std::io::Result<(TlsConnector, ServerName<'static>)> {
        let mut roots = RootCertStore::empty();
        let named = std::env::var(BUNDLE_VARIABLE).ok();
        let mut files = named.iter().map(String::as_str).chain(BUNDLES);
        let bundle = files.find_map(|file| CertificateDer::pem_file_iter(file).ok());
        let trusted = self.trusted.iter().cloned();
        for certificate in bundle.into_iter().flatten().flatten().chain(trusted) {
            // Odd ones are of no use, the others are.
            let _ = roots.add(certificate);
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(std::io::Error::other)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from(self.host.clone()).map_err(std::io::Error::other)?;
        Ok((TlsConnector::from(Arc::new(config)), name))
    }
}

fn error(shown: &str, problem: &'static str) -> TargetError {
    TargetError {
        shown: shown.to_owned(),
        problem,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // a test's unwrap is an assertion

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever is made of it, in whatever message.
        #[test]
        fn no_address_shows_its_key(
            scheme in "(rtmp|rtmps|http|)(://|:|)",
            rest in "[a-z0-9:@/?\\[\\].]{0,20}",
        ) {
            let url = format!("{scheme}{rest}/app/SECRET");
            let shown = match Target::parse(&url) {
                Ok(target) => format!("{} {}", target.shown(), target.tc_url()),
                Err(error) => error.to_string(),
            };
            prop_assert!(!shown.contains("SECRET"), "{} shows {}", url, shown);
        }
    }

    #[test]
    fn addresses_are_read_and_keys_never_shown() {
        let target = Target::parse("rtmp://a.example.org/live2/x-y?token=a/b").unwrap();
        assert_eq!((target.port, target.tls), (1935, false));
        assert_eq!(
            (&target.app[..], &target.key[..]),
            ("live2", "x-y?token=a/b")
        );
        assert_eq!(target.shown(), "rtmp://a.example.org/live2/...");
        let target = Target::parse("rtmps://[2001:db8::1]:4443/a/b/secret").unwrap();
        assert_eq!((&target.host[..], target.port), ("2001:db8::1", 4443));
        assert_eq!(target.app, "a/b");
        for wrong in [
            "secret",
            "http://a/b/secret",
            "rtmp://a/secret",
            "rtmp://a/b/",
            "rtmp:///b/secret",
            "rtmp://secret:secret@a/b/c",
            "rtmp://a:port/b/secret",
        ] {
            let error = Target::parse(wrong).unwrap_err().to_string();
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
