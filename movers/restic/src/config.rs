//! From a task and the variables beside it to a store and what opens it.

use std::path::PathBuf;
use std::sync::Arc;

use volsync_bucket::{Location, Settings, Store};
use volsync_contract::{TaskError, env, repository};
use volsync_mover::Environment;

use crate::error::Error;

/// Where a repository is and what opens it.
pub struct Access {
    /// Its store.
    pub store: Arc<dyn Store>,
    /// Its password.
    pub password: String,
}

impl std::fmt::Debug for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Access").field("store", &self.store).finish_non_exhaustive()
    }
}

impl Access {
    /// From the variables of the repository's Secret. Nothing is asked of the store yet.
    pub fn new(environment: &Environment) -> Result<Self, Error> {
        let required = |name: &'static str| {
            environment.get(name).filter(|value| !value.is_empty()).ok_or(TaskError::Missing(name))
        };
        let location: Location = required(repository::REPOSITORY)?.parse()?;
        let password = required(repository::PASSWORD)?.to_owned();
        let settings = Settings::new(environment.all());
        let ca = environment.get(env::CUSTOM_CA).filter(|path| !path.is_empty()).map(PathBuf::from);
        let store = volsync_bucket::open(&location, &settings, ca)?;
        Ok(Self { store, password })
    }
}
