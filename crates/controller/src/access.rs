//! The ServiceAccount a mover runs as.

use crate::apply::apply;
use crate::build::service_account::account;
use crate::error::Stop;
use crate::kind::Kind;
use crate::volume::Making;

/// The user's account, or one that is made for the mover.
pub(crate) async fn service_account<K: Kind>(
    making: &Making<'_, K>,
    given: Option<&String>,
    privileged: bool,
) -> Result<String, Stop> {
    if let Some(given) = given {
        return Ok(given.clone());
    }
    let (ctx, owner) = (making.ctx, making.owner);
    let wanted = account(owner, privileged, &ctx.settings.scc_name);
    let (made, _) = apply(&ctx.api(&owner.namespace), &wanted.account).await?;
    apply(&ctx.api(&owner.namespace), &wanted.role).await?;
    apply(&ctx.api(&owner.namespace), &wanted.binding).await?;
    Ok(made.metadata.name.unwrap_or_default())
}
