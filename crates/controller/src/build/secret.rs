//! Secrets with generated keys.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;

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
