//! What a sync left, and removing it.

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::ResourceExt;
use kube::api::ListParams;
use serde_json::{Value, json};
use volsync_api::keys;
use volsync_replication::{CleanUpPlan, Replication, Volume, names};

use crate::apply::{delete, delete_unchanged, get, is_owned_by, is_terminating, list, merge};
use crate::build::snapshot::VolumeSnapshot;
use crate::context::Context;
use crate::error::{Asked, Error};
use crate::kind::Owner;
use crate::observe::has_ended;
use crate::populator::PRIME_PREFIX;

/// What a sync left that a clean-up removes. What is being removed already is not in here, except
/// for pods that still run.
#[derive(Debug, Default)]
pub(crate) struct Leftovers {
    jobs: Vec<Job>,
    claims: Vec<PersistentVolumeClaim>,
    snapshots: Vec<VolumeSnapshot>,
    /// A destination's claim on which another release noted the snapshot it was making.
    noted: Option<PersistentVolumeClaim>,
    pods: usize,
}

impl Leftovers {
    /// Whether there is anything.
    pub(crate) const fn any(&self) -> bool {
        !self.only_pods() || self.pods > 0
    }

    /// Whether all that is left are pods that will end by themselves.
    pub(crate) const fn only_pods(&self) -> bool {
        self.jobs.is_empty()
            && self.claims.is_empty()
            && self.snapshots.is_empty()
            && self.noted.is_none()
    }
}

/// Looks for what a clean-up would remove.
pub(crate) async fn leftovers(
    ctx: &Context,
    owner: &Owner,
    replication: &Replication,
    plan: &CleanUpPlan,
) -> Result<Leftovers, Error> {
    let label = format!("{}={}", keys::CLEANUP, owner.uid);
    let mut jobs = list(&ctx.api::<Job>(&owner.namespace), &label).await?;
    jobs.retain(|job| !is_terminating(job) && is_owned_by(job, &owner.uid));
    let mut claims = list(&ctx.api::<PersistentVolumeClaim>(&owner.namespace), &label).await?;
    let kept = names::destination_claim(&replication.method, &owner.name);
    claims.retain(|claim| {
        !is_terminating(claim)
            && is_owned_by(claim, &owner.uid)
            && (plan.remove_volume || claim.name_any() != kept)
    });
    let label = format!("{}={}", keys::CREATED_BY, keys::CREATED_BY_VOLSYNC);
    let mut snapshots = list(&ctx.api::<VolumeSnapshot>(&owner.namespace), &label).await?;
    let keep = plan.keep_image.as_ref().filter(|image| image.kind == "VolumeSnapshot");
    snapshots.retain(|snapshot| {
        !is_terminating(snapshot)
            && is_owned_by(snapshot, &owner.uid)
            && keep.is_none_or(|keep| keep.name != snapshot.name_any())
    });
    let mut removable = Vec::new();
    for snapshot in snapshots {
        if !is_promised(ctx, &snapshot, owner).await? {
            removable.push(snapshot);
        }
    }
    let snapshots = removable;
    let mut noted = None;
    if let Volume::Destination { claim, .. } = &replication.volume {
        let name = claim.as_ref().unwrap_or(&kept);
        noted = get(&ctx.api::<PersistentVolumeClaim>(&owner.namespace), name).await?;
        noted = noted.filter(|claim| claim.annotations().contains_key(keys::SNAPNAME));
    }
    let mut pods = 0;
    if let Some(job) = names::job(&replication.method, owner.direction, &owner.name) {
        let label = format!("{}={job}", keys::JOB_NAME);
        let found = list(&ctx.api::<Pod>(&owner.namespace), &label).await?;
        pods = found.iter().filter(|pod| !has_ended(pod)).count();
    }
    Ok(Leftovers { jobs, claims, snapshots, noted, pods })
}

/// Removes what a sync left. Snapshots that somebody else uses or has taken over only stop being ours.
pub(crate) async fn clean_up(
    ctx: &Context,
    owner: &Owner,
    leftovers: &Leftovers,
) -> Result<(), Error> {
    let claims = ctx.api(&owner.namespace);
    if let Some(noted) = &leftovers.noted {
        let patch = json!({"metadata": {"annotations": {keys::SNAPNAME: null}}});
        merge(&claims, noted, patch).await?;
    }
    for claim in &leftovers.claims {
        delete(&claims, claim).await?;
    }
    let snapshots = ctx.api(&owner.namespace);
    for snapshot in &leftovers.snapshots {
        if snapshot.labels().contains_key(keys::DO_NOT_DELETE) {
            relinquish(ctx, snapshot).await?;
        } else if has_other_owners(snapshot, owner) {
            let patch = json!({"metadata": {
                "ownerReferences": owners_without(snapshot, &owner.uid)?,
                "labels": {keys::CLEANUP: null},
            }});
            merge(&snapshots, snapshot, patch).await?;
        } else {
            delete_unchanged(&snapshots, snapshot).await?;
        }
    }
    let jobs = ctx.api(&owner.namespace);
    for job in &leftovers.jobs {
        delete(&jobs, job).await?;
    }
    Ok(())
}

/// Whether somebody else owns the snapshot as well, such as the prime of a claim that is populated from
/// it, so that it does not stay for ever when we let go of it.
fn has_other_owners(snapshot: &VolumeSnapshot, owner: &Owner) -> bool {
    snapshot.owner_references().iter().any(|other| other.uid != owner.uid)
}

/// Whether a claim that still exists is about to be populated from the snapshot, which nobody else owns
/// yet. It is removed once a later sync finds that no claim needs it.
async fn is_promised(
    ctx: &Context,
    snapshot: &VolumeSnapshot,
    owner: &Owner,
) -> Result<bool, Error> {
    let labels = snapshot.labels();
    if labels.contains_key(keys::DO_NOT_DELETE) || has_other_owners(snapshot, owner) {
        return Ok(false);
    }
    let marks: Vec<&str> = labels
        .keys()
        .filter_map(|key| key.strip_prefix(keys::VOLUME_POPULATOR_PVC_PREFIX))
        .collect();
    if marks.is_empty() {
        return Ok(false);
    }
    let claims = ctx.api::<PersistentVolumeClaim>(&owner.namespace);
    let claims = claims.list(&ListParams::default()).await;
    let claims = claims.asked(|| format!("list the claims of {}", owner.namespace))?;
    Ok(claims.items.iter().filter_map(ResourceExt::uid).any(|uid| marks.contains(&uid.as_str())))
}

/// Gives a snapshot that the user wants to keep to the user: nothing of ours is left on it, nor of a
/// claim that is being populated from it.
pub(crate) async fn relinquish(ctx: &Context, snapshot: &VolumeSnapshot) -> Result<(), Error> {
    let labels = snapshot.labels();
    let ours = |owner: &&OwnerReference| match owner.kind.as_str() {
        "ReplicationDestination" | "ReplicationSource" => true,
        "PersistentVolumeClaim" => owner.name.starts_with(PRIME_PREFIX),
        _ => false,
    };
    let owners: Vec<_> = snapshot.owner_references().iter().filter(|owner| !ours(owner)).collect();
    let changed = labels.contains_key(keys::CLEANUP)
        || labels.get(keys::CREATED_BY).is_some_and(|by| by == keys::CREATED_BY_VOLSYNC)
        || owners.len() != snapshot.owner_references().len();
    if !changed {
        return Ok(());
    }
    let patch = json!({"metadata": {
        "labels": {keys::CLEANUP: null, keys::CREATED_BY: null},
        "ownerReferences": crate::apply::json(&owners)?,
    }});
    let namespace = snapshot.namespace().unwrap_or_default();
    merge(&ctx.api(&namespace), snapshot, patch).await?;
    Ok(())
}

fn owners_without(snapshot: &VolumeSnapshot, uid: &str) -> Result<Value, Error> {
    let others: Vec<_> =
        snapshot.owner_references().iter().filter(|owner| owner.uid != uid).collect();
    crate::apply::json(&others)
}

#[cfg(test)]
mod tests;
