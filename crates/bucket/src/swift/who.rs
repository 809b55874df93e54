//! `Who`: who asks Keystone or the store, and in which words.
//!
//! The words are those of the Identity API v2.0 ("Authenticate") and v3 ("Password authentication with scoped
//! authorization", "Authenticating with an Application Credential", OS-TRUST).

use serde_json::{Value, json};

use crate::settings::Settings;

/// Where to ask: with OpenStack's variables, and with those of the store's own way.
pub(super) const OS_AUTH_URL: &str = "OS_AUTH_URL";
pub(super) const ST_AUTH: &str = "ST_AUTH";

/// Who asks, as the settings have it.
#[derive(Clone, Copy)]
pub(super) struct Who<'a> {
    settings: &'a Settings,
    /// The variable with the address.
    named: &'static str,
}

impl<'a> Who<'a> {
    /// Who asks at the address in a variable: [`OS_AUTH_URL`] or [`ST_AUTH`].
    pub(super) const fn new(settings: &'a Settings, named: &'static str) -> Self {
        Self { settings, named }
    }

    /// The variable with the address.
    pub(super) const fn named(self) -> &'static str {
        self.named
    }

    /// What a variable says.
    pub(super) fn says(self, name: &str) -> Option<&'a str> {
        self.settings.get(name)
    }

    /// What OpenStack's variable says, or else that of the store's own way. The one that goes with the
    /// address is missing, if none is there.
    fn either(self, os: &str, st: &str) -> Result<&'a str, String> {
        let missing = if self.named == ST_AUTH { st } else { os };
        self.says(os).or_else(|| self.says(st)).ok_or_else(|| format!("{missing} is missing"))
    }

    pub(super) fn user(self) -> Result<&'a str, String> {
        self.either("OS_USERNAME", "ST_USER")
    }

    pub(super) fn password(self) -> Result<&'a str, String> {
        self.either("OS_PASSWORD", "ST_KEY")
    }

    fn project_id(self) -> Option<&'a str> {
        self.says("OS_TENANT_ID").or_else(|| self.says("OS_PROJECT_ID"))
    }

    fn project_name(self) -> Option<&'a str> {
        self.says("OS_PROJECT_NAME").or_else(|| self.says("OS_TENANT_NAME"))
    }

    fn domain(self, name: &str, id: &str) -> Option<Value> {
        let by_name = self.says(name).map(|name| json!({ "name": name }));
        by_name.or_else(|| self.says(id).map(|id| json!({ "id": id })))
    }

    fn user_domain(self) -> Option<Value> {
        self.domain("OS_USER_DOMAIN_NAME", "OS_USER_DOMAIN_ID")
    }

    /// A user by the ID, which is one of all domains, or by name and domain.
    fn user_of_version_3(self) -> Result<Value, String> {
        if let Some(id) = self.says("OS_USER_ID") {
            return Ok(json!({ "id": id }));
        }
        let name = self.user()?;
        let domain = self.user_domain().ok_or(
            "OS_USER_DOMAIN_NAME is missing (or OS_USER_DOMAIN_ID, or OS_USER_ID for the name)",
        )?;
        Ok(json!({ "name": name, "domain": domain }))
    }

    /// The words to ask version 2 with.
    pub(super) fn version_2(self) -> Result<Value, String> {
        let (user, password) = (self.user()?, self.password()?);
        let mut auth = json!({ "passwordCredentials": { "username": user, "password": password } });
        // Both at once are refused.
        if let Some(id) = self.project_id() {
            auth["tenantId"] = id.into();
        } else if let Some(name) = self.project_name() {
            auth["tenantName"] = name.into();
        }
        Ok(json!({ "auth": auth }))
    }

    /// The words to ask version 3 with.
    pub(super) fn version_3(self) -> Result<Value, String> {
        let (id, name, secret) = (
            self.says("OS_APPLICATION_CREDENTIAL_ID"),
            self.says("OS_APPLICATION_CREDENTIAL_NAME"),
            self.says("OS_APPLICATION_CREDENTIAL_SECRET"),
        );
        let credential = match (id, name, secret) {
            (None, None, None) => return self.password_of_version_3(),
            (Some(id), _, Some(secret)) => json!({ "id": id, "secret": secret }),
            (None, Some(name), Some(secret)) => {
                json!({ "name": name, "secret": secret, "user": self.user_of_version_3()? })
            }
            (None, None, Some(_)) => {
                return Err("OS_APPLICATION_CREDENTIAL_ID is missing".to_owned());
            }
            (_, _, None) => return Err("OS_APPLICATION_CREDENTIAL_SECRET is missing".to_owned()),
        };
        // It is of one project: to name one would be refused.
        Ok(json!({ "auth": { "identity": {
            "methods": ["application_credential"],
            "application_credential": credential,
        } } }))
    }

    fn password_of_version_3(self) -> Result<Value, String> {
        let mut user = self.user_of_version_3()?;
        user["password"] = self.password()?.into();
        let mut auth =
            json!({ "identity": { "methods": ["password"], "password": { "user": user } } });
        if let Some(trust) = self.says("OS_TRUST_ID") {
            auth["scope"] = json!({ "OS-TRUST:trust": { "id": trust } });
        } else if let Some(id) = self.project_id() {
            auth["scope"] = json!({ "project": { "id": id } });
        } else if let Some(name) = self.project_name() {
            // As restic: the user's domain, or the one that every Keystone begins with.
            let domain = self
                .domain("OS_PROJECT_DOMAIN_NAME", "OS_PROJECT_DOMAIN_ID")
                .or_else(|| self.user_domain())
                .unwrap_or_else(|| json!({ "name": "Default" }));
            auth["scope"] = json!({ "project": { "name": name, "domain": domain } });
        }
        Ok(json!({ "auth": auth }))
    }
}
