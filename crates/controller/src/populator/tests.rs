//! Claims are filled from destinations, whatever fails.

use serde_json::{Value, json};

use super::*;
use crate::fixtures::{Cluster, Fault, NAMESPACE, claim, destination, golden, previous_image};

const FAULTS: [Fault; 9] = [
    Fault::Refused(403),
    Fault::Refused(409),
    Fault::Refused(422),
    Fault::Refused(429),
    Fault::Refused(500),
    Fault::Lost,
    Fault::Unanswered,
    Fault::KilledBefore,
    Fault::KilledAfter,
];

const IN_USE: &str = "volsync.backube/volpop-pvc-uid-of-restored";

/// A claim that is to be filled from `mirror`, which has an image.
fn restoring() -> Cluster {
    let mut restored = claim("restored", "fast");
    restored["metadata"]["uid"] = "uid-of-restored".into();
    restored["spec"]["dataSourceRef"] =
        json!({"apiGroup": GROUP, "kind": "ReplicationDestination", "name": "mirror"});
    let rsync = json!({"capacity": "1Gi", "accessModes": ["ReadWriteOnce"]});
    let mut mirror = destination(&json!({"manual": "one"}), &rsync);
    let image = previous_image();
    mirror["status"] = json!({"latestImage": {
        "apiGroup": SNAPSHOT_GROUP,
        "kind": "VolumeSnapshot",
        "name": image["metadata"]["name"],
    }});
    let class = json!({
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": "fast"},
        "provisioner": "csi.example.org",
    });
    Cluster::with([
        ("storageclasses", class),
        ("replicationdestinations", mirror),
        ("volumesnapshots", image),
        ("persistentvolumeclaims", restored),
    ])
}

fn restored(cluster: &Cluster) -> Option<Value> {
    cluster.server.object("persistentvolumeclaims", NAMESPACE, "restored")
}

fn prime(cluster: &Cluster) -> Option<Value> {
    cluster.server.object("persistentvolumeclaims", NAMESPACE, "vs-prime-uid-of-restored")
}

fn image(cluster: &Cluster) -> Value {
    cluster.server.objects("volumesnapshots").remove(0)
}

/// One reconciliation of the claim; `false` if it broke off.
async fn look(cluster: &mut Cluster) -> bool {
    let claim = serde_json::from_value(restored(cluster).unwrap()).unwrap();
    let claim: Arc<PersistentVolumeClaim> = Arc::new(claim);
    let done = tokio::select! {
        biased;
        done = reconcile(claim.clone(), cluster.context.clone()) => done,
        () = cluster.server.killed.notified() => {
            cluster.restart();
            return false;
        }
    };
    if let Err(error) = &done {
        try_again(claim, error, cluster.context.clone());
    }
    done.is_ok()
}

/// Until the claim has a volume and the prime is gone.
async fn restore(cluster: &mut Cluster) {
    for _ in 0..20 {
        let went = look(cluster).await;
        let bound = restored(cluster).unwrap()["status"]["phase"] == "Bound";
        if went && bound && prime(cluster).is_none() {
            return;
        }
        cluster.play();
    }
    panic!("the claim is not filled: {:#?}", cluster.server.writes());
}

#[tokio::test]
async fn a_claim_is_filled_from_the_latest_image() {
    let mut cluster = restoring();
    restore(&mut cluster).await;
    let wanted = [
        "PATCH volumesnapshots/volsync-mirror-dst-20240506070809",
        "POST persistentvolumeclaims/vs-prime-uid-of-restored",
        "POST events/VolSyncPopulatorPVCCreated",
        "PATCH volumesnapshots/volsync-mirror-dst-20240506070809",
        "PATCH persistentvolumes/pv-vs-prime-uid-of-restored",
        "PATCH volumesnapshots/volsync-mirror-dst-20240506070809",
        "POST events/VolSyncPopulatorFinished",
        "DELETE persistentvolumeclaims/vs-prime-uid-of-restored",
    ];
    assert_eq!(cluster.server.writes(), wanted);
    assert_eq!(restored(&cluster).unwrap()["spec"]["volumeName"], "pv-vs-prime-uid-of-restored");
    assert_eq!(image(&cluster)["metadata"]["labels"][IN_USE], Value::Null);
    cluster.server.forget();
    look(&mut cluster).await;
    assert_eq!(cluster.server.writes(), [""; 0]);
}

#[tokio::test]
async fn no_state_of_a_restore_writes_twice() {
    let mut cluster = restoring();
    for _ in 0..8 {
        look(&mut cluster).await;
        cluster.server.forget();
        look(&mut cluster).await;
        assert_eq!(cluster.server.writes(), [""; 0]);
        cluster.play();
    }
    assert_eq!(prime(&cluster), None);
}

#[tokio::test]
async fn a_restore_survives_every_fault() {
    let mut calm = restoring();
    restore(&mut calm).await;
    calm.server.collect_garbage();
    let wanted = calm.server.inventory();
    for number in 0..calm.server.requests().len() {
        for fault in FAULTS {
            let mut cluster = restoring();
            cluster.server.fail_number(number, fault);
            restore(&mut cluster).await;
            cluster.server.collect_garbage();
            assert_eq!(cluster.server.inventory(), wanted, "request {number}: {fault:?}");
            assert_eq!(image(&cluster)["metadata"]["labels"][IN_USE], Value::Null);
            let primes = cluster.server.writes();
            let primes = primes.iter().filter(|write| write.starts_with("POST persistentvolumec"));
            assert_eq!(primes.count(), 1, "request {number}: {fault:?}");
        }
    }
}

#[tokio::test]
async fn a_claim_waits_for_the_first_sync() {
    let mut cluster = restoring();
    cluster.server.edit("replicationdestinations", NAMESPACE, "mirror", |mirror| {
        mirror.as_object_mut().unwrap().remove("status");
    });
    look(&mut cluster).await;
    assert_eq!(
        cluster.server.writes(),
        ["POST events/VolSyncPopulatorReplicationDestinationNoLatestImage"]
    );
    cluster.server.edit("replicationdestinations", NAMESPACE, "mirror", |mirror| {
        mirror["status"] = json!({"latestImage": {
            "apiGroup": SNAPSHOT_GROUP,
            "kind": "VolumeSnapshot",
            "name": "volsync-mirror-dst-20240506070809",
        }});
    });
    restore(&mut cluster).await;
}

#[tokio::test]
async fn what_cannot_fill_a_claim_is_told() {
    let mut cluster = restoring();
    cluster.server.edit("replicationdestinations", NAMESPACE, "mirror", |mirror| {
        mirror["status"] = json!({"latestImage": {
            "apiGroup": "", "kind": "PersistentVolumeClaim", "name": "volsync-mirror-dst",
        }});
    });
    look(&mut cluster).await;
    assert_eq!(cluster.server.writes(), ["POST events/VolSyncPopulatorError"]);
    cluster.server.remove("replicationdestinations", NAMESPACE, "mirror");
    look(&mut cluster).await;
    let told = cluster.server.writes();
    assert_eq!(told[1], "POST events/VolSyncPopulatorReplicationDestinationMissing");
    assert_eq!(prime(&cluster), None);
}

#[tokio::test]
async fn a_claim_that_is_too_small_is_told_both_sizes() {
    let mut cluster = restoring();
    let name = image(&cluster)["metadata"]["name"].as_str().unwrap().to_owned();
    cluster.server.edit("volumesnapshots", NAMESPACE, &name, |image| {
        image["status"]["restoreSize"] = "2Ti".into();
    });
    look(&mut cluster).await;
    assert_eq!(cluster.server.writes(), ["POST events/VolSyncPopulatorPVCCreationError"]);
    let event = cluster.server.objects("events").remove(0);
    let note = event["note"].as_str().or_else(|| event["message"].as_str()).unwrap();
    let requested = restored(&cluster).unwrap()["spec"]["resources"]["requests"]["storage"].clone();
    let wanted = format!("{} is requested, less than the 2Ti of", requested.as_str().unwrap());
    assert!(note.starts_with(&wanted), "{note}");
    assert_eq!(prime(&cluster), None);
}

#[tokio::test]
async fn a_claim_deleted_midway_leaves_nothing_but_the_image() {
    let mut cluster = restoring();
    look(&mut cluster).await;
    assert!(prime(&cluster).is_some());
    cluster.server.edit("persistentvolumeclaims", NAMESPACE, "restored", |claim| {
        claim["metadata"]["deletionTimestamp"] = "2024-05-06T07:08:09Z".into();
    });
    cluster.server.forget();
    look(&mut cluster).await;
    assert!(cluster.server.requests().is_empty());
    cluster.server.remove("persistentvolumeclaims", NAMESPACE, "restored");
    cluster.server.collect_garbage();
    assert_eq!(prime(&cluster), None);
    assert_eq!(cluster.server.objects("volumesnapshots").len(), 1);
}

#[tokio::test]
async fn an_image_that_the_user_keeps_does_not_go_with_the_prime() {
    let mut cluster = restoring();
    let name = "volsync-mirror-dst-20240506070809";
    cluster.server.edit("volumesnapshots", NAMESPACE, name, |image| {
        image["metadata"]["labels"]["volsync.backube/do-not-delete"] = "".into();
        image["metadata"]["ownerReferences"] = json!([]);
    });
    restore(&mut cluster).await;
    cluster.server.collect_garbage();
    assert_eq!(image(&cluster)["metadata"]["ownerReferences"], json!([]));
}

#[tokio::test]
async fn an_image_superseded_during_a_restore_goes_with_the_prime() {
    let mut cluster = restoring();
    look(&mut cluster).await;
    let name = "volsync-mirror-dst-20240506070809";
    cluster.server.edit("volumesnapshots", NAMESPACE, name, |image| {
        let owners = image["metadata"]["ownerReferences"].as_array_mut().unwrap();
        owners.retain(|owner| owner["kind"] != "ReplicationDestination");
        assert_eq!(owners.len(), 1, "the prime owns it too");
    });
    restore(&mut cluster).await;
    cluster.server.collect_garbage();
    assert!(cluster.server.objects("volumesnapshots").is_empty());
}

#[tokio::test]
async fn a_late_class_waits_for_its_node() {
    let mut cluster = restoring();
    cluster.server.edit("storageclasses", "", "fast", |class| {
        class["volumeBindingMode"] = "WaitForFirstConsumer".into();
    });
    look(&mut cluster).await;
    assert_eq!(cluster.server.writes(), [""; 0]);
    cluster.server.edit("persistentvolumeclaims", NAMESPACE, "restored", |claim| {
        claim["metadata"]["annotations"] = json!({"volume.kubernetes.io/selected-node": "node7"});
    });
    look(&mut cluster).await;
    let annotations = prime(&cluster).unwrap()["metadata"]["annotations"].clone();
    assert_eq!(annotations["volume.kubernetes.io/selected-node"], "node7");
    restore(&mut cluster).await;
}

#[tokio::test]
async fn golden_prime_claim() {
    let cluster = restoring();
    let mut restored: PersistentVolumeClaim =
        serde_json::from_value(restored(&cluster).unwrap()).unwrap();
    let made = |restored: &PersistentVolumeClaim, node: &str| {
        let populating = Populating::new(&cluster.context, restored, "mirror").unwrap();
        populating.prime_claim("volsync-mirror-dst-20240506070809", node.to_owned())
    };
    golden("claim-prime", &made(&restored, ""));
    // A class that binds late, a block volume, and a name that is no label.
    restored.metadata.name = Some("restored".repeat(10));
    restored.spec.as_mut().unwrap().volume_mode = Some("Block".to_owned());
    golden("claim-prime-on-a-node", &made(&restored, "node7"));
}
