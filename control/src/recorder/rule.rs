//! Rules of the configuration: which streams are recorded by themselves, and where to.

use super::path::{PathError, Template};
use crate::config::pattern;

/// Where a rule records to that does not say it.
pub(super) const DEFAULT_TEMPLATE: &str = "{stream}/{date}-{time}.mp4";

/// Record every stream whose name matches: `PATTERN` or `PATTERN=TEMPLATE`. In a pattern, `*` is any
/// number of characters and `?` one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    pattern: String,
    template: String,
}

impl Rule {
    /// Reads a rule.
    ///
    /// # Errors
    /// [`PathError`]: of the template, or of a pattern that is empty.
    pub fn parse(text: &str) -> Result<Self, PathError> {
        let (pattern, template) = text.split_once('=').unwrap_or((text, DEFAULT_TEMPLATE));
        Template::parse(template)?;
        if pattern.is_empty() {
            return Err(PathError::Empty);
        }
        Ok(Self {
            pattern: pattern.to_owned(),
            template: template.to_owned(),
        })
    }

    /// Whether it is about this stream.
    #[must_use]
    pub fn matches(&self, stream: &str) -> bool {
        pattern::fits(&self.pattern, stream)
    }

    /// Where it records to.
    #[must_use]
    pub fn template(&self) -> &str {
        &self.template
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // a test's unwrap is an assertion

    use super::*;

    #[test]
    fn a_pattern_matches_whole_names() {
        let rule = |text| Rule::parse(text).unwrap();
        for (pattern, name, expected) in [
            ("*", "anything", true),
            ("cam*", "cam1", true),
            ("cam*", "webcam", false),
            ("*cam", "webcam", true),
            ("a*b*c", "aXbYbZc", true),
            ("a*b*c", "aXbY", false),
            ("cam?", "cam", false),
            ("cam?", "cam7", true),
            ("cam", "cam7", false),
        ] {
            assert_eq!(rule(pattern).matches(name), expected, "{pattern} {name}");
        }
        assert_eq!(rule("cam*=x/{stream}").template(), "x/{stream}");
        assert!(Rule::parse("cam*={nope}").is_err());
        assert!(Rule::parse("").is_err());
    }
}
