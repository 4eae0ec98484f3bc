//! The methods about what comes in by other protocols than WebRTC.

use serde::Deserialize;

use super::{Caller, Methods};
use crate::ingest::Ingests;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

/// Adds `ingest.list`.
pub fn add_ingest_methods(methods: &mut Methods, ingests: &Ingests) {
    let ingests = ingests.clone();
    methods.add(
        "ingest.list",
        "Every stream that comes in by another protocol than WebRTC: its tracks, bit rates, losses, \
         clock drift, and warnings with their cures.",
        move |_: Caller, Nothing {}| {
            let list = ingests.list();
            async move { Ok(list) }
        },
    );
}
