//! Manifests and all that is wrong with them.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

use jiff::tz::TimeZone;
use volsync_api::v1alpha1::{
    ReplicationDestination, ReplicationDestinationStatus, ReplicationSource,
    ReplicationSourceStatus,
};
use volsync_replication::{
    Method, Problem, ReferenceKind, Replication, Status, Trigger, Volume, validate_destination,
    validate_source,
};

fn source(spec: &str) -> Result<Replication, Vec<Problem>> {
    let text = format!(
        "apiVersion: volsync.backube/v1alpha1\nkind: ReplicationSource\nmetadata: {{name: photos}}\nspec: {spec}\n"
    );
    let manifest: ReplicationSource = serde_saphyr::from_str(&text).unwrap();
    validate_source(&manifest, &TimeZone::UTC)
}

fn destination(spec: &str) -> Result<Replication, Vec<Problem>> {
    let text = format!(
        "apiVersion: volsync.backube/v1alpha1\nkind: ReplicationDestination\nmetadata: {{name: photos}}\nspec: {spec}\n"
    );
    let manifest: ReplicationDestination = serde_saphyr::from_str(&text).unwrap();
    validate_destination(&manifest, &TimeZone::UTC)
}

fn told(result: Result<Replication, Vec<Problem>>) -> Vec<String> {
    result.unwrap_err().iter().map(ToString::to_string).collect()
}

#[test]
fn a_source_says_what_it_refers_to() {
    let replication = source(
        "{sourcePVC: data, trigger: {schedule: '0 3 * * *'}, rsync: {copyMethod: Clone, capacity: 2Gi, \
         sshKeys: keys, address: mirror, port: 2222, moverServiceAccount: robot}}",
    )
    .unwrap();
    assert!(
        matches!(&replication.trigger, Trigger::Schedule(schedule) if schedule.as_str() == "0 3 * * *")
    );
    assert_eq!(replication.namespace, "default");
    match &replication.method {
        Method::Rsync(rsync) => {
            assert_eq!((rsync.address.as_deref(), rsync.port()), (Some("mirror"), 2222))
        }
        other => panic!("{other:?}"),
    }
    let references: Vec<_> = replication
        .references()
        .iter()
        .map(|reference| {
            (
                reference.kind,
                reference.name.as_str(),
                reference.path.as_str(),
                reference.keys.join(" "),
            )
        })
        .collect();
    assert_eq!(
        references,
        [
            (ReferenceKind::Pvc, "data", "spec.sourcePVC", String::new()),
            (
                ReferenceKind::ServiceAccount,
                "robot",
                "spec.rsync.moverServiceAccount",
                String::new()
            ),
            (
                ReferenceKind::Secret,
                "keys",
                "spec.rsync.sshKeys",
                "source source.pub destination.pub".into()
            ),
        ]
    );
}

#[test]
fn all_problems_of_a_source_are_found_at_once() {
    assert_eq!(
        told(source(
            "{trigger: {schedule: '0 0 31 2 *'}, rsync: {capacity: 0, accessModes: [RWO], port: 70000}, restic: {copyMethod: Direct}}"
        )),
        [
            "spec.trigger.schedule: \"0 0 31 2 *\" never fires",
            "spec.sourcePVC: sourcePVC must be provided",
            "spec.rsync.copyMethod: unsupported copyMethod:  -- must be Direct, None, Clone, or Snapshot",
            "spec.rsync.capacity: capacity 0 must be more than zero",
            "spec.rsync.accessModes[0]: unsupported access mode: RWO -- must be ReadWriteOnce, ReadOnlyMany, ReadWriteMany, or ReadWriteOncePod",
            "spec.rsync.port: 70000 is not a port from 0 to 65535",
            "spec.restic.repository: the name of the repository Secret must be provided",
            "spec: only one replication method can be supplied (found rsync, restic)",
        ]
    );
}

#[test]
fn all_problems_of_a_destination_are_found_at_once() {
    assert_eq!(
        told(destination(
            "{rsync: {copyMethod: Clone, volumeMode: File}, rclone: {copyMethod: Direct, destinationPVC: d}}"
        )),
        [
            "spec.rsync.copyMethod: unsupported copyMethod: Clone -- must be Direct, None, or Snapshot",
            "spec.rsync.accessModes: accessModes must be provided when destinationPVC is not",
            "spec.rsync.capacity: capacity must be provided when destinationPVC is not",
            "spec.rsync.volumeMode: unsupported volumeMode: File -- must be Filesystem or Block",
            "spec.rclone.rcloneConfig: unable to get Rclone config secret name",
            "spec.rclone.rcloneConfigSection: unable to get Rclone config section name",
            "spec.rclone.rcloneDestPath: unable to get Rclone destination name",
            "spec: only one replication method can be supplied (found rsync, rclone)",
        ]
    );
}

#[test]
fn what_restic_is_told_is_looked_at_field_by_field() {
    assert_eq!(
        told(source(
            "{sourcePVC: data, restic: {copyMethod: Direct, repository: r, host: 'my host', path: data, \
             tags: [one, 'two,three', ''], exclude: [' '], verify: {intervalDays: -1, readDataPercent: 101}, \
             bandwidthLimit: '10'}}"
        )),
        [
            "spec.restic.host: must not have spaces in it",
            "spec.restic.path: must begin with a slash",
            "spec.restic.tags[1]: must not have a comma in it",
            "spec.restic.tags[2]: must not be empty",
            "spec.restic.exclude[0]: must not be empty",
            "spec.restic.verify.intervalDays: must not be below 0",
            "spec.restic.verify.readDataPercent: must be from 0 to 100",
            "spec.restic.bandwidthLimit: must be at least 1Ki (bytes a second), and is 10",
        ]
    );
    assert_eq!(
        told(destination(
            "{restic: {copyMethod: Direct, destinationPVC: d, repository: r, snapshot: latest, previous: 1, host: h}}"
        )),
        [
            "spec.restic.snapshot: \"latest\" is not the ID of a snapshot: 4 to 64 hexadecimal digits, as `restic snapshots` lists it",
            "spec.restic.previous: selects among snapshots, and spec.restic.snapshot names one; leave one of them out",
            "spec.restic.host: selects among snapshots, and spec.restic.snapshot names one; leave one of them out",
        ]
    );
}

#[test]
fn a_manifest_without_a_method_is_told_which_there_are() {
    assert_eq!(
        told(source("{sourcePVC: data}")),
        [
            "spec: a replication method must be specified - enabled movers: [rclone restic rsync rsync-tls syncthing]"
        ]
    );
}

#[test]
fn somebody_elses_replication_is_left_to_them() {
    let replication = source("{external: {provider: example.com/mirror}}").unwrap();
    assert_eq!(replication.volume, Volume::External);
    assert_eq!(
        told(destination(
            "{external: {}, restic: {copyMethod: Direct, destinationPVC: d, repository: r}}"
        )),
        ["spec: only one replication method can be supplied (found restic, external)"]
    );
}

#[test]
fn a_manual_tag_goes_before_a_schedule() {
    let replication = source(
        "{sourcePVC: data, trigger: {manual: now, schedule: junk}, rsync: {copyMethod: None, address: mirror}}",
    );
    assert_eq!(replication.unwrap().trigger, Trigger::Manual("now".into()));
}

#[test]
fn a_status_passes_through_with_what_is_not_ours() {
    let text = "{lastSyncTime: '2024-05-06T12:01:30Z', lastSyncStartTime: '2024-05-06T12:02:00Z', \
        lastSyncDuration: 1m30.5s, nextSyncTime: '2024-05-06T13:00:00Z', lastManualSync: one, \
        latestMoverStatus: {result: Failed, logs: no route}, rsync: {sshKeys: keys, address: 10.0.0.1}, \
        restic: {lastPruned: '2024-05-01T00:00:00Z', lastUnlocked: please, \
        lastVerified: '2024-05-02T00:00:00Z', verifyResult: Damaged, verifyMessage: a pack, \
        verifyRound: 3}, external: {a: b}, \
        conditions: [{type: Synchronizing, status: 'True', reason: SyncInProgress, \
        message: Synchronization in-progress, lastTransitionTime: '2024-05-06T12:02:00Z'}]}";
    let before: ReplicationSourceStatus = serde_saphyr::from_str(text).unwrap();
    let mut after = before.clone();
    Status::from_source(&before).write_to_source(&mut after);
    assert_eq!(after, before);
    let mut fresh = ReplicationSourceStatus::default();
    Status::default().write_to_source(&mut fresh);
    assert_eq!(fresh, ReplicationSourceStatus::default());

    let text = "{lastSyncTime: '2024-05-06T12:01:30Z', latestImage: {apiGroup: '', kind: PersistentVolumeClaim, name: d}, \
        restic: {restoreOutcome: Restored, restoredSnapshot: abcd}}";
    let before: ReplicationDestinationStatus = serde_saphyr::from_str(text).unwrap();
    let mut after = before.clone();
    Status::from_destination(&before).write_to_destination(&mut after);
    assert_eq!(after, before);
}
