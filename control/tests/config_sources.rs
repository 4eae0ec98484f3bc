//! Where a configuration's values come from, and the book that documents them.

#![allow(clippy::unwrap_used)] // a test's unwrap is an assertion

use std::path::{Path, PathBuf};

use clap::Parser;
use fanmill_control::config::{Config, ConfigError, Settings};

#[derive(Parser)]
struct Flags {
    #[command(flatten)]
    settings: Settings,
}

fn flags(line: &[&str]) -> Settings {
    let words = std::iter::once("fanmill").chain(line.iter().copied());
    Flags::try_parse_from(words).unwrap().settings
}

fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("fanmill.toml");
    std::fs::write(&path, text).unwrap();
    (dir, path)
}

fn refused(line: &[&str], text: &str) -> String {
    let (dir, path) = file(text);
    let error = Config::load(flags(line), Some(&path))
        .unwrap_err()
        .to_string();
    error.replace(&format!("{}/", dir.path().display()), "")
}

#[test]
fn flags_win_over_the_file_and_the_file_over_the_defaults() {
    let (_dir, path) = file("udp-port = 9000\nshards = 3\npublic-ip = [\"127.0.0.2\"]\n");
    let config = Config::load(flags(&["--udp-port", "9100"]), Some(&path)).unwrap();
    let expected = Config {
        udp_port: 9100,
        shards: 3,
        public_ip: vec!["127.0.0.2".parse().unwrap()],
        ..Config::default()
    };
    assert_eq!(config, expected);
}

#[test]
fn without_flags_and_file_there_are_the_defaults() {
    assert_eq!(
        Config::load(Settings::default(), None).unwrap(),
        Config::default()
    );
}

#[test]
fn a_repeated_flag_replaces_the_files_list() {
    let (_dir, path) = file("public-ip = [\"127.0.0.2\", \"127.0.0.3\"]\n");
    let given = flags(&["--public-ip", "127.0.0.4", "--public-ip", "127.0.0.5"]);
    let config = Config::load(given, Some(&path)).unwrap();
    let expected: Vec<std::net::IpAddr> = ["127.0.0.4", "127.0.0.5"]
        .map(|ip| ip.parse().unwrap())
        .to_vec();
    assert_eq!(config.public_ip, expected);
}

#[test]
fn a_value_that_cannot_be_used_names_where_it_came_from() {
    let range = "65 is out of range: use 1 to 64";
    assert_eq!(
        refused(&[], "\nshards = 65\n"),
        format!("fanmill.toml:2: shards: {range}")
    );
    assert_eq!(
        refused(&["--shards", "65"], "shards = 1\n"),
        format!("--shards: {range}")
    );
    // The last port depends on two keys; the one that is not given is named as such.
    let ports = refused(&["--shards", "64"], "udp-port = 65530\n");
    assert!(
        ports.starts_with("fanmill.toml:1: udp-port: 64 shards from port 65530"),
        "{ports}"
    );
}

#[test]
fn an_unknown_key_is_refused_and_the_nearest_named() {
    assert_eq!(
        refused(&[], "http = \"127.0.0.1:1\"\nmax-viewers = 5\n"),
        "fanmill.toml:2: unknown key `max-viewers`; did you mean `max-viewers-per-stream`?"
    );
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let missing = Path::new("/nonexistent/fanmill.toml");
    let error = Config::load(Settings::default(), Some(missing)).unwrap_err();
    assert!(matches!(&error, ConfigError::Read { .. }));
    assert!(
        error.to_string().contains("/nonexistent/fanmill.toml"),
        "{error}"
    );
}

#[test]
fn an_endless_file_is_refused() {
    let endless = Path::new("/dev/zero");
    assert!(matches!(
        Config::load(Settings::default(), Some(endless)),
        Err(ConfigError::Read { .. })
    ));
}

/// The default as the help states it: after `[default: `.
fn stated_default(help: &str) -> &str {
    let (_, rest) = help.rsplit_once("[default: ").unwrap();
    rest.strip_suffix(']').unwrap()
}

#[test]
fn the_help_states_the_real_defaults() {
    let defaults = serde_json::to_value(Config::default()).unwrap();
    let keys = Settings::keys();
    assert_eq!(keys.len(), defaults.as_object().unwrap().len());
    for (key, help) in keys {
        let real = match &defaults[key.as_str()] {
            serde_json::Value::String(text) => text.clone(),
            serde_json::Value::Array(list) if list.is_empty() => "none".to_owned(),
            serde_json::Value::Null => "none".to_owned(),
            other => other.to_string(),
        };
        // These depend on the machine, or on another key; they are stated in words.
        if ["shards", "admin", "public-ip"].contains(&key.as_str()) {
            continue;
        }
        assert_eq!(stated_default(help), real, "{key}");
    }
}

#[test]
fn the_book_lists_every_key_as_the_help_does() {
    let book = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../docs/operating/configuration.md"
    );
    let text = std::fs::read_to_string(book).unwrap();
    let listed: Vec<&str> = text
        .lines()
        .filter(|line| line.starts_with("| `"))
        .collect();
    let expected: Vec<String> = Settings::keys()
        .iter()
        .map(|(key, help)| {
            let (meaning, _) = help.rsplit_once(" [default: ").unwrap();
            format!("| `{key}` | {} | {meaning} |", stated_default(help))
        })
        .collect();
    assert_eq!(
        listed,
        expected,
        "docs/operating/configuration.md:\n{}",
        expected.join("\n")
    );
}

#[test]
fn the_books_example_is_a_valid_file() {
    let book = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../docs/operating/configuration.md"
    );
    let text = std::fs::read_to_string(book).unwrap();
    let (_, rest) = text.split_once("```toml\n").unwrap();
    let (example, _) = rest.split_once("```").unwrap();
    let (_dir, path) = file(example);
    let config = Config::load(Settings::default(), Some(&path)).unwrap();
    assert_ne!(config, Config::default());
}
