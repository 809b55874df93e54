//! Manifests that are wrong, and manifests that change during a sync.

use serde_json::{Value, json};
use volsync_api::{ReplicationDestination, ReplicationSource};

use super::{
    PENDING, RUNNING, clone_source, direct_source, snapshot_destination, snapshot_source,
    until_the_mover_is, writes,
};
use crate::fixtures::{Cluster, Request, claim, destination, source};
use crate::kind::Kind;

#[tokio::test]
async fn a_tag_set_during_a_sync_is_for_the_next_one() {
    let mut cluster = direct_source();
    until_the_mover_is::<ReplicationSource>(&mut cluster, RUNNING).await;
    cluster.edit::<ReplicationSource>(|source| source["spec"]["trigger"]["manual"] = "two".into());
    cluster
        .until::<ReplicationSource>(|cluster| {
            cluster.replication::<ReplicationSource>()["status"]["lastManualSync"] == "one"
        })
        .await;
    cluster
        .until::<ReplicationSource>(|cluster| {
            cluster.replication::<ReplicationSource>()["status"]["lastManualSync"] == "two"
        })
        .await;
    let started = writes(&cluster);
    let started = started.iter().filter(|write| write.starts_with("POST jobs/"));
    assert_eq!(started.count(), 1, "the second; the first was there before");
}

#[tokio::test]
async fn a_mover_that_runs_is_not_touched_when_its_manifest_changes() {
    let mut cluster = direct_source();
    until_the_mover_is::<ReplicationSource>(&mut cluster, RUNNING).await;
    cluster.edit::<ReplicationSource>(|source| {
        source["spec"]["rsync"]["address"] = "other.example.org".into();
    });
    cluster.reconcile::<ReplicationSource>().await;
    assert_eq!(writes(&cluster), [""; 0]);
    cluster.sync::<ReplicationSource>().await;
    assert_eq!(cluster.replication::<ReplicationSource>()["status"]["lastManualSync"], "one");
}

#[tokio::test]
async fn a_mover_that_has_not_begun_is_made_again_when_its_manifest_changes() {
    let mut cluster = direct_source();
    until_the_mover_is::<ReplicationSource>(&mut cluster, PENDING).await;
    cluster.edit::<ReplicationSource>(|source| {
        source["spec"]["rsync"]["address"] = "other.example.org".into();
    });
    cluster.reconcile::<ReplicationSource>().await;
    assert_eq!(
        writes(&cluster),
        ["DELETE jobs/volsync-rsync-src-photos"],
        "its pod is still there"
    );
    cluster.play();
    cluster.reconcile::<ReplicationSource>().await;
    let requests = cluster.server.requests();
    let job = requests.iter().find(|request| request.method == "POST" && request.plural == "jobs");
    let env = job.unwrap().body["spec"]["template"]["spec"]["containers"][0]["env"].to_string();
    assert!(env.contains("other.example.org"), "{env}");
    cluster.sync::<ReplicationSource>().await;
}

#[tokio::test]
async fn a_copy_of_a_claim_that_is_no_longer_asked_for_is_not_moved() {
    for mut cluster in [clone_source(), snapshot_source()] {
        cluster.server.put("persistentvolumeclaims", claim("videos", "fast"));
        until_the_mover_is::<ReplicationSource>(&mut cluster, PENDING).await;
        cluster.edit::<ReplicationSource>(|source| source["spec"]["sourcePVC"] = "videos".into());
        cluster.sync::<ReplicationSource>().await;
        let made = cluster.server.requests();
        let made = made.iter().filter(|request| request.method == "POST");
        let of = |request: &Request| match request.plural.as_str() {
            "volumesnapshots" => {
                request.body["spec"]["source"]["persistentVolumeClaimName"].clone()
            }
            _ => request.body["spec"]["dataSource"]["name"].clone(),
        };
        assert!(made.map(of).any(|of| of == "videos"), "{:?}", writes(&cluster));
    }
}

/// The condition of a source that cannot be right, which is not looked at again until it changes.
async fn verdict<K: Kind>(plural: &'static str, manifest: Value) -> String {
    let mut cluster = Cluster::with([(plural, manifest)]);
    cluster.reconcile::<K>().await;
    let (reason, message) = cluster.condition::<K>();
    assert_eq!(reason, "Error");
    cluster.server.forget();
    cluster.reconcile::<K>().await;
    assert!(cluster.server.requests().is_empty(), "{message}");
    message
}

#[tokio::test]
async fn a_wrong_manifest_is_told_everything_that_is_wrong() {
    let nothing = verdict::<ReplicationSource>(
        "replicationsources",
        source(&json!({"manual": "one"}), &Value::Null),
    );
    assert_eq!(
        nothing.await,
        "spec: a replication method must be specified - enabled movers: [rclone restic rsync rsync-tls syncthing]"
    );
    let mut both = source(&json!({"schedule": "nonsense"}), &json!({"copyMethod": "Direct"}));
    both["spec"]["rclone"] = json!({"copyMethod": "Direct"});
    both["spec"]["sourcePVC"] = Value::Null;
    let message = verdict::<ReplicationSource>("replicationsources", both).await;
    for problem in
        ["spec.trigger.schedule", "sourcePVC must be provided", "only one replication method", "; "]
    {
        assert!(message.contains(problem), "{problem}: {message}");
    }
    let empty = destination(&json!({}), &json!({"copyMethod": "Clone"}));
    let message = verdict::<ReplicationDestination>("replicationdestinations", empty).await;
    for problem in ["copyMethod", "capacity", "accessModes"] {
        assert!(message.contains(problem), "{problem}: {message}");
    }
}

#[tokio::test]
async fn what_is_wrong_during_a_sync_stops_no_mover_and_is_made_good() {
    let mut cluster = snapshot_destination();
    until_the_mover_is::<ReplicationDestination>(&mut cluster, RUNNING).await;
    cluster.edit::<ReplicationDestination>(|mirror| {
        mirror["spec"]["rsync"]["capacity"] = Value::Null;
    });
    cluster.reconcile::<ReplicationDestination>().await;
    assert_eq!(writes(&cluster), ["PATCH replicationdestinations/mirror/status"]);
    cluster.play();
    cluster.edit::<ReplicationDestination>(|mirror| {
        mirror["spec"]["rsync"]["capacity"] = "1Gi".into();
    });
    cluster.sync::<ReplicationDestination>().await;
    let status = cluster.replication::<ReplicationDestination>()["status"].clone();
    assert_eq!(status["lastManualSync"], "two");
}

#[tokio::test]
async fn what_cannot_be_parsed_is_told_so_once_and_stops_no_other() {
    let mut strange = source(&json!({"manual": 1}), &Value::Null);
    strange["metadata"]["name"] = "strange".into();
    strange["metadata"]["uid"] = "uid-of-strange".into();
    let mut cluster = direct_source();
    cluster.server.put("replicationsources", strange.clone());
    let stored = |cluster: &Cluster| {
        let found = cluster.server.objects("replicationsources").into_iter();
        found.into_iter().find(|source| source["metadata"]["name"] == "strange").unwrap()
    };
    cluster.reconcile_cached::<ReplicationSource>(strange).await;
    let condition = stored(&cluster)["status"]["conditions"][0].clone();
    assert_eq!(condition["reason"], "Error");
    let message = condition["message"].as_str().unwrap();
    assert!(message.starts_with("cannot be parsed: Invalid type integer `1`"), "{message}");
    cluster.server.forget();
    let again = stored(&cluster);
    cluster.reconcile_cached::<ReplicationSource>(again).await;
    assert_eq!(writes(&cluster), [""; 0]);
    // A list with it in is a list.
    let api: kube::Api<kube::core::DeserializeGuard<ReplicationSource>> =
        kube::Api::namespaced(cluster.server.client(), crate::fixtures::NAMESPACE);
    let found = api.list(&kube::api::ListParams::default()).await.unwrap().items;
    assert_eq!(found.iter().map(|one| one.0.is_ok()).collect::<Vec<_>>(), [true, false]);
}

#[tokio::test]
async fn what_somebody_else_moves_is_not_touched() {
    let mut external = source(&json!({}), &Value::Null);
    external["spec"]["external"] = json!({"provider": "example.org/mover"});
    let mut cluster = Cluster::with([
        ("persistentvolumeclaims", claim("photos", "fast")),
        ("replicationsources", external),
    ]);
    cluster.reconcile::<ReplicationSource>().await;
    assert!(cluster.server.requests().is_empty());
}

#[tokio::test]
async fn what_is_being_deleted_is_left_to_the_garbage_collector() {
    let mut cluster = snapshot_destination();
    until_the_mover_is::<ReplicationDestination>(&mut cluster, RUNNING).await;
    let cached = cluster.replication::<ReplicationDestination>();
    cluster.edit::<ReplicationDestination>(|mirror| {
        mirror["metadata"]["deletionTimestamp"] = "2024-05-06T07:08:09Z".into();
    });
    cluster.reconcile::<ReplicationDestination>().await;
    cluster.reconcile_cached::<ReplicationDestination>(cached).await;
    assert_eq!(writes(&cluster), [""; 0]);
    cluster.server.remove("replicationdestinations", crate::fixtures::NAMESPACE, "mirror");
    cluster.server.collect_garbage();
    assert_eq!(cluster.server.inventory(), ["persistentvolumes/pv-volsync-mirror-dst"]);
}
