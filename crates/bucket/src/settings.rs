//! `Settings`: what the repository's Secret says besides its location.

use std::collections::BTreeMap;
use std::fmt;

/// Every name that is looked at; all that begin with `RCLONE_CONFIG_` come in addition.
pub const SETTINGS: &[&str] = &[
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_DEFAULT_REGION",
    "AWS_PROFILE",
    "RESTIC_AWS_ASSUME_ROLE_ARN",
    "RESTIC_AWS_ASSUME_ROLE_SESSION_NAME",
    "RESTIC_AWS_ASSUME_ROLE_EXTERNAL_ID",
    "RESTIC_AWS_ASSUME_ROLE_POLICY",
    "RESTIC_AWS_ASSUME_ROLE_REGION",
    "RESTIC_AWS_ASSUME_ROLE_STS_ENDPOINT",
    "ST_AUTH",
    "ST_USER",
    "ST_KEY",
    "OS_AUTH_URL",
    "OS_REGION_NAME",
    "OS_USERNAME",
    "OS_USER_ID",
    "OS_PASSWORD",
    "OS_TENANT_ID",
    "OS_TENANT_NAME",
    "OS_USER_DOMAIN_NAME",
    "OS_USER_DOMAIN_ID",
    "OS_PROJECT_NAME",
    "OS_PROJECT_DOMAIN_NAME",
    "OS_PROJECT_DOMAIN_ID",
    "OS_TRUST_ID",
    "OS_APPLICATION_CREDENTIAL_ID",
    "OS_APPLICATION_CREDENTIAL_NAME",
    "OS_APPLICATION_CREDENTIAL_SECRET",
    "OS_STORAGE_URL",
    "OS_AUTH_TOKEN",
    "B2_ACCOUNT_ID",
    "B2_ACCOUNT_KEY",
    "AZURE_ACCOUNT_NAME",
    "AZURE_ACCOUNT_KEY",
    "AZURE_ACCOUNT_SAS",
    "AZURE_ENDPOINT_SUFFIX",
    "AZURE_TENANT_ID",
    "AZURE_CLIENT_ID",
    "AZURE_FEDERATED_TOKEN_FILE",
    "GOOGLE_PROJECT_ID",
    "GOOGLE_APPLICATION_CREDENTIALS",
    "RESTIC_REST_USERNAME",
    "RESTIC_REST_PASSWORD",
];

const RCLONE: &str = "RCLONE_CONFIG_";

/// Parts of names whose values are secret.
const SECRET: &[&str] = &["KEY", "SECRET", "TOKEN", "PASS", "SAS"];

/// Below this many bytes a secret is not looked for in messages: it would blot out words.
const SHORTEST: usize = 4;

/// What the repository's Secret says besides its location, by the names that restic gives it.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Settings(BTreeMap<String, String>);

impl Settings {
    /// Takes what is known ([`SETTINGS`]) out of an environment or a Secret; the rest is dropped,
    /// and so is what is empty.
    pub fn new(all: impl IntoIterator<Item = (String, String)>) -> Self {
        let known = |name: &str| SETTINGS.contains(&name) || name.starts_with(RCLONE);
        Self(all.into_iter().filter(|(name, value)| known(name) && !value.is_empty()).collect())
    }

    /// What a name says.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
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
    fn what_is_not_known_or_empty_is_not_there() {
        let settings = settings(&[
            ("PATH", "/bin"),
            ("ST_USER", ""),
            ("B2_ACCOUNT_ID", "id"),
            ("RCLONE_CONFIG_A_TYPE", "s3"),
        ]);
        assert_eq!(format!("{settings:?}"), r#"{"B2_ACCOUNT_ID", "RCLONE_CONFIG_A_TYPE"}"#);
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
