//! Carries out what a step wants: starts, stops and cleans up after one mover.

use std::net::SocketAddr;
use std::path::PathBuf;

use tokio::sync::mpsc::UnboundedSender;
use volsync_contract::Direction;
use volsync_replication::{CleanUpPlan, ImageReference, SyncPlan, Want, names};
use volsync_volume::CopyMethod;

use crate::args::Settings;
use crate::build;
use crate::dereference::End;
use crate::error::Error;
use crate::live::{Live, Slot};
use crate::observe::superseded_images;
use crate::point_in_time;
use crate::repository::Repository;
use crate::secrets;
use crate::state_directory::{self, StateDirectory};
use crate::supervise::{self, Told};

/// What acting takes.
#[derive(Debug)]
pub(crate) struct Hands {
    pub(crate) settings: Settings,
    pub(crate) state: StateDirectory,
    pub(crate) told: UnboundedSender<Told>,
    next_mover: u64,
}

impl Hands {
    pub(crate) const fn new(
        settings: Settings,
        state: StateDirectory,
        told: UnboundedSender<Told>,
    ) -> Self {
        Self { settings, state, told, next_mover: 1 }
    }

    /// Makes `want` true of `live`, as far as it can be now; whether anything was changed.
    /// `listening` is where its destination on this machine listens.
    pub(crate) fn act(
        &mut self,
        live: &mut Live,
        want: &Want,
        listening: Option<SocketAddr>,
    ) -> Result<bool, Error> {
        match want {
            Want::Nothing => {
                live.stop();
                Ok(false)
            }
            Want::Sync(plan) => self.sync(live, plan, listening),
            Want::CleanUp(plan) => self.clean_up(live, plan),
        }
    }

    fn sync(
        &mut self,
        live: &mut Live,
        plan: &SyncPlan,
        listening: Option<SocketAddr>,
    ) -> Result<bool, Error> {
        match &live.mover {
            Slot::Running { run, stopping, .. } => {
                if run.fingerprint != Some(plan.fingerprint()) && !stopping {
                    live.stop();
                }
                Ok(false)
            }
            Slot::Ended { ending, .. } if succeeded(ending) => self.make_image(live, plan),
            Slot::Empty | Slot::Ended { .. } => self.start(live, plan, listening),
        }
    }

    fn start(
        &mut self,
        live: &mut Live,
        plan: &SyncPlan,
        listening: Option<SocketAddr>,
    ) -> Result<bool, Error> {
        let directory = live.mover_directory(&self.state);
        state_directory::make_directory(&directory)?;
        if live.resolved.provisioned {
            state_directory::make_directory(&live.resolved.directory)?;
        }
        let data = self.data(live)?;
        let cache = live.cache(&self.state);
        let task = build::build_task(&live.resolved, plan, &data, &directory, cache, listening);
        let Some(task) = task else { return Ok(false) };
        match &live.resolved.end {
            End::Source { keys, .. } | End::Destination { keys, .. } => {
                let keys = secrets::resolve(&self.state, keys)?;
                secrets::mount(&keys, &directory.join("keys"))?;
            }
            End::Repository(repository) => {
                repository.mount(&directory)?;
                state_directory::make_directory(&live.cache(&self.state))?;
            }
        }
        let id = self.next_mover;
        self.next_mover += 1;
        let start = build::build_start(&self.settings, &live.resolved, &task, &directory);
        let mover = supervise::start(id, start, self.told.clone())?;
        live.image = None;
        live.mover = Slot::Running { mover, run: plan.run(), stopping: false };
        Ok(true)
    }

    /// What the mover reads or writes: the volume, or a copy of a source's that is made once a sync.
    fn data(&self, live: &Live) -> Result<PathBuf, Error> {
        match (live.resolved.direction(), live.resolved.copy_method) {
            (Direction::Destination, _) | (Direction::Source, CopyMethod::Direct) => {
                Ok(live.resolved.directory.clone())
            }
            (Direction::Source, CopyMethod::Clone | CopyMethod::Snapshot) => {
                let copy = live.point_in_time(&self.state);
                if !copy.exists() {
                    tokio::task::block_in_place(|| {
                        point_in_time::make(&live.resolved.directory, &copy)
                    })?;
                }
                Ok(copy)
            }
        }
    }

    fn make_image(&self, live: &mut Live, plan: &SyncPlan) -> Result<bool, Error> {
        let snapshot = match (live.resolved.direction(), live.resolved.copy_method) {
            (Direction::Source, _) | (Direction::Destination, CopyMethod::Direct) => false,
            (Direction::Destination, CopyMethod::Clone | CopyMethod::Snapshot) => {
                live.image.is_none()
            }
        };
        if snapshot {
            let name = names::destination_snapshot(&live.resolved.claim, plan.start);
            let image = self.state.images(&plan.namespace).join(&name);
            state_directory::remove(&image)?;
            tokio::task::block_in_place(|| point_in_time::make(&live.resolved.directory, &image))?;
            live.image = Some(ImageReference::snapshot(name));
        }
        Ok(snapshot)
    }

    fn clean_up(&self, live: &mut Live, plan: &CleanUpPlan) -> Result<bool, Error> {
        if live.is_running() {
            live.stop();
            return Ok(false);
        }
        live.mover = Slot::Empty;
        live.attempts = 0;
        live.image = None;
        let directory = live.mover_directory(&self.state);
        state_directory::remove(&directory.join("keys"))?;
        state_directory::remove(&Repository::directory(&directory))?;
        if live.removes_cache() {
            state_directory::remove(&live.cache(&self.state))?;
        }
        state_directory::remove(&live.point_in_time(&self.state))?;
        for image in superseded_images(live, &self.state) {
            state_directory::remove(&image)?;
        }
        if plan.remove_volume && live.resolved.provisioned {
            state_directory::remove(&live.resolved.directory)?;
        }
        Ok(true)
    }
}

fn succeeded(ending: &supervise::Ending) -> bool {
    let outcome = ending.report.as_ref().map(|report| report.outcome);
    outcome == Some(volsync_contract::Outcome::Complete)
}
