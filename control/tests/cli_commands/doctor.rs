//! `fanmill doctor`, `fanmill bench`, and the help of all commands.

use super::*;

#[test]
fn the_doctor_reports_on_every_part_of_the_machine() {
    let dir = tempfile::tempdir().unwrap();
    let admin = dir.path().join("admin.sock");
    let doctor = |more: &[&str]| {
        let mut command = fanmill();
        command
            .args([
                "doctor",
                "--http",
                "127.0.0.1:0",
                "--shards",
                "1",
                "--admin",
            ])
            .arg(&admin);
        command.args(more).output().unwrap()
    };
    let report: Value = serde_json::from_slice(&doctor(&["--json"]).stdout).unwrap();
    let checks = report["checks"].as_array().unwrap();
    let names: Vec<_> = checks
        .iter()
        .map(|check| check["name"].as_str().unwrap())
        .collect();
    assert_eq!(
        names,
        [
            "kernel",
            "io_uring",
            "sending",
            "net.core.rmem_max",
            "net.core.wmem_max",
            "open files",
            "locked memory",
            "shards",
            "processor",
            "container",
            "http port",
            "udp ports",
            "admin socket"
        ]
    );
    let failed = checks.iter().any(|check| check["status"] == "FAIL");
    assert_eq!(report["ok"], !failed);
    let people = doctor(&[]);
    assert_eq!(people.status.code(), Some(i32::from(failed)));
    let text = String::from_utf8(people.stdout).unwrap();
    for name in names {
        assert!(text.contains(name), "{text}");
    }
}

#[test]
fn the_doctor_fails_over_a_port_in_use() {
    let dir = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = fanmill()
        .args(["doctor", "--shards", "1", "--http", &address, "--admin"])
        .arg(dir.path().join("admin.sock"))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stdout).unwrap();
    let line = text
        .lines()
        .find(|line| line.contains("http port"))
        .unwrap();
    assert!(
        line.starts_with("FAIL") && line.contains(&address),
        "{text}"
    );
}

#[test]
fn the_help_of_each_command_has_examples() {
    for args in [&["--help"][..], &["serve", "--help"], &["ctl", "--help"]] {
        let help = stdout(&fanmill().args(args).output().unwrap());
        assert!(help.contains("Examples:\n  fanmill"), "{help}");
    }
}

#[test]
fn bench_becomes_the_load_generator_beside_the_program() {
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("fanmill");
    std::fs::copy(env!("CARGO_BIN_EXE_fanmill"), &program).unwrap();
    let bench = |args: &[&str]| {
        let mut command = Command::new(&program);
        command.arg("bench").args(args).output().unwrap()
    };
    let missing = stderr_of_failure(&bench(&["--floor"]), 1);
    assert!(missing.contains("cargo build"), "{missing}");
    let generator = dir.path().join("fanmill-bench");
    std::fs::write(&generator, "#!/bin/sh\necho \"$@\"\n").unwrap();
    let executable = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(&generator, executable).unwrap();
    let told = stdout(&bench(&["--help", "--viewers", "5", "-q"]));
    assert_eq!(told, "--help --viewers 5 -q\n");
}
