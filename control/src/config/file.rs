//! The TOML file of `--config`: parsed with positions, so that every complaint names its line.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::de::DeTable;

use super::{ConfigError, Settings, nearest};

/// Far beyond any real file; keeps `--config /dev/zero` from filling the memory.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// A parsed file: its settings and where each key stands.
#[derive(Debug)]
pub(super) struct Document {
    pub(super) path: PathBuf,
    pub(super) settings: Settings,
    lines: BTreeMap<String, usize>,
}

impl Document {
    /// The line, counted from 1, that gives `key`.
    pub(super) fn line_of(&self, key: &str) -> Option<usize> {
        self.lines.get(key).copied()
    }
}

/// Reads and parses the file at `path`.
pub(super) fn read(path: &Path) -> Result<Document, ConfigError> {
    let failed = |source| ConfigError::Read {
        path: path.to_owned(),
        source,
    };
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(failed)?;
    let mut limited = std::io::Read::take(file, MAX_FILE_BYTES + 1);
    std::io::Read::read_to_string(&mut limited, &mut text).map_err(failed)?;
    if text.len() as u64 > MAX_FILE_BYTES {
        let problem = format!("longer than {MAX_FILE_BYTES} bytes: not a configuration file");
        return Err(failed(std::io::Error::new(
            std::io::ErrorKind::InvalidData,
            problem,
        )));
    }
    parse(path, &text)
}

fn parse(path: &Path, text: &str) -> Result<Document, ConfigError> {
    let syntax = |span: Option<Range<usize>>, problem: String| ConfigError::Syntax {
        path: path.to_owned(),
        line: line_at(text, span.map_or(0, |span| span.start)),
        problem,
    };
    let table = DeTable::parse(text).map_err(|e| syntax(e.span(), e.message().to_owned()))?;

    let mut lines = BTreeMap::new();
    let mut values = Vec::new();
    for (key, value) in table.get_ref() {
        let line = line_at(text, key.span().start);
        let name: &str = key.get_ref();
        if !Settings::keys().iter().any(|(known, _)| known == name) {
            return Err(ConfigError::UnknownKey {
                path: path.to_owned(),
                line,
                key: name.chars().take(64).collect(),
                nearest: nearest(
                    name,
                    Settings::keys().iter().map(|(known, _)| known.as_str()),
                ),
            });
        }
        lines.insert(name.to_owned(), line);
        values.push((name.to_owned(), value.span()));
    }

    let settings = toml::from_str(text).map_err(|e| {
        let at = e.span().map_or(0, |span| span.start);
        let key = values
            .iter()
            .find(|(_, span)| span.contains(&at))
            .map(|(name, _)| name);
        let problem = match key {
            Some(key) => format!("{key}: {}", e.message()),
            None => e.message().to_owned(),
        };
        syntax(e.span(), problem)
    })?;
    Ok(Document {
        path: path.to_owned(),
        settings,
        lines,
    })
}

fn line_at(text: &str, offset: usize) -> usize {
    1 + text
        .bytes()
        .take(offset)
        .filter(|byte| *byte == b'\n')
        .count()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // a test's unwrap is an assertion

    use super::*;
    use proptest::prelude::*;

    fn parse_text(text: &str) -> Result<Document, ConfigError> {
        parse(Path::new("fanmill.toml"), text)
    }

    #[test]
    fn an_unknown_key_is_refused_with_its_line_and_nearest_name() {
        let error = parse_text("http = \"127.0.0.1:1\"\n\nudp_ip = \"::1\"\n").unwrap_err();
        assert_eq!(
            error.to_string(),
            "fanmill.toml:3: unknown key `udp_ip`; did you mean `udp-ip`?"
        );
    }

    #[test]
    fn a_table_is_an_unknown_key_too() {
        let error = parse_text("shards = 2\n[server]\nhttp = \"127.0.0.1:1\"\n").unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("fanmill.toml:2: unknown key `server`"),
            "{error}"
        );
    }

    #[test]
    fn a_value_of_the_wrong_type_names_line_and_key() {
        for (text, start) in [
            ("\nshards = \"two\"", "fanmill.toml:2: shards: invalid type"),
            (
                "http = \"localhost\"",
                "fanmill.toml:1: http: invalid socket address",
            ),
            (
                "udp-port = 70000",
                "fanmill.toml:1: udp-port: invalid value",
            ),
            (
                "shards = 1\npublic-ip = [\"::1\",\n 5]",
                "fanmill.toml:3: public-ip: invalid type",
            ),
        ] {
            let error = parse_text(text).unwrap_err().to_string();
            assert!(error.starts_with(start), "{error}");
        }
    }

    #[test]
    fn broken_toml_and_repeated_keys_name_their_line() {
        for text in ["shards = 1\nhttp =\n", "shards = 1\nshards = 2\n"] {
            let error = parse_text(text).unwrap_err().to_string();
            assert!(error.starts_with("fanmill.toml:2: "), "{error}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_parsed_or_refused(text in "\\PC{0,200}") {
            let _ = parse_text(&text);
        }

        #[test]
        fn any_assignment_is_parsed_or_refused(
            key in "(http|udp-port|shards|public-ip|[a-z-]{1,20})",
            value in "(-?[0-9]{1,30}|\"[^\"\\\\\n]{0,20}\"|\\[[0-9,]{0,9}\\]|\\{\\}|true|1.5)",
        ) {
            let _ = parse_text(&format!("{key} = {value}\n"));
        }

        #[test]
        fn settings_survive_a_round_trip(
            port: u16, shards in 0usize..1000, ips: Vec<std::net::IpAddr>, log in "\\PC{0,40}",
        ) {
            let settings = Settings {
                udp_port: Some(port),
                shards: Some(shards),
                public_ip: Some(ips),
                log: Some(log),
                ..Settings::default()
            };
            let text = toml::to_string(&settings).unwrap();
            prop_assert_eq!(parse_text(&text).unwrap().settings, settings);
        }
    }
}
