//! Where a shell mounts things in a mover's Pod.

/// The replicated volume.
pub const DATA: &str = "/data";
/// The Secret with SSH keys.
pub const KEYS: &str = "/keys";
/// The cache of a restic mover.
pub const CACHE: &str = "/cache";
/// The directory with the certificate authority of a repository, and the file in it.
pub const CUSTOM_CA_DIRECTORY: &str = "/customCA";
/// The certificate authority of a repository, in PEM.
pub const CUSTOM_CA: &str = "/customCA/ca.crt";
/// The directory of [`GOOGLE_CREDENTIALS`].
pub const CREDENTIALS: &str = "/credentials";
/// The file of a Google service account.
pub const GOOGLE_CREDENTIALS: &str = "/credentials/gcs.json";
/// Under which the user's own volumes are mounted.
pub const MOUNTS: &str = "/mnt";
/// Kubernetes' default `terminationMessagePath`.
pub const REPORT: &str = "/dev/termination-log";

/// Files of a key Secret, as upstream names them.
pub mod keys {
    /// Private key of the source.
    pub const SOURCE: &str = "source";
    /// Public key of the source.
    pub const SOURCE_PUB: &str = "source.pub";
    /// Private key of the destination, which is its host key.
    pub const DESTINATION: &str = "destination";
    /// Public key of the destination.
    pub const DESTINATION_PUB: &str = "destination.pub";
}
