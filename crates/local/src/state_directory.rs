//! `StateDirectory`: where everything lies that outlives a run, and how it is written.
//!
//! ```text
//! lock                                   held by the one runner
//! status/KIND/NAMESPACE/NAME.yaml        the object with its status
//! secrets/NAMESPACE/NAME.yaml            generated keys
//! volumes/NAMESPACE/CLAIM/               provisioned for destinations without a claim
//! images/NAMESPACE/NAME/                 point-in-time copies
//! movers/KIND/NAMESPACE/NAME/            process id, keys, report and log of a mover
//! ```

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::manifests::ObjectName;

/// The state directory.
#[derive(Debug, Clone)]
pub(crate) struct StateDirectory(PathBuf);

impl StateDirectory {
    pub(crate) const fn new(path: PathBuf) -> Self {
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn status(&self) -> PathBuf {
        self.0.join("status")
    }

    pub(crate) fn secret(&self, name: &ObjectName) -> PathBuf {
        self.0.join("secrets").join(&name.namespace).join(format!("{}.yaml", name.name))
    }

    pub(crate) fn volume(&self, claim: &ObjectName) -> PathBuf {
        self.0.join("volumes").join(&claim.namespace).join(&claim.name)
    }

    pub(crate) fn images(&self, namespace: &str) -> PathBuf {
        self.0.join("images").join(namespace)
    }

    pub(crate) fn cache(&self, kind: &str, name: &ObjectName) -> PathBuf {
        self.0.join("caches").join(kind).join(&name.namespace).join(&name.name)
    }

    pub(crate) fn movers(&self) -> PathBuf {
        self.0.join("movers")
    }

    pub(crate) fn mover(&self, kind: &str, name: &ObjectName) -> PathBuf {
        self.movers().join(kind).join(&name.namespace).join(&name.name)
    }
}

/// Makes a directory, and those above it, for its owner alone.
pub(crate) fn make_directory(path: &Path) -> Result<(), Error> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|source| Error::MakeDirectory { path: path.to_owned(), source })
}

/// Writes a file for its owner alone, whole or not at all.
pub(crate) fn write(path: &Path, content: &[u8]) -> Result<(), Error> {
    let failed = |source| Error::WriteFile { path: path.to_owned(), source };
    if let Some(parent) = path.parent() {
        make_directory(parent)?;
    }
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let beside = path.with_file_name(name);
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&beside)
        .map_err(failed)?;
    file.write_all(content).map_err(failed)?;
    file.sync_all().map_err(failed)?;
    fs::rename(&beside, path).map_err(failed)
}

/// Reads a file; `None` if there is none.
pub(crate) fn read(path: &Path) -> Result<Option<String>, Error> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::ReadFile { path: path.to_owned(), source }),
    }
}

/// Removes a file or a tree, if it is there.
pub(crate) fn remove(path: &Path) -> Result<(), Error> {
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(Error::RemoveFile { path: path.to_owned(), source }),
    };
    let removed = if metadata.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    removed.map_err(|source| Error::RemoveFile { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn what_is_written_is_private_and_replaces_the_old_whole() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("a/b/c");
        write(&file, b"old").unwrap();
        write(&file, b"new").unwrap();
        assert_eq!(read(&file).unwrap().as_deref(), Some("new"));
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&file), mode(file.parent().unwrap())), (0o600, 0o700));
        assert_eq!(fs::read_dir(file.parent().unwrap()).unwrap().count(), 1);
        remove(&directory.path().join("a")).unwrap();
        assert_eq!(read(&file).unwrap(), None);
        remove(&file).unwrap();
    }
}
