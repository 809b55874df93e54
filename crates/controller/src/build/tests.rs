//! Every builder's objects, held to what stands in `golden/`.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use k8s_openapi::ByteString;
use serde::Serialize;
use volsync_api::v1alpha1::{ReplicationDestinationSpec, ReplicationSourceSpec};
use volsync_api::{ReplicationDestination, ReplicationSource};
use volsync_contract::paths;
use volsync_replication::{CaBundle, ResticStatus, Rsync, SyncPlan};
use volsync_volume::{AccessMode, NewVolume, Origin, VolumeMode};

use super::job::restic::{Repository, restic};
use super::job::rsync::{Ssh, rsync};
use super::job::{DataVolume, MoverJob, Placement};
use super::{
    claim, secret, security_context_constraints, service, service_account, snapshot,
    volume_populator,
};
use crate::fixtures::golden;
use crate::kind::{Kind, Owner};

const UID: &str = "6c1c2f5e-2d0b-4d2e-9a57-0d8f3f7b1a11";

fn start() -> Timestamp {
    "2024-05-06T07:08:09Z".parse().unwrap()
}

fn source() -> ReplicationSource {
    let spec: ReplicationSourceSpec = serde_json::from_value(serde_json::json!({
        "sourcePVC": "photos",
        "trigger": {"manual": "one"},
        "rsync": {
            "copyMethod": "Snapshot",
            "address": "mirror.example.org",
            "port": 2222,
            "sshKeys": "keys",
            "moverPodLabels": {"team": "media", "app.kubernetes.io/name": "mine"},
            "moverResources": {"limits": {"memory": "512Mi"}},
        },
    }))
    .unwrap();
    let mut source = ReplicationSource::new("photos", spec);
    source.metadata.namespace = Some("home".into());
    source.metadata.uid = Some(UID.into());
    source
}

fn destination() -> ReplicationDestination {
    let spec: ReplicationDestinationSpec = serde_json::from_value(serde_json::json!({
        "trigger": {"schedule": "0 3 * * *"},
        "rsync": {"copyMethod": "Snapshot", "capacity": "2Gi", "accessModes": ["ReadWriteOnce"]},
    }))
    .unwrap();
    let mut destination = ReplicationDestination::new("mirror", spec);
    destination.metadata.namespace = Some("away".into());
    destination.metadata.uid = Some(UID.into());
    destination
}

fn plan<K: Kind>(object: &K) -> SyncPlan {
    let replication = object.validate(&TimeZone::UTC).unwrap();
    SyncPlan::new(&replication, start(), &ResticStatus::default())
}

fn mover<K: Kind>(object: &K, data: DataVolume, ssh: &Ssh, debug: bool) -> impl Serialize {
    let owner = Owner::of(object).unwrap();
    let plan = plan(object);
    rsync(
        &MoverJob {
            owner: &owner,
            plan: &plan,
            image: "example.org/volsync-mover-rsync:1",
            data,
            account: "volsync-src-photos".into(),
            attempt: 3,
            debug,
        },
        ssh,
    )
}

#[test]
fn golden_job_of_a_source() {
    let ssh = Ssh { keys: "keys".into(), address: "mirror.example.org".into(), port: 2222 };
    let data = DataVolume { claim: "volsync-photos-src".into(), ..DataVolume::default() };
    golden("job-rsync-source", &mover(&source(), data, &ssh, false));
}

#[test]
fn golden_job_of_a_destination_in_use_elsewhere() {
    let ssh =
        Ssh { keys: "volsync-rsync-dst-dest-mirror".into(), address: "10.0.0.1".into(), port: 22 };
    let placement = Placement {
        node_selector: [("kubernetes.io/hostname".to_owned(), "node7".to_owned())].into(),
        tolerations: vec![serde_json::from_value(serde_json::json!({"key": "gpu"})).unwrap()],
    };
    let data = DataVolume { claim: "mirror".into(), placement, ..DataVolume::default() };
    golden("job-rsync-destination", &mover(&destination(), data, &ssh, true));
}

#[test]
fn golden_job_of_a_source_that_can_only_be_read() {
    let ssh = Ssh { keys: "keys".into(), address: "mirror.example.org".into(), port: 2222 };
    let data = DataVolume { claim: "photos".into(), read_only: true, ..DataVolume::default() };
    golden("job-rsync-source-read-only", &mover(&source(), data, &ssh, false));
}

fn restic_mover<K: Kind>(object: &K, repository: &Repository) -> impl Serialize {
    let owner = Owner::of(object).unwrap();
    let plan = plan(object);
    let job = MoverJob {
        owner: &owner,
        plan: &plan,
        image: "example.org/volsync-mover-restic:1",
        data: DataVolume { claim: "photos".into(), ..DataVolume::default() },
        account: "volsync-src-photos".into(),
        attempt: 1,
        debug: false,
    };
    let proxies = [("HTTPS_PROXY".to_owned(), "http://proxy.example.org:3128".to_owned())];
    restic(&job, repository, &proxies, plan.restic(UID.into(), paths::CACHE.into()).unwrap())
}

#[test]
fn golden_job_of_a_backup() {
    let mut object = source();
    object.spec.rsync = None;
    object.spec.restic = serde_json::from_value(serde_json::json!({
        "copyMethod": "Direct",
        "repository": "repository",
        "unlock": "please",
        "retain": {"daily": 7, "last": "3", "within": "3d"},
        "customCA": {"configMapName": "authorities", "key": "ours.pem"},
        "moverSecurityContext": {"runAsUser": 1000, "fsGroup": 1000},
        "moverVolumes": [
            {"mountPath": "nas/photos", "volumeSource": {"nfs": {"server": "nas", "path": "/"}}},
        ],
    }))
    .unwrap();
    let repository = Repository {
        secret: "repository".into(),
        keys: ["AWS_ACCESS_KEY_ID", "GOOGLE_APPLICATION_CREDENTIALS", "RESTIC_PASSWORD", "OTHER"]
            .map(str::to_owned)
            .into(),
        custom_ca: Some(CaBundle::ConfigMap { name: "authorities".into(), key: "ours.pem".into() }),
        cache: "volsync-src-photos-cache".into(),
        privileged: false,
    };
    golden("job-restic-source", &restic_mover(&object, &repository));
}

#[test]
fn golden_job_of_a_privileged_restore() {
    let mut object = destination();
    object.spec.rsync = None;
    object.spec.restic = serde_json::from_value(serde_json::json!({
        "copyMethod": "Snapshot",
        "destinationPVC": "photos",
        "repository": "repository",
        "previous": 2,
        "restoreAsOf": "2024-05-06T07:08:09+02:00",
        "enableFileDeletion": true,
        "customCA": {"secretName": "authorities", "key": "ours.pem"},
    }))
    .unwrap();
    let repository = Repository {
        secret: "repository".into(),
        keys: ["RESTIC_PASSWORD", "RESTIC_REPOSITORY"].map(str::to_owned).into(),
        custom_ca: Some(CaBundle::Secret { name: "authorities".into(), key: "ours.pem".into() }),
        cache: "volsync-dst-mirror-cache".into(),
        privileged: true,
    };
    golden("job-restic-destination", &restic_mover(&object, &repository));
}

#[test]
fn golden_service() {
    let owner = Owner::of(&destination()).unwrap();
    golden("service-rsync", &service::rsync(&owner, &Rsync::default()));
    let balanced = Rsync {
        port: Some(2222),
        service_type: Some("LoadBalancer".into()),
        service_annotations: Some([("example.org/pool".to_owned(), "a".to_owned())].into()),
        ..Rsync::default()
    };
    golden("service-rsync-load-balancer", &service::rsync(&owner, &balanced));
    let bare = Rsync { service_annotations: Some([].into()), ..Rsync::default() };
    assert_eq!(service::rsync(&owner, &bare).metadata.annotations, None);
}

#[test]
fn golden_service_account() {
    let owner = Owner::of(&source()).unwrap();
    for (name, privileged) in [("privileged", true), ("unprivileged", false)] {
        let made = service_account::account(&owner, privileged, "volsync-privileged-mover");
        golden(&format!("service-account-{name}"), &made.account);
        golden(&format!("role-{name}"), &made.role);
        golden(&format!("role-binding-{name}"), &made.binding);
    }
}

#[test]
fn golden_security_context_constraints() {
    let made = security_context_constraints::constraints("volsync-privileged-mover");
    golden("security-context-constraints", &made);
}

#[test]
fn golden_volume_populator() {
    golden("volume-populator", &volume_populator::volume_populator());
}

#[test]
fn an_account_pulls_with_our_copies_that_exist_and_with_what_others_gave_it() {
    let account = serde_json::json!({"imagePullSecrets": [
        {"name": "volsync-pull-00000000"}, {"name": "volsync-pull-cbf43926"}, {"name": "builder-dockercfg"},
    ]});
    let account = serde_json::from_value(account).unwrap();
    let names = |account, copies: &[String]| {
        let entries = service_account::pull_secrets(account, copies);
        entries.into_iter().map(|entry| entry.name).collect::<Vec<_>>()
    };
    let copies = ["volsync-pull-cbf43926".to_owned()];
    assert_eq!(names(Some(&account), &copies), ["volsync-pull-cbf43926", "builder-dockercfg"]);
    assert_eq!(names(Some(&account), &[]), ["builder-dockercfg"]);
    assert_eq!(names(None, &copies), copies);
}

#[test]
fn golden_secret() {
    let owner = Owner::of(&destination()).unwrap();
    let data = [("source.pub".to_owned(), ByteString(b"ssh-rsa AAAA".to_vec()))].into();
    golden("secret", &secret::secret(&owner, "volsync-rsync-dst-dest-mirror", data));
    let original = serde_json::json!({
        "metadata": {"name": "123456789", "namespace": "volsync-system", "labels": {"its": "own"}},
        "type": "kubernetes.io/dockerconfigjson",
        "data": {".dockerconfigjson": "e30="},
    });
    let original = serde_json::from_value(original).unwrap();
    golden("secret-pull", &secret::pull_secret(&owner, "123456789", &original));
}

#[test]
fn golden_claims_and_snapshots() {
    let owner = Owner::of(&source()).unwrap();
    let volume = |origin| NewVolume {
        name: "volsync-photos-src".into(),
        origin,
        capacity: "2Gi".parse().unwrap(),
        storage_class: Some("fast".into()),
        access_modes: vec![AccessMode::ReadWriteOnce],
        mode: VolumeMode::Filesystem,
        read_only: false,
    };
    golden("claim-empty", &claim::claim(&owner, &volume(Origin::Empty), false));
    let clone = Origin::Clone { of: "photos".into() };
    golden("claim-clone", &claim::claim(&owner, &volume(clone), true));
    let restored =
        Origin::Snapshot { of: "photos".into(), name: "volsync-photos-src".into(), class: None };
    golden("claim-from-snapshot", &claim::claim(&owner, &volume(restored), true));
    let made = snapshot::snapshot(&owner, "volsync-photos-src", "photos", Some("csi"), true);
    golden("snapshot-temporary", &made);
    let made = snapshot::snapshot(&owner, "mirror-20240506070809", "mirror", None, false);
    golden("snapshot-image", &made);
}

#[test]
fn a_published_address_is_the_load_balancers_or_the_clusters() {
    let service = |spec: serde_json::Value, status: serde_json::Value| {
        let whole = serde_json::json!({"spec": spec, "status": status});
        service::address(&serde_json::from_value(whole).unwrap())
    };
    let inside = serde_json::json!({"type": "ClusterIP", "clusterIP": "10.0.0.1"});
    assert_eq!(service(inside, serde_json::json!({})).as_deref(), Some("10.0.0.1"));
    let balanced = serde_json::json!({"type": "LoadBalancer", "clusterIP": "10.0.0.1"});
    let ingress =
        |entry: serde_json::Value| serde_json::json!({"loadBalancer": {"ingress": [entry]}});
    assert_eq!(service(balanced.clone(), serde_json::json!({})), None);
    let both = ingress(serde_json::json!({"hostname": "lb.example.org", "ip": "192.0.2.1"}));
    assert_eq!(service(balanced.clone(), both).as_deref(), Some("lb.example.org"));
    let ip = ingress(serde_json::json!({"ip": "192.0.2.1"}));
    assert_eq!(service(balanced.clone(), ip).as_deref(), Some("192.0.2.1"));
    assert_eq!(service(balanced, ingress(serde_json::json!({}))).as_deref(), Some("10.0.0.1"));
    let headless = serde_json::json!({"type": "ClusterIP", "clusterIP": "None"});
    assert_eq!(service(headless, serde_json::json!({})), None);
}
