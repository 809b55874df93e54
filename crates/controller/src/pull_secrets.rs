//! Copies of the Secrets that the movers' images are pulled with, beside the movers.

use k8s_openapi::api::core::v1::Secret;

use crate::apply::{apply, get};
use crate::build::secret::pull_secret;
use crate::context::Context;
use crate::error::Error;
use crate::kind::Owner;

/// Copies the configured Secrets of the operator's namespace to the replication's. Returns the names
/// of the copies that are there.
///
/// One that cannot be had is said once and left out: whether an image can be pulled without it shows.
pub(crate) async fn copy_pull_secrets(ctx: &Context, owner: &Owner) -> Result<Vec<String>, Error> {
    let from = &ctx.settings.namespace;
    let mut copies = Vec::new();
    for name in &ctx.settings.pull_secrets {
        let why = match get(&ctx.api::<Secret>(from), name).await {
            Ok(Some(original)) => {
                let wanted = pull_secret(owner, name, &original);
                match apply(&ctx.api::<Secret>(&owner.namespace), &wanted).await {
                    Ok(copy) => {
                        copies.extend(copy.metadata.name);
                        continue;
                    }
                    Err(error) if error.is_refusal() => error.to_string(),
                    Err(error) => return Err(error),
                }
            }
            Ok(None) => format!("Secret {from}/{name} does not exist"),
            Err(error) if error.is_refusal() => error.to_string(),
            Err(error) => return Err(error),
        };
        let namespace = &owner.namespace;
        if ctx.first(&format!("{namespace}: {why}")) {
            tracing::warn!("movers in {namespace} do without image pull secret {name}: {why}");
        }
    }
    Ok(copies)
}
