//! Event reasons and actions.

/// Who reports the events.
pub const REPORTING_CONTROLLER: &str = "volsync-controller";

/// Reason: a mover Job was created.
pub const TRANSFER_STARTED: &str = "TransferStarted";

/// Reason: a mover Job reached its backoff limit.
pub const TRANSFER_FAILED: &str = "TransferFailed";

/// Reason: a snapshot was created.
pub const VOLUME_SNAPSHOT_CREATED: &str = "VolumeSnapshotCreated";

/// Reason: a snapshot has been waiting too long to bind.
pub const VOLUME_SNAPSHOT_NOT_BOUND: &str = "VolumeSnapshotNotBound";

/// Reason: a claim was created.
pub const PERSISTENT_VOLUME_CLAIM_CREATED: &str = "PersistentVolumeClaimCreated";

/// Reason: a claim has been waiting too long to bind.
pub const PERSISTENT_VOLUME_CLAIM_NOT_BOUND: &str = "PersistentVolumeClaimNotBound";

/// Reason: the Service has a new address.
pub const SERVICE_ADDRESS_ASSIGNED: &str = "ServiceAddressAssigned";

/// Reason: the Service has been waiting too long for an address.
pub const NO_SERVICE_ADDRESS_ASSIGNED: &str = "NoServiceAddressAssigned";

/// Reason: the local Syncthing answers.
pub const DAEMON_CONNECTED: &str = "DaemonConnected";

/// Reason: the copy waits for its trigger.
pub const SRC_PVC_WAITING_FOR_COPY_TRIGGER: &str = "SrcPVCWaitingForCopyTrigger";

/// Reason: the copy has waited too long for its trigger.
pub const SRC_PVC_TIMEOUT_WAITING_FOR_COPY_TRIGGER: &str = "SrcPVCTimeoutWaitingForCopyTrigger";

/// Reason: the trigger of the copy was received.
pub const SRC_PVC_COPY_TRIGGER_RECEIVED: &str = "SrcPVCCopyTriggerReceived";

/// Reason: the triggered copy is complete.
pub const SRC_PVC_COPY_USING_COPY_TRIGGER_COMPLETED: &str = "SrcPVCCopyUsingCopyTriggerCompleted";

/// Reason: a volume was populated.
pub const VOLSYNC_POPULATOR_FINISHED: &str = "VolSyncPopulatorFinished";

/// Reason: a volume cannot be populated.
pub const VOLSYNC_POPULATOR_ERROR: &str = "VolSyncPopulatorError";

/// Reason: the destination to populate from does not exist.
pub const VOLSYNC_POPULATOR_REPLICATION_DESTINATION_MISSING: &str =
    "VolSyncPopulatorReplicationDestinationMissing";

/// Reason: the destination to populate from has no image yet.
pub const VOLSYNC_POPULATOR_REPLICATION_DESTINATION_NO_LATEST_IMAGE: &str =
    "VolSyncPopulatorReplicationDestinationNoLatestImage";

/// Reason: the claim that populates a volume was created.
pub const VOLSYNC_POPULATOR_PVC_CREATED: &str = "VolSyncPopulatorPVCCreated";

/// Reason: the claim that populates a volume could not be created.
pub const VOLSYNC_POPULATOR_PVC_CREATION_ERROR: &str = "VolSyncPopulatorPVCCreationError";

/// Action: a mover is created.
pub const ACTION_CREATE_MOVER: &str = "CreateMover";

/// Action: a mover is deleted.
pub const ACTION_DELETE_MOVER: &str = "DeleteMover";

/// Action: a claim is created.
pub const ACTION_CREATE_PERSISTENT_VOLUME_CLAIM: &str = "CreatePersistentVolumeClaim";

/// Action: a snapshot is created.
pub const ACTION_CREATE_VOLUME_SNAPSHOT: &str = "CreateVolumeSnapshot";

/// Action: a copy is made when its trigger says so.
pub const ACTION_CREATE_SRC_COPY_USING_COPY_TRIGGER: &str = "CreateSrcCopyUsingCopyTrigger";

/// Action: a volume is populated.
pub const ACTION_PROVISION_VOLUME: &str = "Provision Volume";
