//! The table of contents: dereference, observe, step, record, act; for every replication, until told to stop.

mod once;
mod tell;

use std::net::SocketAddr;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use volsync_contract::{Direction, ExitStatus};
use volsync_replication::{Replication, State, Status, Trigger, step};

use crate::act::Hands;
use crate::address::{self, Peer};
use crate::args::{Only, Settings, Work};
use crate::build;
use crate::clock::{Clock, Wake};
use crate::dereference::{self, End, Resolved, dereference};
use crate::error::{Error, Origin, Problems};
use crate::live::{Live, Slot};
use crate::lock;
use crate::observe::observe;
use crate::output::Console;
use crate::state_directory::StateDirectory;
use crate::status_store;
use crate::supervise::{self, Told};

/// How many sources run at a time; destinations only wait for theirs.
const SOURCES_AT_A_TIME: usize = 4;
/// How many steps a replication may take without the world having changed.
const STEPS_AT_A_TIME: usize = 4;
/// When to look again after something could not be done or recorded.
const TRY_AGAIN: SignedDuration = SignedDuration::from_secs(10);
/// A source waits for a destination that is about to listen within this time.
const SOON: SignedDuration = SignedDuration::from_secs(15);

/// Keeps to the schedules until stopped.
pub(crate) fn run(settings: &Settings, work: &Work) -> Result<ExitStatus, Error> {
    live(settings, work, None, Mode::Keep)
}

/// Runs each replication once, now.
pub(crate) fn sync(
    settings: &Settings,
    work: &Work,
    only: Option<&Only>,
) -> Result<ExitStatus, Error> {
    live(settings, work, only, Mode::Once)
}

/// Whether replications follow their triggers or run once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Keep,
    Once,
}

struct Runner {
    mode: Mode,
    hands: Hands,
    console: Console,
    lives: Vec<Live>,
    /// In [`Mode::Once`], the manual tag that stands for this run.
    tag: String,
}

/// What a source knows of its destination.
enum Ready {
    /// It can start; where its destination listens, if that is on this machine.
    Yes(Option<SocketAddr>),
    /// Soon; somebody will wake us.
    Wait,
    /// No, and why.
    No(String),
}

fn live(
    settings: &Settings,
    work: &Work,
    only: Option<&Only>,
    mode: Mode,
) -> Result<ExitStatus, Error> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|source| Error::System { action: "start the runtime", source })?;
    let result = runtime.block_on(async {
        let (mut runner, told, _lock) = Runner::open(settings, work, only, mode)?;
        let watched = if mode == Mode::Keep { work.manifests.clone() } else { Vec::new() };
        let clock = Clock::new(told, watched)?;
        runner.live(clock, work).await
    });
    runtime.shutdown_background();
    result
}

impl Runner {
    fn open(
        settings: &Settings,
        work: &Work,
        only: Option<&Only>,
        mode: Mode,
    ) -> Result<(Self, UnboundedReceiver<Told>, lock::Lock), Error> {
        let state = StateDirectory::new(settings.state_directory.clone());
        let mut everything = dereference(work, &state, &settings.zone)?;
        if let Some(only) = only {
            dereference::select(&mut everything, only)?;
        }
        for resolved in &everything.replications {
            let program = build::program(settings, resolved);
            if !program.is_file() {
                return Err(Error::NoMover { path: program });
            }
        }
        let lock = lock::take(&state)?;
        let now = Timestamp::now();
        let console = Console::new(settings, mode == Mode::Keep);
        if supervise::end_stale(&state)? > 0 {
            console.note(now, "ended movers that a killed volsync left behind");
        }
        can_listen(work, &everything.replications)?;
        everything.notes.iter().for_each(|note| console.note(now, note));
        let (sender, told) = unbounded_channel();
        let hands = Hands::new(settings.clone(), state, sender);
        let tag = format!("volsync sync of {now}");
        let mut runner = Self { mode, hands, console, lives: Vec::new(), tag };
        for resolved in everything.replications {
            runner.add(resolved)?;
        }
        Ok((runner, told, lock))
    }

    fn add(&mut self, resolved: Resolved) -> Result<(), Error> {
        let mut status = status_store::load(&self.hands.state, &resolved)?;
        if self.mode == Mode::Once {
            // A sync that was broken off is not this one, which starts now.
            status.last_sync_start_time = None;
        }
        self.lives.push(Live::new(resolved, status));
        Ok(())
    }

    async fn live(&mut self, mut clock: Clock, work: &Work) -> Result<ExitStatus, Error> {
        loop {
            let now = Timestamp::now();
            let unfinished = self.unfinished().count();
            self.reconcile(now);
            if self.mode == Mode::Once && self.all_finished(now) {
                return Ok(self.stop(&mut clock, now).await.unwrap_or_else(|| self.exit_status()));
            }
            if self.unfinished().count() < unfinished {
                // What has finished may be what others waited for.
                continue;
            }
            loop {
                match clock.wait(now, self.look_again()).await {
                    Wake::Time => break,
                    Wake::Mover(told) => {
                        if self.take(told, Timestamp::now()) {
                            break;
                        }
                    }
                    Wake::Manifests => {
                        self.reload(work, now);
                        break;
                    }
                    Wake::Stop => return Ok(self.interrupted(&mut clock, now).await),
                }
            }
        }
    }

    /// One round over every replication, destinations first.
    fn reconcile(&mut self, now: Timestamp) {
        for index in 0..self.lives.len() {
            if self.lives[index].finished.is_none()
                && let Err(error) = self.reconcile_one(index, now)
            {
                let live = &mut self.lives[index];
                live.look_again = now.checked_add(TRY_AGAIN).ok();
                if self.mode == Mode::Keep {
                    let (kind, name) = (live.resolved.kind(), live.resolved.name.to_string());
                    self.console.change(now, kind, &name, "error", &format!("error: {error}"));
                }
                self.give_up(index, now, &error);
            }
        }
    }

    fn reconcile_one(&mut self, index: usize, now: Timestamp) -> Result<(), Error> {
        let (blocked, listening) = match self.ready(index, now) {
            Ready::Yes(listening) => (None, listening),
            Ready::No(why) => (Some(why), None),
            Ready::Wait => return Ok(()),
        };
        if self.pass_by(index, now, blocked.as_deref()) {
            return Ok(());
        }
        self.lives[index].blocked = None;
        for _ in 0..STEPS_AT_A_TIME {
            let live = &mut self.lives[index];
            let replication = effective(&live.resolved.replication, self.mode, &self.tag);
            let seen = observe(live, &self.hands.state, blocked.clone());
            let step = step(&replication, &live.status, &seen, now);
            live.look_again = step.look_again;
            live.status = step.status;
            self.record(index, now)?;
            self.tell(index, now, &step.happenings);
            if self.failed_once(index) {
                return Ok(());
            }
            let live = &mut self.lives[index];
            match self.hands.act(live, &step.want, listening) {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) if live.blocked.is_none() && self.mode == Mode::Keep => {
                    live.blocked = Some(error.to_string());
                }
                Err(error) => return Err(error),
            }
        }
        self.finish_once(index, now)
    }

    /// Whether the mover of a replication could start now.
    fn ready(&self, index: usize, now: Timestamp) -> Ready {
        let live = &self.lives[index];
        let peer = match &live.resolved.end {
            End::Source { peer, .. } => peer,
            End::Destination { .. } => return Ready::Yes(None),
            End::Repository(_) => return self.in_turn(live),
        };
        if !matches!(live.mover, Slot::Empty) {
            let listening = self.destination(peer).and_then(|destination| destination.listening);
            let failed = matches!(live.mover, Slot::Ended { .. });
            return if failed && listening.is_none() {
                self.listening(peer, now)
            } else {
                Ready::Yes(listening)
            };
        }
        if self.is_busy() {
            return Ready::Wait;
        }
        self.listening(peer, now)
    }

    /// Whether as many movers run as may; those that listen only wait for theirs.
    fn is_busy(&self) -> bool {
        let listens = |live: &&Live| matches!(live.resolved.end, End::Destination { .. });
        let running = self.lives.iter().filter(|live| !listens(live) && live.is_running());
        running.count() >= SOURCES_AT_A_TIME
    }

    /// Whether it is the turn of a replication with a repository. Where everything runs once, a volume
    /// is restored before it is backed up, and what is backed up now is what others restore.
    fn in_turn(&self, live: &Live) -> Ready {
        if !matches!(live.mover, Slot::Empty) {
            return Ready::Yes(None);
        }
        let before = |other: &Live| {
            self.mode == Mode::Once
                && other.finished.is_none()
                && precedes(other, live, &self.lives)
        };
        if self.lives.iter().any(before) || self.is_busy() {
            return Ready::Wait;
        }
        Ready::Yes(None)
    }

    fn destination(&self, peer: &Peer) -> Option<&Live> {
        let Peer::Here(name) = peer else { return None };
        let destinations =
            self.lives.iter().filter(|live| live.resolved.direction() == Direction::Destination);
        destinations.into_iter().find(|live| live.resolved.name == *name)
    }

    fn listening(&self, peer: &Peer, now: Timestamp) -> Ready {
        let name = match peer {
            Peer::There { .. } => return Ready::Yes(None),
            Peer::Here(name) => name,
        };
        let Some(destination) = self.destination(peer) else {
            return Ready::No(format!("ReplicationDestination {name} is gone from the manifests"));
        };
        if let Some(listening) = destination.listening {
            return Ready::Yes(Some(listening));
        }
        let soon = destination.look_again.is_some_and(|at| at.duration_since(now) <= SOON);
        let idle = self.mode == Mode::Keep && !destination.is_running() && !soon;
        if destination.resolved.replication.paused {
            return Ready::No(format!("ReplicationDestination {name} is paused"));
        }
        if idle || destination.finished.is_some() {
            return Ready::No(format!("ReplicationDestination {name} is not listening"));
        }
        Ready::Wait
    }

    /// Writes the status, and beside it what is published.
    fn record(&mut self, index: usize, now: Timestamp) -> Result<(), Error> {
        let live = &self.lives[index];
        let status = match self.mode {
            Mode::Keep => live.status.clone(),
            Mode::Once => self.as_if_triggered(live, now),
        };
        status_store::record(&self.hands.state, &mut self.lives[index], &status)
    }

    /// The status after a sync that nobody's trigger asked for, as its trigger would have left it.
    fn as_if_triggered(&self, live: &Live, now: Timestamp) -> Status {
        let mut status = live.status.clone();
        let replication = &live.resolved.replication;
        if status.last_manual_sync.as_deref() != Some(self.tag.as_str()) {
            return status;
        }
        status.last_manual_sync = match &replication.trigger {
            Trigger::Manual(tag) => Some(tag.clone()),
            Trigger::Schedule(_) | Trigger::Continuous => None,
        };
        let resting =
            step(replication, &status, &observe(live, &self.hands.state, None), now).status;
        match State::of(&resting) {
            State::CleaningUp | State::Initial => resting,
            State::Synchronizing => status,
        }
    }

    fn unfinished(&self) -> impl Iterator<Item = &Live> {
        self.lives.iter().filter(|live| live.finished.is_none())
    }

    fn look_again(&self) -> Option<Timestamp> {
        self.unfinished().filter_map(|live| live.look_again).min()
    }

    /// Takes changed manifests over; with a problem in them, the old ones stay in force.
    fn reload(&mut self, work: &Work, now: Timestamp) {
        let everything = match dereference(work, &self.hands.state, &self.hands.settings.zone) {
            Ok(everything) => everything,
            Err(error) => {
                self.console.note(now, &format!("the manifests changed and cannot be taken over; the old ones stay in force\n{error}"));
                return;
            }
        };
        let same = |live: &Live, new: &Resolved| {
            live.resolved.direction() == new.direction() && live.resolved.name == new.name
        };
        self.lives.retain(|live| everything.replications.iter().any(|new| same(live, new)));
        for new in everything.replications {
            match self.lives.iter_mut().find(|live| same(live, &new)) {
                Some(live) => live.resolved = new,
                None => {
                    if let Err(error) = self.add(new) {
                        self.console.note(now, &error.to_string());
                    }
                }
            }
        }
        self.lives.sort_by_key(|live| live.resolved.direction() == Direction::Source);
        self.console.note(now, "the changed manifests are in force");
    }

    /// Stops all movers and waits for them; `None`: all ended as they should.
    async fn stop(&mut self, clock: &mut Clock, now: Timestamp) -> Option<ExitStatus> {
        self.lives.iter_mut().for_each(Live::stop);
        while self.lives.iter().any(Live::is_running) {
            match clock.wait(now, None).await {
                Wake::Mover(told) => {
                    self.take(told, Timestamp::now());
                }
                Wake::Stop => {
                    self.lives.iter().for_each(Live::kill);
                    return Some(ExitStatus::Transient);
                }
                Wake::Time | Wake::Manifests => {}
            }
        }
        let later = Timestamp::now();
        for index in 0..self.lives.len() {
            if let Err(error) = self.record(index, later) {
                self.console.note(later, &error.to_string());
            }
        }
        None
    }

    async fn interrupted(&mut self, clock: &mut Clock, now: Timestamp) -> ExitStatus {
        self.console.note(now, "stopping; what has arrived is kept, and the next run goes on from there (once more stops at once)");
        let status = match self.mode {
            Mode::Keep => ExitStatus::Complete,
            Mode::Once => ExitStatus::Transient,
        };
        self.stop(clock, now).await.unwrap_or(status)
    }
}

/// In a single run every replication is asked for by a tag of its own.
fn effective(replication: &Replication, mode: Mode, tag: &str) -> Replication {
    let mut replication = replication.clone();
    match mode {
        Mode::Keep => {}
        Mode::Once => replication.trigger = Trigger::Manual(tag.to_owned()),
    }
    replication
}

/// Whether `first` runs before `second` where both have a repository and run once.
fn precedes(first: &Live, second: &Live, all: &[Live]) -> bool {
    let (End::Repository(one), End::Repository(two)) = (&first.resolved.end, &second.resolved.end)
    else {
        return false;
    };
    let restored_here =
        |live: &Live| live.resolved.direction() == Direction::Destination && backed_up(live, all);
    match (first.resolved.direction(), second.resolved.direction()) {
        (Direction::Destination, Direction::Source) => {
            first.resolved.directory == second.resolved.directory
        }
        (Direction::Source, Direction::Destination) => {
            one.secret == two.secret && !restored_here(second)
        }
        (Direction::Source, Direction::Source)
        | (Direction::Destination, Direction::Destination) => false,
    }
}

/// Whether some source backs up the volume of this replication.
fn backed_up(live: &Live, all: &[Live]) -> bool {
    all.iter().any(|other| {
        other.resolved.direction() == Direction::Source
            && other.resolved.directory == live.resolved.directory
    })
}

/// A port that is taken or not allowed is better known before anything runs.
fn can_listen(work: &Work, replications: &[Resolved]) -> Result<(), Error> {
    let mut problems = Problems::default();
    let file = work.manifests.first().cloned().unwrap_or_default();
    for one in replications {
        if let End::Destination { listen, .. } = &one.end
            && !one.replication.paused
            && let Err(why) = address::can_listen(*listen)
        {
            let origin = Origin { file: file.clone(), document: None };
            problems.add(&origin, format!("{} {}, spec.rsync.port", one.kind(), one.name), why);
        }
    }
    problems.or(())
}
