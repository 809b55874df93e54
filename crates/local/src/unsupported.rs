//! The table of every field, and what this machine makes of it. A test holds it against the schema.

use serde_json::Value;

/// What becomes of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It does here what it does in a cluster.
    Honoured,
    /// It has no meaning here, and why. Warned about once.
    Meaningless(&'static str),
    /// It cannot be done here, and why.
    Refused(&'static str),
}

use Verdict::{Honoured, Meaningless, Refused};

const PODS: &str = "movers are processes of this machine, run as the user who runs volsync";
const DIRECTORIES: &str = "volumes are directories";
const SERVICES: &str = "there are no Services on one machine";
const METHOD: &str = "this method is not part of this release on one machine; rsync and restic are";

/// Every field by its path; those below a path of [`WHOLE`] share its verdict.
const TABLE: &[(&str, Verdict)] = &[
    ("apiVersion", Honoured),
    ("kind", Honoured),
    ("metadata", Honoured),
    ("spec", Honoured),
    ("spec.sourcePVC", Honoured),
    ("spec.paused", Honoured),
    ("spec.trigger", Honoured),
    ("spec.trigger.schedule", Honoured),
    ("spec.trigger.manual", Honoured),
    ("spec.rsync", Honoured),
    ("spec.rsync.copyMethod", Honoured),
    ("spec.rsync.capacity", Meaningless("a directory has no size of its own")),
    ("spec.rsync.accessModes", Meaningless(DIRECTORIES)),
    ("spec.rsync.storageClassName", Meaningless(DIRECTORIES)),
    ("spec.rsync.volumeSnapshotClassName", Meaningless(DIRECTORIES)),
    ("spec.rsync.volumeMode", Honoured),
    ("spec.rsync.destinationPVC", Honoured),
    ("spec.rsync.cleanupTempPVC", Honoured),
    ("spec.rsync.sshKeys", Honoured),
    ("spec.rsync.address", Honoured),
    ("spec.rsync.port", Honoured),
    ("spec.rsync.serviceType", Honoured),
    ("spec.rsync.serviceAnnotations", Meaningless(SERVICES)),
    ("spec.rsync.path", Meaningless("it has none in a cluster either")),
    ("spec.rsync.sshUser", Meaningless("it has none in a cluster either")),
    ("spec.rsync.moverServiceAccount", Meaningless(PODS)),
    ("spec.rsync.moverPodLabels", Meaningless(PODS)),
    ("spec.rsync.moverResources", Meaningless(PODS)),
    ("spec.rsyncTLS", Refused(METHOD)),
    ("spec.rclone", Refused(METHOD)),
    ("spec.restic", Honoured),
    ("spec.restic.copyMethod", Honoured),
    ("spec.restic.capacity", Meaningless("a directory has no size of its own")),
    ("spec.restic.accessModes", Meaningless(DIRECTORIES)),
    ("spec.restic.storageClassName", Meaningless(DIRECTORIES)),
    ("spec.restic.volumeSnapshotClassName", Meaningless(DIRECTORIES)),
    ("spec.restic.destinationPVC", Honoured),
    ("spec.restic.cleanupTempPVC", Honoured),
    ("spec.restic.repository", Honoured),
    ("spec.restic.customCA", Honoured),
    ("spec.restic.pruneIntervalDays", Honoured),
    ("spec.restic.retain", Honoured),
    ("spec.restic.unlock", Honoured),
    ("spec.restic.host", Honoured),
    ("spec.restic.path", Honoured),
    ("spec.restic.tags", Honoured),
    ("spec.restic.exclude", Honoured),
    ("spec.restic.excludeCaches", Honoured),
    ("spec.restic.verify", Honoured),
    ("spec.restic.bandwidthLimit", Honoured),
    ("spec.restic.snapshot", Honoured),
    ("spec.restic.requireSnapshot", Honoured),
    ("spec.restic.cacheCapacity", Honoured),
    ("spec.restic.cacheAccessModes", Meaningless(DIRECTORIES)),
    ("spec.restic.cacheStorageClassName", Meaningless(DIRECTORIES)),
    ("spec.restic.cleanupCachePVC", Honoured),
    ("spec.restic.previous", Honoured),
    ("spec.restic.restoreAsOf", Honoured),
    ("spec.restic.enableFileDeletion", Honoured),
    ("spec.restic.moverVolumes", Honoured),
    ("spec.restic.moverAffinity", Meaningless(PODS)),
    ("spec.restic.moverPodLabels", Meaningless(PODS)),
    ("spec.restic.moverResources", Meaningless(PODS)),
    ("spec.restic.moverSecurityContext", Meaningless(PODS)),
    ("spec.restic.moverServiceAccount", Meaningless(PODS)),
    ("spec.syncthing", Refused(METHOD)),
    ("spec.external", Refused("whoever replicates this is not on this machine")),
    ("status", Honoured),
];

/// Fields that one of the kinds makes something else of.
const BY_KIND: &[(&str, &str, Verdict)] = &[
    (
        "ReplicationDestination",
        "spec.rsync.address",
        Meaningless("a destination on this machine always listens itself"),
    ),
    ("ReplicationSource", "spec.rsync.serviceType", Meaningless(SERVICES)),
];

/// Paths whose fields below share the verdict: methods that are refused as a whole, what Kubernetes
/// defines, free maps, and the status, which is written and not read from manifests.
const WHOLE: &[&str] = &[
    "metadata",
    "spec.rsync.moverResources",
    "spec.rsync.moverPodLabels",
    "spec.rsync.serviceAnnotations",
    "spec.rsync.accessModes",
    "spec.rsyncTLS",
    "spec.rclone",
    "spec.restic.accessModes",
    "spec.restic.cacheAccessModes",
    "spec.restic.customCA",
    "spec.restic.moverAffinity",
    "spec.restic.moverPodLabels",
    "spec.restic.moverResources",
    "spec.restic.moverSecurityContext",
    "spec.restic.moverVolumes",
    "spec.restic.exclude",
    "spec.restic.retain",
    "spec.restic.tags",
    "spec.restic.verify",
    "spec.syncthing",
    "spec.external",
    "status",
];

/// The entry for a field such as `spec.rsync.accessModes[0]`.
fn entry(path: &str) -> Option<(&'static str, Verdict)> {
    let covers = |known: &str| {
        path.strip_prefix(known).is_some_and(|rest| {
            rest.is_empty()
                || WHOLE.contains(&known) && (rest.starts_with('.') || rest.starts_with('['))
        })
    };
    TABLE.iter().copied().filter(|(known, _)| covers(known)).max_by_key(|(known, _)| known.len())
}

/// Everything in a manifest that is not simply honoured: the path of its entry, and the verdict.
pub(crate) fn verdicts(written: &Value) -> Vec<(&'static str, Verdict)> {
    let kind = written.get("kind").and_then(Value::as_str).unwrap_or_default();
    let mut found = Vec::new();
    for (of, path, verdict) in BY_KIND {
        if *of == kind && written.pointer(&format!("/{}", path.replace('.', "/"))).is_some() {
            found.push((*path, *verdict));
        }
    }
    walk(written, "", &mut found);
    found.sort_by_key(|(path, _)| *path);
    found.dedup();
    found
}

fn walk(value: &Value, path: &str, found: &mut Vec<(&'static str, Verdict)>) {
    if let Some((known, verdict)) = entry(path) {
        match verdict {
            Honoured => {}
            Meaningless(_) | Refused(_) => return found.push((known, verdict)),
        }
    }
    for (name, member) in value.as_object().into_iter().flatten() {
        let below = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        walk(member, &below, found);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn paths(schema: &Value, path: &str, found: &mut Vec<String>) {
        if !path.is_empty() {
            found.push(path.to_owned());
        }
        let below =
            |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
        for (name, property) in
            schema.get("properties").and_then(Value::as_object).into_iter().flatten()
        {
            paths(property, &below(name), found);
        }
        if let Some(items) = schema.get("items") {
            paths(items, &format!("{path}[]"), found);
        }
    }

    fn all_paths() -> Vec<String> {
        let mut found = Vec::new();
        for crd in volsync_api::crds() {
            let crd = serde_json::to_value(crd).unwrap();
            paths(&crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"], "", &mut found);
        }
        found
    }

    #[test]
    fn every_field_of_both_kinds_has_a_verdict() {
        let missing: Vec<_> =
            all_paths().into_iter().filter(|path| entry(path).is_none()).collect();
        assert!(missing.is_empty(), "not in the table: {missing:#?}");
    }

    #[test]
    fn every_entry_of_the_table_is_a_field() {
        let known = all_paths();
        for (path, _) in TABLE {
            assert!(known.iter().any(|known| known == path), "{path} is no field");
        }
        for (_, path, _) in BY_KIND {
            assert!(TABLE.iter().any(|(known, _)| known == path), "{path} has no verdict");
        }
        for path in WHOLE {
            assert!(TABLE.iter().any(|(known, _)| known == path), "{path} has no verdict");
        }
    }

    #[test]
    fn a_field_is_named_once_with_its_reason() {
        let written = json!({"kind": "ReplicationSource", "spec": {
            "rsync": {"capacity": "1Gi", "copyMethod": "Direct", "moverResources": {"limits": {"cpu": "1", "memory": "2"}}},
            "rclone": {"rcloneConfig": "a"},
        }});
        let found = verdicts(&written);
        let found: Vec<_> = found.iter().map(|(path, _)| *path).collect();
        let destination = json!({"kind": "ReplicationDestination", "spec": {"rsync": {"address": "a", "serviceType": "NodePort"}}});
        assert_eq!(verdicts(&destination)[0].0, "spec.rsync.address");
        assert_eq!(verdicts(&destination).len(), 1);
        assert_eq!(found, ["spec.rclone", "spec.rsync.capacity", "spec.rsync.moverResources"]);
    }
}
