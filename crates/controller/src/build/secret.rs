//! Secrets: generated keys, and copies that images are pulled with.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use volsync_replication::names;

use crate::kind::Owner;

/// A Secret with these keys. It stays as long as its replication.
pub(crate) fn secret(owner: &Owner, name: &str, data: BTreeMap<String, ByteString>) -> Secret {
    Secret {
        metadata: owner.metadata(name, false),
        data: Some(data),
        type_: Some("Opaque".to_owned()),
        ..Secret::default()
    }
}

/// What the names of copies begin with.
pub(crate) const PULL_SECRET_PREFIX: &str = "volsync-pull-";

/// The copy of the Secret `name` of the operator's namespace that movers' images are pulled with. All
/// replications of a namespace share it: each is one of its owners, and it goes with the last.
pub(crate) fn pull_secret(owner: &Owner, name: &str, original: &Secret) -> Secret {
    let mut metadata = owner.metadata(&format!("{PULL_SECRET_PREFIX}{}", names::hash(name)), false);
    for owner in metadata.owner_references.iter_mut().flatten() {
        (owner.controller, owner.block_owner_deletion) = (None, None);
    }
    Secret {
        metadata,
        data: original.data.clone(),
        type_: original.type_.clone(),
        ..Secret::default()
    }
}
