//! The controllers and what they watch.

use std::fmt::Debug;
use std::future::{Future, ready};
use std::sync::Arc;
use std::time::{Duration, Instant};

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
        .trigger_backoff(WatchAgain::default())
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
    let mut trouble = Trouble::default();
    results
        .for_each(|result| {
            match result {
                Ok(_) | Err(RunError::ReconcilerFailed(..)) => {}
                Err(RunError::ObjectNotFound(_)) => {}
                Err(RunError::QueueError(error)) => trouble.tell::<K>(&error),
                Err(error) => tracing::warn!("{}: {error}", K::kind(&())),
            }
            ready(())
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
    let mut trouble = Trouble::default();
    let touched = watcher(api, config).backoff(WatchAgain::default()).touched_objects();
    let concerned = touched.map(move |touched| match touched {
        Ok(object) => concerned(&object),
        Err(error) => {
            trouble.tell::<T>(&error);
            Vec::new()
        }
    });
    concerned.flat_map(futures::stream::iter)
}

/// How long until a watch that failed is tried again: what changed meanwhile is not known until then, but
/// each try lists everything anew.
///
/// A second, ten times over, in which an API server has restarted; then ever longer, up to half a minute.
/// What listed and then failed to watch did not go well, so only time starts this over.
#[derive(Debug, Default)]
pub(crate) struct WatchAgain {
    tries: u32,
    last: Option<Instant>,
}

impl WatchAgain {
    const QUIET: Duration = Duration::from_secs(120);
    const LONGEST: Duration = Duration::from_secs(30);

    fn after(&mut self, now: Instant) -> Duration {
        if self.last.is_some_and(|last| now.duration_since(last) > Self::QUIET) {
            self.tries = 0;
        }
        self.last = Some(now);
        self.tries = self.tries.saturating_add(1);
        let doublings = self.tries.saturating_sub(10).min(5);
        Duration::from_secs(1 << doublings).min(Self::LONGEST)
    }
}

impl Iterator for WatchAgain {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        Some(self.after(Instant::now()))
    }
}

impl Backoff for WatchAgain {
    fn reset(&mut self) {}
}

/// Says what is wrong with a watch, and the same again only after a while.
#[derive(Debug, Default)]
pub(crate) struct Trouble {
    told: Option<(String, Instant)>,
}

impl Trouble {
    const QUIET: Duration = Duration::from_secs(300);

    /// Says it, unless it was just said, or is no trouble but the way of watches.
    pub(crate) fn tell<T: Resource<DynamicType = ()>>(&mut self, error: &watcher::Error) {
        let (kinds, words) = (T::plural(&()), error.to_string());
        if !is_expired(error) && self.is_new(&words, Instant::now()) {
            tracing::warn!("cannot watch {kinds}: {words}; trying again");
        }
    }

    fn is_new(&mut self, words: &str, now: Instant) -> bool {
        let new = self
            .told
            .as_ref()
            .is_none_or(|(told, at)| told != words || now.duration_since(*at) > Self::QUIET);
        if new {
            self.told = Some((words.to_owned(), now));
        }
        new
    }
}

/// Whether a watch ended as they do now and then: what it last saw is too old to go on from.
fn is_expired(error: &watcher::Error) -> bool {
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
    let mut trouble = Trouble::default();
    let touched = snapshots.backoff(WatchAgain::default()).touched_objects();
    let owners = touched.map(move |touched| match touched {
        Ok(snapshot) => owners::<K, _>(&snapshot),
        Err(error) => {
            unwatched(&ctx, &mut trouble, &error);
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
pub(crate) fn unwatched(ctx: &Context, trouble: &mut Trouble, error: &watcher::Error) {
    match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status)) if status.code == 404 => {
            if ctx.first("VolumeSnapshot") {
                tracing::warn!(
                    "this cluster does not serve VolumeSnapshots (snapshot.storage.k8s.io/v1); copyMethod Snapshot waits until their CRDs and the snapshot-controller are installed"
                );
            }
        }
        error => trouble.tell::<VolumeSnapshot>(error),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watch_is_tried_each_second_then_ever_less_often_and_time_starts_it_over() {
        let mut again = WatchAgain::default();
        let start = Instant::now();
        let waits: Vec<u64> = (0..17).map(|_| again.after(start).as_secs()).collect();
        assert_eq!(waits, [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 2, 4, 8, 16, 30, 30, 30]);
        // As it is called when a list went well and its watch did not.
        again.reset();
        assert_eq!(again.after(start).as_secs(), 30);
        assert_eq!(again.after(start + Duration::from_secs(121)).as_secs(), 1);
    }

    #[test]
    fn the_same_trouble_is_told_once_in_a_while() {
        let mut trouble = Trouble::default();
        let start = Instant::now();
        let later = |seconds| start + Duration::from_secs(seconds);
        assert!(trouble.is_new("forbidden", start));
        assert!(!trouble.is_new("forbidden", later(1)));
        assert!(trouble.is_new("refused", later(2)));
        assert!(trouble.is_new("forbidden", later(3)));
        assert!(!trouble.is_new("forbidden", later(300)));
        assert!(trouble.is_new("forbidden", later(304)));
    }
}
