//! `Environment`: what describes a repository, beside the task and out of every log.

use std::collections::BTreeMap;
use std::fmt;

use volsync_contract::{env, repository};

/// The variables of a repository's Secret. `Debug` shows their names alone.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Environment(BTreeMap<String, String>);

impl Environment {
    /// Takes what describes a repository out of all variables.
    pub fn new(all: impl IntoIterator<Item = (String, String)>) -> Self {
        let wanted = |name: &str| {
            repository::is_passed(name)
                || name == repository::GOOGLE_CREDENTIALS
                || name == env::CUSTOM_CA
        };
        Self(all.into_iter().filter(|(name, _)| wanted(name)).collect())
    }

    /// What a variable says.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = (String, String)> {
        self.0.iter().map(|(name, value)| (name.clone(), value.clone()))
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_describes_a_repository_is_taken_and_none_of_it_is_shown() {
        let all = [("RESTIC_PASSWORD", "s3cret"), ("PATH", "/bin"), ("CUSTOM_CA", "/ca.crt")];
        let environment =
            Environment::new(all.map(|(name, value)| (name.to_owned(), value.to_owned())));
        assert_eq!(environment.get("RESTIC_PASSWORD"), Some("s3cret"));
        assert_eq!(format!("{environment:?}"), r#"{"CUSTOM_CA", "RESTIC_PASSWORD"}"#);
    }
}
