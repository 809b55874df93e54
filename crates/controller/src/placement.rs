//! Where a mover has to run to reach a volume that somebody else's pod has mounted.

use k8s_openapi::api::core::v1::{Node, PersistentVolumeClaim, Pod};
use kube::api::ListParams;
use kube::{Api, ResourceExt};
use volsync_api::keys;
use volsync_volume::{AccessMode, ClaimFacts};

use crate::build::job::Placement;
use crate::context::Context;
use crate::error::{Asked, Stop};

const HOSTNAME: &str = "kubernetes.io/hostname";

/// The node of the pod that uses the claim. A volume that many nodes may mount, that nobody uses, or
/// whose user is not scheduled yet, puts no constraint on the mover.
pub(crate) async fn placement(
    ctx: &Context,
    claim: &PersistentVolumeClaim,
    facts: &ClaimFacts,
) -> Result<Placement, Stop> {
    let shared = [AccessMode::ReadWriteMany, AccessMode::ReadOnlyMany];
    if facts.bound_access_modes.iter().any(|mode| shared.contains(mode)) {
        return Ok(Placement::default());
    }
    let (name, namespace) = (claim.name_any(), claim.namespace().unwrap_or_default());
    let pods = ctx.api::<Pod>(&namespace).list(&ListParams::default()).await;
    let pods = pods.asked(|| format!("list the pods of {namespace}"))?.items;
    let Some(consumer) = consumer(&pods, &name) else { return Ok(Placement::default()) };
    let spec = consumer.spec.clone().unwrap_or_default();
    if facts.bound_access_modes.contains(&AccessMode::ReadWriteOncePod) {
        return Err(Stop::blocked(format!(
            "PersistentVolumeClaim {name} is ReadWriteOncePod and pod {} uses it; use copyMethod Snapshot or Clone",
            consumer.name_any()
        )));
    }
    let node = spec.node_name.unwrap_or_default();
    let found = Api::<Node>::all(ctx.client.clone()).get_opt(&node).await;
    let hostname = match found.asked(|| format!("read Node {node}")) {
        Ok(found) => found.and_then(|node| node.labels().get(HOSTNAME).cloned()),
        // Nodes are the cluster's; rights in namespaces alone do not reach them.
        Err(error) if error.is_forbidden() => {
            if ctx.first("Node") {
                tracing::warn!("{error}; taking names of nodes for their label {HOSTNAME}");
            }
            Some(node.clone())
        }
        Err(error) => return Err(error.into()),
    };
    let hostname = hostname.filter(|hostname| !hostname.is_empty()).ok_or_else(|| {
        Stop::blocked(format!("unable to find {HOSTNAME} label from node {node} for nodeSelector"))
    })?;
    Ok(Placement {
        node_selector: [(HOSTNAME.to_owned(), hostname)].into(),
        tolerations: spec.tolerations.unwrap_or_default(),
    })
}

/// The pod that uses the claim: one that runs, else one that is about to on a known node.
fn consumer<'a>(pods: &'a [Pod], claim: &str) -> Option<&'a Pod> {
    let uses = |pod: &&Pod| {
        let volumes = pod.spec.iter().filter_map(|spec| spec.volumes.as_ref()).flatten();
        let claims = volumes.filter_map(|volume| volume.persistent_volume_claim.as_ref());
        let ours =
            pod.labels().get(keys::CREATED_BY).is_some_and(|by| by == keys::CREATED_BY_VOLSYNC);
        !ours && claims.into_iter().any(|used| used.claim_name == claim)
    };
    let scheduled = |pod: &&Pod| {
        pod.spec
            .as_ref()
            .and_then(|spec| spec.node_name.as_ref())
            .is_some_and(|node| !node.is_empty())
    };
    let phase = |pod: &&Pod, phase: &str| {
        pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some(phase)
    };
    let mut using = pods.iter().filter(uses).filter(scheduled);
    using
        .clone()
        .find(|pod| phase(pod, "Running"))
        .or_else(|| using.find(|pod| phase(pod, "Pending")))
}
