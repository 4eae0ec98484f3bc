//! The record of what was counted: a line for each scenario, in `counts.txt`.

use std::fmt;
use std::fs;
use std::process::Command;

const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/instructions/counts.txt");
const COMPILER: &str = "# compiled by ";

/// Counts by scenario, and the compiler they are of.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    compiler: String,
    counts: Vec<(String, f64)>,
}

/// One scenario then and now.
#[derive(Debug, PartialEq)]
pub(crate) struct Change {
    name: String,
    recorded: Option<f64>,
    found: Option<f64>,
}

impl Counts {
    pub(crate) fn add(&mut self, name: &str, count: f64) {
        self.counts.push((name.to_owned(), count));
    }

    /// Reads the record.
    ///
    /// # Errors
    /// When it is not there, or not as it was written.
    pub(crate) fn read() -> Result<Self, String> {
        let text = fs::read_to_string(PATH).map_err(|error| format!("{PATH}: {error}"))?;
        Self::parse(&text)
    }

    fn parse(text: &str) -> Result<Self, String> {
        let mut counts = Self::default();
        for line in text.lines() {
            if let Some(compiler) = line.strip_prefix(COMPILER) {
                compiler.clone_into(&mut counts.compiler);
            }
            if line.starts_with('#') {
                continue;
            }
            let parts = line.rsplit_once(' ');
            let parts = parts.and_then(|(name, count)| Some((name.trim(), count.parse().ok()?)));
            let (name, count) = parts.ok_or_else(|| format!("counts.txt: {line:?}"))?;
            counts.add(name, count);
        }
        Ok(counts)
    }

    /// Writes the record.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(crate) fn write(&self) -> Result<(), String> {
        let mut text = format!(
            "# Instructions of the packet path without those of the cryptographic library and libc,\n\
             # per unit; written by tools/instruction-counts --write.\n{COMPILER}{}\n",
            compiler()
        );
        for (name, count) in &self.counts {
            text.push_str(&format!("{name:<44} {count:>10.1}\n"));
        }
        fs::write(PATH, text).map_err(|error| format!("{PATH}: {error}"))
    }

    /// The record beside what was found, in the order of the latter.
    pub(crate) fn compare(&self, found: &Self) -> Vec<Change> {
        let of = |counts: &Self, name: &str| {
            let mut counts = counts.counts.iter();
            counts
                .find(|(known, _)| known == name)
                .map(|(_, count)| *count)
        };
        let gone = self
            .counts
            .iter()
            .filter(|(name, _)| of(found, name).is_none());
        let names = found.counts.iter().chain(gone);
        names
            .map(|(name, _)| Change {
                name: name.clone(),
                recorded: of(self, name),
                found: of(found, name),
            })
            .collect()
    }

    /// Another compiler makes other instructions of the same source.
    pub(crate) fn note_other_compiler(&self) {
        let now = compiler();
        if self.compiler != now {
            println!("\nrecorded with {}, compiled with {now}", self.compiler);
        }
    }
}

impl Change {
    /// By how much it rose, unless it is missing on one side.
    pub(crate) fn percent(&self) -> Option<f64> {
        Some(100.0 * (self.found? / self.recorded? - 1.0))
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = |count: Option<f64>| count.map_or("-".to_owned(), |c| format!("{c:.1}"));
        let percent = self.percent();
        let percent = percent.map_or("-".to_owned(), |p| format!("{p:+.2} %"));
        let (recorded, found) = (count(self.recorded), count(self.found));
        write!(
            f,
            "{:<44} {recorded:>10} {found:>10} {percent:>9}",
            self.name
        )
    }
}

fn compiler() -> String {
    let rustc = option_env!("RUSTC").unwrap_or("rustc");
    let output = Command::new(rustc).arg("--version").output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    text.unwrap_or_else(|_| "an unknown compiler".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(text: &str) -> Counts {
        Counts::parse(text).expect("a valid record")
    }

    #[test]
    fn changes_are_told_in_percent_and_missing_ones_as_missing() {
        let recorded = counts("# compiled by rustc 1\nburst: all 200.0\ngone 5.0\n");
        let found = counts("burst: all 210.0\nnew one 7.0\n");
        let changes = recorded.compare(&found);
        let names: Vec<&str> = changes.iter().map(|change| &change.name[..]).collect();
        assert_eq!(names, ["burst: all", "new one", "gone"]);
        assert!((changes[0].percent().expect("on both sides") - 5.0).abs() < 1e-9);
        assert_eq!(changes[1].percent(), None);
        assert_eq!(changes[2].percent(), None);
        assert_eq!(recorded.compiler, "rustc 1");
    }

    #[test]
    fn a_record_that_was_edited_into_nonsense_is_refused() {
        assert!(Counts::parse("burst: all many\n").is_err());
        assert!(Counts::parse("\n").is_err());
    }
}
