//! One leader at a time, whatever becomes of requests and leaders.

use k8s_openapi::api::core::v1::ConfigMap;
use serde_json::{Value, json};
use tokio::time::{Instant, advance, timeout};

use tower_layer::Layer as _;

use super::*;
use crate::fixtures::{ApiServer, Fault, REFUSAL, golden};

fn candidate(server: &ApiServer, identity: &str) -> Leadership {
    Leadership::new(server.client(), "volsync-system", identity.to_owned(), Fence::default())
}

fn lease(server: &ApiServer) -> Value {
    server.object("leases", "volsync-system", NAME).unwrap()["spec"].clone()
}

async fn leads_within(candidate: &mut Leadership, limit: Duration) -> bool {
    timeout(limit, candidate.acquire()).await.is_ok()
}

#[tokio::test(start_paused = true)]
async fn the_first_to_come_leads_and_others_wait() {
    let server = ApiServer::default();
    let (mut first, mut second) = (candidate(&server, "a"), candidate(&server, "b"));
    assert!(leads_within(&mut first, Duration::from_secs(1)).await);
    assert_eq!(lease(&server)["holderIdentity"], "a");
    assert_eq!(lease(&server)["leaseDurationSeconds"], 137);
    let kept = tokio::spawn(async move { first.keep().await });
    assert!(!leads_within(&mut second, Duration::from_secs(1000)).await);
    assert!(!kept.is_finished());
    assert_eq!(lease(&server)["leaseTransitions"], 0);
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_is_not_renewed_is_taken_once_it_is_over() {
    let server = ApiServer::default();
    let (mut dead, mut next) = (candidate(&server, "a"), candidate(&server, "b"));
    assert!(leads_within(&mut dead, Duration::from_secs(1)).await);
    let start = Instant::now();
    assert!(leads_within(&mut next, Duration::from_secs(200)).await);
    assert!(start.elapsed() > DURATION);
    assert_eq!(lease(&server)["holderIdentity"], "b");
    assert_eq!(lease(&server)["leaseTransitions"], 1);
    timeout(Duration::from_secs(60), dead.keep()).await.expect("who lost it leads no longer");
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_was_given_up_is_taken_at_once() {
    let server = ApiServer::default();
    let (mut first, mut next) = (candidate(&server, "a"), candidate(&server, "b"));
    assert!(leads_within(&mut first, Duration::from_secs(1)).await);
    first.release().await.unwrap();
    assert_eq!(lease(&server)["holderIdentity"], "");
    assert!(leads_within(&mut next, Duration::from_secs(1)).await);
    // What is somebody else's by now is not given up.
    first.release().await.unwrap();
    assert_eq!(lease(&server)["holderIdentity"], "b");
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_comes_back_leads_on() {
    let server = ApiServer::default();
    assert!(leads_within(&mut candidate(&server, "a"), Duration::from_secs(1)).await);
    let acquired = lease(&server)["acquireTime"].clone();
    assert!(leads_within(&mut candidate(&server, "a"), Duration::from_secs(1)).await);
    assert_eq!(lease(&server)["acquireTime"], acquired);
    assert_eq!(lease(&server)["leaseTransitions"], 0);
}

#[tokio::test(start_paused = true)]
async fn a_leader_cut_off_stops_before_others_may_lead() {
    for fault in [Fault::Lost, Fault::Refused(500), Fault::Refused(409), Fault::KilledBefore] {
        let server = ApiServer::default();
        let mut leader = candidate(&server, "a");
        assert!(leads_within(&mut leader, Duration::from_secs(1)).await);
        server.fail_all("PUT", "leases", fault);
        server.fail_all("GET", "leases", fault);
        let start = Instant::now();
        leader.keep().await;
        let kept = start.elapsed();
        assert!(kept >= DEADLINE && kept < DURATION - RETRY, "{fault:?}: {kept:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_renewal_that_fails_once_is_made_up_for() {
    for fault in [Fault::Lost, Fault::Unanswered, Fault::Refused(409), Fault::Refused(500)] {
        let server = ApiServer::default();
        let mut leader = candidate(&server, "a");
        assert!(leads_within(&mut leader, Duration::from_secs(1)).await);
        server.forget();
        server.fail_number(1, fault);
        assert!(timeout(Duration::from_secs(500), leader.keep()).await.is_err(), "{fault:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn of_two_that_see_a_free_lease_one_leads() {
    let server = ApiServer::default();
    let (mut first, mut second) = (candidate(&server, "a"), candidate(&server, "b"));
    let both = tokio::join!(first.try_hold(), second.try_hold());
    assert!(matches!(both, (Ok(true), Err(Error::Changed { .. }))), "{both:?}");
    first.release().await.unwrap();
    // Both read it before either writes.
    let both = tokio::join!(first.try_hold(), second.try_hold());
    assert!(matches!(both, (Ok(true), Err(Error::Changed { .. }))), "{both:?}");
    assert_eq!(lease(&server)["holderIdentity"], "a");
}

#[tokio::test(start_paused = true)]
async fn what_is_not_permitted_is_named() {
    let server = ApiServer::default();
    server.fail_all("POST", "leases", Fault::Refused(403));
    let error = candidate(&server, "a").try_hold().await.unwrap_err();
    assert_eq!(error.to_string(), format!("cannot create Lease {NAME}: {REFUSAL}"));
    server.put(
        "leases",
        json!({"metadata": {"name": NAME, "namespace": "volsync-system"}, "spec": {}}),
    );
    advance(Duration::from_secs(1)).await;
    assert!(leads_within(&mut candidate(&server, "a"), Duration::from_secs(1)).await);
}

#[tokio::test]
async fn golden_lease() {
    let leader = candidate(&ApiServer::default(), "volsync-6d5f9c7b8-x2x4q");
    golden("lease", &leader.first(MicroTime("2024-05-06T07:08:09.123456Z".parse().unwrap())));
}

#[tokio::test(start_paused = true)]
async fn who_was_frozen_for_longer_than_its_lease_writes_nothing_when_it_wakes() {
    let server = ApiServer::default();
    let fence = Fence::default();
    let client = Client::new(fence.layer(server.clone()), "default");
    let maps = Api::<ConfigMap>::namespaced(client, "home");
    let write = async |name: &str| {
        let metadata = ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() };
        let map = ConfigMap { metadata, ..ConfigMap::default() };
        maps.create(&PostParams::default(), &map).await
    };
    // Without leader election there is no fence.
    write("before").await.unwrap();
    let mut leader =
        Leadership::new(server.client(), "volsync-system", "a".to_owned(), fence.clone());
    assert!(leads_within(&mut leader, Duration::from_secs(1)).await);
    advance(DEADLINE - Duration::from_secs(1)).await;
    write("leading").await.unwrap();
    advance(Duration::from_secs(1)).await;
    let error = write("frozen").await.unwrap_err();
    assert!(error.to_string().contains("Lease has run out"), "{error}");
    assert!(maps.get_opt("frozen").await.unwrap().is_none());
    assert!(maps.get_opt("leading").await.unwrap().is_some());

    // Renewed, it writes again.
    assert!(timeout(Duration::from_secs(200), leader.renew()).await.unwrap().is_some());
    write("renewed").await.unwrap();
    // Somebody else takes it: nothing more is written from the moment that this is known.
    advance(DEADLINE - Duration::from_secs(60)).await;
    let mut taken = server.object("leases", "volsync-system", NAME).unwrap();
    taken["spec"]["holderIdentity"] = json!("b");
    server.put("leases", taken);
    assert!(!leader.try_hold().await.unwrap());
    assert!(write("taken").await.is_err());
}
