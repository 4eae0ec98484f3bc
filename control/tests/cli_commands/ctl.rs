//! `fanmill ctl`: calls, tables, events.

use super::*;

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
