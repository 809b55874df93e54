//! What users write: `ReplicationSource` and `ReplicationDestination` of `volsync.backube/v1alpha1`.

pub mod conditions;
mod crds;
pub mod events;
pub mod keys;
pub mod v1alpha1;

pub use crds::{CRD_FILES, crd_yaml, crds};
pub use v1alpha1::{ReplicationDestination, ReplicationSource};

/// The API group of both kinds.
pub const GROUP: &str = "volsync.backube";
/// The one version of the API group.
pub const VERSION: &str = "v1alpha1";
/// `apiVersion` of both kinds.
pub const API_VERSION: &str = "volsync.backube/v1alpha1";
