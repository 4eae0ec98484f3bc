//! Addresses of servers that a user may do without: an address, `off`, or what is usual.

use std::net::SocketAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Where a server listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Listen {
    /// Nowhere.
    Off,
    /// Here, or the program does not start.
    At(SocketAddr),
    /// Here if it can be had; nobody asked for it.
    Usually(SocketAddr),
}

/// A text that is neither an address nor `off`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no address with a port, such as 0.0.0.0:1935, nor `off`")]
pub struct NoListen(String);

impl FromStr for Listen {
    type Err = NoListen;

    fn from_str(text: &str) -> Result<Self, NoListen> {
        match text {
            "off" => Ok(Self::Off),
            text => match text.parse() {
                Ok(address) => Ok(Self::At(address)),
                Err(_) => Err(NoListen(text.to_owned())),
            },
        }
    }
}

impl TryFrom<String> for Listen {
    type Error = NoListen;

    fn try_from(text: String) -> Result<Self, NoListen> {
        text.parse()
    }
}

impl From<Listen> for String {
    fn from(listen: Listen) -> Self {
        match listen {
            Listen::Off => "off".to_owned(),
            Listen::At(address) | Listen::Usually(address) => address.to_string(),
        }
    }
}
