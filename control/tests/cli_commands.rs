//! The `fanmill` program, run as a user runs it.

#![allow(clippy::unwrap_used)] // a test's unwrap is an assertion

use std::io::{BufRead, BufReader, Read};
use std::net::{TcpListener, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Output, Stdio};

use fanmill_control::admin::{AdminServer, Caller, Methods};
use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

fn fanmill() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fanmill"));
    command.env_remove("XDG_RUNTIME_DIR").stdin(Stdio::null());
    command
}

fn serve_on_free_ports() -> Command {
    let mut command = serve_with_usual_rtmp();
    command.args(["--rtmp", "off", "--rtsp", "off"]);
    command
}

fn serve_with_usual_rtmp() -> Command {
    let free = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port().to_string();
    let mut command = fanmill();
    command.args([
        "serve",
        "--shards",
        "1",
        "--http",
        "127.0.0.1:0",
        "--udp-port",
        &port,
    ]);
    command
}

fn ctl(admin: &Path, args: &[&str]) -> Output {
    fanmill()
        .arg("ctl")
        .arg("--admin")
        .arg(admin)
        .args(args)
        .output()
        .unwrap()
}

#[track_caller]
fn stdout(output: &Output) -> String {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[track_caller]
fn stderr_of_failure(output: &Output, code: i32) -> String {
    assert_eq!(output.status.code(), Some(code));
    assert!(output.stdout.is_empty());
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// A running `fanmill serve`.
struct Server {
    child: Child,
    log: BufReader<ChildStderr>,
    admin: PathBuf,
}

impl Server {
    fn start(dir: &Path) -> Self {
        let admin = dir.join("admin.sock");
        let mut command = serve_on_free_ports();
        command.arg("--admin").arg(&admin);
        Self::spawn(command, admin)
    }

    fn spawn(mut command: Command, admin: PathBuf) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let log = BufReader::new(child.stderr.take().unwrap());
        let mut server = Self { child, log, admin };
        server.wait_for_log("admin socket open");
        server
    }

    /// Reads the log up to the first line with `text`.
    fn wait_for_log(&mut self, text: &str) {
        let mut line = String::new();
        while !line.contains(text) {
            line.clear();
            assert_ne!(
                self.log.read_line(&mut line).unwrap(),
                0,
                "ended without: {text}"
            );
        }
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An admin server in this process, with the lists that a full server gives.
struct Lists {
    dir: tempfile::TempDir,
    _runtime: tokio::runtime::Runtime,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

impl Lists {
    fn serve(streams: Value, transports: Value) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut methods = Methods::new();
        methods.add("stream.list", "Lists.", move |_: Caller, _: Nothing| {
            std::future::ready(Ok(streams.clone()))
        });
        methods.add("transport.list", "Lists.", move |_: Caller, _: Nothing| {
            std::future::ready(Ok(transports.clone()))
        });
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let path = dir.path().join("admin.sock");
        runtime.block_on(async {
            let server = AdminServer::bind(&path, methods).unwrap();
            tokio::spawn(server.run(CancellationToken::new()));
        });
        Self {
            dir,
            _runtime: runtime,
        }
    }

    fn ctl(&self, args: &[&str]) -> Output {
        ctl(&self.dir.path().join("admin.sock"), args)
    }
}

#[test]
fn a_call_prints_its_result_pretty_or_on_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let pretty = stdout(&ctl(&server.admin, &["server.methods"]));
    assert!(
        pretty.lines().count() > 5 && pretty.contains("\"name\": \"log.set\""),
        "{pretty}"
    );
    let line = stdout(&ctl(&server.admin, &["--json", "server.methods"]));
    assert_eq!(line.lines().count(), 1);
    let same: [Value; 2] = [&pretty, &line].map(|text| serde_json::from_str(text).unwrap());
    assert_eq!(same[0], same[1]);
}

#[test]
fn the_log_filter_of_a_running_server_can_be_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = Server::start(dir.path());
    let filter = "info,fanmill_control=debug";
    let params = json!({ "filter": filter }).to_string();
    let answer = stdout(&ctl(&server.admin, &["log.set", &params]));
    let answer: Value = serde_json::from_str(&answer).unwrap();
    assert_eq!(answer, json!({ "filter": filter, "previous": "info" }));
    server.wait_for_log("log filter replaced");
    stdout(&ctl(&server.admin, &["server.methods"]));
    server.wait_for_log("admin request");
}

#[test]
fn an_error_goes_to_stderr_and_the_exit_code() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let unknown = stderr_of_failure(&ctl(&server.admin, &["server.method"]), 1);
    assert_eq!(
        unknown,
        "fanmill: no method `server.method`: did you mean `server.methods`?\n"
    );
    let filter = stderr_of_failure(&ctl(&server.admin, &["log.set", "[\"x=loud\"]"]), 1);
    assert!(filter.contains("invalid parameter `filter`"), "{filter}");
    let missing = stderr_of_failure(&ctl(&server.admin, &["log.set"]), 1);
    assert!(missing.contains("filter"), "{missing}");
    let usage = stderr_of_failure(&ctl(&server.admin, &["log.set", "not json"]), 2);
    assert!(usage.contains("not JSON"), "{usage}");
    let scalar = stderr_of_failure(&ctl(&server.admin, &["log.set", "5"]), 2);
    assert!(scalar.contains("JSON object"), "{scalar}");
}

#[test]
fn without_a_server_the_message_says_how_to_start_one() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("admin.sock");
    let message = stderr_of_failure(&ctl(&path, &["streams"]), 1);
    assert!(message.contains("no server is running") && message.contains("fanmill serve"));
    // A dead server's socket is no server either.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let message = stderr_of_failure(&ctl(&path, &["streams"]), 1);
    assert!(message.contains("no server is running"), "{message}");
}

#[test]
fn streams_are_shown_as_a_table() {
    let lists = Lists::serve(
        json!([
            {
                "name": "demo", "live": true, "viewers": 1234, "uptime_s": 3725,
                "tracks": [
                    {"kind": "audio", "codec": "opus", "bitrate_bps": 64_000,
                     "packets_received": 1000, "packets_lost": 0},
                    {"kind": "video", "codec": "VP8", "bitrate_bps": 2_500_000,
                     "packets_received": 8990, "packets_lost": 10, "width": 1280},
                ],
            },
            {"name": "wa\u{1b}iting", "live": false, "viewers": 2, "uptime_s": null, "tracks": []},
        ]),
        json!([]),
    );
    let expected = "\
NAME      LIVE  VIEWERS  TRACKS                   BITRATE    LOSS  UPTIME
demo      yes      1234  audio opus, video VP8  2.56 Mb/s  0.10 %   1h02m
wa\u{fffd}iting  no          2  -                              -       -       -
";
    assert_eq!(stdout(&lists.ctl(&["streams"])), expected);
    let json: Value = serde_json::from_str(&stdout(&lists.ctl(&["streams", "--json"]))).unwrap();
    assert_eq!(json[0]["viewers"], 1234);
    assert_eq!(stdout(&lists.ctl(&["transports"])), "no transports\n");
}

#[test]
fn transports_are_shown_as_a_table() {
    let lists = Lists::serve(
        json!([]),
        json!([
            {
                "id": "t1", "kind": "publish", "stream": "demo",
                "remote_address": "192.0.2.1:50000", "ice_state": "connected",
                "dtls_state": "connected", "srtp_profile": "AEAD_AES_128_GCM", "rtt_ms": 12.34,
                "packets_sent": 5, "packets_received": 12345, "age_s": 61,
            },
            {
                "id": 22, "kind": "view", "stream": "demo", "remote_address": null,
                "ice_state": "checking", "dtls_state": "new", "srtp_profile": null,
                "rtt_ms": null, "packets_sent": 0, "packets_received": 0, "age_s": 0,
            },
        ]),
    );
    let text = stdout(&lists.ctl(&["transports"]));
    let words: Vec<Vec<&str>> = text
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(
        words[1],
        [
            "t1",
            "publish",
            "demo",
            "192.0.2.1:50000",
            "connected",
            "connected",
            "AEAD_AES_128_GCM",
            "12.3",
            "ms",
            "5",
            "12345",
            "1m01s"
        ]
    );
    assert_eq!(
        words[2],
        [
            "22", "view", "demo", "-", "checking", "new", "-", "-", "0", "0", "0s"
        ]
    );
    let ends: Vec<usize> = text.lines().map(|line| line.chars().count()).collect();
    assert!(
        ends.iter().all(|end| *end == ends[0]),
        "the last column is aligned right:\n{text}"
    );
}

#[test]
fn what_happens_is_printed_as_lines_while_it_happens() {
    let dir = tempfile::tempdir().unwrap();
    let admin = dir.path().join("admin.sock");
    let mut command = serve_on_free_ports();
    command.arg("--admin").arg(&admin);
    command
        .arg("--recordings")
        .arg(dir.path().join("recordings"));
    let server = Server::spawn(command, admin);
    let listen = |args: &[&str]| {
        let mut child = fanmill();
        child
            .arg("ctl")
            .arg("--admin")
            .arg(&server.admin)
            .args(args);
        let mut child = child.stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        (child, lines)
    };
    let (mut plain, mut lines) = listen(&["events"]);
    let (mut as_json, mut json_lines) =
        listen(&["--json", "events", r#"{"kinds": ["recorder.stopped"]}"#]);
    // Whether they listen already is not known: something happens until they do.
    let mut line = None;
    let mut stopped = None;
    std::thread::scope(|scope| {
        let read = scope.spawn(|| (lines.next(), json_lines.next()));
        while !read.is_finished() {
            let made = stdout(&ctl(&server.admin, &["recorder.create", r#"["cam"]"#]));
            let made: Value = serde_json::from_str(&made).unwrap();
            let stop = json!([made["id"]]).to_string();
            stdout(&ctl(&server.admin, &["recorder.stop", &stop]));
        }
        (line, stopped) = read.join().unwrap();
    });
    let line = line.unwrap().unwrap();
    let words: Vec<&str> = line.split_whitespace().collect();
    assert!(words[1].starts_with("recorder."), "{line}");
    assert_eq!(words[2], "cam", "{line}");
    assert!(line.contains(" recorder="), "{line}");
    let stopped: Value = serde_json::from_str(&stopped.unwrap().unwrap()).unwrap();
    assert_eq!(stopped["event"], "recorder.stopped");
    assert_eq!(stopped["stream"], "cam");
    for child in [&mut plain, &mut as_json] {
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

#[test]
fn a_reader_that_stops_early_is_no_error() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let mut child = fanmill()
        .arg("ctl")
        .arg("--admin")
        .arg(&server.admin)
        .arg("server.methods")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let mut errors = String::new();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut errors)
        .unwrap();
    assert!(child.wait().unwrap().success(), "{errors}");
    assert_eq!(errors, "");
}

#[test]
fn sigterm_and_sigint_stop_the_server_cleanly() {
    for signal in [Signal::TERM, Signal::INT] {
        let dir = tempfile::tempdir().unwrap();
        let mut server = Server::start(dir.path());
        let mode = std::fs::metadata(&server.admin)
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        server.signal(signal);
        server.wait_for_log("stopped");
        assert!(server.child.wait().unwrap().success());
        assert!(!server.admin.exists());
    }
}

#[test]
fn a_second_server_does_not_take_the_socket_but_a_crash_leaves_it_free() {
    let dir = tempfile::tempdir().unwrap();
    let mut first = Server::start(dir.path());
    let second = serve_on_free_ports()
        .arg("--admin")
        .arg(&first.admin)
        .output()
        .unwrap();
    assert_eq!(second.status.code(), Some(1));
    let message = String::from_utf8(second.stderr).unwrap();
    assert!(
        message.contains("a server is already listening on"),
        "{message}"
    );
    stdout(&ctl(&first.admin, &["server.methods"]));

    first.signal(Signal::KILL);
    first.child.wait().unwrap();
    assert!(first.admin.exists(), "a killed server cannot tidy up");
    let third = Server::start(dir.path());
    stdout(&ctl(&third.admin, &["server.methods"]));
}

#[test]
fn server_and_ctl_meet_at_the_default_path() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = serve_on_free_ports();
    command.env("XDG_RUNTIME_DIR", dir.path());
    let _server = Server::spawn(command, dir.path().join("fanmill.sock"));
    let mut ctl = fanmill();
    ctl.env("XDG_RUNTIME_DIR", dir.path())
        .args(["ctl", "server.methods"]);
    assert!(stdout(&ctl.output().unwrap()).contains("log.set"));
}

#[test]
fn a_bad_configuration_stops_the_start_with_file_and_line() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("fanmill.toml");
    std::fs::write(&file, "http = \"127.0.0.1:8080\"\nshard = 2\n").unwrap();
    let output = fanmill()
        .args(["serve", "--config"])
        .arg(&file)
        .output()
        .unwrap();
    let message = stderr_of_failure(&output, 1);
    let expected = "fanmill.toml:2: unknown key `shard`; did you mean `shards`?\n";
    assert!(message.ends_with(expected), "{message}");
}

/// Starts a server and reads its log up to a line that has `text`; whether there was one.
fn logs(mut command: Command, text: &str) -> (bool, String) {
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut log = String::new();
    let mut found = false;
    for line in BufReader::new(child.stderr.take().unwrap()).lines() {
        let line = line.unwrap();
        found = line.contains(text);
        log = log + &line + "\n";
        if found {
            break;
        }
    }
    let _ = child.kill();
    child.wait().unwrap();
    (found, log)
}

#[test]
fn the_usual_rtmp_address_can_be_taken_and_one_that_was_asked_for_cannot() {
    let dir = tempfile::tempdir().unwrap();
    // Whoever has it, it is taken.
    let _taken = TcpListener::bind("127.0.0.1:1935");
    let server = |name: &str, rtmp: &[&str]| {
        let mut command = serve_with_usual_rtmp();
        command.arg("--admin").arg(dir.path().join(name)).args(rtmp);
        command
    };
    let usual = server("usual.sock", &[]);
    let (is_ready, log) = logs(usual, "ready: open");
    assert!(is_ready, "{log}");
    assert!(
        log.contains("the usual address of --rtmp cannot be had"),
        "{log}"
    );

    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (failed, log) = logs(
        server("asked.sock", &["--rtmp", &address]),
        "cannot listen for --rtmp",
    );
    assert!(failed, "{log}");
    let (failed, log) = logs(
        server(
            "tls.sock",
            &[
                "--rtmp",
                "off",
                "--rtmps",
                "127.0.0.1:0",
                "--tls-cert",
                "/none",
                "--tls-key",
                "/none",
            ],
        ),
        "it is to be a PEM file",
    );
    assert!(failed, "{log}");
}

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
