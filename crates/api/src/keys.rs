//! Every label and annotation key, and the values that are fixed. There are no finalizers.

/// Label: who created the object.
pub const CREATED_BY: &str = "app.kubernetes.io/created-by";

/// Value of [`CREATED_BY`] and [`PART_OF`].
pub const CREATED_BY_VOLSYNC: &str = "volsync";

/// Label: UID of the owner whose clean-up deletes the object.
pub const CLEANUP: &str = "volsync.backube/cleanup";

/// Label: the snapshot belongs to the user now.
pub const DO_NOT_DELETE: &str = "volsync.backube/do-not-delete";

/// Prefix of a label: the snapshot is used to populate the claim whose UID follows.
pub const VOLUME_POPULATOR_PVC_PREFIX: &str = "volsync.backube/volpop-pvc-";

/// Label: the claim this claim populates.
pub const POPULATOR_PVC_FOR: &str = "volsync.backube/populator-pvc-for";

/// Label: the relationship of the command line that created the object.
pub const RELATIONSHIP: &str = "volsync.backube/relationship";

/// Label: the mover of which resource.
pub const NAME: &str = "app.kubernetes.io/name";

/// Label: which mover.
pub const COMPONENT: &str = "app.kubernetes.io/component";

/// Value of [`COMPONENT`].
pub const COMPONENT_RSYNC: &str = "rsync-mover";

/// Value of [`COMPONENT`].
pub const COMPONENT_RSYNC_TLS: &str = "rsync-tls-mover";

/// Value of [`COMPONENT`].
pub const COMPONENT_SYNCTHING: &str = "syncthing-mover";

/// Label: part of which application.
pub const PART_OF: &str = "app.kubernetes.io/part-of";

/// Label: the Syncthing Deployment of which resource.
pub const APP: &str = "app";

/// Label, set by Kubernetes: the Job of a pod.
pub const JOB_NAME: &str = "job-name";

/// Annotation of a namespace: movers may run privileged.
pub const PRIVILEGED_MOVERS: &str = "volsync.backube/privileged-movers";

/// Annotation: run the mover in debug mode.
pub const ENABLE_DEBUG_MOVER: &str = "volsync.backube/enable-debug-mover";

/// Annotation of a source claim: copies wait for a trigger.
pub const USE_COPY_TRIGGER: &str = "volsync.backube/use-copy-trigger";

/// Annotation of a source claim: the tag that releases the copy.
pub const COPY_TRIGGER: &str = "volsync.backube/copy-trigger";

/// Annotation of a source claim: how far the triggered copy has come.
pub const LATEST_COPY_STATUS: &str = "volsync.backube/latest-copy-status";

/// Value of [`LATEST_COPY_STATUS`].
pub const COPY_STATUS_WAITING: &str = "WaitingForTrigger";

/// Value of [`LATEST_COPY_STATUS`].
pub const COPY_STATUS_IN_PROGRESS: &str = "InProgress";

/// Value of [`LATEST_COPY_STATUS`].
pub const COPY_STATUS_COMPLETED: &str = "Completed";

/// Annotation of a source claim: the last trigger consumed.
pub const LATEST_COPY_TRIGGER: &str = "volsync.backube/latest-copy-trigger";

/// Annotation of a source claim: since when a trigger is waited for.
pub const LATEST_COPY_TRIGGER_WAITING_SINCE: &str =
    "volsync.backube/latest-copy-trigger-waiting-since";

/// Annotation of a destination claim: the snapshot being taken.
pub const SNAPNAME: &str = "volsync.backube/snapname";

/// Annotation of a volume: the snapshot it was populated from.
pub const POPULATED_FROM: &str = "volsync.backube/populated-from";

/// Annotation of a claim: the node its consumer was scheduled to.
pub const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";

/// Annotation of a Service unless others are given.
pub const AWS_LOAD_BALANCER_TYPE: &str = "service.beta.kubernetes.io/aws-load-balancer-type";

/// Value of [`AWS_LOAD_BALANCER_TYPE`].
pub const AWS_LOAD_BALANCER_TYPE_NLB: &str = "nlb";

/// Annotation, only read: the CSI driver a claim was migrated to.
pub const MIGRATED_TO: &str = "pv.kubernetes.io/migrated-to";

/// Annotation of the definitions in the Helm chart.
pub const HELM_RESOURCE_POLICY: &str = "helm.sh/resource-policy";

/// Value of [`HELM_RESOURCE_POLICY`].
pub const HELM_RESOURCE_POLICY_KEEP: &str = "keep";

/// Name of the object that registers the volume populator.
pub const VOLUME_POPULATOR_NAME: &str = "volsync-replicationdestination";
