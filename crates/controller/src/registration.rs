//! What the operator adds to a cluster that has a place for it: constraints for privileged movers on
//! OpenShift, and word of its volume populator.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use kube::api::{ApiResource, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::GroupVersionKind;
use kube::{Api, Client, ResourceExt};
use serde_json::Value;
use volsync_api::keys;

use crate::apply::{FIELD_MANAGER, covers};
use crate::build::security_context_constraints::constraints;
use crate::build::volume_populator::volume_populator;
use crate::context::Context;
use crate::error::{Asked, Error};

/// When to look again whether the cluster has a place by now, or lets us.
const AGAIN: Duration = Duration::from_secs(60);

/// Whether something is registered.
enum Registered {
    Yes,
    /// The cluster does not know the kind.
    NotServed,
}

/// Registers everything, now or once the cluster serves its kind, until told to stop. What cannot be
/// registered is said and does not keep the operator from its work.
pub(crate) async fn run(ctx: Arc<Context>, stop: impl Future<Output = ()> + Send) {
    let (client, scc_name) = (&ctx.client, ctx.settings.scc_name.as_str());
    let both = futures::future::join(
        until_registered(|| privileged_mover(client, scc_name)),
        until_registered(|| populator(client)),
    );
    futures::future::select(std::pin::pin!(both), std::pin::pin!(stop)).await;
}

async fn until_registered<F>(register: impl Fn() -> F)
where
    F: Future<Output = Result<Registered, Error>>,
{
    let mut said = String::new();
    loop {
        match register().await {
            Ok(Registered::Yes) => return,
            Ok(Registered::NotServed) => {}
            Err(error) => {
                let says = error.to_string();
                if says != said {
                    tracing::warn!("{says}; trying again until it is possible");
                    said = says;
                }
            }
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// Ensures the SecurityContextConstraints that privileged movers use. Those of this name that are
/// not ours stay as they are.
async fn privileged_mover(client: &Client, name: &str) -> Result<Registered, Error> {
    let kind = GroupVersionKind::gvk("security.openshift.io", "v1", "SecurityContextConstraints");
    let kind = ApiResource::from_gvk_with_plural(&kind, "securitycontextconstraints");
    if !is_served(client, &kind).await? {
        return Ok(Registered::NotServed);
    }
    let what = || format!("SecurityContextConstraints {name}, which privileged movers need");
    let api: Api<DynamicObject> = Api::all_with(client.clone(), &kind);
    let wanted = constraints(name);
    let Some(existing) = api.get_opt(name).await.asked(|| format!("read {}", what()))? else {
        let made: DynamicObject = serde_json::from_value(wanted)
            .map_err(|source| Error::Json { what: "SecurityContextConstraints", source })?;
        let params =
            PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
        api.create(&params, &made).await.asked(|| format!("create {}", what()))?;
        tracing::info!("created SecurityContextConstraints {name}");
        return Ok(Registered::Yes);
    };
    if existing.labels().get(keys::CREATED_BY).is_none_or(|by| by != keys::CREATED_BY_VOLSYNC) {
        tracing::info!(
            "SecurityContextConstraints {name} were made by somebody else and stay as they are"
        );
        return Ok(Registered::Yes);
    }
    let content = without_metadata(wanted);
    if !covers(&crate::apply::json(&existing)?, &content) {
        let params =
            PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..Default::default() };
        let patched = api.patch(name, &params, &Patch::Merge(content)).await;
        patched.asked(|| format!("update {}", what()))?;
        tracing::info!("updated SecurityContextConstraints {name}");
    }
    Ok(Registered::Yes)
}

fn without_metadata(mut object: Value) -> Value {
    if let Some(fields) = object.as_object_mut() {
        fields.remove("metadata");
    }
    object
}

/// Tells the cluster that this kind of data source has a populator. Claims are populated all the same.
async fn populator(client: &Client) -> Result<Registered, Error> {
    let kind = GroupVersionKind::gvk("populator.storage.k8s.io", "v1beta1", "VolumePopulator");
    let kind = ApiResource::from_gvk_with_plural(&kind, "volumepopulators");
    if !is_served(client, &kind).await? {
        return Ok(Registered::NotServed);
    }
    let api: Api<DynamicObject> = Api::all_with(client.clone(), &kind);
    let wanted = volume_populator();
    let params = PatchParams::apply(FIELD_MANAGER).force();
    let applied = api.patch(keys::VOLUME_POPULATOR_NAME, &params, &Patch::Apply(&wanted)).await;
    applied.asked(|| format!("register VolumePopulator {}", keys::VOLUME_POPULATOR_NAME))?;
    Ok(Registered::Yes)
}

/// Whether the cluster serves a kind. Anybody may ask that, whatever the rights on its objects.
async fn is_served(client: &Client, kind: &ApiResource) -> Result<bool, Error> {
    match client.list_api_group_resources(&kind.api_version).await {
        Ok(served) => Ok(served.resources.iter().any(|one| one.name == kind.plural)),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(false),
        Err(error) => Err(error).asked(|| format!("ask whether {} is served", kind.api_version)),
    }
}
