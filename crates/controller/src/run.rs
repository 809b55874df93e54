//! The controllers and what they watch.

use std::future::Future;
use std::sync::Arc;

use futures::{Stream, StreamExt};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, Service};
use kube::core::DeserializeGuard;
use kube::runtime::controller::{Config, Controller, Error as RunError};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};
use volsync_api::keys;

use crate::build::snapshot::VolumeSnapshot;
use crate::context::Context;
use crate::kind::Kind;
use crate::reconcile::{reconcile, try_again};

/// How many reconciliations of one kind run at a time.
const CONCURRENCY: u16 = 100;

/// Where to look: everywhere, or in each of the named namespaces.
pub(crate) fn places(namespaces: Vec<String>) -> Vec<Option<String>> {
    if namespaces.is_empty() { vec![None] } else { namespaces.into_iter().map(Some).collect() }
}

/// Runs the controller of one kind until told to stop. With a namespace, only there.
pub(crate) async fn run<K: Kind>(
    ctx: Arc<Context>,
    namespace: Option<String>,
    stop: impl Future<Output = ()> + Send + Sync + 'static,
) {
    let client = ctx.client.clone();
    let place = namespace.as_deref();
    let main = api::<DeserializeGuard<K>>(&client, place);
    let controller = Controller::new(main, watcher::Config::default());
    let store = controller.store();
    let known = store.clone();
    ctx.metrics.follow(K::DIRECTION, move |namespace, name| {
        known.get(&ObjectRef::new(name).within(namespace)).is_some()
    });
    let controller = controller
        .with_config(Config::default().concurrency(CONCURRENCY))
        .owns(api::<Job>(&client, place), ours())
        .owns(api::<PersistentVolumeClaim>(&client, place), ours())
        .owns(api::<Service>(&client, place), ours())
        .reconcile_on(of_snapshots::<K>(ctx.clone(), place))
        .watches(api::<Pod>(&client, place), ours(), |pod: Pod| of_pod::<K>(&pod))
        .watches(
            api::<PersistentVolumeClaim>(&client, place),
            watcher::Config::default(),
            move |claim| copied_from(&store, &claim),
        )
        .graceful_shutdown_on(stop);
    let results = controller.run(reconcile::<K>, try_again::<K>, ctx);
    results
        .for_each(|result| async move {
            match result {
                Ok(_) | Err(RunError::ReconcilerFailed(..)) => {}
                Err(RunError::ObjectNotFound(_)) => {}
                Err(error) => tracing::warn!("{}: {error}; watching again", K::kind(&())),
            }
        })
        .await;
}

/// Objects of one namespace, or of all.
pub(crate) fn api<
    T: kube::Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>,
>(
    client: &Client,
    namespace: Option<&str>,
) -> Api<T> {
    match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    }
}

/// Objects that we made.
fn ours() -> watcher::Config {
    watcher::Config::default().labels("app.kubernetes.io/created-by=volsync")
}

/// The replications whose snapshots change.
///
/// This watch is none of the Controller's, as a failing one of those holds up all others. A cluster
/// may serve no snapshots, or none yet: that is said once, and it is looked at again every so often.
fn of_snapshots<K: Kind>(
    ctx: Arc<Context>,
    namespace: Option<&str>,
) -> impl Stream<Item = ObjectRef<DeserializeGuard<K>>> + Send + 'static {
    let snapshots = watcher(api::<VolumeSnapshot>(&ctx.client, namespace), ours());
    let owners = snapshots.default_backoff().touched_objects().map(move |touched| match touched {
        Ok(snapshot) => owners::<K>(&snapshot),
        Err(error) => {
            unwatched(&ctx, &error);
            Vec::new()
        }
    });
    owners.flat_map(futures::stream::iter)
}

fn owners<K: Kind>(snapshot: &VolumeSnapshot) -> Vec<ObjectRef<DeserializeGuard<K>>> {
    let namespace = snapshot.namespace();
    let owners = snapshot.owner_references().iter();
    owners.filter_map(|owner| ObjectRef::from_owner_ref(namespace.as_deref(), owner, ())).collect()
}

/// Says once why snapshots are not watched.
pub(crate) fn unwatched(ctx: &Context, error: &watcher::Error) {
    match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status)) if status.code == 404 => {
            if ctx.first("VolumeSnapshot") {
                tracing::warn!(
                    "this cluster does not serve VolumeSnapshots (snapshot.storage.k8s.io/v1); copyMethod Snapshot waits until their CRDs and the snapshot-controller are installed"
                );
            }
        }
        error => {
            let says = format!("cannot watch VolumeSnapshots: {error}");
            if ctx.first(&says) {
                tracing::warn!("{says}; watching again");
            }
        }
    }
}

/// The replication a mover's pod was made for.
fn of_pod<K: Kind>(pod: &Pod) -> Option<ObjectRef<DeserializeGuard<K>>> {
    let name = pod.annotations().get(K::ANNOTATION)?;
    Some(ObjectRef::new(name).within(&pod.namespace()?))
}

/// The sources that wait for the user's word on this claim before they copy it.
fn copied_from<K: Kind>(
    store: &Store<DeserializeGuard<K>>,
    claim: &PersistentVolumeClaim,
) -> Vec<ObjectRef<DeserializeGuard<K>>> {
    if !claim.annotations().contains_key(keys::USE_COPY_TRIGGER) {
        return Vec::new();
    }
    let (name, namespace) = (claim.name_any(), claim.namespace());
    let waiting = store.state().into_iter().filter(|object| {
        let source = object.0.as_ref().ok().and_then(Kind::source_claim);
        object.namespace() == namespace && source == Some(name.as_str())
    });
    waiting.map(|object| ObjectRef::from_obj(object.as_ref())).collect()
}
