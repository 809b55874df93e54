//! What is removed when a sync is over, and what is not.

use serde_json::{Value, json};
use volsync_api::ReplicationDestination;

use crate::fixtures::{Cluster, NAMESPACE, claim, destination, keys_secret, previous_image};

/// A destination that is due and whose older image is as `change` makes it.
fn superseding(change: impl FnOnce(&mut Value)) -> Cluster {
    let rsync = json!({
        "copyMethod": "Snapshot",
        "destinationPVC": "archive",
        "sshKeys": "keys",
    });
    let mut image = previous_image();
    let mut mirror = destination(&json!({"manual": "two"}), &rsync);
    mirror["status"] = json!({
        "lastManualSync": "one",
        "lastSyncTime": "2024-05-06T07:08:19Z",
        "latestImage": {
            "apiGroup": "snapshot.storage.k8s.io",
            "kind": "VolumeSnapshot",
            "name": image["metadata"]["name"],
        },
    });
    change(&mut image);
    Cluster::with([
        ("secrets", keys_secret("keys", None)),
        ("persistentvolumeclaims", claim("archive", "fast")),
        ("volumesnapshots", image),
        ("replicationdestinations", mirror),
    ])
}

fn older(cluster: &Cluster) -> Option<Value> {
    let name = previous_image()["metadata"]["name"].clone();
    cluster.server.object("volumesnapshots", NAMESPACE, name.as_str().unwrap())
}

#[tokio::test]
async fn an_image_that_is_superseded_goes() {
    let mut cluster = superseding(|_| {});
    cluster.sync::<ReplicationDestination>().await;
    assert_eq!(older(&cluster), None);
}

#[tokio::test]
async fn an_image_that_the_user_keeps_becomes_the_users() {
    let mut cluster = superseding(|image| {
        image["metadata"]["labels"]["volsync.backube/do-not-delete"] = "".into();
    });
    cluster.sync::<ReplicationDestination>().await;
    let kept = older(&cluster).unwrap();
    assert_eq!(kept["metadata"]["labels"], json!({"volsync.backube/do-not-delete": ""}));
    assert_eq!(kept["metadata"]["ownerReferences"], json!([]));
}

#[tokio::test]
async fn a_kept_image_does_not_go_with_a_claim_that_is_populated_from_it() {
    let mut cluster = superseding(|image| {
        image["metadata"]["labels"]["volsync.backube/do-not-delete"] = "".into();
        let prime = json!({
            "apiVersion": "v1", "kind": "PersistentVolumeClaim",
            "name": "vs-prime-x", "uid": "uid-of-prime",
        });
        image["metadata"]["ownerReferences"].as_array_mut().unwrap().push(prime);
    });
    let mut prime = claim("vs-prime-x", "fast");
    prime["metadata"]["uid"] = "uid-of-prime".into();
    cluster.server.put("persistentvolumeclaims", prime);
    cluster.sync::<ReplicationDestination>().await;
    assert_eq!(older(&cluster).unwrap()["metadata"]["ownerReferences"], json!([]));
}

#[tokio::test]
async fn an_image_that_a_claim_waits_for_is_kept_until_that_is_over() {
    let mut cluster = superseding(|image| {
        image["metadata"]["labels"]["volsync.backube/volpop-pvc-uid-of-restored"] =
            "restored".into();
    });
    let mut restored = claim("restored", "fast");
    restored["metadata"]["uid"] = "uid-of-restored".into();
    cluster.server.put("persistentvolumeclaims", restored);
    cluster.sync::<ReplicationDestination>().await;
    let owners = older(&cluster).unwrap()["metadata"]["ownerReferences"].clone();
    assert_eq!(owners.as_array().unwrap().len(), 1, "it would stay for ever without an owner");
}

#[tokio::test]
async fn an_image_whose_restore_was_given_up_goes() {
    let mut cluster = superseding(|image| {
        image["metadata"]["labels"]["volsync.backube/volpop-pvc-uid-of-restored"] =
            "restored".into();
    });
    cluster.sync::<ReplicationDestination>().await;
    assert_eq!(older(&cluster), None);
}

#[tokio::test]
async fn an_image_that_somebody_else_owns_too_is_only_let_go_of() {
    let mut cluster = superseding(|image| {
        let owners = image["metadata"]["ownerReferences"].as_array_mut().unwrap();
        let archive = json!({
            "apiVersion": "v1", "kind": "Namespace", "name": "x", "uid": "uid-of-x",
        });
        owners.push(archive);
    });
    cluster.server.put("namespaces", json!({"metadata": {"name": "x", "uid": "uid-of-x"}}));
    cluster.sync::<ReplicationDestination>().await;
    let owners = older(&cluster).unwrap()["metadata"]["ownerReferences"].clone();
    assert_eq!(owners.as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn an_image_that_changed_since_it_was_read_is_looked_at_again() {
    let mut cluster = superseding(|_| {});
    cluster
        .until::<ReplicationDestination>(|cluster| {
            cluster.server.objects("pods").iter().any(|pod| pod["status"]["phase"] == "Succeeded")
        })
        .await;
    cluster.server.fail_all("DELETE", "volumesnapshots", crate::fixtures::Fault::Refused(409));
    for _ in 0..3 {
        cluster.reconcile::<ReplicationDestination>().await;
    }
    assert!(older(&cluster).is_some());
    let name = older(&cluster).unwrap()["metadata"]["name"].clone();
    cluster.server.edit("volumesnapshots", NAMESPACE, name.as_str().unwrap(), |image| {
        image["metadata"]["labels"]["volsync.backube/do-not-delete"] = "".into();
    });
    cluster.server.heal();
    cluster.sync::<ReplicationDestination>().await;
    assert!(older(&cluster).is_some());
}
