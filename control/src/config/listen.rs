//! Where a door listens that can be closed: an address, or `off`.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A listening address. If the default one is taken, the server does without it; one that was asked
/// for must be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listen {
    /// There, if it is free: nobody asked for it.
    Default(SocketAddr),
    /// There.
    At(SocketAddr),
    /// Nowhere.
    Off,
}

/// What is neither an address nor `off`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("give an address and port, such as 127.0.0.1:8554, or off")]
pub struct NoListen;

impl Listen {
    /// The address, if there is one.
    #[must_use]
    pub const fn address(self) -> Option<SocketAddr> {
        match self {
            Self::Default(address) | Self::At(address) => Some(address),
            Self::Off => None,
        }
    }

    /// Listens, or says in the log why the default address cannot be had. `door` names what listens
    /// there, which is also the flag.
    ///
    /// # Errors
    /// The address that was asked for cannot be had.
    pub fn bind(self, door: &str) -> io::Result<Option<TcpListener>> {
        match self {
            Self::Off => Ok(None),
            Self::At(address) => TcpListener::bind(address).map(Some),
            Self::Default(address) => match TcpListener::bind(address) {
                Ok(listener) => Ok(Some(listener)),
                Err(error) => {
                    tracing::warn!(
                        door,
                        %address,
                        %error,
                        "this door stays closed; give another address by --{door}, or off"
                    );
                    Ok(None)
                }
            },
        }
    }
}

impl FromStr for Listen {
    type Err = NoListen;

    fn from_str(text: &str) -> Result<Self, NoListen> {
        match text {
            "off" => Ok(Self::Off),
            _ => text.parse().map(Self::At).map_err(|_| NoListen),
        }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address() {
            Some(address) => address.fmt(f),
            None => f.write_str("off"),
        }
    }
}

impl Serialize for Listen {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Listen {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // a test's unwrap is an assertion

    use super::*;

    #[test]
    fn an_address_or_off_is_read_and_written() {
        for text in ["127.0.0.1:8554", "[::]:0", "off"] {
            assert_eq!(text.parse::<Listen>().unwrap().to_string(), text);
        }
        for text in ["", "on", "8554", "localhost:8554"] {
            assert_eq!(text.parse::<Listen>(), Err(NoListen));
        }
    }

    #[test]
    fn only_the_default_address_may_be_taken() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        assert!(Listen::Default(address).bind("rtsp").unwrap().is_none());
        assert!(Listen::At(address).bind("rtsp").is_err());
        assert!(Listen::Off.bind("rtsp").unwrap().is_none());
    }
}
