//! A sync of several attempts: what one leaves is not taken for another's, and none is forgotten.

use serde_json::{Value, json};
use volsync_api::{ReplicationDestination, ReplicationSource};
use volsync_contract::{Outcome, Report};

use super::{RUNNING, direct_source, snapshot_destination, unlucky_source, until_the_mover_is};
use crate::fixtures::{Cluster, Fault, NAMESPACE};

const JOB: &str = "volsync-rsync-src-photos";

/// Removes the pods of movers, as an eviction or a node that goes does.
fn remove_pods(cluster: &Cluster) {
    for pod in cluster.server.objects("pods") {
        if pod["metadata"]["labels"]["job-name"].is_string() {
            let name = pod["metadata"]["name"].as_str().unwrap();
            cluster.server.remove("pods", NAMESPACE, name);
        }
    }
}

/// Reconciles until the image of a mover made in the year 2024 was begun.
async fn until_its_image_is_begun(cluster: &mut Cluster) {
    until_the_mover_is::<ReplicationDestination>(cluster, RUNNING).await;
    cluster.server.edit("jobs", NAMESPACE, "volsync-rsync-dst-mirror", |job| {
        job["metadata"]["creationTimestamp"] = "2024-05-07T00:00:00Z".into();
    });
    let begun = |cluster: &Cluster| cluster.server.objects("volumesnapshots").len() == 2;
    cluster.until::<ReplicationDestination>(begun).await;
}

#[tokio::test]
async fn an_image_holds_what_the_mover_that_counts_has_written() {
    let mut cluster = snapshot_destination();
    until_its_image_is_begun(&mut cluster).await;
    cluster.server.remove("jobs", NAMESPACE, "volsync-rsync-dst-mirror");
    remove_pods(&cluster);
    cluster.sync::<ReplicationDestination>().await;
    let images = cluster.server.objects("volumesnapshots");
    let names: Vec<&Value> = images.iter().map(|image| &image["metadata"]["name"]).collect();
    let status = cluster.replication::<ReplicationDestination>()["status"].clone();
    assert_eq!(names, [&status["latestImage"]["name"]]);
    assert_ne!(names, [&json!("volsync-mirror-dst-20240507000000")], "the earlier mover's");
}

#[tokio::test]
async fn a_success_counts_though_its_pod_goes_before_its_image_is_ready() {
    let mut cluster = snapshot_destination();
    until_its_image_is_begun(&mut cluster).await;
    remove_pods(&cluster);
    cluster.server.forget();
    cluster.sync::<ReplicationDestination>().await;
    let writes = cluster.server.writes();
    assert!(!writes.contains(&"POST jobs/volsync-rsync-dst-mirror".to_owned()), "{writes:?}");
}

#[tokio::test]
async fn a_failure_is_told_once_and_stays_what_it_was_though_its_pod_goes() {
    let mut cluster = direct_source();
    let mut report = Report::new(Outcome::FailedPermanent);
    report.message = "the destination's key is another one".to_owned();
    cluster.reports.push_back(report);
    until_the_mover_is::<ReplicationSource>(&mut cluster, RUNNING).await;
    cluster.play();
    cluster.server.edit("jobs", NAMESPACE, JOB, |job| {
        let now = jiff::Timestamp::now().to_string();
        job["status"]["conditions"][0]["lastTransitionTime"] = now.into();
    });
    cluster.reconcile::<ReplicationSource>().await;
    let told = cluster.condition::<ReplicationSource>();
    remove_pods(&cluster);
    cluster.restart();
    cluster.server.forget();
    cluster.reconcile::<ReplicationSource>().await;
    assert_eq!(cluster.server.writes(), [""; 0]);
    assert_eq!(cluster.condition::<ReplicationSource>(), told);
}

#[tokio::test]
async fn attempts_are_counted_on_though_no_job_is_left_to_count_them() {
    let mut cluster = unlucky_source();
    until_the_mover_is::<ReplicationSource>(&mut cluster, RUNNING).await;
    cluster.play();
    cluster.server.fail_all("POST", "jobs", Fault::Refused(503));
    assert!(!cluster.reconcile::<ReplicationSource>().await);
    assert_eq!(cluster.server.object("jobs", NAMESPACE, JOB), None);
    cluster.restart();
    cluster.server.heal();
    cluster.reconcile::<ReplicationSource>().await;
    let job = cluster.server.object("jobs", NAMESPACE, JOB).unwrap();
    assert_eq!(job["metadata"]["annotations"]["volsync.backube/attempt"], "2");
}
