//! Every request of a sync fails once in every way, and whoever sent it is killed: the sync ends the
//! same each time.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use volsync_api::{ReplicationDestination, ReplicationSource};

use super::{
    clone_source, direct_destination, direct_source, snapshot_destination, snapshot_source,
    unlucky_source, without_time,
};
use crate::fixtures::{Cluster, Fault, REFUSAL};
use crate::kind::Kind;

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

/// What is there once a sync is over.
#[derive(Debug, PartialEq)]
struct Outcome {
    objects: Vec<String>,
    status: Value,
    claims: Vec<Value>,
    /// How often anything but an event was made.
    made: BTreeMap<String, usize>,
}

impl Outcome {
    fn of<K: Kind>(cluster: &Cluster) -> Self {
        cluster.server.collect_garbage();
        let mut objects = cluster.server.inventory();
        objects.retain(|name| !name.starts_with("persistentvolumes/"));
        let mut status = cluster.replication::<K>()["status"].clone();
        for field in ["lastSyncTime", "lastSyncDuration", "nextSyncTime"] {
            let set = !status[field].is_null();
            status[field] = set.into();
        }
        status["conditions"][0]["lastTransitionTime"] = Value::Null;
        let image = status["latestImage"]["name"].as_str().unwrap_or_default();
        status["image"] = without_time(image).into();
        status["latestImage"] = Value::Null;
        let claims = cluster.server.objects("persistentvolumeclaims");
        let claims = claims.iter().map(|claim| claim["metadata"]["annotations"].clone());
        let mut made = BTreeMap::new();
        for request in cluster.server.requests() {
            if request.method == "POST" && request.plural != "events" && request.succeeded() {
                let name = format!("{}/{}", request.plural, without_time(&request.name));
                *made.entry(name).or_default() += 1;
            }
        }
        Self {
            objects: objects.iter().map(|name| without_time(name)).collect(),
            status,
            claims: claims.collect(),
            made,
        }
    }
}

/// Whether a condition said which request was refused and why.
fn said_what_was_refused<K: Kind>(cluster: &Cluster) -> bool {
    cluster.server.requests().iter().any(|request| {
        let message = request.body["status"]["conditions"][0]["message"].as_str();
        let own = request.plural == K::plural(&()) && request.succeeded();
        own && message.is_some_and(|said| said.contains("cannot ") && said.contains(REFUSAL))
    })
}

async fn survives_everything<K: Kind>(make: fn() -> Cluster) {
    let mut calm = make();
    calm.sync::<K>().await;
    let wanted = Outcome::of::<K>(&calm);
    let requests = calm.server.requests();
    for (number, request) in requests.iter().enumerate() {
        for fault in FAULTS {
            // To read without an answer is not to read.
            if matches!(fault, Fault::Unanswered | Fault::KilledAfter) && !request.is_write() {
                continue;
            }
            let mut cluster = make();
            cluster.server.fail_number(number, fault);
            cluster.sync::<K>().await;
            let found = Outcome::of::<K>(&cluster);
            let when = format!("request {number}, {request}: {fault:?}");
            assert_eq!(found, wanted, "{when}");
            // What cannot be read or written itself cannot say so.
            let own = request.plural == K::plural(&())
                || request.plural == "events" && request.is_write();
            // Who may not read nodes takes a node's name for its hostname.
            let spared = request.plural == "nodes" && matches!(fault, Fault::Refused(403));
            if matches!(fault, Fault::Refused(403 | 422)) && !own && !spared {
                assert!(said_what_was_refused::<K>(&cluster), "{when}: no condition said so");
            }
            cluster.server.forget();
            cluster.reconcile::<K>().await;
            assert!(cluster.server.requests().is_empty(), "{when}: it does not rest");
        }
    }
}

#[tokio::test]
async fn a_direct_source_survives_every_fault() {
    survives_everything::<ReplicationSource>(direct_source).await;
}

#[tokio::test]
async fn a_clone_source_survives_every_fault() {
    survives_everything::<ReplicationSource>(clone_source).await;
}

#[tokio::test]
async fn a_snapshot_source_survives_every_fault() {
    survives_everything::<ReplicationSource>(snapshot_source).await;
}

#[tokio::test]
async fn a_source_with_a_failed_mover_survives_every_fault() {
    survives_everything::<ReplicationSource>(unlucky_source).await;
}

#[tokio::test]
async fn a_direct_destination_survives_every_fault() {
    survives_everything::<ReplicationDestination>(direct_destination).await;
}

#[tokio::test]
async fn a_snapshot_destination_survives_every_fault() {
    survives_everything::<ReplicationDestination>(snapshot_destination).await;
}

#[tokio::test]
async fn a_cache_that_lags_behind_does_no_harm() {
    let mut cluster = snapshot_destination();
    let old = cluster.replication::<ReplicationDestination>();
    for _ in 0..20 {
        cluster.reconcile_cached::<ReplicationDestination>(old.clone()).await;
        cluster.play();
    }
    let mut calm = snapshot_destination();
    calm.sync::<ReplicationDestination>().await;
    let wanted = Outcome::of::<ReplicationDestination>(&calm);
    assert_eq!(Outcome::of::<ReplicationDestination>(&cluster), wanted);
}

#[tokio::test]
async fn a_quota_that_is_used_up_for_long_is_told_once() {
    let mut cluster = direct_source();
    cluster.server.fail_all("POST", "jobs", Fault::Refused(403));
    for _ in 0..3 {
        cluster.reconcile::<ReplicationSource>().await;
    }
    let (reason, message) = cluster.condition::<ReplicationSource>();
    assert_eq!(reason, "Error");
    assert_eq!(message, format!("cannot create Job family/volsync-rsync-src-photos: {REFUSAL}"));
    cluster.server.forget();
    cluster.reconcile::<ReplicationSource>().await;
    assert_eq!(cluster.server.writes(), [""; 0]);
    let events = cluster.server.objects("events");
    let blocked = events.iter().filter(|event| event["reason"] == json!("TransferBlocked"));
    assert_eq!(blocked.count(), 1);
    cluster.server.heal();
    cluster.sync::<ReplicationSource>().await;
}

#[tokio::test]
async fn a_refusal_in_other_words_each_time_is_told_once() {
    for plural in ["jobs", "serviceaccounts"] {
        let mut cluster = direct_source();
        cluster.server.fail_all("POST", plural, Fault::RefusedByNumber(403));
        for _ in 0..3 {
            cluster.reconcile::<ReplicationSource>().await;
        }
        let told = cluster.condition::<ReplicationSource>();
        assert_eq!(told.0, "Error", "{told:?}");
        assert!(told.1.contains(REFUSAL), "{told:?}");
        cluster.server.forget();
        cluster.reconcile::<ReplicationSource>().await;
        assert_eq!(cluster.server.writes(), [""; 0], "{plural}");
        assert_eq!(cluster.condition::<ReplicationSource>(), told);
    }
}
