//! The ServiceAccount a mover runs as.

use kube::ResourceExt;

use crate::apply::{apply, apply_onto, get};
use crate::build::service_account::{account, pull_secrets};
use crate::error::Stop;
use crate::kind::Kind;
use crate::pull_secrets::copy_pull_secrets;
use crate::volume::Making;

/// The user's account, which has to be there by now, or one that is made for the mover.
pub(crate) async fn service_account<K: Kind>(
    making: &Making<'_, K>,
    given: Option<&String>,
    privileged: bool,
) -> Result<String, Stop> {
    if let Some(given) = given {
        return Ok(given.clone());
    }
    let (ctx, owner) = (making.ctx, making.owner);
    let copies = copy_pull_secrets(ctx, owner).await?;
    let mut wanted = account(owner, privileged, &ctx.settings.scc_name);
    let accounts = ctx.api(&owner.namespace);
    let existing = get(&accounts, &wanted.account.name_any()).await?;
    wanted.account.image_pull_secrets = Some(pull_secrets(existing.as_ref(), &copies));
    let made = apply_onto(&accounts, existing, &wanted.account).await?;
    apply(&ctx.api(&owner.namespace), &wanted.role).await?;
    apply(&ctx.api(&owner.namespace), &wanted.binding).await?;
    Ok(made.name_any())
}
