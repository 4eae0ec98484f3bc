//! The method about outputs.

use serde::Deserialize;

use super::{Caller, Methods};
use crate::output::Outputs;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

/// Adds `output.list`.
pub fn add_output_methods(methods: &mut Methods, outputs: &Outputs) {
    let of = outputs.clone();
    methods.add(
        "output.list",
        "Every stream that is read over HTTP: as what, by how many, and how many were too slow.",
        move |_: Caller, Nothing {}| {
            let of = of.clone();
            async move { Ok(of.list()) }
        },
    );
}
