//! Who has nothing to do writes nothing.

use serde_json::{Value, json};
use volsync_api::{ReplicationDestination, ReplicationSource};
use volsync_contract::{Outcome, Report};

use super::restic::{backup, restore};
use super::{
    RUNNING, clone_source, direct_destination, direct_source, snapshot_destination,
    snapshot_source, unlucky_source, until_the_mover_is, writes,
};
use crate::fixtures::{Cluster, Fault, NAMESPACE};
use crate::kind::Kind;

/// Reconciles once more, as another operator; nothing is written.
async fn assert_still<K: Kind>(cluster: &mut Cluster, when: &str) {
    cluster.restart();
    cluster.server.forget();
    cluster.reconcile::<K>().await;
    assert_eq!(cluster.server.writes(), [""; 0], "{when}");
}

/// Whatever state a sync is in, to look at it again writes nothing; at rest, it reads nothing either.
async fn every_state_is_still<K: Kind>(mut cluster: Cluster) {
    for round in 0..20 {
        cluster.reconcile::<K>().await;
        let (reason, message) = cluster.condition::<K>();
        let when = format!("round {round}: {reason} {message}");
        assert_still::<K>(&mut cluster, &when).await;
        if reason.starts_with("WaitingFor") {
            assert_eq!(cluster.server.requests().len(), 0, "{when}");
            return;
        }
        cluster.play();
    }
    panic!("it does not come to rest");
}

#[tokio::test]
async fn no_state_of_a_sync_writes_twice() {
    every_state_is_still::<ReplicationSource>(direct_source()).await;
    every_state_is_still::<ReplicationSource>(clone_source()).await;
    every_state_is_still::<ReplicationSource>(snapshot_source()).await;
    every_state_is_still::<ReplicationSource>(unlucky_source()).await;
    every_state_is_still::<ReplicationDestination>(direct_destination()).await;
    every_state_is_still::<ReplicationDestination>(snapshot_destination()).await;
    every_state_is_still::<ReplicationSource>(backup()).await;
    every_state_is_still::<ReplicationDestination>(restore()).await;
}

#[tokio::test]
async fn a_copy_that_waits_for_its_users_word_is_still() {
    let mut cluster = clone_source();
    cluster.server.edit("persistentvolumeclaims", NAMESPACE, "photos", |claim| {
        claim["metadata"]["annotations"] = json!({"volsync.backube/use-copy-trigger": ""});
    });
    cluster.reconcile::<ReplicationSource>().await;
    assert_still::<ReplicationSource>(&mut cluster, "waiting").await;
    cluster.server.edit("persistentvolumeclaims", NAMESPACE, "photos", |claim| {
        claim["metadata"]["annotations"]["volsync.backube/copy-trigger"] = "now".into();
    });
    cluster.sync::<ReplicationSource>().await;
    let claim = cluster.server.object("persistentvolumeclaims", NAMESPACE, "photos").unwrap();
    let annotations = &claim["metadata"]["annotations"];
    assert_eq!(annotations["volsync.backube/latest-copy-status"], "Completed");
    assert_eq!(annotations["volsync.backube/latest-copy-trigger"], "now");
    // The same word does not release another copy.
    cluster.edit::<ReplicationSource>(|source| source["spec"]["trigger"]["manual"] = "two".into());
    cluster.reconcile::<ReplicationSource>().await;
    assert!(
        cluster.server.object("persistentvolumeclaims", NAMESPACE, "volsync-photos-src").is_none()
    );
}

#[tokio::test]
async fn the_users_word_is_acknowledged_once_while_the_copy_is_refused() {
    let mut cluster = clone_source();
    cluster.server.fail_all("POST", "persistentvolumeclaims", Fault::Refused(403));
    cluster.reconcile::<ReplicationSource>().await;
    assert_still::<ReplicationSource>(&mut cluster, "refused").await;
}

#[tokio::test]
async fn a_failed_mover_is_left_alone_until_its_next_attempt() {
    let mut cluster = direct_source();
    let mut report = Report::new(Outcome::FailedPermanent);
    report.message = "the destination's key is another one".to_owned();
    cluster.reports.push_back(report);
    until_the_mover_is::<ReplicationSource>(&mut cluster, RUNNING).await;
    cluster.play();
    cluster.server.edit("jobs", NAMESPACE, "volsync-rsync-src-photos", |job| {
        let now = jiff::Timestamp::now().to_string();
        job["status"]["conditions"][0]["lastTransitionTime"] = now.into();
    });
    cluster.reconcile::<ReplicationSource>().await;
    let (reason, message) = cluster.condition::<ReplicationSource>();
    assert_eq!(reason, "Error");
    assert!(
        message.starts_with("the destination's key is another one\nattempt 1 failed; next"),
        "{message}"
    );
    assert_still::<ReplicationSource>(&mut cluster, "failed").await;
}

#[tokio::test]
async fn what_is_paused_starts_nothing() {
    let mut cluster = direct_source();
    cluster.edit::<ReplicationSource>(|source| source["spec"]["paused"] = true.into());
    for _ in 0..3 {
        cluster.reconcile::<ReplicationSource>().await;
        cluster.play();
    }
    assert_still::<ReplicationSource>(&mut cluster, "paused").await;
    assert!(cluster.server.objects("jobs").is_empty());
    assert_eq!(
        cluster.replication::<ReplicationSource>()["status"]["lastSyncStartTime"],
        Value::Null
    );
    cluster.edit::<ReplicationSource>(|source| source["spec"]["paused"] = false.into());
    cluster.sync::<ReplicationSource>().await;
}

#[tokio::test]
async fn a_mover_that_runs_is_stopped_while_its_replication_is_paused() {
    let mut cluster = direct_source();
    cluster.movers_go_on = true;
    until_the_mover_is::<ReplicationSource>(&mut cluster, RUNNING).await;
    cluster.edit::<ReplicationSource>(|source| source["spec"]["paused"] = true.into());
    cluster.reconcile::<ReplicationSource>().await;
    assert_eq!(writes(&cluster), ["PATCH jobs/volsync-rsync-src-photos"]);
    cluster.play();
    assert_eq!(cluster.server.objects("pods").len(), 1, "the user's pod alone is left");
    assert_still::<ReplicationSource>(&mut cluster, "paused").await;
    cluster.edit::<ReplicationSource>(|source| source["spec"]["paused"] = false.into());
    cluster.movers_go_on = false;
    cluster.sync::<ReplicationSource>().await;
    assert_eq!(cluster.replication::<ReplicationSource>()["status"]["lastManualSync"], "one");
}

#[tokio::test]
async fn what_was_moved_before_a_pause_gets_its_image() {
    let mut cluster = snapshot_destination();
    until_the_mover_is::<ReplicationDestination>(&mut cluster, RUNNING).await;
    cluster.play();
    cluster.edit::<ReplicationDestination>(|mirror| mirror["spec"]["paused"] = true.into());
    for _ in 0..3 {
        cluster.reconcile::<ReplicationDestination>().await;
        cluster.play();
    }
    let status = cluster.replication::<ReplicationDestination>()["status"].clone();
    assert_eq!(status["lastManualSync"], "two");
    assert_ne!(status["latestImage"]["name"], "volsync-mirror-dst-20240506070809");
    assert_still::<ReplicationDestination>(&mut cluster, "paused").await;
}
