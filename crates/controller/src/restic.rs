//! What a mover of a restic repository needs besides its volume: the keys of the repository's Secret
//! and a cache.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Secret};
use volsync_replication::{Restic, SyncPlan, Volume, names};
use volsync_volume::{ClaimFacts, plan_cache};

use crate::apply::get;
use crate::build::job::DataVolume;
use crate::build::job::restic::Repository;
use crate::cache::cache;
use crate::error::Stop;
use crate::kind::Kind;
use crate::privilege::is_privileged;
use crate::volume::{Making, facts};

/// What the mover is given of its repository. `data` is the volume that it reads or writes.
pub(crate) async fn repository<K: Kind>(
    making: &Making<'_, K>,
    plan: &SyncPlan,
    restic: &Restic,
    data: &DataVolume,
) -> Result<Repository, Stop> {
    let (ctx, owner) = (making.ctx, making.owner);
    let secret = get(&ctx.api::<Secret>(&owner.namespace), &restic.repository).await?;
    let secret = secret.ok_or_else(|| {
        Stop::blocked(format!("spec.restic.repository: Secret {} is gone", restic.repository))
    })?;
    let keys: BTreeSet<String> = secret.data.unwrap_or_default().into_keys().collect();
    let options = match &plan.volume {
        Volume::Source { options, .. } | Volume::Destination { options, .. } => options,
        Volume::External => return Err(Stop::blocked("an external provider has no mover")),
    };
    let claim = get(&ctx.api::<PersistentVolumeClaim>(&owner.namespace), &data.claim).await?;
    let about = claim.as_ref().map(facts).transpose()?.unwrap_or_else(ClaimFacts::default);
    let name = names::restic_cache(owner.direction, &owner.name);
    let wanted = plan_cache(&restic.cache, options, &about, &name);
    Ok(Repository {
        secret: restic.repository.clone(),
        custom_ca: restic.custom_ca.clone(),
        keys,
        cache: cache(making, &wanted, restic.cleanup_cache).await?,
        privileged: is_privileged(ctx, &owner.namespace).await?,
    })
}
