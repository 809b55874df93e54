//! The objects a manifest names: are they there, with the keys they need?

use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Secret, ServiceAccount};
use volsync_replication::{ReferenceKind, Replication};

use crate::apply::get;
use crate::context::Context;
use crate::error::{Error, Stop};

/// Whether everything the manifest names is there. If not, all that is missing is named.
pub(crate) async fn dereference(ctx: &Context, replication: &Replication) -> Result<(), Stop> {
    let mut missing = Vec::new();
    for reference in replication.references() {
        let (kind, name) = (reference.kind.as_str(), &reference.name);
        let Some(keys) = keys(ctx, &replication.namespace, reference.kind, name).await? else {
            missing.push(format!("{}: {kind} {name} does not exist", reference.path));
            continue;
        };
        let lacks: Vec<&str> =
            reference.keys.iter().filter(|key| !keys.contains(key)).map(String::as_str).collect();
        if !lacks.is_empty() {
            missing.push(format!("{}: {kind} {name} lacks {}", reference.path, lacks.join(", ")));
        }
    }
    if missing.is_empty() { Ok(()) } else { Err(Stop::blocked(missing.join("; "))) }
}

/// The keys of the object; `None` if there is no such object.
async fn keys(
    ctx: &Context,
    namespace: &str,
    kind: ReferenceKind,
    name: &str,
) -> Result<Option<Vec<String>>, Error> {
    Ok(match kind {
        ReferenceKind::Secret => get(&ctx.api::<Secret>(namespace), name).await?.map(|secret| {
            let data = secret.data.unwrap_or_default().into_keys();
            data.chain(secret.string_data.unwrap_or_default().into_keys()).collect()
        }),
        ReferenceKind::ConfigMap => get(&ctx.api::<ConfigMap>(namespace), name)
            .await?
            .map(|map| map.data.unwrap_or_default().into_keys().collect()),
        ReferenceKind::Pvc => {
            get(&ctx.api::<PersistentVolumeClaim>(namespace), name).await?.map(|_| Vec::new())
        }
        ReferenceKind::ServiceAccount => {
            get(&ctx.api::<ServiceAccount>(namespace), name).await?.map(|_| Vec::new())
        }
    })
}
