//! Where a shell mounts things in a mover's Pod.

/// The replicated volume.
pub const DATA: &str = "/data";
/// The Secret with SSH keys.
pub const KEYS: &str = "/keys";
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
