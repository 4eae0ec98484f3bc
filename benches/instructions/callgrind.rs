//! Runs a scenario under callgrind and reads what it counted.
//!
//! Of the output format (valgrind manual, "Callgrind Format Specification") only what a
//! self-cost needs is read: which object and function a line of cost belongs to.

use std::collections::HashMap;
use std::env;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::process::Command;

/// What is linked into the program but not the engine's, and chooses its instructions by the
/// processor. Of aws-lc some functions are known only by their file.
const LIBRARIES: &[&str] = &[
    "aws_lc_",
    "/aws-lc",
    // The fingerprint of STUN messages.
    "crc32fast::",
];

/// Instructions by where they were executed.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Share {
    /// In the program itself, without the libraries that were linked into it.
    pub(crate) engine: u64,
    /// In those: the cryptography.
    pub(crate) crypto: u64,
    /// In shared libraries: libc.
    pub(crate) elsewhere: u64,
}

/// Counts the instructions of one scenario.
///
/// # Errors
/// When valgrind is not there, or the scenario fails under it.
pub(crate) fn count(scenario: &str) -> Result<Share, String> {
    let program = env::current_exe().map_err(|error| error.to_string())?;
    let out = env::temp_dir().join(format!("fanmill-callgrind-{}", std::process::id()));
    let result = Command::new("valgrind")
        .args(["--tool=callgrind", "--collect-atstart=no"])
        .arg("--toggle-collect=*instructions*counted*")
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(&program)
        .args(["--scenario", scenario])
        .output();
    let output = result.map_err(|error| match error.kind() {
        ErrorKind::NotFound => "valgrind is not installed (Debian: apt install valgrind)".into(),
        _ => format!("valgrind cannot be run: {error}"),
    })?;
    let text = fs::read_to_string(&out).unwrap_or_default();
    // It may not be there if valgrind failed, which is told below.
    let _ = fs::remove_file(&out);
    if !output.status.success() {
        let log = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{scenario:?} failed under valgrind:\n{log}"));
    }
    let share = parse(&text, &program)?;
    if share.engine == 0 {
        return Err(format!(
            "{scenario:?}: valgrind did not find the counted function; build with symbols"
        ));
    }
    Ok(share)
}

/// Names that are written once and then referred to by number: `(7) name`, later `(7)`.
#[derive(Default)]
struct Names(HashMap<String, String>);

impl Names {
    fn resolve(&mut self, text: &str) -> String {
        let Some((id, name)) = text.split_once(')') else {
            return text.to_owned();
        };
        let name = name.trim();
        if !name.is_empty() {
            self.0.insert(id.to_owned(), name.to_owned());
        }
        self.0.get(id).cloned().unwrap_or_default()
    }
}

fn parse(text: &str, program: &Path) -> Result<Share, String> {
    let program = program.to_string_lossy();
    let (mut objects, mut files, mut functions) =
        (Names::default(), Names::default(), Names::default());
    let (mut object, mut file, mut function) = (String::new(), String::new(), String::new());
    let mut share = Share::default();
    let mut of_a_call = false;
    for line in text.lines() {
        if let Some((key, value)) = line.split_once('=') {
            match key {
                "ob" => object = objects.resolve(value),
                "fn" => function = functions.resolve(value),
                // The file of the function, whatever is inlined into it.
                "fl" => file = files.resolve(value),
                "cob" => drop(objects.resolve(value)),
                "fi" | "fe" | "cfi" | "cfl" => drop(files.resolve(value)),
                "cfn" => drop(functions.resolve(value)),
                // The next line is what the callee took, which is counted with the callee.
                "calls" => of_a_call = true,
                _ => {}
            }
            continue;
        }
        let is_cost =
            line.starts_with(|first: char| first.is_ascii_digit() || "+-*".contains(first));
        if !is_cost {
            continue;
        }
        if std::mem::take(&mut of_a_call) {
            continue;
        }
        // A line without a cost is one of zero.
        let cost = line.split(' ').nth(1).unwrap_or("0");
        let cost: u64 = cost
            .parse()
            .map_err(|_| format!("callgrind wrote a line this does not know: {line:?}"))?;
        let place = if object != program {
            &mut share.elsewhere
        } else if LIBRARIES
            .iter()
            .any(|name| function.contains(name) || file.contains(name))
        {
            &mut share.crypto
        } else {
            &mut share.engine
        };
        *place += cost;
    }
    Ok(share)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costs_go_to_whom_they_were_spent_by() {
        let text = "\
positions: line
events: Ir
ob=(1) /bin/program
fl=(1) src/main.rs
fn=(1) program::route
10 100
+1 20
cfn=(2) aws_lc_0_42_0_seal
calls=3 0
* 5000
-1 3
fn=(2)
0 4000
fl=(5) /aws-lc/crypto/gcm.S
fn=(4) a_local_symbol
0 1000
cob=(2) /lib/libc.so
cfn=(3) memcpy
calls=1 0
* 70
ob=(2)
fn=(3)
0 70
ob=(1)
fl=(1)
fn=(1)
fi=(4) core/slice.rs
12 7
totals: 5200
";
        let share = parse(text, Path::new("/bin/program")).expect("a valid file");
        let expected = Share {
            engine: 130,
            crypto: 5000,
            elsewhere: 70,
        };
        assert_eq!(share, expected);
    }
}
