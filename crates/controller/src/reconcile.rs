//! One reconciliation: observe, step, record, carry out; again until there is nothing more to do now.
//!
//! What is at rest is decided from the cache alone and costs no request. Anything else is read from
//! the API server first: what is decided on old news may start a sync twice.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::core::{DeserializeGuard, error_boundary::InvalidObject};
use kube::runtime::controller::Action;
use kube::{Resource, ResourceExt};
use serde_json::json;
use volsync_api::v1alpha1::RsyncStatus;
use volsync_api::{events, keys};
use volsync_contract::{Direction, paths};
use volsync_replication::conditions::{self, Synchronizing};
use volsync_replication::{
    CleanUpPlan, Happening, ImageReference, ImageState, Method, MoverResult, MoverState,
    MoverSummary, Observation, Problem, Replication, State, Status, Step, SyncPlan, Volume, Want,
    names, step,
};
use volsync_volume::CopyMethod;

use crate::access::service_account;
use crate::apply::{create, delete, get, is_owned_by, is_terminating, list, merge, named};
use crate::build::job::restic::{Repository, restic};
use crate::build::job::rsync::{Ssh, rsync};
use crate::build::job::{DataVolume, MoverJob, REPORT};
use crate::build::snapshot::{VolumeSnapshot, snapshot};
use crate::clean_up::{Leftovers, clean_up, leftovers};
use crate::context::Context;
use crate::dereference::dereference;
use crate::error::{Asked, Blocked, Error, Stop};
use crate::events::Notice;
use crate::kind::{Kind, Owner};
use crate::observe::{MoverObjects, is_outdated};
use crate::restic::repository;
use crate::rsync::reach;
use crate::update_status::update_status;
use crate::volume::{
    Making, data_volume, destination_claim, make_snapshot, snapshot_ready, tell_of_clone,
};

/// A pass that is followed by another at once, at most so often: start, mover, image, clean-up, rest.
const PASSES: usize = 8;
/// When to look again at something that tells nobody when it is done.
const SOON: Duration = Duration::from_secs(2);
/// When to look again at a mover whose pod has not started.
const UNTIL_STARTED: Duration = Duration::from_secs(15);

/// Brings one replication as far as it can be brought now.
pub(crate) async fn reconcile<K: Kind>(
    object: Arc<DeserializeGuard<K>>,
    ctx: Arc<Context>,
) -> Result<Action, Error> {
    let cached = match &object.0 {
        Ok(object) => object,
        Err(invalid) => return unreadable::<K>(&ctx, invalid).await,
    };
    let key = cached.uid().unwrap_or_default();
    if is_terminating(cached) {
        ctx.went_well(&key);
        return Ok(Action::await_change());
    }
    if let Some(action) = at_rest(cached, &ctx, Timestamp::now()) {
        ctx.went_well(&key);
        return Ok(action);
    }
    let namespace = cached.namespace().unwrap_or_default();
    let Some(mut live) = get(&ctx.api::<K>(&namespace), &cached.name_any()).await? else {
        ctx.went_well(&key);
        return Ok(Action::await_change());
    };
    for _ in 0..PASSES {
        if is_terminating(&live) {
            break;
        }
        let Some(owner) = Owner::of(&live) else { break };
        match pass(&ctx, &owner, &mut live, Timestamp::now()).await {
            Ok(After::Again) => {}
            Ok(After::Wait(wait)) => {
                ctx.went_well(&key);
                return Ok(wait.map_or_else(Action::await_change, Action::requeue));
            }
            Err(error) => {
                tell(&ctx, &live, &error).await;
                return Err(error);
            }
        }
    }
    Ok(Action::requeue(SOON))
}

/// What to do after a reconciliation that broke off: again, later each time.
pub(crate) fn try_again<K: Kind>(
    object: Arc<DeserializeGuard<K>>,
    error: &Error,
    ctx: Arc<Context>,
) -> Action {
    let meta = object.meta();
    let wait = ctx.back_off(meta.uid.as_deref().unwrap_or_default());
    let (namespace, name) = (meta.namespace.as_deref(), meta.name.as_deref());
    match error {
        Error::Changed { .. } => tracing::debug!(namespace, name, "{error}; trying again"),
        Error::Api { .. } | Error::Foreign { .. } | Error::GenerateKey(_) | Error::Json { .. } => {
            tracing::warn!(namespace, name, wait = ?wait, "{}: {error}; trying again", K::kind(&()));
        }
    }
    Action::requeue(wait)
}

/// What a pass is followed by.
enum After {
    /// Another, as what it did may be enough for the next step.
    Again,
    /// Another after so long, or when something changes.
    Wait(Option<Duration>),
}

/// Decides without a request whether there is nothing to do; `None`: there may be.
fn at_rest<K: Kind>(object: &K, ctx: &Context, now: Timestamp) -> Option<Action> {
    let recorded = object.recorded();
    let found = object.validate(&ctx.settings.zone);
    let action = rest(&found, &recorded, now)?;
    ctx.metrics.see(object, found.as_ref().ok(), &recorded);
    Some(action)
}

fn rest(
    found: &Result<Replication, Vec<Problem>>,
    recorded: &Status,
    now: Timestamp,
) -> Option<Action> {
    let said = conditions::find(&recorded.conditions);
    let replication = match doable(found) {
        Ok(replication) => replication,
        Err(problem) => {
            let known = said.is_some_and(|said| said.reason == "Error" && said.message == problem);
            return known.then(Action::await_change);
        }
    };
    if matches!(replication.method, Method::External(_)) {
        return Some(Action::await_change());
    }
    // The condition says so only once everything a sync left was gone.
    let idle = said.is_some_and(|said| said.reason.starts_with("WaitingFor"));
    if State::of(recorded) == State::Synchronizing || !idle {
        return None;
    }
    let next = step(replication, recorded, &Observation::default(), now);
    let nothing = next.want == Want::Nothing && next.status == *recorded;
    nothing.then(|| next.look_again.map_or_else(Action::await_change, |at| requeue_at(at, now)))
}

fn requeue_at(at: Timestamp, now: Timestamp) -> Action {
    Action::requeue(until(at, now))
}

fn until(at: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(at.duration_since(now)).unwrap_or(Duration::ZERO)
}

/// What is asked for, or why it cannot be done until the manifest or the operator is another.
fn doable(found: &Result<Replication, Vec<Problem>>) -> Result<&Replication, String> {
    let all = |problems: &Vec<Problem>| {
        problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
    };
    let replication = found.as_ref().map_err(all)?;
    match &replication.method {
        Method::Rsync(_) | Method::Restic(_) | Method::External(_) => Ok(replication),
        method @ (Method::RsyncTls(_) | Method::ObjectStore(_) | Method::Syncthing(_)) => {
            Err(format!(
                "spec.{}: this release has no {} mover; it has rsync and restic",
                method.section(),
                method.name()
            ))
        }
    }
}

/// One pass over what was just read, which is then as it was last written.
async fn pass<K: Kind>(
    ctx: &Context,
    owner: &Owner,
    live: &mut K,
    now: Timestamp,
) -> Result<After, Error> {
    let mut recorded = live.recorded();
    let found = live.validate(&ctx.settings.zone);
    ctx.metrics.see(live, found.as_ref().ok(), &recorded);
    let mut replication = match doable(&found) {
        Ok(replication) => replication.clone(),
        Err(problem) => {
            let says = Synchronizing::Error(problem);
            conditions::set(&mut recorded.conditions, &says, now);
            *live = update_status(ctx, live, &recorded, &live.published()).await?;
            return Ok(After::Wait(None));
        }
    };
    if matches!(replication.method, Method::External(_)) {
        return Ok(After::Wait(None));
    }
    replication.mover_log_bytes = ctx.settings.mover_log_bytes;
    let seen = see(ctx, owner, live, &replication, &recorded, now).await?;
    let mut step = step(&replication, &recorded, &seen.observation, now);
    let blocked = seen.blocked.as_ref();
    if let Some(blocked) = blocked
        && blocked.reason == events::SRC_PVC_TIMEOUT_WAITING_FOR_COPY_TRIGGER
        && matches!(seen.observation.mover, MoverState::NotStarted)
    {
        step.status.latest_mover_status =
            Some(MoverSummary { result: Some(MoverResult::Failed), logs: blocked.message.clone() });
    }
    for happening in &step.happenings {
        if let Some(notice) = Notice::of(happening, blocked.map(|blocked| blocked.reason)) {
            ctx.events.publish(live, notice).await;
        }
    }
    // What a restart has to know, and where a mover can be reached, is recorded before anything is
    // done. The condition alone is not: it may say at once that it could not be done, and the same
    // again next time is no write.
    let restart_knows = seen.published == live.published()
        && Status { conditions: step.status.conditions.clone(), ..recorded.clone() } == step.status;
    if !restart_knows {
        *live = update_status(ctx, live, &step.status, &seen.published).await?;
    }
    // Now that it is recorded it does not happen again.
    ctx.metrics.see(live, Some(&replication), &step.status);
    ctx.metrics.count(live, &step.happenings, &seen.observation.mover, now);
    let done = carry_out(ctx, owner, live, &seen, &step, now).await;
    if let Err(error) = &done
        && error.is_refusal()
    {
        let message = ctx.refusal(&owner.uid, error);
        let says = Synchronizing::Error(message.clone());
        let known = conditions::find(&recorded.conditions)
            .is_some_and(|said| said.reason == "Error" && said.message == says.message());
        conditions::set(&mut step.status.conditions, &says, now);
        if !known {
            let happening = Happening::Blocked { message };
            if let Some(notice) = Notice::of(&happening, None) {
                ctx.events.publish(live, notice).await;
            }
            ctx.metrics.count(live, &[happening], &seen.observation.mover, now);
        }
    }
    *live = update_status(ctx, live, &step.status, &seen.published).await?;
    let done = done?;
    Ok(match done {
        Done::Something => After::Again,
        Done::Nothing => {
            let wait = step.look_again.map(|at| until(at, now));
            After::Wait(wait.map(|wait| wait.min(seen.look_again.unwrap_or(wait))))
        }
    })
}

/// What was seen of one replication.
struct Seen {
    /// Whether a sync was under way.
    under_way: bool,
    observation: Observation,
    objects: MoverObjects,
    leftovers: Leftovers,
    /// The Job of the mover to start, if everything for it is there.
    ready: Option<Ready>,
    blocked: Option<Blocked>,
    published: RsyncStatus,
    look_again: Option<Duration>,
}

/// Everything for a mover's Job.
struct Ready {
    data: DataVolume,
    account: String,
    far: Far,
}

/// How a mover reaches the far side.
#[allow(clippy::large_enum_variant, reason = "a pass has one at most")]
enum Far {
    Ssh(Ssh),
    /// A repository, and what is done to it.
    Repository {
        repository: Repository,
        method: volsync_contract::Method,
    },
}

async fn see<K: Kind>(
    ctx: &Context,
    owner: &Owner,
    live: &K,
    replication: &Replication,
    recorded: &Status,
    now: Timestamp,
) -> Result<Seen, Error> {
    let mut seen = Seen {
        under_way: false,
        observation: Observation::default(),
        objects: MoverObjects::default(),
        leftovers: Leftovers::default(),
        ready: None,
        blocked: None,
        published: live.published(),
        look_again: None,
    };
    let start = recorded.last_sync_start_time;
    let Some(start) = start.filter(|_| State::of(recorded) == State::Synchronizing) else {
        let plan = CleanUpPlan::new(replication, recorded);
        seen.leftovers = leftovers(ctx, owner, replication, &plan).await?;
        seen.observation.leftovers = seen.leftovers.any();
        if seen.leftovers.any() && seen.leftovers.only_pods() {
            seen.look_again = Some(SOON);
        }
        return Ok(seen);
    };
    seen.under_way = true;
    let plan = SyncPlan::new(replication, start, &recorded.restic);
    let Some(job_name) = names::job(&plan.method, owner.direction, &owner.name) else {
        // Somebody else's, which is left alone.
        return Ok(seen);
    };
    match mover_objects(ctx, owner, &job_name).await {
        Ok(objects) => seen.objects = objects,
        Err(stop) => return stopped(ctx, owner, seen, stop),
    }
    seen.observation.mover = seen.objects.state(now);
    seen.observation.leftovers = true;
    if let Err(error) = keep_report(ctx, owner, &mut seen, &plan).await {
        return stopped(ctx, owner, seen, error.into());
    }
    // What a mover has moved gets its image all the same.
    if replication.paused && !matches!(seen.observation.mover, MoverState::Succeeded { .. }) {
        return Ok(seen);
    }
    let making = Making { ctx, object: live, owner, now };
    let outcome = match &seen.observation.mover {
        MoverState::Running { .. } if !must_be_replaced(&seen.objects, &plan) => {
            if !seen.objects.has_started() {
                seen.look_again = Some(UNTIL_STARTED);
                no_volume(ctx, &mut seen, now).await?;
            }
            tell_of_clone(&making, &plan).await?;
            Ok(())
        }
        MoverState::Succeeded { .. } => {
            tell_of_clone(&making, &plan).await?;
            image(&making, &plan, &seen.objects).await.map(|image| {
                seen.observation.image = image;
            })
        }
        MoverState::NotStarted | MoverState::Running { .. } | MoverState::Failed { .. } => {
            prepare(&making, replication, &plan, &mut seen.published).await.map(|ready| {
                seen.ready = Some(ready);
            })
        }
    };
    match outcome {
        Ok(()) => {}
        Err(stop) => return stopped(ctx, owner, seen, stop),
    }
    if !seen.objects.earlier.is_empty() {
        // Two movers never write one volume.
        seen.ready = None;
        seen.look_again = Some(SOON);
        if let Some(message) = seen.objects.lingering(now) {
            seen.look_again = Some(UNTIL_STARTED);
            seen.observation.blocked = Some(message.clone());
            seen.blocked = Some(Blocked { reason: "TransferBlocked", message });
        }
    }
    Ok(seen)
}

/// A mover whose claim is not bound is stalled for that reason, which its pod does not know.
async fn no_volume(ctx: &Context, seen: &mut Seen, now: Timestamp) -> Result<(), Error> {
    let MoverObjects { job: Some(job), pods, .. } = &seen.objects else { return Ok(()) };
    let MoverState::Running { stalled, .. } = &mut seen.observation.mover else { return Ok(()) };
    // A pod that knows another reason has its volumes.
    let pods = if stalled.is_some() { &[] } else { pods.as_slice() };
    seen.blocked = crate::no_volume::why(ctx, job, pods, now).await?;
    if let Some(blocked) = &seen.blocked {
        *stalled = Some(blocked.message.clone());
    }
    Ok(())
}

fn stopped(ctx: &Context, owner: &Owner, mut seen: Seen, stop: Stop) -> Result<Seen, Error> {
    if matches!(seen.observation.mover, MoverState::Succeeded { .. }) {
        seen.observation.image = ImageState::Pending;
    }
    match stop {
        Stop::Wait => seen.look_again = Some(UNTIL_STARTED),
        Stop::Blocked(blocked) => {
            seen.observation.blocked = Some(blocked.message.clone());
            seen.blocked = Some(blocked);
        }
        Stop::Refused(error) => {
            let message = ctx.refusal(&owner.uid, &error);
            seen.observation.blocked = Some(message.clone());
            seen.blocked = Some(Blocked { reason: "TransferBlocked", message });
        }
        Stop::Broken(error) => return Err(error),
    }
    Ok(seen)
}

async fn mover_objects(ctx: &Context, owner: &Owner, name: &str) -> Result<MoverObjects, Stop> {
    let job = get(&ctx.api::<Job>(&owner.namespace), name).await.map_err(Stop::Broken)?;
    if let Some(job) = &job
        && !is_owned_by(job, &owner.uid)
    {
        let what = named(job);
        return Err(Stop::blocked(format!(
            "{what} exists and was not made for this replication; remove it"
        )));
    }
    let label = format!("{}={name}", keys::JOB_NAME);
    let pods = list::<Pod>(&ctx.api(&owner.namespace), &label).await.map_err(Stop::Broken)?;
    let mut objects = MoverObjects::new(job.filter(|job| !is_terminating(job)), pods);
    if let Some(job) = &objects.job
        && objects.pods.is_empty()
    {
        objects.no_pod = crate::no_pod::why(ctx, job).await.map_err(Stop::Broken)?;
    }
    Ok(objects)
}

/// Keeps the report of a mover that ended on its Job if it may be looked at again: its pod can be
/// removed at any time.
async fn keep_report(
    ctx: &Context,
    owner: &Owner,
    seen: &mut Seen,
    plan: &SyncPlan,
) -> Result<(), Error> {
    let again = match &seen.observation.mover {
        MoverState::NotStarted | MoverState::Running { .. } => false,
        MoverState::Succeeded { .. } => has_snapshot(plan),
        MoverState::Failed { .. } => true,
    };
    if let Some(job) = seen.objects.job.as_ref().filter(|_| again)
        && let Some(report) = seen.objects.to_keep(&seen.observation.mover)
    {
        let patch = json!({"metadata": {"annotations": {REPORT: report.to_json()}}});
        seen.objects.job = Some(merge(&ctx.api(&owner.namespace), job, patch).await?);
    }
    Ok(())
}

/// Whether the image is a snapshot, which takes a while.
fn has_snapshot(plan: &SyncPlan) -> bool {
    match &plan.volume {
        Volume::Destination { options, .. } => options.copy_method != CopyMethod::Direct,
        Volume::Source { .. } | Volume::External => false,
    }
}

/// Whether a mover that has not begun was made for another plan, or is one that ours cannot talk to.
fn must_be_replaced(objects: &MoverObjects, plan: &SyncPlan) -> bool {
    objects.is_foreign()
        || !objects.has_started()
            && objects.job.as_ref().is_some_and(|job| is_outdated(job, plan.fingerprint()))
}

/// Makes everything a mover needs, or says what is missing.
async fn prepare<K: Kind>(
    making: &Making<'_, K>,
    replication: &Replication,
    plan: &SyncPlan,
    published: &mut RsyncStatus,
) -> Result<Ready, Stop> {
    dereference(making.ctx, replication).await?;
    let given = plan.pod.mover_service_account.as_ref();
    match &plan.method {
        Method::Rsync(rsync) => {
            // Address and keys first: the other end waits for them.
            let ssh = reach(making, rsync, published).await?;
            let data = filesystem(data_volume(making, plan).await?, "rsync")?;
            let account = service_account(making, given, true).await?;
            Ok(Ready { data, account, far: Far::Ssh(ssh) })
        }
        Method::Restic(restic) => {
            let data = filesystem(data_volume(making, plan).await?, "restic")?;
            let repository = repository(making, plan, restic, &data).await?;
            let account = service_account(making, given, repository.privileged).await?;
            let method = plan.restic(making.owner.uid.clone(), paths::CACHE.into());
            let method = method.ok_or_else(|| Stop::blocked("this method has no mover"))?;
            Ok(Ready { data, account, far: Far::Repository { repository, method } })
        }
        Method::RsyncTls(_)
        | Method::ObjectStore(_)
        | Method::Syncthing(_)
        | Method::External(_) => Err(Stop::blocked("this method has no mover")),
    }
}

fn filesystem(data: DataVolume, mover: &str) -> Result<DataVolume, Stop> {
    if data.block {
        return Err(Stop::blocked(format!(
            "PersistentVolumeClaim {} has volumeMode Block; the {mover} mover of this release moves Filesystem volumes only",
            data.claim
        )));
    }
    Ok(data)
}

/// The image a destination makes once its mover has succeeded. It is named after when that mover was
/// made, so that it is never one of what an earlier attempt has written.
async fn image<K: Kind>(
    making: &Making<'_, K>,
    plan: &SyncPlan,
    mover: &MoverObjects,
) -> Result<ImageState, Stop> {
    let Volume::Destination { options, .. } = &plan.volume else {
        return Ok(ImageState::NotNeeded);
    };
    let Some(claim) = destination_claim(plan) else { return Ok(ImageState::NotNeeded) };
    if options.copy_method == CopyMethod::Direct {
        return Ok(ImageState::Ready(ImageReference::claim(claim)));
    }
    let api = making.ctx.api::<VolumeSnapshot>(&making.owner.namespace);
    let class = options.snapshot_class.as_deref();
    let made = mover.job.as_ref().and_then(ResourceExt::creation_timestamp);
    let mut name = names::destination_snapshot(&claim, made.map_or(plan.start, |made| made.0));
    let found = match making.begun_snapshot(&claim, plan.start).await? {
        Some(begun) => Some(begun),
        None => get(&api, &name).await?.map(|found| making.ours_or_kept(found)).transpose()?,
    };
    let made = match found {
        Some(found) => {
            name = found.name_any();
            found
        }
        None => {
            let wanted = snapshot(making.owner, &name, &claim, class, false);
            make_snapshot(making.ctx, making.object, &wanted).await?
        }
    };
    match snapshot_ready(&made, making.now) {
        Ok(()) => Ok(ImageState::Ready(ImageReference::snapshot(name))),
        Err(Stop::Wait) => Ok(ImageState::Pending),
        Err(stop) => Err(stop),
    }
}

/// Whether anything was done that makes another pass worthwhile.
enum Done {
    Something,
    Nothing,
}

async fn carry_out<K: Kind>(
    ctx: &Context,
    owner: &Owner,
    live: &K,
    seen: &Seen,
    step: &Step,
    now: Timestamp,
) -> Result<Done, Error> {
    let jobs = ctx.api::<Job>(&owner.namespace);
    match &step.want {
        Want::Nothing => {
            if let (Some(job), MoverState::Running { .. }) =
                (&seen.objects.job, &seen.observation.mover)
                && parallelism(job) != 0
            {
                merge(&jobs, job, json!({"spec": {"parallelism": 0}})).await?;
            }
            Ok(Done::Nothing)
        }
        Want::CleanUp(plan) => {
            let left = if seen.leftovers.any() {
                None
            } else {
                let Ok(replication) = live.validate(&ctx.settings.zone) else {
                    return Ok(Done::Nothing);
                };
                Some(leftovers(ctx, owner, &replication, plan).await?)
            };
            let left = left.as_ref().unwrap_or(&seen.leftovers);
            clean_up(ctx, owner, left).await?;
            Ok(if left.only_pods() && left.any() { Done::Nothing } else { Done::Something })
        }
        Want::Sync(plan) => {
            // A sync that was recorded just now is looked at before anything is started.
            if !seen.under_way {
                return Ok(Done::Something);
            }
            match (&seen.observation.mover, &seen.objects.job) {
                (MoverState::Succeeded { .. }, _) => Ok(Done::Nothing),
                (MoverState::Running { .. }, Some(job)) => {
                    if seen.objects.is_foreign() && seen.ready.is_none() {
                        return Ok(Done::Nothing);
                    }
                    if must_be_replaced(&seen.objects, plan) {
                        delete(&jobs, job).await?;
                        return Ok(Done::Something);
                    }
                    if parallelism(job) == 0 {
                        merge(&jobs, job, json!({"spec": {"parallelism": 1}})).await?;
                    }
                    Ok(Done::Nothing)
                }
                (_, job) => {
                    let Some(ready) = &seen.ready else { return Ok(Done::Nothing) };
                    if let (MoverState::Failed { .. }, Some(failed)) =
                        (&seen.observation.mover, job)
                    {
                        delete(&jobs, failed).await?;
                    }
                    // The Job that failed may be gone for long.
                    let attempt = step.status.failed_attempts().saturating_add(1);
                    start(ctx, owner, live, plan, ready, attempt).await?;
                    tracing::debug!(name = owner.name, %now, attempt, "a mover was started");
                    Ok(Done::Nothing)
                }
            }
        }
    }
}

fn parallelism(job: &Job) -> i32 {
    job.spec.as_ref().and_then(|spec| spec.parallelism).unwrap_or(1)
}

async fn start<K: Kind>(
    ctx: &Context,
    owner: &Owner,
    live: &K,
    plan: &SyncPlan,
    ready: &Ready,
    attempt: u32,
) -> Result<(), Error> {
    let image = match &ready.far {
        Far::Ssh(_) => &ctx.settings.rsync_image,
        Far::Repository { .. } => &ctx.settings.restic_image,
    };
    let job = MoverJob {
        owner,
        plan,
        image,
        data: ready.data.clone(),
        account: ready.account.clone(),
        attempt,
        debug: live.annotations().contains_key(keys::ENABLE_DEBUG_MOVER),
    };
    let wanted = match &ready.far {
        Far::Ssh(ssh) => rsync(&job, ssh),
        Far::Repository { repository, method } => {
            restic(&job, repository, &ctx.settings.proxies, method.clone())
        }
    };
    let made = create(&ctx.api(&owner.namespace), &wanted).await?;
    let what = match owner.direction {
        Direction::Source => "transmit",
        Direction::Destination => "receive",
    };
    let message = format!("starting Job/{} to {what} data", made.name_any());
    let related = Some(made.object_ref(&()));
    let notice = Notice::normal(events::TRANSFER_STARTED, "CreateMover", message, related);
    ctx.events.publish(live, notice).await;
    Ok(())
}

/// What the API server refuses stands in the condition, as nobody reads logs.
async fn tell<K: Kind>(ctx: &Context, live: &K, error: &Error) {
    if !error.is_refusal() {
        return;
    }
    let mut recorded = live.recorded();
    let says = Synchronizing::Error(ctx.refusal(&live.uid().unwrap_or_default(), error));
    conditions::set(&mut recorded.conditions, &says, Timestamp::now());
    if let Err(second) = update_status(ctx, live, &recorded, &live.published()).await {
        tracing::warn!(%second, "cannot record that {error}");
    }
}

/// An object that does not parse, which only an API server without our schema lets through.
async fn unreadable<K: Kind>(ctx: &Context, invalid: &InvalidObject) -> Result<Action, Error> {
    use kube::api::{Patch, PatchParams};
    let meta = &invalid.metadata;
    let (namespace, name) = (meta.namespace.as_deref(), meta.name.as_deref());
    let name = name.unwrap_or_default();
    let api = kube::Api::<kube::core::DynamicObject>::namespaced_with(
        ctx.client.clone(),
        namespace.unwrap_or_default(),
        &kube::core::ApiResource::erase::<K>(&()),
    );
    let found = api.get_opt(name).await.asked(|| format!("read {} {name}", K::kind(&())))?;
    let Some(mut found) = found else { return Ok(Action::await_change()) };
    // Conditions may be what cannot be parsed; then they are made anew.
    let known = found.data["status"]["conditions"].take();
    let known: Vec<Condition> = serde_json::from_value(known).unwrap_or_default();
    let mut said = known.clone();
    let says = Synchronizing::Error(format!("cannot be parsed: {invalid}"));
    conditions::set(&mut said, &says, Timestamp::now());
    if said == known {
        return Ok(Action::await_change());
    }
    tracing::warn!(namespace, name, "cannot parse this {}: {invalid}", K::kind(&()));
    let patch = json!({"status": {"conditions": said}});
    let patched = api.patch_status(name, &PatchParams::default(), &Patch::Merge(patch)).await;
    patched.asked(|| format!("record that {name} cannot be parsed"))?;
    Ok(Action::await_change())
}

#[cfg(test)]
mod tests;
