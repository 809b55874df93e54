//! Whole syncs against an API server in memory: what is written, in which order, and nothing twice.

mod attempts;
mod blocked;
mod faults;
mod manifests;
mod restic;
mod still;

use serde_json::{Value, json};
use volsync_api::{ReplicationDestination, ReplicationSource};

use crate::fixtures::{
    Cluster, NAMESPACE, claim, claim_in_use, destination, keys_secret, previous_image, source,
};
use crate::kind::Kind;

fn keys() -> (&'static str, Value) {
    ("secrets", keys_secret("keys", None))
}

fn node() -> (&'static str, Value) {
    let node = json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": "node7", "labels": {"kubernetes.io/hostname": "seven"}},
    });
    ("nodes", node)
}

/// A source that reads its claim beside the pod that uses it.
fn direct_source() -> Cluster {
    let rsync = json!({"copyMethod": "Direct", "address": "mirror.example.org", "sshKeys": "keys"});
    Cluster::with([
        keys(),
        node(),
        ("pods", claim_in_use("photos")),
        ("persistentvolumeclaims", claim("photos", "fast")),
        ("replicationsources", source(&json!({"manual": "one"}), &rsync)),
    ])
}

/// A source that clones its claim once its user says so.
fn clone_source() -> Cluster {
    let rsync = json!({"copyMethod": "Clone", "address": "mirror.example.org", "sshKeys": "keys"});
    let mut original = claim("photos", "late");
    original["metadata"]["annotations"] = json!({
        "volsync.backube/use-copy-trigger": "",
        "volsync.backube/copy-trigger": "now",
    });
    Cluster::with([
        keys(),
        ("persistentvolumeclaims", original),
        ("replicationsources", source(&json!({"manual": "one"}), &rsync)),
    ])
}

/// A source that takes a snapshot on a schedule, whose keys were generated before.
fn snapshot_source() -> Cluster {
    let rsync = json!({"copyMethod": "Snapshot", "address": "mirror.example.org"});
    Cluster::with([
        ("secrets", keys_secret("volsync-rsync-src-main-photos", Some("photos"))),
        ("persistentvolumeclaims", claim("photos", "fast")),
        ("replicationsources", source(&json!({"schedule": "0 0 1 1 *"}), &rsync)),
    ])
}

/// A source whose first mover fails.
fn unlucky_source() -> Cluster {
    let mut cluster = direct_source();
    let failed = volsync_contract::Report::new(volsync_contract::Outcome::FailedTransient);
    cluster.reports.push_back(failed);
    cluster
}

/// A destination that writes to its user's claim.
fn direct_destination() -> Cluster {
    let rsync = json!({"copyMethod": "Direct", "destinationPVC": "archive", "sshKeys": "keys"});
    Cluster::with([
        keys(),
        ("persistentvolumeclaims", claim("archive", "fast")),
        ("replicationdestinations", destination(&json!({"manual": "one"}), &rsync)),
    ])
}

/// A destination that keeps a snapshot of a volume of its own and has an older one.
fn snapshot_destination() -> Cluster {
    let rsync = json!({
        "copyMethod": "Snapshot",
        "capacity": "1Gi",
        "accessModes": ["ReadWriteOnce"],
        "cleanupTempPVC": true,
    });
    let mut mirror = destination(&json!({"manual": "two"}), &rsync);
    let image = previous_image();
    mirror["status"] = json!({
        "lastManualSync": "one",
        "lastSyncTime": "2024-05-06T07:08:19Z",
        "latestImage": {
            "apiGroup": "snapshot.storage.k8s.io",
            "kind": "VolumeSnapshot",
            "name": image["metadata"]["name"],
        },
    });
    Cluster::with([
        ("secrets", keys_secret("volsync-rsync-dst-main-mirror", Some("mirror"))),
        ("volumesnapshots", image),
        ("replicationdestinations", mirror),
    ])
}

const RUNNING: &str = "Running";
const PENDING: &str = "Pending";

/// Reconciles until the mover's pod is in this phase; requests are counted from then on.
async fn until_the_mover_is<K: Kind>(cluster: &mut Cluster, phase: &str) {
    let mover = |pod: &Value| {
        pod["metadata"]["labels"]["job-name"].is_string() && pod["status"]["phase"] == phase
    };
    cluster.until::<K>(|cluster| cluster.server.objects("pods").iter().any(mover)).await;
    cluster.server.forget();
}

/// The writes of a sync, its end of the snapshots' names made the same each time.
fn writes(cluster: &Cluster) -> Vec<String> {
    cluster.server.writes().iter().map(|write| without_time(write)).collect()
}

/// A name without the 14 digits of a time at its end, unless it is of the year 2024.
fn without_time(name: &str) -> String {
    match name.rsplit_once('-') {
        Some((name, time)) if time.len() == 14 && !time.starts_with("2024") => {
            format!("{name}-TIME")
        }
        Some(_) | None => name.to_owned(),
    }
}

#[tokio::test]
async fn a_source_is_read_where_it_is_used() {
    let mut cluster = direct_source();
    cluster.sync::<ReplicationSource>().await;
    let wanted = [
        "PATCH replicationsources/photos/status",
        "POST serviceaccounts/volsync-src-photos",
        "POST roles/volsync-src-photos",
        "POST rolebindings/volsync-src-photos",
        "POST jobs/volsync-rsync-src-photos",
        "POST events/TransferStarted",
        "POST events/TransferCompleted",
        "PATCH replicationsources/photos/status",
        "DELETE jobs/volsync-rsync-src-photos",
        "PATCH replicationsources/photos/status",
    ];
    assert_eq!(writes(&cluster), wanted);
    let requests = cluster.server.requests();
    let job = requests.iter().find(|request| request.method == "POST" && request.plural == "jobs");
    let node = &job.unwrap().body["spec"]["template"]["spec"]["nodeSelector"];
    assert_eq!(*node, json!({"kubernetes.io/hostname": "seven"}));
}

#[tokio::test]
async fn a_clone_is_made_on_its_users_word_who_is_told_when_it_is_there() {
    let mut cluster = clone_source();
    cluster.sync::<ReplicationSource>().await;
    let wanted = [
        "PATCH replicationsources/photos/status",
        "PATCH persistentvolumeclaims/photos",
        "POST events/SrcPVCCopyTriggerReceived",
        "POST persistentvolumeclaims/volsync-photos-src",
        "POST events/PersistentVolumeClaimCreated",
        "POST serviceaccounts/volsync-src-photos",
        "POST roles/volsync-src-photos",
        "POST rolebindings/volsync-src-photos",
        "POST jobs/volsync-rsync-src-photos",
        "POST events/TransferStarted",
        "PATCH persistentvolumeclaims/photos",
        "POST events/SrcPVCCopyUsingCopyTriggerCompleted",
        "POST events/TransferCompleted",
        "PATCH replicationsources/photos/status",
        "DELETE persistentvolumeclaims/volsync-photos-src",
        "DELETE jobs/volsync-rsync-src-photos",
        "PATCH replicationsources/photos/status",
    ];
    assert_eq!(writes(&cluster), wanted);
}

#[tokio::test]
async fn a_snapshot_is_taken_and_a_copy_made_of_it() {
    let mut cluster = snapshot_source();
    cluster.sync::<ReplicationSource>().await;
    let wanted = [
        "PATCH replicationsources/photos/status",
        "POST secrets/volsync-rsync-src-src-photos",
        "POST secrets/volsync-rsync-src-dest-photos",
        "POST volumesnapshots/volsync-photos-src",
        "POST events/VolumeSnapshotCreated",
        "PATCH replicationsources/photos/status",
        "POST persistentvolumeclaims/volsync-photos-src",
        "POST events/PersistentVolumeClaimCreated",
        "POST serviceaccounts/volsync-src-photos",
        "POST roles/volsync-src-photos",
        "POST rolebindings/volsync-src-photos",
        "POST jobs/volsync-rsync-src-photos",
        "POST events/TransferStarted",
        "POST events/TransferCompleted",
        "PATCH replicationsources/photos/status",
        "DELETE persistentvolumeclaims/volsync-photos-src",
        "DELETE volumesnapshots/volsync-photos-src",
        "DELETE jobs/volsync-rsync-src-photos",
        "PATCH replicationsources/photos/status",
    ];
    assert_eq!(writes(&cluster), wanted);
}

#[tokio::test]
async fn a_snapshot_that_its_user_keeps_is_not_in_the_way() {
    let mut cluster = snapshot_source();
    let kept = json!({
        "apiVersion": "snapshot.storage.k8s.io/v1",
        "kind": "VolumeSnapshot",
        "metadata": {
            "name": "volsync-photos-src",
            "namespace": NAMESPACE,
            "labels": {"volsync.backube/do-not-delete": ""},
        },
        "spec": {"source": {"persistentVolumeClaimName": "photos"}},
        "status": {"readyToUse": true, "restoreSize": "1Gi"},
    });
    cluster.server.put("volumesnapshots", kept);
    let before = cluster.server.objects("volumesnapshots");
    until_the_mover_is::<ReplicationSource>(&mut cluster, "Pending").await;
    let names: Vec<_> = cluster
        .server
        .objects("volumesnapshots")
        .iter()
        .map(|snapshot| without_time(snapshot["metadata"]["name"].as_str().unwrap()))
        .collect();
    let copy = cluster.server.object("persistentvolumeclaims", NAMESPACE, "volsync-photos-src");
    let of = copy.unwrap()["spec"]["dataSource"]["name"].as_str().unwrap().to_owned();
    assert!(of.starts_with("volsync-photos-src-20"), "{of}");
    assert_eq!(names.len(), 2, "{names:?}");
    cluster.sync::<ReplicationSource>().await;
    assert_eq!(cluster.server.objects("volumesnapshots"), before);
}

#[tokio::test]
async fn a_failed_mover_is_told_of_and_gets_another_attempt() {
    let mut cluster = unlucky_source();
    cluster.sync::<ReplicationSource>().await;
    let wanted = [
        "PATCH replicationsources/photos/status",
        "POST serviceaccounts/volsync-src-photos",
        "POST roles/volsync-src-photos",
        "POST rolebindings/volsync-src-photos",
        "POST jobs/volsync-rsync-src-photos",
        "POST events/TransferStarted",
        "PATCH jobs/volsync-rsync-src-photos",
        "POST events/TransferFailed",
        "PATCH replicationsources/photos/status",
        "DELETE jobs/volsync-rsync-src-photos",
        "POST jobs/volsync-rsync-src-photos",
        "POST events/TransferStarted",
        "POST events/TransferCompleted",
        "PATCH replicationsources/photos/status",
        "DELETE jobs/volsync-rsync-src-photos",
        "PATCH replicationsources/photos/status",
    ];
    assert_eq!(writes(&cluster), wanted);
}

#[tokio::test]
async fn a_destination_says_where_it_listens() {
    let mut cluster = direct_destination();
    cluster.sync::<ReplicationDestination>().await;
    let wanted = [
        "PATCH replicationdestinations/mirror/status",
        "POST services/volsync-rsync-dst-mirror",
        "POST events/ServiceAddressAssigned",
        "POST serviceaccounts/volsync-dst-mirror",
        "POST roles/volsync-dst-mirror",
        "POST rolebindings/volsync-dst-mirror",
        "PATCH replicationdestinations/mirror/status",
        "POST jobs/volsync-rsync-dst-mirror",
        "POST events/TransferStarted",
        "POST events/TransferCompleted",
        "PATCH replicationdestinations/mirror/status",
        "DELETE jobs/volsync-rsync-dst-mirror",
        "PATCH replicationdestinations/mirror/status",
    ];
    assert_eq!(writes(&cluster), wanted);
    let status = cluster.replication::<ReplicationDestination>()["status"].clone();
    assert_eq!(status["rsync"], json!({"address": "10.0.0.7", "port": 22}));
    assert_eq!(status["latestImage"]["name"], "archive");
}

#[tokio::test]
async fn a_destination_keeps_its_newest_image_alone() {
    let mut cluster = snapshot_destination();
    cluster.sync::<ReplicationDestination>().await;
    let wanted = [
        "PATCH replicationdestinations/mirror/status",
        "POST secrets/volsync-rsync-dst-src-mirror",
        "POST secrets/volsync-rsync-dst-dest-mirror",
        "POST services/volsync-rsync-dst-mirror",
        "POST events/ServiceAddressAssigned",
        "POST persistentvolumeclaims/volsync-mirror-dst",
        "POST events/PersistentVolumeClaimCreated",
        "POST serviceaccounts/volsync-dst-mirror",
        "POST roles/volsync-dst-mirror",
        "POST rolebindings/volsync-dst-mirror",
        "PATCH replicationdestinations/mirror/status",
        "POST jobs/volsync-rsync-dst-mirror",
        "POST events/TransferStarted",
        "PATCH jobs/volsync-rsync-dst-mirror",
        "POST volumesnapshots/volsync-mirror-dst-TIME",
        "POST events/VolumeSnapshotCreated",
        "POST events/TransferCompleted",
        "PATCH replicationdestinations/mirror/status",
        "DELETE persistentvolumeclaims/volsync-mirror-dst",
        "DELETE volumesnapshots/volsync-mirror-dst-20240506070809",
        "DELETE jobs/volsync-rsync-dst-mirror",
        "PATCH replicationdestinations/mirror/status",
    ];
    assert_eq!(writes(&cluster), wanted);
    let status = cluster.replication::<ReplicationDestination>()["status"].clone();
    assert_eq!(status["lastManualSync"], "two");
    assert_eq!(status["rsync"]["sshKeys"], "volsync-rsync-dst-src-mirror");
}
