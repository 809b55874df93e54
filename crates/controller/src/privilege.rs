//! Whether the movers of a namespace may be privileged, which its administrator says.

use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, ResourceExt};
use volsync_api::keys;

use crate::context::Context;
use crate::error::{Asked, Error};

/// Whether movers in this namespace run as root with capabilities.
pub(crate) async fn is_privileged(ctx: &Context, namespace: &str) -> Result<bool, Error> {
    let found = Api::<Namespace>::all(ctx.client.clone()).get_opt(namespace).await;
    match found.asked(|| format!("read Namespace {namespace}")) {
        Ok(found) => Ok(found.is_some_and(|namespace| permits(&namespace))),
        // Namespaces are the cluster's; rights in namespaces alone do not reach them.
        Err(error) if error.is_forbidden() => {
            if ctx.first("Namespace") {
                tracing::warn!("{error}; movers run unprivileged");
            }
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

fn permits(namespace: &Namespace) -> bool {
    let said = namespace.annotations().get(keys::PRIVILEGED_MOVERS);
    said.is_some_and(|said| said.eq_ignore_ascii_case("true"))
}
