//! What is there → `Observation`.

use volsync_contract::{Direction, Outcome};
use volsync_replication::{ImageReference, ImageState, MoverState, Observation};
use volsync_volume::CopyMethod;

use crate::live::{Live, Slot};
use crate::state_directory::StateDirectory;

/// What is there of one replication; `blocked`: why it cannot start a mover.
pub(crate) fn observe(live: &Live, state: &StateDirectory, blocked: Option<String>) -> Observation {
    Observation {
        mover: mover(live),
        leftovers: leftovers(live, state),
        blocked: live.blocked.clone().or(blocked),
        image: image(live),
    }
}

fn mover(live: &Live) -> MoverState {
    match &live.mover {
        Slot::Empty => MoverState::NotStarted,
        Slot::Running { run, .. } => MoverState::Running { run: run.clone(), stalled: None },
        Slot::Ended { run, ending, ended } => match &ending.report {
            Some(report) if report.outcome == Outcome::Complete => MoverState::Succeeded {
                run: run.clone(),
                report: (**report).clone(),
                ended: *ended,
            },
            report => MoverState::Failed {
                run: run.clone(),
                attempts: live.attempts,
                report: report.as_deref().cloned(),
                message: ending.message.clone(),
                ended: *ended,
            },
        },
    }
}

fn leftovers(live: &Live, state: &StateDirectory) -> bool {
    !matches!(live.mover, Slot::Empty)
        || live.point_in_time(state).exists()
        || superseded_images(live, state).next().is_some()
        || removes_volume(live)
            && live.status.last_sync_time.is_some()
            && live.resolved.directory.exists()
        || live.removes_cache() && live.cache(state).exists()
}

/// Whether a provisioned volume goes after each sync.
fn removes_volume(live: &Live) -> bool {
    match &live.resolved.replication.volume {
        volsync_replication::Volume::Destination { cleanup, .. } => {
            *cleanup && live.resolved.provisioned
        }
        volsync_replication::Volume::Source { .. } | volsync_replication::Volume::External => false,
    }
}

/// Images that a later one has replaced.
pub(crate) fn superseded_images<'a>(
    live: &'a Live,
    state: &StateDirectory,
) -> impl Iterator<Item = std::path::PathBuf> + 'a {
    let keep = live.status.latest_image.as_ref().map(|image| image.name.clone());
    let images = match live.resolved.direction() {
        Direction::Destination => live.images(state),
        Direction::Source => Vec::new(),
    };
    images
        .into_iter()
        .filter(move |path| path.file_name().and_then(|name| name.to_str()) != keep.as_deref())
}

fn image(live: &Live) -> ImageState {
    match (live.resolved.direction(), live.resolved.copy_method) {
        (Direction::Source, _) => ImageState::NotNeeded,
        (Direction::Destination, CopyMethod::Direct) => {
            ImageState::Ready(ImageReference::claim(&live.resolved.claim))
        }
        (Direction::Destination, CopyMethod::Clone | CopyMethod::Snapshot) => match &live.image {
            Some(image) => ImageState::Ready(image.clone()),
            None => ImageState::Pending,
        },
    }
}
