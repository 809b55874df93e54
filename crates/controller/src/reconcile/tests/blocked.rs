//! What a sync lacks, or what is in its way, stands in the condition until it is mended.

use serde_json::{Value, json};
use volsync_api::{ReplicationDestination, ReplicationSource};

use super::{
    RUNNING, clone_source, direct_destination, direct_source, snapshot_destination,
    snapshot_source, unlucky_source, until_the_mover_is, writes,
};
use crate::fixtures::{Cluster, Fault, NAMESPACE, REFUSAL, claim, keys_secret, previous_image};
use crate::kind::Kind;

/// Reconciles until the condition is an error, which stays, and is the message.
async fn blocked<K: Kind>(cluster: &mut Cluster) -> String {
    cluster.until::<K>(|cluster| cluster.condition::<K>().0 == "Error").await;
    let (_, message) = cluster.condition::<K>();
    cluster.server.forget();
    cluster.reconcile::<K>().await;
    assert_eq!(writes(cluster), [""; 0], "{message}");
    assert_eq!(cluster.condition::<K>(), ("Error".to_owned(), message.clone()));
    message
}

#[tokio::test]
async fn a_secret_that_is_missing_is_waited_for() {
    let mut cluster = direct_source();
    cluster.server.remove("secrets", NAMESPACE, "keys");
    let missing = "spec.rsync.sshKeys: Secret keys does not exist";
    assert_eq!(blocked::<ReplicationSource>(&mut cluster).await, missing);
    let mut some = keys_secret("keys", None);
    some["data"].as_object_mut().unwrap().remove("source");
    cluster.server.put("secrets", some);
    let lacks = "spec.rsync.sshKeys: Secret keys lacks source";
    assert_eq!(blocked::<ReplicationSource>(&mut cluster).await, lacks);
    cluster.server.put("secrets", keys_secret("keys", None));
    cluster.sync::<ReplicationSource>().await;
    assert_eq!(cluster.replication::<ReplicationSource>()["status"]["lastManualSync"], "one");
}

#[tokio::test]
async fn keys_that_would_not_match_are_not_made() {
    let mut cluster = snapshot_source();
    cluster.server.remove("secrets", NAMESPACE, "volsync-rsync-src-main-photos");
    let half = keys_secret("volsync-rsync-src-dest-photos", Some("photos"));
    cluster.server.put("secrets", half);
    let message = blocked::<ReplicationSource>(&mut cluster).await;
    let main = "Secret volsync-rsync-src-main-photos is gone";
    assert!(message.starts_with(main) && message.contains("volsync-rsync-src-dest-photos"));
}

#[tokio::test]
async fn all_that_is_missing_is_named_at_once() {
    let mut cluster = direct_source();
    cluster.server.remove("secrets", NAMESPACE, "keys");
    cluster.server.remove("persistentvolumeclaims", NAMESPACE, "photos");
    let message = blocked::<ReplicationSource>(&mut cluster).await;
    assert!(message.contains("Secret keys does not exist"), "{message}");
    assert!(message.contains("PersistentVolumeClaim photos does not exist"), "{message}");
}

#[tokio::test]
async fn a_claim_that_is_being_deleted_gets_no_mover() {
    let mut cluster = direct_destination();
    cluster.server.edit("persistentvolumeclaims", NAMESPACE, "archive", |claim| {
        claim["metadata"]["deletionTimestamp"] = "2024-05-06T07:08:09Z".into();
    });
    let message = blocked::<ReplicationDestination>(&mut cluster).await;
    assert_eq!(
        message,
        "spec.rsync.destinationPVC: PersistentVolumeClaim archive is being deleted"
    );
    cluster.server.remove("persistentvolumeclaims", NAMESPACE, "archive");
    let message = blocked::<ReplicationDestination>(&mut cluster).await;
    assert_eq!(message, "spec.rsync.destinationPVC: PersistentVolumeClaim archive does not exist");
    cluster.server.put("persistentvolumeclaims", claim("archive", "fast"));
    cluster.sync::<ReplicationDestination>().await;
}

#[tokio::test]
async fn a_claim_deleted_under_a_mover_is_missed_by_its_next_attempt() {
    let mut cluster = unlucky_source();
    until_the_mover_is::<ReplicationSource>(&mut cluster, RUNNING).await;
    cluster.server.remove("persistentvolumeclaims", NAMESPACE, "photos");
    cluster.server.forget();
    cluster.reconcile::<ReplicationSource>().await;
    assert_eq!(writes(&cluster), [""; 0], "what runs is left to run");
    let message = blocked::<ReplicationSource>(&mut cluster).await;
    assert_eq!(message, "spec.sourcePVC: PersistentVolumeClaim photos does not exist");
    cluster.server.put("persistentvolumeclaims", claim("photos", "fast"));
    cluster.sync::<ReplicationSource>().await;
}

/// An object of somebody else that has this name.
fn foreign(version: &str, kind: &str, name: &str) -> Value {
    json!({
        "apiVersion": version,
        "kind": kind,
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": {"mine": "all mine"}},
        "spec": {"source": {}, "template": {}, "parallelism": 0},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "mine"},
    })
}

async fn is_blocked_by<K: Kind>(mut cluster: Cluster, plural: &'static str, object: Value) {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let (kind, name) = (text(&object["kind"]), text(&object["metadata"]["name"]));
    cluster.server.put(plural, object);
    let meta = |cluster: &Cluster| {
        cluster.server.object(plural, NAMESPACE, &name).unwrap()["metadata"].clone()
    };
    cluster.play();
    let before = meta(&cluster);
    let message = blocked::<K>(&mut cluster).await;
    let wanted = format!("{kind} {NAMESPACE}/{name} exists and was not made for this ");
    assert!(message.starts_with(&wanted), "{message}");
    assert_eq!(meta(&cluster), before, "{kind} was touched");
    cluster.server.remove(plural, NAMESPACE, &name);
    cluster.sync::<K>().await;
}

#[tokio::test]
async fn somebody_elses_objects_are_neither_used_nor_changed() {
    const RBAC: &str = "rbac.authorization.k8s.io/v1";
    let copy = foreign("v1", "PersistentVolumeClaim", "volsync-photos-src");
    let snapshot = foreign("snapshot.storage.k8s.io/v1", "VolumeSnapshot", "volsync-photos-src");
    let secret = foreign("v1", "Secret", "volsync-rsync-src-src-photos");
    let job = foreign("batch/v1", "Job", "volsync-rsync-src-photos");
    let account = foreign("v1", "ServiceAccount", "volsync-src-photos");
    let role = foreign(RBAC, "Role", "volsync-src-photos");
    let binding = foreign(RBAC, "RoleBinding", "volsync-src-photos");
    for (cluster, plural, object) in [
        (clone_source(), "persistentvolumeclaims", copy.clone()),
        (snapshot_source(), "persistentvolumeclaims", copy),
        (snapshot_source(), "volumesnapshots", snapshot),
        (snapshot_source(), "secrets", secret),
        (direct_source(), "jobs", job),
        (direct_source(), "serviceaccounts", account),
        (direct_source(), "roles", role),
        (direct_source(), "rolebindings", binding),
    ] {
        is_blocked_by::<ReplicationSource>(cluster, plural, object).await;
    }
    let service = foreign("v1", "Service", "volsync-rsync-dst-mirror");
    let volume = foreign("v1", "PersistentVolumeClaim", "volsync-mirror-dst");
    for (plural, object) in [("services", service), ("persistentvolumeclaims", volume)] {
        is_blocked_by::<ReplicationDestination>(snapshot_destination(), plural, object).await;
    }
}

#[tokio::test]
async fn an_image_of_another_destination_is_not_taken_for_its_own() {
    let mut cluster = snapshot_destination();
    until_the_mover_is::<ReplicationDestination>(&mut cluster, RUNNING).await;
    cluster.server.edit("jobs", NAMESPACE, "volsync-rsync-dst-mirror", |job| {
        job["metadata"]["creationTimestamp"] = "2024-05-07T00:00:00Z".into();
    });
    let mut other = previous_image();
    other["metadata"]["name"] = "volsync-mirror-dst-20240507000000".into();
    other["metadata"]["ownerReferences"][0]["uid"] = "uid-of-other".into();
    cluster.server.put("namespaces", json!({"metadata": {"name": "x", "uid": "uid-of-other"}}));
    is_blocked_by::<ReplicationDestination>(cluster, "volumesnapshots", other).await;
}

#[tokio::test]
async fn a_cluster_without_snapshots_is_told_of() {
    let message = "copyMethod Snapshot needs the VolumeSnapshot API";
    let mut cluster = snapshot_source();
    cluster.server.serve_no("volumesnapshots");
    let said = blocked::<ReplicationSource>(&mut cluster).await;
    assert!(said.starts_with(message), "{said}");
    let mut cluster = snapshot_destination();
    cluster.server.serve_no("volumesnapshots");
    let said = blocked::<ReplicationDestination>(&mut cluster).await;
    assert!(said.starts_with(message), "{said}");
    assert_eq!(
        cluster.replication::<ReplicationDestination>()["status"]["lastManualSync"],
        "one",
        "without its image it is not over"
    );
}

#[tokio::test]
async fn an_image_that_is_refused_is_told_of_until_it_is_made() {
    let mut cluster = snapshot_destination();
    cluster.server.fail_all("POST", "volumesnapshots", Fault::Refused(403));
    let message = blocked::<ReplicationDestination>(&mut cluster).await;
    assert!(
        message.starts_with("cannot create VolumeSnapshot family/volsync-mirror-dst-"),
        "{message}"
    );
    assert!(message.ends_with(REFUSAL), "{message}");
    let events = cluster.server.objects("events");
    assert!(events.iter().any(|event| event["reason"] == "TransferBlocked"));
    cluster.server.heal();
    cluster.sync::<ReplicationDestination>().await;
}

#[tokio::test]
async fn a_mover_waits_for_the_pod_of_an_earlier_one() {
    for started in [Value::Null, json!({"lastSyncStartTime": "2024-05-06T07:08:09Z"})] {
        let mut cluster = direct_source();
        cluster.edit::<ReplicationSource>(|source| source["status"] = started);
        cluster.server.put(
            "pods",
            json!({
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {
                    "name": "earlier",
                    "namespace": NAMESPACE,
                    "labels": {"job-name": "volsync-rsync-src-photos"},
                },
                "spec": {"containers": [{"name": "rsync"}]},
                "status": {"phase": "Running"},
            }),
        );
        for _ in 0..3 {
            cluster.reconcile::<ReplicationSource>().await;
            cluster.play();
        }
        assert!(cluster.server.objects("jobs").is_empty());
        cluster.server.edit("pods", NAMESPACE, "earlier", |pod| {
            pod["status"]["phase"] = "Failed".into();
        });
        cluster.sync::<ReplicationSource>().await;
    }
}

#[tokio::test]
async fn why_a_job_cannot_make_its_pod_is_told() {
    let mut cluster = direct_source();
    cluster.reconcile::<ReplicationSource>().await;
    let job = cluster.server.objects("jobs").remove(0);
    cluster.server.put(
        "events",
        json!({
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": "no-pod", "namespace": NAMESPACE},
            "involvedObject": {"uid": job["metadata"]["uid"]},
            "reason": "FailedCreate",
            "message": "pods \"volsync-rsync-src-photos-x\" is forbidden: exceeded quota: small",
        }),
    );
    let message = blocked::<ReplicationSource>(&mut cluster).await;
    let wanted = "Job/volsync-rsync-src-photos cannot make its pod: exceeded quota: small";
    assert_eq!(message, wanted);
    cluster.sync::<ReplicationSource>().await;
}

#[tokio::test]
async fn a_method_without_a_mover_is_told_of() {
    let mut cluster = direct_source();
    cluster.edit::<ReplicationSource>(|source| {
        let spec = &mut source["spec"];
        spec["rsync"] = Value::Null;
        spec["rclone"] = json!({
            "copyMethod": "Direct",
            "rcloneConfig": "keys",
            "rcloneConfigSection": "a",
            "rcloneDestPath": "b",
        });
    });
    let message = blocked::<ReplicationSource>(&mut cluster).await;
    let wanted = "spec.rclone: this release has no rclone mover; it has rsync and restic";
    assert_eq!(message, wanted);
    // Nor is the next slot waited for where there was a sync before.
    cluster.edit::<ReplicationSource>(|source| {
        source["spec"]["trigger"] = json!({"schedule": "0 0 1 1 *"});
        source["status"] = json!({
            "lastSyncTime": "2024-05-06T07:08:09Z",
            "conditions": [{
                "type": "Synchronizing",
                "status": "False",
                "reason": "WaitingForSchedule",
                "message": "Waiting for next scheduled synchronization",
                "lastTransitionTime": "2024-05-06T07:08:09Z",
            }],
        });
    });
    cluster.reconcile::<ReplicationSource>().await;
    let said = cluster.condition::<ReplicationSource>();
    assert_eq!(said, ("Error".to_owned(), wanted.to_owned()));
}
