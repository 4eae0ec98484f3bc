//! Every crate that is built comes under a licence that lets anybody use Fanmill.
#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

use std::process::Command;

use serde_json::Value;

const ALLOWED: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "ISC",
    "MIT",
    "MIT-0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// Crates under other licences, and why they may be here.
const EXCEPTIONS: &[(&str, &str)] = &[
    // Used by tests only, unmodified; nothing of it is in the server.
    ("webrtc-sdp", "MPL-2.0"),
    // The licence of the Independent JPEG Group for a part: free, if it is named (docs/operating/recording.md).
    ("jpeg-encoder", "(MIT OR Apache-2.0) AND IJG"),
    // The AAC decoder, unmodified: the licence asks that changes to its own files be published, and
    // nothing of what is linked with it.
    ("symphonia-codec-aac", "MPL-2.0"),
    ("symphonia-common", "MPL-2.0"),
    ("symphonia-core", "MPL-2.0"),
    ("symphonia-metadata", "MPL-2.0"),
];

/// Whether an SPDX expression (with the old `/` for `OR`) can be satisfied by allowed licences.
/// `None` if it is not an expression.
fn satisfied(expression: &str) -> Option<bool> {
    let spaced = expression
        .replace('/', " OR ")
        .replace('(', " ( ")
        .replace(')', " ) ");
    let mut words = spaced.split_whitespace().peekable();
    let result = any_of(&mut words)?;
    words.peek().is_none().then_some(result)
}

type Words<'a> = std::iter::Peekable<std::str::SplitWhitespace<'a>>;

fn any_of(words: &mut Words) -> Option<bool> {
    let mut result = all_of(words)?;
    while words.next_if_eq(&"OR").is_some() {
        result |= all_of(words)?;
    }
    Some(result)
}

fn all_of(words: &mut Words) -> Option<bool> {
    let mut result = licence(words)?;
    while words.next_if_eq(&"AND").is_some() {
        result &= licence(words)?;
    }
    Some(result)
}

fn licence(words: &mut Words) -> Option<bool> {
    match words.next()? {
        "(" => {
            let inner = any_of(words)?;
            words.next_if_eq(&")").map(|_| inner)
        }
        ")" | "AND" | "OR" | "WITH" => None,
        name if words.next_if_eq(&"WITH").is_some() => {
            Some(ALLOWED.contains(&format!("{name} WITH {}", words.next()?).as_str()))
        }
        name => Some(ALLOWED.contains(&name)),
    }
}

#[test]
fn expressions_are_read_as_spdx_means_them() {
    for (expression, expected) in [
        ("MIT", Some(true)),
        ("MIT/Apache-2.0", Some(true)),
        ("GPL-3.0 OR MIT", Some(true)),
        ("GPL-3.0 AND MIT", Some(false)),
        ("MIT OR GPL-3.0 AND ISC", Some(true)),
        ("(MIT OR GPL-3.0) AND AGPL-3.0", Some(false)),
        ("Apache-2.0 WITH LLVM-exception", Some(true)),
        ("GPL-2.0 WITH Classpath-exception-2.0", Some(false)),
        ("(MIT", None),
        ("MIT ISC", None),
        ("", None),
    ] {
        assert_eq!(satisfied(expression), expected, "{expression}");
    }
}

/// Crates of the feature `fdk-aac` that say MIT of themselves and bring C++ source that is under another
/// licence: that of the Fraunhofer institute, which is not an open source licence.
const NOT_IN_THE_DEFAULT_BUILD: &[&str] = &["fdk-aac", "fdk-aac-sys"];

/// The packages of the workspace with these features.
fn packages(features: &[&str]) -> Vec<Value> {
    let output = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--format-version",
            "1",
            "--locked",
            "--manifest-path",
        ])
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml"))
        .args(features)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let mut metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let Value::Array(packages) = metadata["packages"].take() else {
        panic!("no packages");
    };
    packages
}

#[test]
fn what_is_not_free_is_in_no_build_that_does_not_ask_for_it() {
    let names = |features: &[&str]| {
        let packages = packages(features).into_iter();
        let names = packages.map(|package| package["name"].as_str().unwrap().to_owned());
        names.collect::<Vec<_>>()
    };
    let usual = names(&[]);
    let asked = names(&["--features", "fanmill-control/fdk-aac"]);
    for name in NOT_IN_THE_DEFAULT_BUILD {
        assert!(!usual.iter().any(|usual| usual == name), "{name}");
        assert!(asked.iter().any(|asked| asked == name), "{name}");
    }
}

#[test]
fn every_dependency_has_an_allowed_licence() {
    let packages = packages(&[]);
    assert!(
        packages.len() > 100,
        "{} packages are not all of them",
        packages.len()
    );
    let refused = packages.iter().filter_map(|package| {
        let (name, licence) = (package["name"].as_str()?, package["license"].as_str());
        let excepted = licence.is_some_and(|licence| EXCEPTIONS.contains(&(name, licence)));
        let allowed = licence.and_then(satisfied).unwrap_or(false);
        (!allowed && !excepted).then(|| format!("{name}: {licence:?}"))
    });
    assert_eq!(refused.collect::<Vec<_>>(), Vec::<String>::new());
}
