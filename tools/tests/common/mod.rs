//! What the tests of both programs need.

use std::path::PathBuf;
use std::process::Command;

/// The server: `FANMILL_BIN`, or what the workspace's build puts beside the binaries of this
/// package. A test run of this package alone does not build it, since no dependency names it: then
/// it is built here.
pub fn server() -> PathBuf {
    if let Some(given) = std::env::var_os("FANMILL_BIN") {
        return given.into();
    }
    let bench = PathBuf::from(env!("CARGO_BIN_EXE_fanmill-bench"));
    let server = bench.with_file_name("fanmill");
    if server.is_file() {
        return server;
    }
    let mut build = Command::new(env!("CARGO"));
    build.args(["build", "--package", "fanmill-control", "--bin", "fanmill"]);
    if bench
        .parent()
        .is_some_and(|directory| directory.ends_with("release"))
    {
        build.arg("--release");
    }
    let status = build.status().unwrap();
    assert!(
        status.success() && server.is_file(),
        "no server at {server:?}"
    );
    server
}
