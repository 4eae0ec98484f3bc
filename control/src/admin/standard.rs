//! The methods that need nothing but the process itself.

use serde::Deserialize;
use serde_json::json;

use super::{Caller, Methods, RpcError};
use crate::log::LogControl;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LogSet {
    filter: String,
}

/// Adds `log.set`.
pub fn add_log_methods(methods: &mut Methods, log: LogControl) {
    methods.add(
        "log.set",
        "Replaces the log filter, such as \"info,fanmill_control=debug\", and returns the one \
         it replaced.",
        move |_: Caller, LogSet { filter }: LogSet| {
            let log = log.clone();
            async move {
                let previous = log
                    .set(&filter)
                    .map_err(|e| RpcError::invalid_params("filter", e))?;
                tracing::info!(%filter, %previous, "log filter replaced");
                Ok(json!({ "filter": filter, "previous": previous }))
            }
        },
    );
}
