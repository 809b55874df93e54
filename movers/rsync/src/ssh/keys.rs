//! Keys as upstream's Secrets hold them.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use russh::keys::{PrivateKey, PublicKey};
use volsync_contract::paths::keys;

use super::Error;

/// What a source needs: its private key, and the public key its destination must have.
pub struct SourceKeys {
    pub(crate) own: Arc<PrivateKey>,
    pub(crate) destination: PublicKey,
}

/// What a destination needs: its private key, and the public keys its sources may have.
pub struct DestinationKeys {
    directory: PathBuf,
    pub(crate) own: PrivateKey,
    sources: Vec<PublicKey>,
}

impl fmt::Debug for SourceKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SourceKeys(..)")
    }
}

impl fmt::Debug for DestinationKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DestinationKeys(..)")
    }
}

impl SourceKeys {
    /// Reads `source` and `destination.pub`.
    pub fn read(directory: &Path) -> Result<Self, Error> {
        let own = Arc::new(private(directory.join(keys::SOURCE))?);
        let path = directory.join(keys::DESTINATION_PUB);
        match public(&path)?.into_iter().next() {
            Some(destination) => Ok(Self { own, destination }),
            None => Err(Error::BadKey { path, why: "it is empty".to_owned() }),
        }
    }
}

impl DestinationKeys {
    /// Reads `destination` and `source.pub`, which may hold several keys, one a line.
    pub fn read(directory: &Path) -> Result<Self, Error> {
        let own = private(directory.join(keys::DESTINATION))?;
        let path = directory.join(keys::SOURCE_PUB);
        let sources = public(&path)?;
        if sources.is_empty() {
            return Err(Error::BadKey { path, why: "it is empty".to_owned() });
        }
        Ok(Self { directory: directory.to_owned(), own, sources })
    }

    /// Reads them again from where they were read.
    pub(crate) fn read_again(&self) -> Result<Self, Error> {
        Self::read(&self.directory)
    }

    /// Whether a source with this key may come in.
    pub(crate) fn allow(&self, key: &PublicKey) -> bool {
        self.sources.iter().any(|source| source.key_data() == key.key_data())
    }
}

fn private(path: PathBuf) -> Result<PrivateKey, Error> {
    let text = read(&path)?;
    // The library's errors never quote the key.
    let key = russh::keys::decode_secret_key(&text, None).map_err(|error| {
        let why = match error {
            russh::keys::Error::KeyIsEncrypted => "it is protected by a passphrase".to_owned(),
            other => other.to_string(),
        };
        Error::BadKey { path: path.clone(), why }
    })?;
    if key.is_encrypted() {
        return Err(Error::BadKey { path, why: "it is protected by a passphrase".to_owned() });
    }
    Ok(key)
}

fn public(path: &Path) -> Result<Vec<PublicKey>, Error> {
    read(path)?
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| {
            PublicKey::from_openssh(line)
                .map_err(|error| Error::BadKey { path: path.to_owned(), why: error.to_string() })
        })
        .collect()
}

fn read(path: &Path) -> Result<String, Error> {
    let bytes =
        fs::read(path).map_err(|source| Error::ReadKey { path: path.to_owned(), source })?;
    String::from_utf8(bytes)
        .map_err(|_| Error::BadKey { path: path.to_owned(), why: "it is not text".to_owned() })
}
