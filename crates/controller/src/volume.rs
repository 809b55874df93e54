//! The volume a mover reads or writes: made if need be, and where it can be reached.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::{Resource, ResourceExt};
use serde_json::json;
use volsync_api::{events, keys};
use volsync_replication::{SyncPlan, Volume, names};
use volsync_volume::copy_trigger::{self, Handshake};
use volsync_volume::{
    AccessMode, ClaimFacts, CopyMethod, NewVolume, Origin, Quantity, VolumeMode, VolumePlan,
    plan_destination, plan_source,
};

use crate::apply::{create, delete, get, is_owned_by, is_terminating, merge, named};
use crate::build::claim::claim as build_claim;
use crate::build::job::{DataVolume, Placement};
use crate::build::snapshot::{VolumeSnapshot, snapshot};
use crate::context::Context;
use crate::error::{Error, Stop};
use crate::events::Notice;
use crate::kind::{Kind, Owner};
use crate::placement::placement;

/// The tag that released a copy, kept on the copy until it is ready.
const RELEASED_BY: &str = "volsync.backube/copy-trigger";
/// After so long a snapshot should be bound.
const SNAPSHOT_PATIENCE: i64 = 30;

/// One sync's volume in the making.
pub(crate) struct Making<'a, K: Kind> {
    pub(crate) ctx: &'a Context,
    pub(crate) object: &'a K,
    pub(crate) owner: &'a Owner,
    pub(crate) now: Timestamp,
}

/// The volume for the mover of this plan.
pub(crate) async fn data_volume<K: Kind>(
    making: &Making<'_, K>,
    plan: &SyncPlan,
) -> Result<DataVolume, Stop> {
    match &plan.volume {
        Volume::Source { claim, options } => {
            let source = making.existing(claim, "spec.sourcePVC").await?;
            match options.copy_method {
                CopyMethod::Direct => making.as_it_is(&source).await,
                CopyMethod::Clone | CopyMethod::Snapshot => {
                    making.point_in_time(options, &source, plan.start).await
                }
            }
        }
        Volume::Destination { claim: Some(claim), .. } => {
            let path = format!("spec.{}.destinationPVC", plan.method.section());
            let destination = making.existing(claim, &path).await?;
            making.as_it_is(&destination).await
        }
        Volume::Destination { claim: None, options, mode, cleanup } => {
            let name = names::destination_claim(&plan.method, &plan.name);
            let VolumePlan::Made(new) =
                plan_destination(options, None, &name, *mode).map_err(Stop::blocked)?
            else {
                return Err(Stop::blocked("a provisioned volume cannot exist already"));
            };
            let provisioned = making.provisioned(&new, *cleanup).await?;
            making.as_it_is(&provisioned).await
        }
        Volume::External => Err(Stop::blocked("an external provider has no mover")),
    }
}

/// Tells the user of a clone once it is bound, which may take until its mover's pod is there.
pub(crate) async fn tell_of_clone<K: Kind>(
    making: &Making<'_, K>,
    plan: &SyncPlan,
) -> Result<(), Error> {
    let Volume::Source { claim, options } = &plan.volume else { return Ok(()) };
    if options.copy_method != CopyMethod::Clone {
        return Ok(());
    }
    let copy = get(&making.claims(), &names::point_in_time(&making.owner.name)).await?;
    let copy = copy.filter(|copy| is_owned_by(copy, &making.owner.uid) && is_bound(copy));
    let Some(copy) = copy else { return Ok(()) };
    match get(&making.claims(), claim).await? {
        Some(source) => making.released(&source, &copy).await,
        None => Ok(()),
    }
}

/// The name of the claim a destination's mover writes to.
pub(crate) fn destination_claim(plan: &SyncPlan) -> Option<String> {
    match &plan.volume {
        Volume::Destination { claim, .. } => Some(
            claim.clone().unwrap_or_else(|| names::destination_claim(&plan.method, &plan.name)),
        ),
        Volume::Source { .. } | Volume::External => None,
    }
}

impl<K: Kind> Making<'_, K> {
    /// The snapshot of a destination's volume that another release began for this sync. It is named
    /// by an annotation of the claim until the sync is cleaned up.
    pub(crate) async fn begun_snapshot(
        &self,
        claim: &str,
        start: Timestamp,
    ) -> Result<Option<VolumeSnapshot>, Error> {
        let Some(claim) = get(&self.claims(), claim).await? else { return Ok(None) };
        let Some(name) = claim.annotations().get(keys::SNAPNAME) else { return Ok(None) };
        let found = get(&self.ctx.api::<VolumeSnapshot>(&self.owner.namespace), name).await?;
        Ok(found.filter(|snapshot| is_of_sync(snapshot, &self.owner.uid, start)))
    }

    fn claims(&self) -> kube::Api<PersistentVolumeClaim> {
        self.ctx.api(&self.owner.namespace)
    }

    async fn existing(&self, name: &str, path: &str) -> Result<PersistentVolumeClaim, Stop> {
        let found = get(&self.claims(), name).await?;
        let claim = found.ok_or_else(|| {
            Stop::blocked(format!("{path}: PersistentVolumeClaim {name} does not exist"))
        })?;
        if is_terminating(&claim) {
            let message = format!("{path}: PersistentVolumeClaim {name} is being deleted");
            return Err(Stop::blocked(message));
        }
        Ok(claim)
    }

    /// A claim mounted as it is has to be mounted where others use it.
    async fn as_it_is(&self, claim: &PersistentVolumeClaim) -> Result<DataVolume, Stop> {
        let facts = facts(claim)?;
        let placement = placement(self.ctx, claim, &facts).await?;
        Ok(DataVolume {
            claim: claim.name_any(),
            read_only: self.owner.direction == volsync_contract::Direction::Source
                && facts.is_read_only(),
            block: facts.mode == VolumeMode::Block,
            placement,
        })
    }

    /// A clone of the source, or a volume made from a snapshot of it.
    async fn point_in_time(
        &self,
        options: &volsync_volume::VolumeOptions,
        source: &PersistentVolumeClaim,
        start: Timestamp,
    ) -> Result<DataVolume, Stop> {
        let name = names::point_in_time(&self.owner.name);
        if let Some(copy) = get(&self.claims(), &name).await? {
            let copy = self.ours(copy)?;
            if !self.is_copy_of(source, options.copy_method, &copy).await? {
                // The manifest has changed since it was made.
                delete(&self.claims(), &copy).await?;
                return Err(Stop::Wait);
            }
            if options.copy_method == CopyMethod::Clone && is_bound(&copy) {
                self.released(source, &copy).await?;
            }
            return copied(&copy);
        }
        let facts = facts(source)?;
        let mut restore_size = None;
        let mut snapshot_name = None;
        let mut tag = None;
        if options.copy_method == CopyMethod::Snapshot {
            let snapshot =
                self.snapshot_of(source, start, options.snapshot_class.as_deref()).await?;
            self.released(source, &snapshot).await?;
            snapshot_name = Some(snapshot.name_any());
            let size = snapshot.status.as_ref().and_then(|status| status.restore_size.clone());
            restore_size =
                size.map(|size| size.parse::<Quantity>()).transpose().map_err(|error| {
                    Stop::blocked(format!(
                        "VolumeSnapshot {} has a strange restoreSize: {error}",
                        snapshot.name_any()
                    ))
                })?;
        } else {
            tag = self.handshake(source).await?;
        }
        let planned =
            plan_source(options, &source.name_any(), &facts, &name, restore_size.as_ref());
        let VolumePlan::Made(mut new) = planned.map_err(Stop::blocked)? else {
            return Err(Stop::blocked("a point-in-time copy cannot exist already"));
        };
        if let (Origin::Snapshot { name, .. }, Some(made)) = (&mut new.origin, snapshot_name) {
            *name = made;
        }
        let copy = self.create_claim(&new, true, tag).await?;
        copied(&copy)
    }

    /// Whether a copy was made in this way of this very source.
    async fn is_copy_of(
        &self,
        source: &PersistentVolumeClaim,
        method: CopyMethod,
        copy: &PersistentVolumeClaim,
    ) -> Result<bool, Error> {
        let Some(of) = copy.spec.as_ref().and_then(|spec| spec.data_source.as_ref()) else {
            return Ok(false);
        };
        if method == CopyMethod::Clone {
            return Ok(of.kind == "PersistentVolumeClaim" && of.name == source.name_any());
        }
        let api = self.ctx.api::<VolumeSnapshot>(&self.owner.namespace);
        let snapshot = get(&api, &of.name).await?;
        Ok(of.kind == "VolumeSnapshot"
            && snapshot.is_none_or(|snapshot| is_snapshot_of(source, &snapshot)))
    }

    /// The ready snapshot of a source, made if there is none. One that its user has taken over keeps its
    /// name, so that ours needs another.
    async fn snapshot_of(
        &self,
        source: &PersistentVolumeClaim,
        start: Timestamp,
        class: Option<&str>,
    ) -> Result<VolumeSnapshot, Stop> {
        let api = self.ctx.api::<VolumeSnapshot>(&self.owner.namespace);
        let mut name = names::point_in_time(&self.owner.name);
        let mut found = get(&api, &name).await?;
        if found.as_ref().is_some_and(|found| {
            found.labels().contains_key(keys::DO_NOT_DELETE) && !is_owned_by(found, &self.owner.uid)
        }) {
            name = names::dated_point_in_time(&self.owner.name, start);
            found = get(&api, &name).await?;
        }
        let snapshot = match found {
            Some(snapshot) => {
                let snapshot = self.ours(snapshot)?;
                if !is_snapshot_of(source, &snapshot) {
                    delete(&api, &snapshot).await?;
                    return Err(Stop::Wait);
                }
                snapshot
            }
            None => {
                let tag = self.handshake(source).await?;
                let mut wanted = snapshot(self.owner, &name, &source.name_any(), class, true);
                keep_tag(&mut wanted, tag);
                make_snapshot(self.ctx, self.object, &wanted).await?
            }
        };
        snapshot_ready(&snapshot, self.now)?;
        Ok(snapshot)
    }

    /// Before a copy is made: if the user asked for the handshake, waits for the user's word, which
    /// is returned.
    async fn handshake(&self, source: &PersistentVolumeClaim) -> Result<Option<String>, Stop> {
        let mut annotations = source.annotations().clone();
        let message =
            |text: &str| format!("{text} src PVC PersistentVolumeClaim/{}", source.name_any());
        let action = "CreateSrcCopyUsingCopyTrigger";
        let related = Some(source.object_ref(&()));
        match copy_trigger::read(&annotations) {
            Handshake::Unused => Ok(None),
            Handshake::Released { tag } => {
                copy_trigger::proceed(&mut annotations);
                if annotations == *source.annotations() {
                    return Ok(Some(tag));
                }
                self.annotate(source, annotations).await?;
                let reason = events::SRC_PVC_COPY_TRIGGER_RECEIVED;
                let message = format!(
                    "{}, proceeding to create snapshot or clone",
                    message("Received updated copy trigger on")
                );
                let notice = Notice::normal(reason, action, message, related);
                self.ctx.events.publish(self.object, notice).await;
                Ok(Some(tag))
            }
            Handshake::Waiting { announce } => {
                let since = annotations.get(copy_trigger::WAITING_SINCE);
                let since = since.and_then(|since| since.parse::<Timestamp>().ok());
                if announce || since.is_none() {
                    copy_trigger::wait(&mut annotations, self.now.to_string());
                    self.annotate(source, annotations).await?;
                    let reason = events::SRC_PVC_WAITING_FOR_COPY_TRIGGER;
                    let message = format!(
                        "{} before creating snapshot or clone",
                        message("Waiting on copy trigger on")
                    );
                    let notice = Notice::normal(reason, action, message, related);
                    self.ctx.events.publish(self.object, notice).await;
                    return Err(Stop::Wait);
                }
                let waited = since.map(|since| self.now.duration_since(since));
                let patience = copy_trigger::PATIENCE.as_secs();
                if waited.is_some_and(|waited| waited.as_secs().unsigned_abs() >= patience) {
                    return Err(Stop::blocked_by(
                        events::SRC_PVC_TIMEOUT_WAITING_FOR_COPY_TRIGGER,
                        format!(
                            "Timed out waiting for copy-trigger to be modified for pvc {}",
                            source.name_any()
                        ),
                    ));
                }
                Err(Stop::Wait)
            }
        }
    }

    /// After a copy is ready: tells the user which word released it.
    async fn released<T: Resource>(
        &self,
        source: &PersistentVolumeClaim,
        copy: &T,
    ) -> Result<(), Error> {
        let kept = copy.annotations().get(RELEASED_BY);
        let tag = kept.or_else(|| copy_trigger::in_progress(source.annotations())).cloned();
        let Some(tag) = tag else { return Ok(()) };
        let mut annotations = source.annotations().clone();
        let told = annotations.get(copy_trigger::STATUS).map(String::as_str)
            == Some(copy_trigger::COMPLETED);
        if told && annotations.get(copy_trigger::LATEST) == Some(&tag) {
            return Ok(());
        }
        copy_trigger::complete(&mut annotations, &tag);
        self.annotate(source, annotations).await?;
        let reason = events::SRC_PVC_COPY_USING_COPY_TRIGGER_COMPLETED;
        let message = format!(
            "snapshot or clone complete for src PVC PersistentVolumeClaim/{} using copy trigger",
            source.name_any()
        );
        let related = Some(source.object_ref(&()));
        let notice = Notice::normal(reason, "CreateSrcCopyUsingCopyTrigger", message, related);
        self.ctx.events.publish(self.object, notice).await;
        Ok(())
    }

    async fn annotate(
        &self,
        claim: &PersistentVolumeClaim,
        annotations: std::collections::BTreeMap<String, String>,
    ) -> Result<(), Error> {
        let mut patch = json!(annotations);
        for gone in claim.annotations().keys().filter(|key| !annotations.contains_key(*key)) {
            patch[gone] = serde_json::Value::Null;
        }
        merge(&self.claims(), claim, json!({"metadata": {"annotations": patch}})).await?;
        Ok(())
    }

    /// The volume of a destination without a claim; grown if the user asks for more.
    async fn provisioned(
        &self,
        new: &NewVolume,
        cleanup: bool,
    ) -> Result<PersistentVolumeClaim, Stop> {
        let Some(existing) = get(&self.claims(), &new.name).await? else {
            return self.create_claim(new, cleanup, None).await;
        };
        let existing = self.ours(existing)?;
        let mut patch = json!({});
        let requested = facts(&existing)?.requested;
        if requested.is_none_or(|requested| requested < new.capacity) {
            patch["spec"] = json!({"resources": {"requests": {"storage": new.capacity.as_str()}}});
        }
        let label = existing.labels().get(keys::CLEANUP).is_some_and(|uid| *uid == self.owner.uid);
        if label != cleanup {
            let value = cleanup.then_some(&self.owner.uid);
            patch["metadata"] = json!({"labels": {keys::CLEANUP: value}});
        }
        if patch == json!({}) {
            return Ok(existing);
        }
        Ok(merge(&self.claims(), &existing, patch).await?)
    }

    async fn create_claim(
        &self,
        new: &NewVolume,
        cleanup: bool,
        tag: Option<String>,
    ) -> Result<PersistentVolumeClaim, Stop> {
        let mut wanted = build_claim(self.owner, new, cleanup);
        keep_tag(&mut wanted, tag);
        let made = create(&self.claims(), &wanted).await?;
        let name = &new.name;
        let message = match &new.origin {
            Origin::Empty => {
                format!("created PersistentVolumeClaim/{name} to receive incoming data")
            }
            Origin::Clone { of } => format!(
                "created PersistentVolumeClaim/{name} as a clone of PersistentVolumeClaim/{of}"
            ),
            Origin::Snapshot { name: snapshot, .. } => {
                format!("created PersistentVolumeClaim/{name} from VolumeSnapshot/{snapshot}")
            }
        };
        let reason = events::PERSISTENT_VOLUME_CLAIM_CREATED;
        let related = Some(made.object_ref(&()));
        let notice = Notice::normal(reason, "CreatePersistentVolumeClaim", message, related);
        self.ctx.events.publish(self.object, notice).await;
        Ok(made)
    }

    /// A snapshot of a name that we use, which may be its user's by now.
    pub(crate) fn ours_or_kept(&self, found: VolumeSnapshot) -> Result<VolumeSnapshot, Stop> {
        if found.labels().contains_key(keys::DO_NOT_DELETE) { Ok(found) } else { self.ours(found) }
    }

    /// An object of a name that we use: only one that was made for this very replication will do,
    /// as it may be deleted when a sync ends.
    pub(crate) fn ours<T: crate::apply::Object>(&self, found: T) -> Result<T, Stop> {
        if !is_owned_by(&found, &self.owner.uid) {
            return Err(Stop::blocked(format!(
                "{} exists and was not made for this {}; rename or remove it",
                named(&found),
                K::kind(&()),
            )));
        }
        if is_terminating(&found) { Err(Stop::Wait) } else { Ok(found) }
    }
}

/// Makes a snapshot and says so.
pub(crate) async fn make_snapshot<K: Kind>(
    ctx: &Context,
    object: &K,
    wanted: &VolumeSnapshot,
) -> Result<VolumeSnapshot, Stop> {
    let namespace = wanted.namespace().unwrap_or_default();
    let made = match create(&ctx.api(&namespace), wanted).await {
        Ok(made) => made,
        Err(error) if error.answer().is_some_and(|answer| answer.code == 404) => {
            return Err(Stop::blocked(
                "copyMethod Snapshot needs the VolumeSnapshot API (snapshot.storage.k8s.io/v1), which this cluster does not serve; install its CRDs and the snapshot-controller, or use Clone or Direct",
            ));
        }
        Err(error) => return Err(error.into()),
    };
    let of = wanted.spec.source.persistent_volume_claim_name.as_deref().unwrap_or_default();
    let message =
        format!("created VolumeSnapshot/{} from PersistentVolumeClaim/{of}", wanted.name_any());
    let related = Some(made.object_ref(&()));
    let reason = events::VOLUME_SNAPSHOT_CREATED;
    let notice = Notice::normal(reason, "CreateVolumeSnapshot", message, related);
    ctx.events.publish(object, notice).await;
    Ok(made)
}

/// Whether a snapshot can be used by now.
pub(crate) fn snapshot_ready(snapshot: &VolumeSnapshot, now: Timestamp) -> Result<(), Stop> {
    if snapshot.is_ready() {
        return Ok(());
    }
    let name = snapshot.name_any();
    let age = snapshot.creation_timestamp().map_or(0, |made| now.duration_since(made.0).as_secs());
    if age < SNAPSHOT_PATIENCE {
        return Err(Stop::Wait);
    }
    let message = match snapshot.failure() {
        Some(failure) => format!("VolumeSnapshot/{name} is not ready: {failure}"),
        None => format!(
            "waiting for VolumeSnapshot/{name} to bind; check VolumeSnapshotClass name and ensure CSI driver supports volume snapshots"
        ),
    };
    Err(Stop::blocked_by(events::VOLUME_SNAPSHOT_NOT_BOUND, message))
}

/// Whether a snapshot was made for the sync of this replication that started at `start`. One that the
/// user wants to keep has lost its owner.
fn is_of_sync(snapshot: &VolumeSnapshot, uid: &str, start: Timestamp) -> bool {
    let ours = is_owned_by(snapshot, uid) || snapshot.labels().contains_key(keys::DO_NOT_DELETE);
    let made = snapshot.creation_timestamp();
    ours && !is_terminating(snapshot) && made.is_some_and(|made| made.0 >= start)
}

fn is_snapshot_of(source: &PersistentVolumeClaim, snapshot: &VolumeSnapshot) -> bool {
    snapshot.spec.source.persistent_volume_claim_name == source.metadata.name
}

fn keep_tag<T: Resource>(copy: &mut T, tag: Option<String>) {
    if let Some(tag) = tag {
        copy.annotations_mut().insert(RELEASED_BY.to_owned(), tag);
    }
}

/// A copy is ours alone, so it can be mounted anywhere. It need not be bound: that may wait for the
/// mover's pod.
fn copied(copy: &PersistentVolumeClaim) -> Result<DataVolume, Stop> {
    let facts = facts(copy)?;
    Ok(DataVolume {
        claim: copy.name_any(),
        read_only: facts.is_read_only(),
        block: facts.mode == VolumeMode::Block,
        placement: Placement::default(),
    })
}

fn is_bound(claim: &PersistentVolumeClaim) -> bool {
    claim.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Bound")
}

/// What is known of a claim.
pub(crate) fn facts(claim: &PersistentVolumeClaim) -> Result<ClaimFacts, Stop> {
    let strange = |error| {
        Stop::blocked(format!("PersistentVolumeClaim {} is strange: {error}", claim.name_any()))
    };
    let modes = |modes: Option<&Vec<String>>| -> Result<Vec<AccessMode>, Stop> {
        modes.into_iter().flatten().map(|mode| mode.parse().map_err(strange)).collect()
    };
    let size = |amounts: Option<
        &std::collections::BTreeMap<
            String,
            k8s_openapi::apimachinery::pkg::api::resource::Quantity,
        >,
    >|
     -> Result<Option<Quantity>, Stop> {
        let amount = amounts.and_then(|amounts| amounts.get("storage"));
        amount.map(|amount| amount.0.parse().map_err(strange)).transpose()
    };
    let (spec, status) = (claim.spec.as_ref(), claim.status.as_ref());
    let requests = spec.and_then(|spec| spec.resources.as_ref());
    Ok(ClaimFacts {
        requested: size(requests.and_then(|resources| resources.requests.as_ref()))?,
        capacity: size(status.and_then(|status| status.capacity.as_ref()))?,
        storage_class: spec.and_then(|spec| spec.storage_class_name.clone()),
        access_modes: modes(spec.and_then(|spec| spec.access_modes.as_ref()))?,
        bound_access_modes: modes(status.and_then(|status| status.access_modes.as_ref()))?,
        mode: spec
            .and_then(|spec| spec.volume_mode.as_deref())
            .map(|mode| mode.parse().map_err(strange))
            .transpose()?
            .unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_that_another_release_began_is_used_by_its_own_sync_alone() {
        let begun: VolumeSnapshot = serde_json::from_value(json!({
            "apiVersion": "snapshot.storage.k8s.io/v1",
            "kind": "VolumeSnapshot",
            "metadata": {
                "name": "volsync-mirror-dst-20240506070809",
                "creationTimestamp": "2024-05-06T07:08:10Z",
                "ownerReferences": [{
                    "apiVersion": "volsync.backube/v1alpha1",
                    "kind": "ReplicationDestination",
                    "name": "mirror",
                    "uid": "ours",
                }],
            },
            "spec": {"source": {"persistentVolumeClaimName": "volsync-mirror-dst"}},
        }))
        .unwrap();
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        assert!(is_of_sync(&begun, "ours", at("2024-05-06T07:00:00Z")));
        assert!(!is_of_sync(&begun, "another", at("2024-05-06T07:00:00Z")));
        assert!(!is_of_sync(&begun, "ours", at("2024-05-06T08:00:00Z")));
    }
    #[test]
    fn a_snapshot_without_a_class_says_so_in_the_words_of_its_controller() {
        let told = |status: serde_json::Value, now: &str| {
            let snapshot = serde_json::from_value(json!({
                "apiVersion": "snapshot.storage.k8s.io/v1",
                "kind": "VolumeSnapshot",
                "metadata": {"name": "one", "creationTimestamp": "2024-05-06T07:00:00Z"},
                "spec": {"source": {}},
                "status": status,
            }));
            snapshot_ready(&snapshot.unwrap(), now.parse().unwrap())
        };
        let failed = json!({"error": {"message": "cannot find default snapshot class"}});
        let Err(Stop::Blocked(blocked)) = told(failed.clone(), "2024-05-06T07:00:30Z") else {
            panic!("it is not said");
        };
        assert_eq!(blocked.reason, events::VOLUME_SNAPSHOT_NOT_BOUND);
        assert!(blocked.message.ends_with("cannot find default snapshot class"));
        assert!(matches!(told(failed, "2024-05-06T07:00:29Z"), Err(Stop::Wait)));
        let bound = json!({"boundVolumeSnapshotContentName": "content", "readyToUse": true});
        assert!(told(bound, "2024-05-06T07:00:30Z").is_ok());
    }
}
