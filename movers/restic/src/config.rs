//! From a task and the variables beside it to a store and what opens it.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use volsync_bucket::{Location, Settings, Store};
use volsync_contract::{TaskError, env, repository};
use volsync_mover::Environment;

use crate::error::Error;

/// Where a repository is and what opens it.
pub struct Access {
    location: Location,
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
        Ok(Self { location, store, password })
    }

    /// Refuses a repository that lies in the volume, by whatever name: the same claim may be mounted at
    /// two places.
    pub(crate) fn outside_of(&self, volume: &Path) -> Result<(), Error> {
        let Location::Directory { path } = &self.location else { return Ok(()) };
        // A volume that cannot be seen is told of by whoever opens it.
        let Ok(volume) = fs::metadata(volume) else { return Ok(()) };
        let inside = real(path).ancestors().any(|above| {
            fs::metadata(above)
                .is_ok_and(|above| (above.dev(), above.ino()) == (volume.dev(), volume.ino()))
        });
        if inside { Err(Error::RepositoryInVolume { path: path.clone() }) } else { Ok(()) }
    }
}

/// The path without symbolic links, as far as it exists.
fn real(path: &Path) -> PathBuf {
    match (fs::canonicalize(path), path.parent(), path.file_name()) {
        (Ok(real), _, _) => real,
        (Err(_), Some(parent), Some(name)) => real(parent).join(name),
        (Err(_), _, _) => path.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(repository: &Path) -> Access {
        let given = [
            (repository::REPOSITORY.to_owned(), repository.display().to_string()),
            (repository::PASSWORD.to_owned(), "sesame".to_owned()),
        ];
        Access::new(&Environment::new(given)).unwrap()
    }

    #[test]
    fn a_repository_in_the_volume_is_seen_by_whatever_name() {
        let scratch = tempfile::tempdir().unwrap();
        let (volume, beside) = (scratch.path().join("volume"), scratch.path().join("beside"));
        fs::create_dir_all(volume.join("made")).unwrap();
        fs::create_dir(&beside).unwrap();
        std::os::unix::fs::symlink(&volume, scratch.path().join("link")).unwrap();
        for inside in ["volume", "volume/made", "volume/not/made/yet", "link/new"] {
            let refused = access(&scratch.path().join(inside)).outside_of(&volume);
            assert!(matches!(refused, Err(Error::RepositoryInVolume { .. })), "{inside}");
        }
        for outside in ["beside", "beside/new", "volume2"] {
            access(&scratch.path().join(outside)).outside_of(&volume).unwrap();
        }
    }
}
