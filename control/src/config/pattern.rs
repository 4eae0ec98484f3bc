//! Patterns of stream names in rules of the configuration. Names are ASCII.

/// Whether a whole name is as the pattern says: `*` is any number of characters and `?` one.
pub(crate) fn fits(pattern: &str, name: &str) -> bool {
    let (pattern, name) = (pattern.as_bytes(), name.as_bytes());
    let (mut at, mut begin) = (0, 0);
    // The last star, and from where in the name it was tried last.
    let mut star: Option<usize> = None;
    let mut tried = 0;
    while at < name.len() {
        match pattern.get(begin) {
            Some(b'*') => {
                star = Some(begin);
                tried = at;
                begin += 1;
            }
            Some(&byte) if byte == b'?' || byte == name[at] => {
                begin += 1;
                at += 1;
            }
            _ => {
                let Some(star) = star else {
                    return false;
                };
                begin = star + 1;
                tried += 1;
                at = tried;
            }
        }
    }
    pattern[begin..].iter().all(|&byte| byte == b'*')
}

/// Whether names that begin so may be as the pattern says.
pub(crate) fn may_begin(pattern: &str, beginning: &str) -> bool {
    let mut pattern = pattern.bytes();
    for byte in beginning.bytes() {
        match pattern.next() {
            Some(b'*') => return true,
            Some(fitting) if fitting == b'?' || fitting == byte => {}
            _ => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_begins_otherwise_than_a_pattern_is_never_as_it_says() {
        for (pattern, beginning, expected) in [
            ("*", "a~", true),
            ("a~b", "a~", true),
            ("a~", "a~", true),
            ("?~b*", "a~", true),
            ("*b", "a~", true),
            ("a*", "a~", true),
            ("a", "a~", false),
            ("b*", "a~", false),
            ("??", "a~c", false),
        ] {
            assert_eq!(
                may_begin(pattern, beginning),
                expected,
                "{pattern} {beginning}"
            );
        }
    }

    #[test]
    fn a_star_stands_for_anything_or_nothing() {
        for (pattern, name, expected) in [
            ("*", "x", true),
            ("a*b", "ab", true),
            ("a*b", "a-b-b", true),
            ("a*b", "a-b-c", false),
            ("a*b*c", "axxbxxc", true),
            ("a*b*c", "axxc", false),
            ("*cam", "front-cam", true),
            ("cam", "cam1", false),
            ("cam?", "cam1", true),
            ("cam?", "cam", false),
            ("*a?c*", "xxabcxx", true),
            ("a*a", "a", false),
        ] {
            assert_eq!(fits(pattern, name), expected, "{pattern} {name}");
        }
    }
}
