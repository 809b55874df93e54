//! The controllers and what they watch.

use std::fmt::Debug;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, Service};
use kube::core::DeserializeGuard;
use kube::runtime::controller::{Config, Controller, Error as RunError};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::utils::Backoff;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
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
        .trigger_backoff(WatchAgain)
        .reconcile_on(watch(api::<Job>(&client, place), ours(), owners::<K, _>))
        .reconcile_on(watch(api::<PersistentVolumeClaim>(&client, place), ours(), owners::<K, _>))
        .reconcile_on(watch(api::<Service>(&client, place), ours(), owners::<K, _>))
        .reconcile_on(of_snapshots::<K>(ctx.clone(), place))
        .reconcile_on(watch(api::<Pod>(&client, place), ours(), of_pod::<K>))
        .reconcile_on(watch(
            api::<PersistentVolumeClaim>(&client, place),
            watcher::Config::default(),
            move |claim| copied_from(&store, claim),
        ))
        .graceful_shutdown_on(stop);
    let results = controller.run(reconcile::<K>, try_again::<K>, ctx);
    results
        .for_each(|result| async move {
            match result {
                Ok(_) | Err(RunError::ReconcilerFailed(..)) => {}
                Err(RunError::ObjectNotFound(_)) => {}
                Err(RunError::QueueError(error)) if is_expired(&error) => {}
                Err(error) => tracing::warn!("{}: {error}; watching again", K::kind(&())),
            }
        })
        .await;
}

/// Objects of one namespace, or of all.
pub(crate) fn api<T: Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>>(
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

/// What is to be reconciled when an object changes that is none of the Controller's own kind.
///
/// Each such watch is a stream of its own: one that fails in the Controller holds up all of its others,
/// and when an API server restarts they all fail.
fn watch<T, R>(
    api: Api<T>,
    config: watcher::Config,
    concerned: impl Fn(&T) -> Vec<R> + Send + 'static,
) -> impl Stream<Item = R> + Send + 'static
where
    T: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
    R: Send + 'static,
{
    let mut told = false;
    let touched = watcher(api, config).backoff(WatchAgain).touched_objects();
    let concerned = touched.map(move |touched| match touched {
        Ok(object) => {
            told = false;
            concerned(&object)
        }
        Err(error) => {
            if !told && !is_expired(&error) {
                tracing::warn!("cannot watch {}s: {error}; trying again", T::kind(&()));
                told = true;
            }
            Vec::new()
        }
    });
    concerned.flat_map(futures::stream::iter)
}

/// A watch that failed is tried again each second: what changed meanwhile is not known until then.
#[derive(Debug)]
pub(crate) struct WatchAgain;

impl Iterator for WatchAgain {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        Some(Duration::from_secs(1))
    }
}

impl Backoff for WatchAgain {
    fn reset(&mut self) {}
}

/// Whether a watch ended as they do now and then: what it last saw is too old to go on from.
pub(crate) fn is_expired(error: &watcher::Error) -> bool {
    match error {
        watcher::Error::WatchError(status) => status.code == 410,
        watcher::Error::WatchStartFailed(kube::Error::Api(status)) => status.code == 410,
        _ => false,
    }
}

/// The replications whose snapshots change.
///
/// A cluster may serve no snapshots, or none yet: that is said once, and it is looked at again every so
/// often.
fn of_snapshots<K: Kind>(
    ctx: Arc<Context>,
    namespace: Option<&str>,
) -> impl Stream<Item = ObjectRef<DeserializeGuard<K>>> + Send + 'static {
    let snapshots = watcher(api::<VolumeSnapshot>(&ctx.client, namespace), ours());
    let owners = snapshots.default_backoff().touched_objects().map(move |touched| match touched {
        Ok(snapshot) => owners::<K, _>(&snapshot),
        Err(error) => {
            unwatched(&ctx, &error);
            Vec::new()
        }
    });
    owners.flat_map(futures::stream::iter)
}

/// The replications that own an object.
fn owners<K: Kind, T: Resource>(object: &T) -> Vec<ObjectRef<DeserializeGuard<K>>> {
    let namespace = object.namespace();
    let owners = object.owner_references().iter();
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
        error if is_expired(error) => {}
        error => tracing::warn!("cannot watch VolumeSnapshots: {error}; trying again"),
    }
}

/// The replication a mover's pod was made for.
fn of_pod<K: Kind>(pod: &Pod) -> Vec<ObjectRef<DeserializeGuard<K>>> {
    let (name, namespace) = (pod.annotations().get(K::ANNOTATION), pod.namespace());
    let found = name.zip(namespace);
    found.map(|(name, namespace)| ObjectRef::new(name).within(&namespace)).into_iter().collect()
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
