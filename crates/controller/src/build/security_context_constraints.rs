//! SecurityContextConstraints (security.openshift.io/v1) of privileged movers, for OpenShift.

use serde_json::{Value, json};
use volsync_api::keys;

/// What a privileged mover may: keep owners, modes and devices of what it moves, and nothing of the
/// node it runs on.
pub(crate) fn constraints(name: &str) -> Value {
    json!({
        "apiVersion": "security.openshift.io/v1",
        "kind": "SecurityContextConstraints",
        "metadata": {
            "name": name,
            "labels": {keys::CREATED_BY: keys::CREATED_BY_VOLSYNC},
        },
        "allowHostDirVolumePlugin": false,
        "allowHostIPC": false,
        "allowHostNetwork": false,
        "allowHostPID": false,
        "allowHostPorts": false,
        "allowPrivilegeEscalation": false,
        "allowPrivilegedContainer": false,
        "allowedCapabilities": super::job::rsync::SSH_CAPABILITIES,
        "fsGroup": {"type": "RunAsAny"},
        "readOnlyRootFilesystem": true,
        "requiredDropCapabilities": ["ALL"],
        "runAsUser": {"type": "RunAsAny"},
        "seLinuxContext": {"type": "MustRunAs"},
        "seccompProfiles": ["runtime/default"],
        "supplementalGroups": {"type": "RunAsAny"},
        "volumes": [
            "configMap",
            "downwardAPI",
            "emptyDir",
            "persistentVolumeClaim",
            "projected",
            "secret",
        ],
    })
}
