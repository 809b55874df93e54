//! Key pairs made by the real `ssh-keygen`, in the layout of the key Secrets.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use volsync_contract::paths::keys;

use crate::as_user::Privilege;
use crate::peers;
use crate::scratch::Scratch;

/// The kind of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyKind {
    /// Quick to make.
    Ed25519,
    /// RSA of 4096 bits, as generated Secrets have it.
    Rsa,
}

/// A key pair as `ssh-keygen` writes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyPair {
    /// The private key file.
    pub private: String,
    /// The public key file, one line.
    pub public: String,
}

impl KeyPair {
    /// A pair of its own.
    pub fn new(kind: KeyKind) -> Self {
        let scratch = Scratch::new();
        let file = scratch.join("key");
        let kind: &[&str] = match kind {
            KeyKind::Ed25519 => &["-t", "ed25519"],
            KeyKind::Rsa => &["-t", "rsa", "-b", "4096"],
        };
        let status = Command::new(peers::tool("ssh-keygen"))
            .args(["-q", "-N", "", "-C", ""])
            .args(kind)
            .arg("-f")
            .arg(&file)
            .stdin(Stdio::null())
            .status()
            .expect("ssh-keygen starts");
        assert!(status.success(), "ssh-keygen failed: {status}");
        Self {
            private: fs::read_to_string(&file).unwrap(),
            public: fs::read_to_string(file.with_extension("pub")).unwrap(),
        }
    }

    /// The same RSA pair for a whole test process: making one takes seconds.
    pub fn rsa() -> &'static Self {
        static RSA: OnceLock<KeyPair> = OnceLock::new();
        RSA.get_or_init(|| Self::new(KeyKind::Rsa))
    }

    /// The same ed25519 pairs for a whole test process: of a source and of a destination.
    pub fn both() -> &'static (Self, Self) {
        static BOTH: OnceLock<(KeyPair, KeyPair)> = OnceLock::new();
        BOTH.get_or_init(|| (Self::new(KeyKind::Ed25519), Self::new(KeyKind::Ed25519)))
    }
}

/// Two directories as the mounted key Secrets of a source and of its destination.
#[derive(Debug)]
pub struct KeySecrets {
    scratch: Scratch,
}

impl KeySecrets {
    /// Secrets that fit each other, readable by `privilege` alone.
    pub fn new(privilege: Privilege) -> Self {
        let (source, destination) = KeyPair::both();
        Self::of(source, destination, privilege)
    }

    /// Secrets of given pairs.
    pub fn of(source: &KeyPair, destination: &KeyPair, privilege: Privilege) -> Self {
        let scratch = Scratch::new();
        let secrets = Self { scratch };
        secret(
            &secrets.source(),
            &[
                (keys::SOURCE, &source.private),
                (keys::SOURCE_PUB, &source.public),
                (keys::DESTINATION_PUB, &destination.public),
            ],
        );
        secret(
            &secrets.destination(),
            &[
                (keys::DESTINATION, &destination.private),
                (keys::DESTINATION_PUB, &destination.public),
                (keys::SOURCE_PUB, &source.public),
            ],
        );
        privilege.take(&secrets.source());
        privilege.take(&secrets.destination());
        secrets
    }

    /// What the source mounts.
    pub fn source(&self) -> PathBuf {
        self.scratch.join("source-secret")
    }

    /// What the destination mounts.
    pub fn destination(&self) -> PathBuf {
        self.scratch.join("destination-secret")
    }
}

fn secret(dir: &Path, fields: &[(&str, &str)]) {
    fs::create_dir(dir).unwrap();
    for (name, value) in fields {
        let file = dir.join(name);
        fs::write(&file, value).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    }
}
