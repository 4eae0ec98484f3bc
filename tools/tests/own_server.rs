//! A short run against a real server: `fanmill`, as it was built beside this test.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::process::Command;

use serde_json::Value;

fn run(arguments: &[&str]) -> Value {
    let directory = tempfile::tempdir().unwrap();
    let json = directory.path().join("report.json");
    let output = Command::new(env!("CARGO_BIN_EXE_fanmill-bench"))
        .args(["--viewers", "5", "--duration", "2", "--quiet"])
        .args(match arguments.contains(&"--bitrate") {
            true => &[][..],
            false => &["--bitrate", "1M"],
        })
        .arg("--server")
        .arg(common::server())
        .arg("--json")
        .arg(&json)
        .args(arguments)
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    serde_json::from_slice(&std::fs::read(json).unwrap()).unwrap()
}

fn assert_served(report: &Value) {
    let step = &report["steps"][0];
    assert_eq!(report["join_failures"], 0, "{report:#}");
    assert_eq!((&step["viewers"], &step["joined"]), (&5.into(), &5.into()));
    let joining = &report["joining"];
    assert_eq!(
        (&joining["joins"], &joining["lost"]),
        (&5.into(), &0.into())
    );
    assert!(
        joining["server_cpu_us"].as_f64().unwrap() > 0.0,
        "{joining}"
    );
    let count = |name: &str| step["counts"][name].as_u64().unwrap();
    // Five viewers, two seconds, thirty video frames and fifty audio packets a second: a machine
    // so busy that it delivers a fifth of that has still delivered something.
    assert!(count("packets") > 160, "{step:#}");
    assert!(count("verified") > 0 && count("oracle_agreed") > 0);
    for failure in [
        "auth_failures",
        "corrupt",
        "unstamped",
        "oracle_disagreed",
        "unknown",
    ] {
        assert_eq!(count(failure), 0, "{failure}: {step:#}");
    }
    assert!(step["server"]["ns_per_packet"].as_f64().unwrap() > 0.0);
    assert!(step["latency"]["count"].as_u64().unwrap() > 0);
    assert_eq!(step["picture"]["count"], 5, "everyone saw a keyframe");
}

#[test]
fn five_viewers_of_a_real_server_receive_whole_packets() {
    let report = run(&["--verify", "all"]);
    assert_served(&report);
    let counts = &report["steps"][0]["counts"];
    assert_eq!(counts["duplicates"], 0);
}

#[test]
fn h264_over_the_oldest_srtp_profile_works_too() {
    assert_served(&run(&["--codec", "h264", "--srtp", "sha1", "--extensions"]));
}

#[test]
fn members_of_a_room_receive_each_other_in_their_slots() {
    let report = run(&[
        "--room",
        "kitchen",
        "--publishers",
        "5",
        "--slots",
        "2,3",
        "--bitrate",
        "100k",
        "--verify",
        "all",
    ]);
    assert_served(&report);
    let counts = &report["steps"][0]["counts"];
    assert_eq!(counts["duplicates"], 0);
    assert_eq!(report["settings"]["slots"]["video"], 3);
}

#[test]
fn a_plot_is_written() {
    let directory = tempfile::tempdir().unwrap();
    let svg = directory.path().join("plot.svg");
    run(&["--svg", svg.to_str().unwrap()]);
    let plot = std::fs::read_to_string(svg).unwrap();
    assert!(plot.starts_with("<svg") && plot.contains("CPU per delivered packet"));
}
