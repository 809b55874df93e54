//! The constants other programs rely on have the published values.

use volsync_api::{API_VERSION, GROUP, VERSION, conditions, events, keys};

#[test]
fn the_api_version_is_group_and_version() {
    assert_eq!(GROUP, "volsync.backube");
    assert_eq!(VERSION, "v1alpha1");
    assert_eq!(API_VERSION, format!("{GROUP}/{VERSION}"));
}

#[test]
fn condition_types_reasons_and_messages_are_the_published_ones() {
    for (ours, published) in [
        (conditions::SYNCHRONIZING, "Synchronizing"),
        (conditions::SYNC_IN_PROGRESS, "SyncInProgress"),
        (conditions::WAITING_FOR_SCHEDULE, "WaitingForSchedule"),
        (conditions::WAITING_FOR_MANUAL, "WaitingForManual"),
        (conditions::CLEANING_UP, "CleaningUp"),
        (conditions::ERROR, "Error"),
        (conditions::SYNC_IN_PROGRESS_MESSAGE, "Synchronization in-progress"),
        (conditions::WAITING_FOR_SCHEDULE_MESSAGE, "Waiting for next scheduled synchronization"),
        (conditions::WAITING_FOR_MANUAL_MESSAGE, "Waiting for manual trigger"),
        (conditions::CLEANING_UP_MESSAGE, "Cleaning up"),
        (conditions::MULTIPLE_METHODS_MESSAGE, "only one replication method can be supplied"),
    ] {
        assert_eq!(ours, published);
    }
}

#[test]
fn event_reasons_and_actions_are_the_published_ones() {
    for (ours, published) in [
        (events::REPORTING_CONTROLLER, "volsync-controller"),
        (events::TRANSFER_STARTED, "TransferStarted"),
        (events::TRANSFER_FAILED, "TransferFailed"),
        (events::VOLUME_SNAPSHOT_CREATED, "VolumeSnapshotCreated"),
        (events::VOLUME_SNAPSHOT_NOT_BOUND, "VolumeSnapshotNotBound"),
        (events::PERSISTENT_VOLUME_CLAIM_CREATED, "PersistentVolumeClaimCreated"),
        (events::PERSISTENT_VOLUME_CLAIM_NOT_BOUND, "PersistentVolumeClaimNotBound"),
        (events::SERVICE_ADDRESS_ASSIGNED, "ServiceAddressAssigned"),
        (events::NO_SERVICE_ADDRESS_ASSIGNED, "NoServiceAddressAssigned"),
        (events::DAEMON_CONNECTED, "DaemonConnected"),
        (events::SRC_PVC_WAITING_FOR_COPY_TRIGGER, "SrcPVCWaitingForCopyTrigger"),
        (events::SRC_PVC_TIMEOUT_WAITING_FOR_COPY_TRIGGER, "SrcPVCTimeoutWaitingForCopyTrigger"),
        (events::SRC_PVC_COPY_TRIGGER_RECEIVED, "SrcPVCCopyTriggerReceived"),
        (events::SRC_PVC_COPY_USING_COPY_TRIGGER_COMPLETED, "SrcPVCCopyUsingCopyTriggerCompleted"),
        (events::VOLSYNC_POPULATOR_FINISHED, "VolSyncPopulatorFinished"),
        (events::VOLSYNC_POPULATOR_ERROR, "VolSyncPopulatorError"),
        (
            events::VOLSYNC_POPULATOR_REPLICATION_DESTINATION_MISSING,
            "VolSyncPopulatorReplicationDestinationMissing",
        ),
        (
            events::VOLSYNC_POPULATOR_REPLICATION_DESTINATION_NO_LATEST_IMAGE,
            "VolSyncPopulatorReplicationDestinationNoLatestImage",
        ),
        (events::VOLSYNC_POPULATOR_PVC_CREATED, "VolSyncPopulatorPVCCreated"),
        (events::VOLSYNC_POPULATOR_PVC_CREATION_ERROR, "VolSyncPopulatorPVCCreationError"),
        (events::ACTION_CREATE_MOVER, "CreateMover"),
        (events::ACTION_DELETE_MOVER, "DeleteMover"),
        (events::ACTION_CREATE_PERSISTENT_VOLUME_CLAIM, "CreatePersistentVolumeClaim"),
        (events::ACTION_CREATE_VOLUME_SNAPSHOT, "CreateVolumeSnapshot"),
        (events::ACTION_CREATE_SRC_COPY_USING_COPY_TRIGGER, "CreateSrcCopyUsingCopyTrigger"),
        (events::ACTION_PROVISION_VOLUME, "Provision Volume"),
    ] {
        assert_eq!(ours, published);
    }
}

#[test]
fn labels_annotations_and_their_values_are_the_published_ones() {
    for (ours, published) in [
        (keys::CREATED_BY, "app.kubernetes.io/created-by"),
        (keys::CREATED_BY_VOLSYNC, "volsync"),
        (keys::CLEANUP, "volsync.backube/cleanup"),
        (keys::DO_NOT_DELETE, "volsync.backube/do-not-delete"),
        (keys::VOLUME_POPULATOR_PVC_PREFIX, "volsync.backube/volpop-pvc-"),
        (keys::POPULATOR_PVC_FOR, "volsync.backube/populator-pvc-for"),
        (keys::RELATIONSHIP, "volsync.backube/relationship"),
        (keys::NAME, "app.kubernetes.io/name"),
        (keys::COMPONENT, "app.kubernetes.io/component"),
        (keys::COMPONENT_RSYNC, "rsync-mover"),
        (keys::COMPONENT_RSYNC_TLS, "rsync-tls-mover"),
        (keys::COMPONENT_SYNCTHING, "syncthing-mover"),
        (keys::PART_OF, "app.kubernetes.io/part-of"),
        (keys::APP, "app"),
        (keys::JOB_NAME, "job-name"),
        (keys::PRIVILEGED_MOVERS, "volsync.backube/privileged-movers"),
        (keys::ENABLE_DEBUG_MOVER, "volsync.backube/enable-debug-mover"),
        (keys::USE_COPY_TRIGGER, "volsync.backube/use-copy-trigger"),
        (keys::COPY_TRIGGER, "volsync.backube/copy-trigger"),
        (keys::LATEST_COPY_STATUS, "volsync.backube/latest-copy-status"),
        (keys::COPY_STATUS_WAITING, "WaitingForTrigger"),
        (keys::COPY_STATUS_IN_PROGRESS, "InProgress"),
        (keys::COPY_STATUS_COMPLETED, "Completed"),
        (keys::LATEST_COPY_TRIGGER, "volsync.backube/latest-copy-trigger"),
        (
            keys::LATEST_COPY_TRIGGER_WAITING_SINCE,
            "volsync.backube/latest-copy-trigger-waiting-since",
        ),
        (keys::SNAPNAME, "volsync.backube/snapname"),
        (keys::POPULATED_FROM, "volsync.backube/populated-from"),
        (keys::SELECTED_NODE, "volume.kubernetes.io/selected-node"),
        (keys::AWS_LOAD_BALANCER_TYPE, "service.beta.kubernetes.io/aws-load-balancer-type"),
        (keys::AWS_LOAD_BALANCER_TYPE_NLB, "nlb"),
        (keys::MIGRATED_TO, "pv.kubernetes.io/migrated-to"),
        (keys::HELM_RESOURCE_POLICY, "helm.sh/resource-policy"),
        (keys::HELM_RESOURCE_POLICY_KEEP, "keep"),
        (keys::VOLUME_POPULATOR_NAME, "volsync-replicationdestination"),
    ] {
        assert_eq!(ours, published);
    }
}
