//! A short comparison with the real generator and a real server: `fanmill`, with nobody beside it.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::process::Command;

use serde_json::Value;

#[test]
fn fanmill_alone_is_measured_beside_the_floor() {
    let directory = tempfile::tempdir().unwrap();
    let json = directory.path().join("comparison.json");
    let output = Command::new(env!("CARGO_BIN_EXE_compare-peers"))
        .args(["--only", "fanmill", "--load", "5x1M", "--srtp", "sha1"])
        .args(["--rounds", "2", "--duration", "1", "--server"])
        .arg(common::server())
        .arg("--json")
        .arg(&json)
        .args(["--", "--no-audio"])
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");

    let comparison: Value = serde_json::from_slice(&std::fs::read(json).unwrap()).unwrap();
    let load = &comparison["loads"][0];
    let row = &load["rows"][0];
    assert_eq!(
        (&row["server"], &row["ratio"]),
        (&"fanmill".into(), &1.0.into())
    );
    assert_eq!(row["srtp"], serde_json::json!(["sha1"]));
    assert!(row["ns_per_packet"]["median"].as_f64().unwrap() > 0.0);
    let reports = load["runs"][0]["reports"].as_array().unwrap();
    assert_eq!(reports.len(), 2, "one for each round");
    for report in reports {
        assert_eq!(report["settings"]["audio"], false, "flags are passed on");
        assert_eq!(report["steps"][0]["viewers"], 5);
    }
    assert_eq!(load["floors"].as_array().unwrap().len(), 2);
    assert!(load["floor"][0]["ratio"].as_f64().unwrap() > 0.0);

    let table = String::from_utf8_lossy(&output.stdout);
    for start in ["5 viewers of 1 Mbit/s", "server ", "fanmill ", "floor, "] {
        assert!(
            table.lines().any(|line| line.starts_with(start)),
            "{start}: {table}"
        );
    }
}

#[test]
fn a_server_that_cannot_be_measured_is_an_error_and_the_reason_is_told() {
    let output = Command::new(env!("CARGO_BIN_EXE_compare-peers"))
        .args([
            "--only",
            "fanmill",
            "--load",
            "5x1M",
            "--rounds",
            "1",
            "--duration",
            "1",
        ])
        .arg("--server")
        .arg(common::server())
        .args(["--", "--publishers", "0"])
        .output()
        .unwrap();
    let table = String::from_utf8_lossy(&output.stdout);
    assert!(!output.status.success(), "{table}");
    for start in ["! fanmill: ", "! floor: "] {
        let told = table.lines().any(|line| line.starts_with(start));
        assert!(told && table.contains("0 is not in 1..=1000"), "{table}");
    }
}
