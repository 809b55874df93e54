//! `Reference`: an object a manifest names and that has to exist.

/// An object a manifest names and that has to exist beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// Its kind.
    pub kind: ReferenceKind,
    /// Its name, in the manifest's own namespace.
    pub name: String,
    /// Keys it has to have; empty when the kind has none or any will do.
    pub keys: Vec<String>,
    /// The field that names it, such as `spec.rsync.sshKeys`.
    pub path: String,
}

/// The kind of a referenced object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ReferenceKind {
    /// A Secret.
    Secret,
    /// A ConfigMap.
    ConfigMap,
    /// A PersistentVolumeClaim.
    Pvc,
    /// A ServiceAccount.
    ServiceAccount,
}

impl ReferenceKind {
    /// The kind's name in Kubernetes.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Secret => "Secret",
            Self::ConfigMap => "ConfigMap",
            Self::Pvc => "PersistentVolumeClaim",
            Self::ServiceAccount => "ServiceAccount",
        }
    }
}
