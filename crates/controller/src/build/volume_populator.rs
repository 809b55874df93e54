//! The VolumePopulator (populator.storage.k8s.io/v1beta1), which tells a cluster that claims may name a
//! ReplicationDestination as their data source.

use serde_json::{Value, json};
use volsync_api::{GROUP, keys};

/// Says of ReplicationDestinations that somebody fills claims from them.
pub(crate) fn volume_populator() -> Value {
    json!({
        "apiVersion": "populator.storage.k8s.io/v1beta1",
        "kind": "VolumePopulator",
        "metadata": {
            "name": keys::VOLUME_POPULATOR_NAME,
            "labels": {keys::CREATED_BY: keys::CREATED_BY_VOLSYNC},
        },
        "sourceKind": {"group": GROUP, "kind": "ReplicationDestination"},
    })
}
