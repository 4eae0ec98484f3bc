//! `fanmill serve`: how it starts, and how it ends.

use super::*;

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
fn tokens_come_from_the_environment_and_are_never_listed() {
    let dir = tempfile::tempdir().unwrap();
    let admin = dir.path().join("admin.sock");
    let mut command = serve_on_free_ports();
    command.arg("--admin").arg(&admin);
    command.env("FANMILL_PUBLISH_TOKEN", "cam*:geheim-1,geheim-2");
    let server = Server::spawn(command, admin);
    let create = [
        "access.create",
        "{\"watch\": true, \"ttl_s\": 600}",
        "--json",
    ];
    let made: Value = serde_json::from_str(&stdout(&ctl(&server.admin, &create))).unwrap();
    let token = made["token"].as_str().unwrap();
    let table = stdout(&ctl(&server.admin, &["tokens"]));
    assert_eq!(table.lines().count(), 4, "{table}");
    assert!(table.contains("cam*     publish"), "{table}");
    for secret in ["geheim-1", "geheim-2", token] {
        assert!(!table.contains(secret), "{table}");
    }
    let revoke = json!({ "id": made["id"] }).to_string();
    stdout(&ctl(&server.admin, &["access.revoke", &revoke]));
    let again = stderr_of_failure(&ctl(&server.admin, &["access.revoke", &revoke]), 1);
    assert!(again.contains("there is no token 3"), "{again}");
}

#[test]
fn a_server_that_is_open_to_all_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let warning = "whoever reaches this address may publish";
    for (token, expected) in [(&[][..], true), (&["--publish-token", "geheim-1"], false)] {
        let mut command = serve_with_usual_rtmp();
        command.args(["--rtmp", "off", "--rtsp", "0.0.0.0:0"]);
        command.arg("--admin").arg(dir.path().join("admin.sock"));
        command.args(token);
        let (is_ready, log) = logs(command, "ready: open");
        assert!(is_ready, "{log}");
        assert_eq!(log.contains(warning), expected, "{log}");
    }
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
