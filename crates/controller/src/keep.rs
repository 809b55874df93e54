//! Snapshots that users want to keep are theirs as soon as they say so.

use std::future::{Future, ready};
use std::sync::Arc;

use futures::StreamExt;
use kube::ResourceExt;
use kube::runtime::controller::{Action, Controller, Error as RunError};
use kube::runtime::watcher;
use volsync_api::keys;

use crate::apply::is_terminating;
use crate::build::snapshot::VolumeSnapshot;
use crate::clean_up::relinquish;
use crate::context::Context;
use crate::error::Error;
use crate::run::{Trouble, WatchAgain, api, unwatched};

/// Gives labelled snapshots to their users until told to stop. With a namespace, only there.
pub(crate) async fn run(
    ctx: Arc<Context>,
    namespace: Option<String>,
    stop: impl Future<Output = ()> + Send + Sync + 'static,
) {
    let labels =
        format!("{},{}={}", keys::DO_NOT_DELETE, keys::CREATED_BY, keys::CREATED_BY_VOLSYNC);
    let snapshots = api::<VolumeSnapshot>(&ctx.client, namespace.as_deref());
    let controller = Controller::new(snapshots, watcher::Config::default().labels(&labels));
    let controller = controller.trigger_backoff(WatchAgain::default()).graceful_shutdown_on(stop);
    let results = controller.run(give, try_again, ctx.clone());
    let mut trouble = Trouble::default();
    results
        .for_each(|result| {
            if let Err(RunError::QueueError(error)) = result {
                unwatched(&ctx, &mut trouble, &error);
            }
            ready(())
        })
        .await;
}

/// An image of a destination. One that is being deleted already stays in its owner's hands, and so does
/// what a source is about to read.
async fn give(snapshot: Arc<VolumeSnapshot>, ctx: Arc<Context>) -> Result<Action, Error> {
    let mut owners = snapshot.owner_references().iter();
    let image = owners.any(|owner| owner.kind == "ReplicationDestination");
    if image && !is_terminating(snapshot.as_ref()) {
        relinquish(&ctx, &snapshot).await?;
    }
    ctx.went_well(&snapshot.uid().unwrap_or_default());
    Ok(Action::await_change())
}

fn try_again(snapshot: Arc<VolumeSnapshot>, error: &Error, ctx: Arc<Context>) -> Action {
    let wait = ctx.back_off(&snapshot.uid().unwrap_or_default());
    let (namespace, name) = (snapshot.namespace(), snapshot.name_any());
    tracing::warn!(namespace, name, wait = ?wait, "cannot give a snapshot to its user: {error}; trying again");
    Action::requeue(wait)
}
