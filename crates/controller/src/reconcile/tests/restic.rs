//! Backups to a repository and restores from it: what a mover is given, and its cache.

use serde_json::{Value, json};
use volsync_api::{ReplicationDestination, ReplicationSource};
use volsync_contract::{Outcome, Report, ResticReport};

use super::{until_the_mover_is, writes};
use crate::fixtures::{Cluster, Fault, NAMESPACE, Request, claim, destination, source};

fn repository() -> (&'static str, Value) {
    let secret = json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "repository", "namespace": NAMESPACE},
        "data": {
            "RESTIC_REPOSITORY": "czM6ZXhhbXBsZQ==",
            "RESTIC_PASSWORD": "c2VzYW1l",
            "AWS_ACCESS_KEY_ID": "aWQ=",
            "PATH": "L2V2aWw=",
        },
    });
    ("secrets", secret)
}

/// A source that backs its claim up.
pub(super) fn backup() -> Cluster {
    let mut photos = source(&json!({"manual": "one"}), &Value::Null);
    photos["spec"]["restic"] = json!({"copyMethod": "Direct", "repository": "repository"});
    Cluster::with([
        repository(),
        ("persistentvolumeclaims", claim("photos", "fast")),
        ("replicationsources", photos),
    ])
}

/// A destination that restores into its user's claim, with a cache for this once.
pub(super) fn restore() -> Cluster {
    let mut mirror = destination(&json!({"manual": "one"}), &Value::Null);
    mirror["spec"]["restic"] = json!({
        "copyMethod": "Direct",
        "destinationPVC": "archive",
        "repository": "repository",
        "cleanupCachePVC": true,
    });
    Cluster::with([
        repository(),
        ("persistentvolumeclaims", claim("archive", "fast")),
        ("replicationdestinations", mirror),
    ])
}

/// The last Job that was made.
fn job(cluster: &Cluster) -> Value {
    let requests = cluster.server.requests();
    let made = |request: &&Request| request.method == "POST" && request.plural == "jobs";
    requests.iter().rfind(made).unwrap().body.clone()
}

#[tokio::test]
async fn a_backup_is_given_its_repository_and_a_cache_that_stays() {
    let mut cluster = backup();
    cluster.sync::<ReplicationSource>().await;
    let wanted = [
        "PATCH replicationsources/photos/status",
        "POST persistentvolumeclaims/volsync-src-photos-cache",
        "POST events/PersistentVolumeClaimCreated",
        "POST serviceaccounts/volsync-src-photos",
        "POST roles/volsync-src-photos",
        "POST rolebindings/volsync-src-photos",
        "POST jobs/volsync-src-photos",
        "POST events/TransferStarted",
        "POST events/TransferCompleted",
        "PATCH replicationsources/photos/status",
        "DELETE jobs/volsync-src-photos",
        "PATCH replicationsources/photos/status",
    ];
    assert_eq!(writes(&cluster), wanted);
    let container = job(&cluster)["spec"]["template"]["spec"]["containers"][0].clone();
    let env = container["env"].as_array().unwrap();
    let from_secret: Vec<&str> = env
        .iter()
        .filter(|var| var["valueFrom"]["secretKeyRef"]["name"] == "repository")
        .filter_map(|var| var["name"].as_str())
        .collect();
    assert_eq!(from_secret, ["AWS_ACCESS_KEY_ID", "RESTIC_PASSWORD", "RESTIC_REPOSITORY"]);
    let told = |name: &str| env.iter().find(|var| var["name"] == name).map(|var| &var["value"]);
    assert_eq!(told("PRIVILEGED_MOVER"), Some(&json!("0")));
    assert_eq!(told("FORGET_OPTIONS"), Some(&json!("--keep-last 1")));
    assert_eq!(container["securityContext"]["runAsUser"], Value::Null);
}

#[tokio::test]
async fn a_restore_may_remove_its_cache() {
    let mut cluster = restore();
    cluster.sync::<ReplicationDestination>().await;
    let made = writes(&cluster);
    for wanted in [
        "POST persistentvolumeclaims/volsync-dst-mirror-cache",
        "POST jobs/volsync-dst-mirror",
        "DELETE persistentvolumeclaims/volsync-dst-mirror-cache",
    ] {
        assert!(made.iter().any(|write| write == wanted), "{wanted}: {made:?}");
    }
}

#[tokio::test]
async fn a_namespace_that_says_so_has_privileged_movers() {
    let mut cluster = backup();
    let namespace = json!({
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": NAMESPACE, "annotations": {"volsync.backube/privileged-movers": "True"}},
    });
    cluster.server.put("namespaces", namespace);
    cluster.sync::<ReplicationSource>().await;
    let security =
        job(&cluster)["spec"]["template"]["spec"]["containers"][0]["securityContext"].clone();
    assert_eq!(security["runAsUser"], 0);
    let capabilities = json!(["CHOWN", "DAC_OVERRIDE", "FOWNER"]);
    assert_eq!(security["capabilities"]["add"], capabilities);
}

#[tokio::test]
async fn a_cache_that_may_not_grow_is_made_anew() {
    let mut cluster = backup();
    cluster.sync::<ReplicationSource>().await;
    cluster.edit::<ReplicationSource>(|source| {
        source["spec"]["restic"]["cacheCapacity"] = "3Gi".into();
        source["spec"]["trigger"]["manual"] = "two".into();
    });
    cluster.server.fail_all("PATCH", "persistentvolumeclaims", Fault::Refused(403));
    cluster.sync::<ReplicationSource>().await;
    let cache =
        cluster.server.object("persistentvolumeclaims", NAMESPACE, "volsync-src-photos-cache");
    assert_eq!(cache.unwrap()["spec"]["resources"]["requests"]["storage"], "3Gi");
}

#[tokio::test]
async fn what_the_secret_lacks_is_named() {
    let mut cluster = backup();
    cluster.server.edit("secrets", NAMESPACE, "repository", |secret| {
        secret["data"]["RESTIC_PASSWORD"] = Value::Null;
        secret["data"].as_object_mut().unwrap().remove("RESTIC_PASSWORD");
    });
    cluster.reconcile::<ReplicationSource>().await;
    let (reason, message) = cluster.condition::<ReplicationSource>();
    assert_eq!(reason, "Error");
    assert!(message.contains("Secret repository lacks RESTIC_PASSWORD"), "{message}");
}

#[tokio::test]
async fn a_prune_is_decided_when_the_sync_starts() {
    let mut cluster = backup();
    cluster.edit::<ReplicationSource>(|source| {
        source["metadata"]["creationTimestamp"] = "2024-05-06T07:08:09Z".into();
    });
    until_the_mover_is::<ReplicationSource>(&mut cluster, "Running").await;
    // The user changes the interval, so that another Job would be told otherwise.
    cluster.edit::<ReplicationSource>(|source| {
        source["spec"]["restic"]["pruneIntervalDays"] = 100_000.into();
    });
    let said = ResticReport { pruned: true, ..ResticReport::default() };
    cluster.reports.push_back(Report { restic: Some(said), ..Report::new(Outcome::Complete) });
    cluster.sync::<ReplicationSource>().await;
    assert!(writes(&cluster).iter().all(|write| write != "POST jobs/volsync-src-photos"));
    let status = cluster.replication::<ReplicationSource>()["status"].clone();
    assert!(status["restic"]["lastPruned"].is_string(), "{status}");
}
