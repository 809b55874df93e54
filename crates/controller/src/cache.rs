//! The volume on which a mover keeps what it would otherwise fetch again with every sync.
//!
//! Nothing is lost with it, so one that cannot become what the user wants is made anew: a cache never
//! keeps a backup from being made.

use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::{Resource, ResourceExt};
use serde_json::json;
use volsync_api::{events, keys};
use volsync_volume::NewVolume;

use crate::apply::{create, delete, get, is_owned_by, merge};
use crate::build::claim::claim;
use crate::error::Stop;
use crate::events::Notice;
use crate::kind::Kind;
use crate::volume::{Making, facts};

/// The claim of the cache, made if it is not there; with `cleanup`, it goes when the sync ends.
pub(crate) async fn cache<K: Kind>(
    making: &Making<'_, K>,
    wanted: &NewVolume,
    cleanup: bool,
) -> Result<String, Stop> {
    let (ctx, owner) = (making.ctx, making.owner);
    let claims = ctx.api::<PersistentVolumeClaim>(&owner.namespace);
    // Releases of upstream before 0.13 called it so.
    let former = get(&claims, &format!("volsync-{}-cache", owner.name)).await?;
    if let Some(former) = former.filter(|former| is_owned_by(former, &owner.uid)) {
        delete(&claims, &former).await?;
    }
    let Some(existing) = get(&claims, &wanted.name).await? else {
        let made = create(&claims, &claim(owner, wanted, cleanup)).await?;
        let message = format!("created PersistentVolumeClaim/{} as a cache", wanted.name);
        let reason = events::PERSISTENT_VOLUME_CLAIM_CREATED;
        let related = Some(made.object_ref(&()));
        let action = events::ACTION_CREATE_PERSISTENT_VOLUME_CLAIM;
        ctx.events.publish(making.object, Notice::normal(reason, action, message, related)).await;
        return Ok(made.name_any());
    };
    let existing = making.ours(existing)?;
    if !can_become(&existing, wanted)? {
        delete(&claims, &existing).await?;
        return Err(Stop::Wait);
    }
    let mut patch = json!({});
    if facts(&existing)?.requested.is_none_or(|requested| requested < wanted.capacity) {
        patch["spec"] = json!({"resources": {"requests": {"storage": wanted.capacity.as_str()}}});
    }
    let label = existing.labels().get(keys::CLEANUP).is_some_and(|uid| *uid == owner.uid);
    if label != cleanup {
        patch["metadata"] = json!({"labels": {keys::CLEANUP: cleanup.then_some(&owner.uid)}});
    }
    if patch == json!({}) {
        return Ok(existing.name_any());
    }
    match merge(&claims, &existing, patch).await {
        Ok(changed) => Ok(changed.name_any()),
        // Its storage class does not let volumes grow.
        Err(error) if error.answer().is_some_and(|said| matches!(said.code, 403 | 422)) => {
            tracing::info!(name = existing.name_any(), "{error}; making this cache anew");
            delete(&claims, &existing).await?;
            Err(Stop::Wait)
        }
        Err(error) => Err(error.into()),
    }
}

/// Whether all that is wanted and can never be changed is so already. A claim without a class was given
/// the default when it was made.
fn can_become(existing: &PersistentVolumeClaim, wanted: &NewVolume) -> Result<bool, Stop> {
    let facts = facts(existing)?;
    let class = wanted.storage_class.is_none() || facts.storage_class == wanted.storage_class;
    Ok(class && facts.access_modes == wanted.access_modes && facts.mode == wanted.mode)
}
