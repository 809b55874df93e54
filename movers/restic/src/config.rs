//! From a task and the variables beside it to a store and what opens it.

use std::fs;
use std::num::NonZeroU64;
use std::ops::RangeInclusive;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use volsync_bucket::{Limited, Location, Settings, Store};
use volsync_contract::{TaskError, env, repository};
use volsync_mover::{Environment, Shutdown};

use crate::archive::ArchiveOptions;
use crate::error::Error;
use crate::format::Compression;

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
    /// From the variables of the repository's Secret, and how many bytes a second may travel. Nothing is
    /// asked of the store yet.
    pub fn new(
        environment: &Environment,
        bandwidth: Option<NonZeroU64>,
        shutdown: &Shutdown,
    ) -> Result<Self, Error> {
        let required = |name: &'static str| {
            environment.get(name).filter(|value| !value.is_empty()).ok_or(TaskError::Missing(name))
        };
        let location: Location = required(repository::REPOSITORY)?.parse()?;
        let password = required(repository::PASSWORD)?.to_owned();
        let settings = Settings::new(environment.all());
        let ca = environment.get(env::CUSTOM_CA).filter(|path| !path.is_empty()).map(PathBuf::from);
        let mut store = volsync_bucket::open(&location, &settings, ca)?;
        if let Some(bandwidth) = bandwidth {
            let shutdown = shutdown.clone();
            store = Arc::new(Limited::new(store, bandwidth, move || shutdown.is_requested()));
        }
        Ok(Self { location, store, password })
    }

    /// Refuses a repository that lies in the volume, or the other way round, by whatever name: the same claim may be mounted at
    /// two places.
    pub(crate) fn outside_of(&self, volume: &Path) -> Result<(), Error> {
        let Location::Directory { path } = &self.location else { return Ok(()) };
        // A volume that cannot be seen is told of by whoever opens it.
        let Ok(seen) = fs::metadata(volume) else { return Ok(()) };
        let is_below = |path: &Path, directory: &fs::Metadata| {
            real(path).ancestors().any(|above| {
                fs::metadata(above).is_ok_and(|above| {
                    (above.dev(), above.ino()) == (directory.dev(), directory.ino())
                })
            })
        };
        if is_below(path, &seen) {
            return Err(Error::RepositoryInVolume { path: path.clone() });
        }
        // A repository that is not there yet holds nothing.
        match fs::metadata(path) {
            Ok(repository) if is_below(volume, &repository) => {
                Err(Error::VolumeInRepository { path: path.clone() })
            }
            Ok(_) | Err(_) => Ok(()),
        }
    }
}

/// How a backup or a prune is made, as the Secret says by restic's own variables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tuning {
    /// How much blobs are compressed.
    pub(crate) compression: Compression,
    /// The size at which a pack is written, in bytes.
    pub(crate) pack_size: usize,
    /// Threads that read, compress and encrypt.
    pub(crate) threads: usize,
}

impl Tuning {
    /// Threads that walk trees or read packs back: each holds some megabytes, and more of them than
    /// there are processors gain little.
    pub(crate) fn walkers(&self) -> usize {
        self.threads.min(std::thread::available_parallelism().map_or(1, std::num::NonZero::get))
    }

    pub(crate) fn new(environment: &Environment) -> Result<Self, TaskError> {
        let given = |name: &'static str| {
            environment.get(name).filter(|value| !value.is_empty()).map(|value| (name, value))
        };
        let wrong = |(name, value): (&'static str, &str), expected| TaskError::Invalid {
            name,
            value: value.to_owned(),
            expected,
        };
        let compression = match given("RESTIC_COMPRESSION") {
            None => Compression::default(),
            Some(given) => {
                Compression::from_name(given.1).ok_or_else(|| wrong(given, Compression::NAMES))?
            }
        };
        let number = |name, range: RangeInclusive<usize>, expected| match given(name) {
            // restic takes 0 for "not given" as well.
            None | Some((_, "0")) => Ok(None),
            Some(given) => match given.1.parse() {
                Ok(number) if range.contains(&number) => Ok(Some(number)),
                Ok(_) | Err(_) => Err(wrong(given, expected)),
            },
        };
        let pack_size = number("RESTIC_PACK_SIZE", 4..=128, "a number of MiB from 4 to 128")?;
        let threads = number("RESTIC_READ_CONCURRENCY", 1..=256, "a number from 1 to 256")?;
        Ok(Self {
            compression,
            pack_size: pack_size.map_or(ArchiveOptions::PACK_SIZE, |size| size << 20),
            threads: threads.unwrap_or_else(|| {
                std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
            }),
        })
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
        Access::new(&Environment::new(given), None, &Shutdown::default()).unwrap()
    }

    #[test]
    fn restics_own_variables_are_taken_and_wrong_ones_are_named() {
        let tuning = |name: &str, value: &str| {
            Tuning::new(&Environment::new([(name.to_owned(), value.to_owned())]))
        };
        assert_eq!(tuning("RESTIC_PACK_SIZE", "").unwrap().pack_size, 16 << 20);
        assert_eq!(tuning("RESTIC_PACK_SIZE", "64").unwrap().pack_size, 64 << 20);
        assert_eq!(tuning("RESTIC_READ_CONCURRENCY", "7").unwrap().threads, 7);
        assert_eq!(tuning("RESTIC_COMPRESSION", "max").unwrap().compression, Compression::Max);
        for (name, value) in [
            ("RESTIC_PACK_SIZE", "129"),
            ("RESTIC_READ_CONCURRENCY", "many"),
            ("RESTIC_COMPRESSION", "zip"),
        ] {
            let message = tuning(name, value).unwrap_err().to_string();
            let expected = format!("environment variable {name} is {value:?}, expected ");
            assert!(message.starts_with(&expected), "{message}");
        }
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
        let around = access(scratch.path()).outside_of(&volume);
        assert!(matches!(around, Err(Error::VolumeInRepository { .. })), "{around:?}");
        for outside in ["beside", "beside/new", "volume2"] {
            access(&scratch.path().join(outside)).outside_of(&volume).unwrap();
        }
    }
}
