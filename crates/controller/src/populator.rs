//! The volume populator: claims whose data source is a ReplicationDestination.
//!
//! A claim that names a destination is filled from the destination's latest snapshot by way of a
//! second claim, the prime, as in KEP-1495 (volume populators): the prime is provisioned from the
//! snapshot, then its volume is bound to the claim instead, and the prime, which has lost it, goes.
//!
//! A snapshot in use carries a label for the claim, so that a destination which makes a newer one
//! only lets go of it, and the prime among its owners, so that it goes with the prime.

use std::future::{Future, ready};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::{
    PersistentVolume, PersistentVolumeClaim, PersistentVolumeClaimSpec, TypedObjectReference,
};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::api::{Patch, PatchParams};
use kube::core::DeserializeGuard;
use kube::runtime::controller::{Action, Config, Controller, Error as RunError};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::watcher;
use kube::{Api, Resource, ResourceExt};
use serde_json::json;
use volsync_api::{GROUP, ReplicationDestination, events, keys};
use volsync_replication::names;
use volsync_volume::Quantity;

use crate::apply::{create, delete, get, is_terminating, json, list, merge};
use crate::build::snapshot::VolumeSnapshot;
use crate::context::Context;
use crate::error::{Asked, Error};
use crate::events::Notice;
use crate::run::{Trouble, WatchAgain, api};

/// When to look again at something that nobody tells us of.
const RECHECK: Duration = Duration::from_secs(30);
/// What the name of a claim begins with that is provisioned in the stead of another.
pub(crate) const PRIME_PREFIX: &str = "vs-prime-";
const SNAPSHOT_GROUP: &str = "snapshot.storage.k8s.io";

/// Runs the populator until told to stop. With a namespace, only there.
pub(crate) async fn run(
    ctx: Arc<Context>,
    namespace: Option<String>,
    stop: impl Future<Output = ()> + Send + Sync + 'static,
) {
    let place = namespace.as_deref();
    let client = &ctx.client;
    let claims =
        Controller::new(api::<PersistentVolumeClaim>(client, place), watcher::Config::default());
    let store = claims.store();
    let mut trouble = Trouble::default();
    claims
        .with_config(Config::default().concurrency(20))
        .trigger_backoff(WatchAgain::default())
        .owns(
            api::<PersistentVolumeClaim>(client, place),
            watcher::Config::default().labels(keys::POPULATOR_PVC_FOR),
        )
        .watches(
            api::<DeserializeGuard<ReplicationDestination>>(client, place),
            watcher::Config::default(),
            move |destination| waiting_for(&store, &destination),
        )
        .graceful_shutdown_on(stop)
        .run(reconcile, try_again, ctx.clone())
        .for_each(|result| {
            match result {
                Ok(_) | Err(RunError::ReconcilerFailed(..) | RunError::ObjectNotFound(_)) => {}
                Err(RunError::QueueError(error)) => trouble.tell::<PersistentVolumeClaim>(&error),
                Err(error) => tracing::warn!("populator: {error}"),
            }
            ready(())
        })
        .await;
}

/// The destination that a claim is to be filled from.
fn destination_of(claim: &PersistentVolumeClaim) -> Option<&str> {
    let source = claim.spec.as_ref()?.data_source_ref.as_ref()?;
    let ours = source.api_group.as_deref() == Some(GROUP)
        && source.kind == "ReplicationDestination"
        && !source.name.is_empty();
    ours.then_some(source.name.as_str())
}

fn volume_of(claim: &PersistentVolumeClaim) -> Option<&str> {
    claim.spec.as_ref()?.volume_name.as_deref().filter(|name| !name.is_empty())
}

/// Claims without a volume that are to be filled from a destination.
fn waiting_for(
    store: &Store<PersistentVolumeClaim>,
    destination: &DeserializeGuard<ReplicationDestination>,
) -> Vec<ObjectRef<PersistentVolumeClaim>> {
    let (name, namespace) = (destination.name_any(), destination.namespace());
    let waiting = store.state().into_iter().filter(|claim| {
        claim.namespace() == namespace
            && destination_of(claim) == Some(name.as_str())
            && volume_of(claim).is_none()
    });
    waiting.map(|claim| ObjectRef::from_obj(claim.as_ref())).collect()
}

fn try_again(claim: Arc<PersistentVolumeClaim>, error: &Error, ctx: Arc<Context>) -> Action {
    let wait = ctx.back_off(&claim.uid().unwrap_or_default());
    let (namespace, name) = (claim.namespace(), claim.name_any());
    match error {
        Error::Changed { .. } => tracing::debug!(namespace, name, "{error}; trying again"),
        Error::Api { .. } | Error::Foreign { .. } | Error::GenerateKey(_) | Error::Json { .. } => {
            tracing::warn!(namespace, name, wait = ?wait, "populator: {error}; trying again");
        }
    }
    Action::requeue(wait)
}

async fn reconcile(claim: Arc<PersistentVolumeClaim>, ctx: Arc<Context>) -> Result<Action, Error> {
    let action = match destination_of(&claim) {
        Some(destination) if !is_terminating(claim.as_ref()) => {
            let populating = Populating::new(&ctx, &claim, destination);
            match populating {
                Some(populating) => populating.go_on().await?,
                None => Action::await_change(),
            }
        }
        Some(_) | None => Action::await_change(),
    };
    ctx.went_well(&claim.uid().unwrap_or_default());
    Ok(action)
}

/// One claim that is filled from a destination.
struct Populating<'a> {
    ctx: &'a Context,
    claim: &'a PersistentVolumeClaim,
    spec: &'a PersistentVolumeClaimSpec,
    destination: &'a str,
    namespace: String,
    name: String,
    uid: String,
    /// Name of the claim that is provisioned in its stead.
    prime: String,
    /// Label of the snapshots in use for it.
    in_use: String,
}

impl<'a> Populating<'a> {
    fn new(
        ctx: &'a Context,
        claim: &'a PersistentVolumeClaim,
        destination: &'a str,
    ) -> Option<Self> {
        let uid = claim.uid()?;
        Some(Self {
            ctx,
            claim,
            spec: claim.spec.as_ref()?,
            destination,
            namespace: claim.namespace()?,
            name: claim.name_any(),
            prime: format!("{PRIME_PREFIX}{uid}"),
            in_use: format!("{}{uid}", keys::VOLUME_POPULATOR_PVC_PREFIX),
            uid,
        })
    }

    fn claims(&self) -> Api<PersistentVolumeClaim> {
        self.ctx.api(&self.namespace)
    }

    fn snapshots(&self) -> Api<VolumeSnapshot> {
        self.ctx.api(&self.namespace)
    }

    async fn warn(&self, reason: &'static str, message: String) {
        let notice = Notice {
            warning: true,
            reason,
            action: events::ACTION_PROVISION_VOLUME,
            message,
            related: None,
        };
        self.ctx.events.publish(self.claim, notice).await;
    }

    /// Rights in namespaces alone are not enough for volumes, which are the cluster's. Each claim is
    /// told so once.
    async fn not_permitted(&self, error: &Error) -> Action {
        if self.ctx.first(&format!("{}: {error}", self.uid)) {
            let message = format!(
                "{error}; populating takes rights on StorageClasses and PersistentVolumes, which only a ClusterRole gives"
            );
            self.warn(events::VOLSYNC_POPULATOR_ERROR, message).await;
        }
        Action::requeue(RECHECK)
    }

    async fn go_on(&self) -> Result<Action, Error> {
        let prime = get(&self.claims(), &self.prime).await?;
        if volume_of(self.claim).is_some() {
            return match prime {
                Some(prime) if is_lost(&prime) => self.finish(&prime).await,
                // It is still being bound to the claim.
                Some(_) => Ok(Action::requeue(RECHECK)),
                None => Ok(Action::await_change()),
            };
        }
        let selected_node = match self.class_is_ready().await {
            Ok(Some(node)) => node,
            Ok(None) => return Ok(Action::requeue(RECHECK)),
            Err(error) if error.is_forbidden() => return Ok(self.not_permitted(&error).await),
            Err(error) => return Err(error),
        };
        let prime = match prime {
            Some(prime) => prime,
            None => match self.make_prime(selected_node).await? {
                Some(prime) => prime,
                None => return Ok(Action::requeue(RECHECK)),
            },
        };
        self.let_prime_own_its_snapshots(&prime).await?;
        match self.rebind(&prime).await {
            Err(error) if error.is_forbidden() => Ok(self.not_permitted(&error).await),
            done => done.map(|()| Action::requeue(RECHECK)),
        }
    }

    /// Whether the class of the claim lets its volume be made now, and on which node; the node is
    /// empty where it does not matter.
    async fn class_is_ready(&self) -> Result<Option<String>, Error> {
        let Some(name) = self.spec.storage_class_name.as_deref().filter(|name| !name.is_empty())
        else {
            return Ok(Some(String::new()));
        };
        let classes: Api<StorageClass> = Api::all(self.ctx.client.clone());
        let found = classes.get_opt(name).await;
        let Some(class) = found.asked(|| format!("read StorageClass {name}"))? else {
            return Ok(None);
        };
        if class.provisioner.starts_with("kubernetes.io/")
            && self.claim.annotations().get(keys::MIGRATED_TO).is_none_or(String::is_empty)
        {
            return Ok(None);
        }
        if class.volume_binding_mode.as_deref() != Some("WaitForFirstConsumer") {
            return Ok(Some(String::new()));
        }
        Ok(self.claim.annotations().get(keys::SELECTED_NODE).cloned())
    }

    /// Makes the prime from the destination's latest snapshot, which is marked as in use. `None`: not
    /// yet, and the user was told why.
    async fn make_prime(&self, node: String) -> Result<Option<PersistentVolumeClaim>, Error> {
        let Some(snapshot) = self.latest_snapshot().await? else { return Ok(None) };
        if let Some(message) = self.too_small(&snapshot) {
            self.warn(events::VOLSYNC_POPULATOR_PVC_CREATION_ERROR, message).await;
            return Ok(None);
        }
        let value = if self.name.len() > 63 { names::hash(&self.name) } else { self.name.clone() };
        let labels = json!({"metadata": {"labels": {&self.in_use: value}}});
        let snapshot = merge(&self.snapshots(), &snapshot, labels).await?;
        let wanted = self.prime_claim(&snapshot.name_any(), node);
        match create(&self.claims(), &wanted).await {
            Ok(prime) => {
                let reason = events::VOLSYNC_POPULATOR_PVC_CREATED;
                let message = format!(
                    "created PersistentVolumeClaim/{} from VolumeSnapshot/{}",
                    self.prime,
                    snapshot.name_any()
                );
                let related = Some(prime.object_ref(&()));
                let notice =
                    Notice::normal(reason, events::ACTION_PROVISION_VOLUME, message, related);
                self.ctx.events.publish(self.claim, notice).await;
                Ok(Some(prime))
            }
            Err(error) => {
                let reason = events::VOLSYNC_POPULATOR_PVC_CREATION_ERROR;
                self.warn(reason, error.to_string()).await;
                Err(error)
            }
        }
    }

    async fn latest_snapshot(&self) -> Result<Option<VolumeSnapshot>, Error> {
        let name = self.destination;
        let found = get::<ReplicationDestination>(&self.ctx.api(&self.namespace), name).await?;
        let Some(destination) = found else {
            let reason = events::VOLSYNC_POPULATOR_REPLICATION_DESTINATION_MISSING;
            self.warn(reason, format!("ReplicationDestination/{name} does not exist")).await;
            return Ok(None);
        };
        let image = destination.status.and_then(|status| status.latest_image);
        let Some(image) = image else {
            let reason = events::VOLSYNC_POPULATOR_REPLICATION_DESTINATION_NO_LATEST_IMAGE;
            let message = format!(
                "ReplicationDestination/{name} has no latestImage yet; its first sync has to complete"
            );
            self.warn(reason, message).await;
            return Ok(None);
        };
        if image.kind != "VolumeSnapshot" || image.api_group.as_deref() != Some(SNAPSHOT_GROUP) {
            let message = format!(
                "the latestImage of ReplicationDestination/{name} is {} {}, which cannot populate a volume; it needs copyMethod Snapshot",
                image.kind, image.name
            );
            self.warn(events::VOLSYNC_POPULATOR_ERROR, message).await;
            return Ok(None);
        }
        let snapshot = get(&self.snapshots(), &image.name).await?;
        if snapshot.is_none() {
            let message = format!("VolumeSnapshot/{} does not exist", image.name);
            self.warn(events::VOLSYNC_POPULATOR_ERROR, message).await;
        }
        Ok(snapshot)
    }

    /// Why the snapshot does not fit into the claim, if so: storage refuses that, on the prime alone.
    fn too_small(&self, snapshot: &VolumeSnapshot) -> Option<String> {
        let requests = self.spec.resources.as_ref()?.requests.as_ref()?;
        let requested = requests.get("storage")?.0.parse::<Quantity>().ok()?;
        let size = snapshot.status.as_ref()?.restore_size.as_ref()?.parse::<Quantity>().ok()?;
        (requested < size).then(|| {
            format!(
                "{requested} is requested, less than the {size} of VolumeSnapshot/{}; make the claim anew with spec.resources.requests.storage {size} or more",
                snapshot.name_any()
            )
        })
    }

    fn prime_claim(&self, snapshot: &str, node: String) -> PersistentVolumeClaim {
        let mut prime = PersistentVolumeClaim::default();
        prime.metadata.name = Some(self.prime.clone());
        prime.metadata.namespace = Some(self.namespace.clone());
        prime.metadata.owner_references =
            self.claim.controller_owner_ref(&()).map(|owner| vec![owner]);
        let value = if self.name.len() > 63 { names::hash(&self.name) } else { self.name.clone() };
        prime.metadata.labels = Some(
            [
                (keys::POPULATOR_PVC_FOR.to_owned(), value),
                (keys::CREATED_BY.to_owned(), keys::CREATED_BY_VOLSYNC.to_owned()),
            ]
            .into(),
        );
        if !node.is_empty() {
            prime.metadata.annotations = Some([(keys::SELECTED_NODE.to_owned(), node)].into());
        }
        prime.spec = Some(PersistentVolumeClaimSpec {
            access_modes: self.spec.access_modes.clone(),
            resources: self.spec.resources.clone(),
            storage_class_name: self.spec.storage_class_name.clone(),
            volume_mode: self.spec.volume_mode.clone(),
            data_source_ref: Some(TypedObjectReference {
                api_group: Some(SNAPSHOT_GROUP.to_owned()),
                kind: "VolumeSnapshot".to_owned(),
                name: snapshot.to_owned(),
                namespace: None,
            }),
            ..PersistentVolumeClaimSpec::default()
        });
        prime
    }

    async fn used(&self) -> Result<Vec<VolumeSnapshot>, Error> {
        list(&self.snapshots(), &self.in_use).await
    }

    async fn let_prime_own_its_snapshots(
        &self,
        prime: &PersistentVolumeClaim,
    ) -> Result<(), Error> {
        let Some(mut owner) = prime.owner_ref(&()) else { return Ok(()) };
        owner.block_owner_deletion = None;
        owner.controller = None;
        for snapshot in self.used().await? {
            let owners = snapshot.owner_references();
            let kept = snapshot.labels().contains_key(keys::DO_NOT_DELETE);
            if kept || owners.iter().any(|known| known.uid == owner.uid) {
                continue;
            }
            let mut owners = owners.to_vec();
            owners.push(owner.clone());
            let patch = json!({"metadata": {"ownerReferences": json(&owners)?}});
            merge(&self.snapshots(), &snapshot, patch).await?;
        }
        Ok(())
    }

    /// Gives the prime's volume, once it has one, to the claim.
    async fn rebind(&self, prime: &PersistentVolumeClaim) -> Result<(), Error> {
        let Some(name) = volume_of(prime) else { return Ok(()) };
        let volumes: Api<PersistentVolume> = Api::all(self.ctx.client.clone());
        let found = volumes.get_opt(name).await;
        let Some(volume) = found.asked(|| format!("read PersistentVolume {name}"))? else {
            return Ok(());
        };
        let bound_to = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref());
        if bound_to.is_some_and(|claim| claim.uid.as_deref() == Some(self.uid.as_str())) {
            return Ok(());
        }
        let source = prime.spec.as_ref().and_then(|spec| spec.data_source_ref.as_ref());
        let snapshot = source.map(|source| source.name.as_str()).unwrap_or_default();
        let patch = json!({
            "metadata": {
                "annotations": {
                    keys::POPULATED_FROM: format!("{}/{snapshot}", self.namespace),
                },
            },
            "spec": {"claimRef": {
                "namespace": self.namespace,
                "name": self.name,
                "uid": self.uid,
                "resourceVersion": self.claim.resource_version(),
            }},
        });
        let patched = volumes.patch(name, &PatchParams::default(), &Patch::Strategic(patch)).await;
        patched.asked(|| format!("bind PersistentVolume {name} to {}", self.name))?;
        Ok(())
    }

    async fn finish(&self, prime: &PersistentVolumeClaim) -> Result<Action, Error> {
        for snapshot in self.used().await? {
            let mut patch = json!({"metadata": {"labels": {&self.in_use: null}}});
            if snapshot.labels().contains_key(keys::DO_NOT_DELETE) {
                let others: Vec<_> = snapshot
                    .owner_references()
                    .iter()
                    .filter(|owner| Some(&owner.uid) != prime.uid().as_ref())
                    .collect();
                patch["metadata"]["ownerReferences"] = json(&others)?;
            }
            merge(&self.snapshots(), &snapshot, patch).await?;
        }
        let message = format!("populated from ReplicationDestination/{}", self.destination);
        let reason = events::VOLSYNC_POPULATOR_FINISHED;
        let notice = Notice::normal(reason, events::ACTION_PROVISION_VOLUME, message, None);
        self.ctx.events.publish(self.claim, notice).await;
        if !is_terminating(prime) {
            delete(&self.claims(), prime).await?;
        }
        Ok(Action::await_change())
    }
}

/// Whether a claim has lost its volume to another.
fn is_lost(claim: &PersistentVolumeClaim) -> bool {
    claim.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Lost")
}

#[cfg(test)]
mod tests;
