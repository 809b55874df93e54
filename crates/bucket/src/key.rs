//! Which keys a store takes, and how they lie below its path.

/// What S3 and its likes allow, in bytes.
const LONGEST: usize = 1024;

/// Why a key cannot be one, or nothing.
pub(crate) fn problem_with_key(key: &str) -> Option<&'static str> {
    if key.is_empty() {
        Some("the key is empty")
    } else if key.len() > LONGEST {
        Some("the key is longer than 1024 bytes")
    } else if key.starts_with('/') {
        Some("the key starts with a slash")
    } else if key.contains('\0') {
        Some("the key contains a zero byte")
    } else {
        None
    }
}

/// Why a key cannot be the path of a file below a directory, or nothing.
pub(crate) fn problem_with_path(key: &str) -> Option<&'static str> {
    problem_with_key(key).or_else(|| {
        key.split('/')
            .any(|part| matches!(part, "" | "." | ".."))
            .then_some("the key has an empty part, . or .., which no file can be named")
    })
}

/// A key below the path of the store in its bucket.
pub(crate) fn below(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}/{key}") }
}

/// The key of an object that lies below the path of the store; `None` if it does not.
pub(crate) fn relative<'a>(path: &str, object: &'a str) -> Option<&'a str> {
    if path.is_empty() {
        return Some(object);
    }
    object.strip_prefix(path)?.strip_prefix('/')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_below_a_path_comes_back() {
        for path in ["", "a", "a/b"] {
            assert_eq!(relative(path, &below(path, "config")), Some("config"));
        }
        assert_eq!(relative("a", "ab/config"), None);
    }

    #[test]
    fn no_key_leads_out_of_a_directory() {
        for key in ["..", "a/../b", "a//b", "./a", "a/", "/a", "", "a\0b"] {
            assert!(problem_with_path(key).is_some(), "{key:?}");
        }
        for key in ["a", "...", "a b/c%2F?&+ü", "-tmp-"] {
            assert_eq!(problem_with_path(key), None, "{key:?}");
        }
    }
}
