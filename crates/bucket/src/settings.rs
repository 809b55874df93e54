//! `Settings`: what the repository's Secret says besides its location.

use std::collections::BTreeMap;
use std::fmt;

/// Parts of names whose values are secret.
const SECRET: &[&str] = &["KEY", "SECRET", "TOKEN", "PASS", "SAS"];

/// Below this many bytes a secret is not looked for in messages: it would blot out words.
const SHORTEST: usize = 4;

/// What the repository's Secret says besides its location, by the names that restic gives it.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Settings(BTreeMap<String, String>);

impl Settings {
    /// What the Secret says; what is empty is not there.
    pub fn new(all: impl IntoIterator<Item = (String, String)>) -> Self {
        Self(all.into_iter().filter(|(_, value)| !value.is_empty()).collect())
    }

    /// What a name says.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Everything whose name starts so.
    pub(crate) fn starting_with(&self, start: &str) -> impl Iterator<Item = (&str, &str)> {
        let all = self.0.iter().filter(move |(name, _)| name.starts_with(start));
        all.map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Blots out every secret in a text.
    pub fn redact(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (name, secret) in &self.0 {
            if SECRET.iter().any(|part| name.contains(part)) && secret.len() >= SHORTEST {
                text = text.replace(secret.as_str(), "***");
                // A shared access signature is the query of an address, with or without its mark.
                if let Some(query) = secret.strip_prefix('?') {
                    text = text.replace(query, "***");
                }
            }
        }
        text
    }

    /// Adds a secret of another origin.
    pub(crate) fn insert(&mut self, name: &str, value: &str) {
        self.0.insert(name.to_owned(), value.to_owned());
    }
}

impl fmt::Debug for Settings {
    /// The names alone.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(all: &[(&str, &str)]) -> Settings {
        Settings::new(all.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())))
    }

    #[test]
    fn what_is_empty_is_not_there() {
        let settings = settings(&[("ST_USER", ""), ("B2_ACCOUNT_ID", "id")]);
        assert_eq!(format!("{settings:?}"), r#"{"B2_ACCOUNT_ID"}"#);
        assert_eq!(settings.get("B2_ACCOUNT_ID"), Some("id"));
        assert_eq!(settings.get("ST_USER"), None);
    }

    #[test]
    fn no_secret_is_printed_and_none_stays_in_a_message() {
        let settings = settings(&[
            ("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI"),
            ("AZURE_ACCOUNT_SAS", "?sv=2024&sig=abcdef"),
            ("RESTIC_REST_USERNAME", "somebody"),
        ]);
        assert!(!format!("{settings:?}").contains("wJal"));
        assert_eq!(
            settings.redact("https://host/x?sv=2024&sig=abcdef as somebody with wJalrXUtnFEMI"),
            "https://host/x*** as somebody with ***"
        );
    }
}
