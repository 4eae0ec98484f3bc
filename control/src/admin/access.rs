//! The methods about tokens.

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Caller, Methods, Reason, RpcError};
use crate::access::{Access, AccessError, NewToken, Rights, TokenInfo};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Create {
    #[serde(default)]
    streams: Option<String>,
    #[serde(default)]
    publish: bool,
    #[serde(default)]
    watch: bool,
    #[serde(default)]
    operate: bool,
    #[serde(default)]
    ttl_s: Option<u64>,
    #[serde(default)]
    expires_at: Option<u64>,
    #[serde(default)]
    label: Option<String>,
}

impl Create {
    fn token(self) -> Result<NewToken, AccessError> {
        let from_now = |seconds| (SystemTime::now(), seconds);
        let from_epoch = |seconds| (SystemTime::UNIX_EPOCH, seconds);
        let expires = match (self.ttl_s.map(from_now), self.expires_at.map(from_epoch)) {
            (None, None) => None,
            (Some((from, seconds)), None) | (None, Some((from, seconds))) => {
                let at = from.checked_add(Duration::from_secs(seconds));
                Some(at.ok_or(AccessError::Expiry)?)
            }
            (Some(_), Some(_)) => return Err(AccessError::Expiry),
        };
        Ok(NewToken {
            streams: self.streams.unwrap_or_else(|| "*".to_owned()),
            rights: Rights {
                publish: self.publish,
                watch: self.watch,
                operate: self.operate,
            },
            expires,
            label: self.label,
        })
    }
}

/// The only time that a token is told.
#[derive(Serialize)]
struct Created {
    token: String,
    #[serde(flatten)]
    info: TokenInfo,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Id {
    id: u64,
}

/// Adds `access.*`.
pub fn add_access_methods(methods: &mut Methods, access: &Access) {
    let of = access.clone();
    methods.add(
        "access.create",
        "Makes a token that lets publish or watch the streams whose names fit a pattern, or operate; \
         until ttl_s or expires_at (Unix time), or until it is revoked or the server ends. The token is \
         told this once. From the first one on, publishing needs a token, and watching these streams.",
        move |_: Caller, create: Create| {
            let created = create.token().and_then(|new| of.create(new));
            let created = created.map(|(token, info)| Created { token, info });
            async move { created.map_err(refused) }
        },
    );
    let of = access.clone();
    methods.add(
        "access.list",
        "Every token by its id and how it begins: what it is for, until when, how often it was used. Not \
         the tokens themselves, which are not kept.",
        move |_: Caller, Nothing {}| {
            let list = of.list();
            async move { Ok(list) }
        },
    );
    let of = access.clone();
    methods.add(
        "access.revoke",
        "Takes a token back, and ends what was begun with it. Its streams stay closed to others.",
        move |_: Caller, Id { id }| {
            let of = of.clone();
            async move {
                // Many sessions are many commands to the data plane.
                let revoked = tokio::task::spawn_blocking(move || of.revoke(id)).await;
                let failed = |_| RpcError::new(Reason::Failed, "it failed; the log says more");
                let ended = revoked.map_err(failed)?.map_err(refused)?;
                Ok(json!({ "id": id, "sessions_ended": ended }))
            }
        },
    );
}

fn refused(error: AccessError) -> RpcError {
    let text = error.to_string();
    match error {
        AccessError::NoRight => RpcError::invalid_params("publish", text),
        AccessError::Pattern | AccessError::OperateSome => {
            RpcError::invalid_params("streams", text)
        }
        AccessError::Expiry => RpcError::invalid_params("expires_at", text),
        AccessError::Label => RpcError::invalid_params("label", text),
        AccessError::TooMany => RpcError::new(Reason::LimitReached, text),
        AccessError::NoToken(_) => RpcError::new(Reason::NotFound, text),
        AccessError::Configured(_) => RpcError::new(Reason::Conflict, text),
    }
}
