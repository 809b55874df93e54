//! `step`: what should be true next, given what was recorded, what was just seen, and the time.

use std::ops::RangeInclusive;

use jiff::{SignedDuration, Timestamp};
use volsync_contract::{Direction, Outcome, Report, RestoreOutcome, Verify};

use crate::conditions::{self, Synchronizing};
use crate::restic_logs;
use crate::status::{MoverResult, MoverSummary, Status};
use crate::{
    CleanUpPlan, GoDuration, Happening, ImageState, Maintenance, Method, MoverState, Observation,
    Replication, Run, Schedule, State, SyncPlan, Trigger, Verification,
};

/// How long a replication without a trigger rests between two syncs.
pub const CONTINUOUS_FLOOR: SignedDuration = SignedDuration::from_secs(10);
/// How long after its first failure a mover gets another attempt; doubled with each failure.
pub const BACK_OFF_FIRST: SignedDuration = SignedDuration::from_secs(10);
/// The same after a failure that will not pass by itself: somebody has to mend something, and is often
/// about to.
pub const BACK_OFF_FIRST_PERMANENT: SignedDuration = SignedDuration::from_mins(1);
/// The longest such wait.
pub const BACK_OFF_LONGEST: SignedDuration = SignedDuration::from_mins(10);
/// How long until a shell looks again at a sync that cannot start yet: as long as it has waited
/// already, within these. What is missing at first is often on its way.
pub const BLOCKED_RECHECK: RangeInclusive<SignedDuration> =
    SignedDuration::from_secs(1)..=SignedDuration::from_secs(10);
/// How long until a shell looks again at work under way, should nothing else make it look.
pub const RECHECK: SignedDuration = SignedDuration::from_secs(60);

/// What should be true next.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// What to record; equal to the old status if nothing changed.
    pub status: Status,
    /// What the shell should make true, once the status is recorded.
    pub want: Want,
    /// When to look again, should nothing happen before; `None`: not until something does.
    pub look_again: Option<Timestamp>,
    /// What happened, for events, logs and metrics.
    pub happenings: Vec<Happening>,
}

/// What a shell should make true.
#[derive(Debug, Clone, PartialEq)]
#[allow(
    clippy::large_enum_variant,
    reason = "one is made a step and matched at once, none are kept in numbers"
)]
pub enum Want {
    /// No mover runs. One that does is stopped; results of one that ended are kept.
    Nothing,
    /// A mover runs for this plan, or has succeeded. If there is none, or the last one failed, one
    /// is started, with [`SyncPlan::run`] kept beside it. One that runs is left to run if its
    /// fingerprint is the plan's; if not, the manifest has changed and it is started anew. Once
    /// it has succeeded, the image of a destination is made.
    Sync(SyncPlan),
    /// What a sync left is gone, a mover still running included.
    CleanUp(CleanUpPlan),
}

/// What should be true next, given what was recorded, what was just seen, and the time.
///
/// Total and pure: no I/O, no clock, no error. The same inputs always give the same answer.
pub fn step(
    replication: &Replication,
    status: &Status,
    seen: &Observation,
    now: Timestamp,
) -> Step {
    if matches!(replication.method, Method::External(_)) {
        return Step {
            status: status.clone(),
            want: Want::Nothing,
            look_again: None,
            happenings: Vec::new(),
        };
    }
    let stepping =
        Stepping { replication, seen, now, status: status.clone(), happenings: Vec::new() };
    match State::of(status) {
        State::Initial | State::CleaningUp => stepping.rest(),
        State::Synchronizing => stepping.synchronize(),
    }
}

/// Whether the data at the destination is older than the user asked for: nothing was synchronized
/// yet, or a scheduled sync has not ended before the slot after its own.
pub fn is_out_of_sync(replication: &Replication, status: &Status, now: Timestamp) -> bool {
    out_of_sync_from(replication, status).is_some_and(|from| from < now)
}

/// After when [`is_out_of_sync`], unless a sync succeeds before; `None`: never.
pub fn out_of_sync_from(replication: &Replication, status: &Status) -> Option<Timestamp> {
    match status.last_sync_time {
        Some(last) => deadline(&replication.trigger, last),
        None => Some(Timestamp::MIN),
    }
}

/// One step in the making.
struct Stepping<'a> {
    replication: &'a Replication,
    seen: &'a Observation,
    now: Timestamp,
    status: Status,
    happenings: Vec<Happening>,
}

/// How a mover ended, whatever it was observed as.
enum Ending<'a> {
    Complete(&'a Report),
    Incomplete { attempts: u32, report: &'a Report },
    Failed { attempts: u32, message: String, permanent: bool },
}

/// A mover that failed, or did not do everything.
struct Failure<'a> {
    attempts: u32,
    /// Of one that did not do everything.
    report: Option<&'a Report>,
    message: String,
    permanent: bool,
    ended: Timestamp,
}

impl Stepping<'_> {
    fn finish(self, want: Want, look_again: Option<Timestamp>) -> Step {
        let want = if self.replication.paused { Want::Nothing } else { want };
        Step { status: self.status, want, look_again, happenings: self.happenings }
    }

    fn say(&mut self, says: &Synchronizing) {
        conditions::set(&mut self.status.conditions, says, self.now);
    }

    fn clean_up(&self) -> Want {
        Want::CleanUp(CleanUpPlan::new(self.replication, &self.status))
    }

    /// Initial, and after a sync: remove what it left, then wait until the next is due.
    fn rest(mut self) -> Step {
        let paused = self.replication.paused;
        let failed = self
            .status
            .latest_mover_status
            .as_ref()
            .filter(|summary| summary.result == Some(MoverResult::Failed));
        let failed = failed.map(|summary| summary.logs.clone());
        // Only an incomplete sync comes to rest as a failure; its end is when the condition turned.
        let incomplete_end =
            failed.as_ref().and_then(|_| conditions::transition_time(&self.status.conditions));
        let since = incomplete_end.max(self.status.last_sync_time);
        let stored = self.status.next_sync_time;
        self.status.next_sync_time = match &self.replication.trigger {
            Trigger::Schedule(schedule) => {
                since.and_then(|since| next_slot(schedule, since, stored, self.now))
            }
            Trigger::Manual(_) | Trigger::Continuous => None,
        };
        if self.seen.leftovers {
            self.say(&match failed {
                Some(message) => Synchronizing::Error(message),
                None => Synchronizing::CleaningUp,
            });
            let look_again = if paused { None } else { Some(after(self.now, RECHECK)) };
            let want = self.clean_up();
            return self.finish(want, look_again);
        }
        let due = match (&self.replication.trigger, since) {
            (_, None) => Some(self.now),
            (Trigger::Schedule(_), Some(_)) => self.status.next_sync_time,
            (Trigger::Manual(tag), Some(_)) => {
                let done = self.status.last_sync_time.is_some()
                    && self.status.last_manual_sync.as_deref() == Some(tag.as_str());
                (!done).then_some(self.now)
            }
            (Trigger::Continuous, Some(since)) => {
                // When the condition turned is when the last sync really ended, even where the
                // clock has been set back since and `lastSyncTime` could not follow.
                let since = conditions::transition_time(&self.status.conditions).unwrap_or(since);
                Some(if since > self.now { self.now } else { after(since, CONTINUOUS_FLOOR) })
            }
        };
        if !paused && due.is_some_and(|due| due <= self.now) {
            return self.start();
        }
        self.say(&match (failed, &self.replication.trigger) {
            (Some(message), _) => Synchronizing::Error(message),
            (None, Trigger::Schedule(_)) => Synchronizing::WaitingForSchedule,
            (None, Trigger::Manual(_) | Trigger::Continuous) => Synchronizing::WaitingForManual,
        });
        self.finish(Want::Nothing, due.filter(|_| !paused))
    }

    fn start(mut self) -> Step {
        self.status.last_sync_start_time = Some(to_the_second(self.now));
        self.happenings.push(Happening::SyncStarted {
            direction: self.replication.direction,
            manual_tag: self.replication.trigger.manual_tag().map(str::to_owned),
        });
        self.synchronize()
    }

    fn synchronize(mut self) -> Step {
        // `start` and `State::of` see to it that this is set.
        let start = self.status.last_sync_start_time.unwrap_or(self.now);
        let plan = SyncPlan::new(self.replication, start, &self.status.restic);
        let run = self.seen.mover.run();
        if run.and_then(|run| run.sync_start).is_some_and(|run_start| run_start != start) {
            // A mover of another sync: its result is not this one's.
            self.say(&Synchronizing::SyncInProgress);
            let want = self.clean_up();
            return self.in_progress(want);
        }
        let mover = &self.seen.mover;
        let (run, ended, ending) = match mover {
            MoverState::NotStarted => return self.attempt(plan),
            // It is started anew, which may be impossible by now.
            MoverState::Running { run, .. } if is_outdated(run, &plan) => {
                return self.attempt(plan);
            }
            MoverState::Running { stalled, .. } => {
                match stalled {
                    Some(why) => self.blocked(why),
                    None => self.say(&Synchronizing::SyncInProgress),
                }
                return self.in_progress(Want::Sync(plan));
            }
            MoverState::Succeeded { run, report, ended } => {
                (run, *ended, ending(1, Some(report), ""))
            }
            MoverState::Failed { run, attempts, report, message, ended } => {
                let ending = match ending(*attempts, report.as_ref(), message) {
                    // It said all went well and then did not end well: not a success.
                    Ending::Complete(_) => Ending::Failed {
                        attempts: *attempts,
                        message: if message.is_empty() {
                            "the mover failed after it reported success".to_owned()
                        } else {
                            message.clone()
                        },
                        permanent: false,
                    },
                    ending @ (Ending::Incomplete { .. } | Ending::Failed { .. }) => ending,
                };
                (run, *ended, ending)
            }
        };
        match ending {
            Ending::Complete(report) => match self.seen.image {
                ImageState::Pending => {
                    match &self.seen.blocked {
                        Some(why) => self.blocked(why),
                        None => self.say(&Synchronizing::SyncInProgress),
                    }
                    self.in_progress(Want::Sync(plan))
                }
                ImageState::NotNeeded | ImageState::Ready(_) => self.complete(&plan, run, report),
            },
            Ending::Incomplete { attempts, report } => match &self.replication.trigger {
                Trigger::Schedule(_) => self.incomplete(report),
                Trigger::Manual(_) | Trigger::Continuous => {
                    let failure = Failure {
                        attempts,
                        report: Some(report),
                        message: told(report),
                        permanent: false,
                        ended,
                    };
                    self.failed(plan, run, failure)
                }
            },
            Ending::Failed { attempts, message, permanent } => {
                let failure = Failure { attempts, report: None, message, permanent, ended };
                self.failed(plan, run, failure)
            }
        }
    }

    fn in_progress(self, want: Want) -> Step {
        let look_again =
            if self.replication.paused { None } else { Some(after(self.now, RECHECK)) };
        self.finish(want, look_again)
    }

    /// Start a mover, unless something it needs is missing.
    fn attempt(mut self, plan: SyncPlan) -> Step {
        let Some(why) = &self.seen.blocked else {
            self.say(&Synchronizing::SyncInProgress);
            return self.in_progress(Want::Sync(plan));
        };
        self.blocked(why);
        let waited = self.now.duration_since(plan.start);
        let wait = waited.clamp(*BLOCKED_RECHECK.start(), *BLOCKED_RECHECK.end());
        let look_again = if self.replication.paused { None } else { Some(after(self.now, wait)) };
        self.finish(Want::Nothing, look_again)
    }

    /// Says why a sync does not go on, once as an event.
    fn blocked(&mut self, why: &str) {
        let known = conditions::find(&self.status.conditions)
            .is_some_and(|condition| condition.reason == "Error" && condition.message == why);
        if !known {
            self.happenings.push(Happening::Blocked { message: why.to_owned() });
        }
        self.say(&Synchronizing::Error(why.to_owned()));
    }

    fn failed(mut self, plan: SyncPlan, run: &Run, failure: Failure<'_>) -> Step {
        let Failure { attempts, report, message, permanent, ended } = failure;
        let changed = is_outdated(run, &plan);
        // A clock that was set back must not prolong the wait.
        let next = if changed || ended > self.now {
            self.now
        } else {
            after(ended, back_off(attempts, permanent))
        };
        let first_line = message.lines().next().unwrap_or_default().to_owned();
        let limit = self.replication.mover_log_bytes;
        let summary = MoverSummary::failed_attempt(attempts, &message, limit);
        if self.status.latest_mover_status.as_ref() != Some(&summary) {
            self.status.latest_mover_status = Some(summary);
            self.verified(report);
            self.happenings.push(Happening::MoverFailed {
                attempt: attempts,
                message: first_line.clone(),
                next,
            });
        }
        if next <= self.now && !self.replication.paused {
            // What was found may be another reason to verify, or none any more.
            let plan = SyncPlan::new(self.replication, plan.start, &self.status.restic);
            return self.attempt(plan);
        }
        // An ending in the past of a paused replication says nothing about the next attempt.
        let says = if self.replication.paused {
            format!("{message}\nattempt {attempts} failed; paused")
        } else {
            format!("{message}\nattempt {attempts} failed; next attempt at {}", to_the_second(next))
        };
        self.say(&Synchronizing::Error(says));
        let look_again = (!self.replication.paused).then_some(next);
        self.finish(Want::Nothing, look_again)
    }

    fn complete(mut self, plan: &SyncPlan, run: &Run, report: &Report) -> Step {
        let end = to_the_second(self.now);
        let duration = self.now.duration_since(plan.start).max(SignedDuration::ZERO);
        let last = self.status.last_sync_time;
        if let Some(deadline) = last.and_then(|last| deadline(&self.replication.trigger, last))
            && deadline < self.now
        {
            self.happenings.push(Happening::IntervalMissed { deadline });
        }
        self.status.last_sync_time = last.max(Some(end));
        self.status.last_sync_duration = Some(GoDuration(duration));
        self.status.next_sync_time = self.slot_after_end();
        // A mover that nobody kept a run of answers to the tag of the manifest.
        let tag = match run.sync_start {
            Some(_) => run.manual_tag.clone(),
            None => plan.manual_tag.clone(),
        };
        self.status.last_manual_sync = tag;
        self.status.last_sync_start_time = None;
        let logs = success_logs(&plan.method, report);
        let limit = self.replication.mover_log_bytes;
        let last = MoverSummary::new(MoverResult::Successful, &logs, limit);
        self.status.latest_mover_status = Some(last);
        // A prune that was put off stays due, and one that was done counts, whatever the manifest says
        // by now.
        let pruned = report.restic.as_ref().map(|said| said.pruned);
        let done = Maintenance {
            prune: pruned.unwrap_or(plan.maintenance.prune),
            unlock: plan.maintenance.unlock.clone(),
            verify: None,
        };
        done.record(self.replication, end, &mut self.status.restic);
        self.verified(Some(report));
        if let Some(said) = &report.restic
            && let Some(outcome) = said.restore
        {
            self.status.restic.restore = Some(outcome);
            self.status.restic.restored.clone_from(&said.snapshot);
        }
        if let ImageState::Ready(image) = &self.seen.image
            && self.replication.direction == Direction::Destination
        {
            self.status.latest_image = Some(image.clone());
        }
        let (counts, in_words) = (report.counts, summary(report));
        self.happenings.push(Happening::SyncCompleted { duration, counts, in_words });
        let restored = report.restic.as_ref().and_then(|said| said.restore);
        if let Some(outcome) = restored.filter(|outcome| *outcome != RestoreOutcome::Restored) {
            self.happenings.push(Happening::NothingRestored { outcome });
        }
        self.come_to_rest(&Synchronizing::CleaningUp)
    }

    /// What the verification of a sync found, if it made one, and which part comes next. Once for each
    /// mover that ended.
    fn verified(&mut self, report: Option<&Report>) {
        let said = report.and_then(|report| report.restic.as_ref());
        let Some(verified) = said.and_then(|said| said.verified.as_ref()) else { return };
        let Method::Restic(restic) = &self.replication.method else { return };
        let damage = (verified.damaged > 0).then(|| restic_logs::damage(verified));
        if damage.is_none() && restic.verify.is_none() {
            return;
        }
        let known = self.status.restic.verification.as_ref();
        let next = restic.verify.map(|schedule| schedule.percent);
        let (percent, round) = match verified.asked {
            Some(Verify { percent, round }) if damage.is_some() => (Some(percent), round),
            Some(Verify { percent, round }) => (Some(percent), round.wrapping_add(1) & 0x7fff_ffff),
            None => known.map_or((next, 0), |last| (last.percent, last.round)),
        };
        if let Some(damage) = &damage {
            self.happenings.push(Happening::RepositoryDamaged { message: damage.clone() });
        }
        let at = to_the_second(self.now);
        self.status.restic.verification = Some(Verification { at, round, percent, damage });
    }

    fn incomplete(mut self, report: &Report) -> Step {
        let message = told(report);
        self.verified(Some(report));
        self.status.next_sync_time = self.slot_after_end();
        self.status.last_sync_start_time = None;
        let limit = self.replication.mover_log_bytes;
        let summary = MoverSummary::new(MoverResult::Failed, &message, limit);
        self.status.latest_mover_status = Some(summary);
        self.happenings.push(Happening::SyncIncomplete {
            message: message.lines().next().unwrap_or_default().to_owned(),
            next: self.status.next_sync_time,
        });
        self.come_to_rest(&Synchronizing::Error(message))
    }

    fn slot_after_end(&self) -> Option<Timestamp> {
        match &self.replication.trigger {
            Trigger::Schedule(schedule) => schedule.next_after(to_the_second(self.now)),
            Trigger::Manual(_) | Trigger::Continuous => None,
        }
    }

    /// The condition turns at the end of each sync, so that its transition time is that end.
    fn come_to_rest(mut self, says: &Synchronizing) -> Step {
        conditions::turn(&mut self.status.conditions, says, self.now);
        let want = self.clean_up();
        self.in_progress(want)
    }
}

/// Whether the manifest has changed since a mover was started, so that it was told other things.
fn is_outdated(run: &Run, plan: &SyncPlan) -> bool {
    run.fingerprint.is_some_and(|fingerprint| fingerprint != plan.fingerprint())
}

fn ending<'a>(attempts: u32, report: Option<&'a Report>, message: &str) -> Ending<'a> {
    let attempts = attempts.max(1);
    let Some(report) = report else {
        let message = if message.is_empty() { "the mover ended without a report" } else { message };
        return Ending::Failed { attempts, message: message.to_owned(), permanent: false };
    };
    match report.outcome {
        Outcome::Complete => Ending::Complete(report),
        Outcome::Incomplete => Ending::Incomplete { attempts, report },
        Outcome::FailedTransient => {
            Ending::Failed { attempts, message: told(report), permanent: false }
        }
        Outcome::FailedPermanent => {
            Ending::Failed { attempts, message: told(report), permanent: true }
        }
    }
}

/// What a report says in words: its message, what was skipped, what helps.
fn told(report: &Report) -> String {
    let mut text = if report.message.is_empty() {
        match report.outcome {
            Outcome::Complete => "complete".to_owned(),
            Outcome::Incomplete => {
                format!("{} items could not be read or written", report.skipped.count)
            }
            Outcome::FailedTransient | Outcome::FailedPermanent => {
                "the mover failed and did not say why".to_owned()
            }
        }
    } else {
        report.message.clone()
    };
    for item in &report.skipped.first {
        text.push_str(&format!("\nskipped {}: {}", item.path, item.why));
    }
    let named = report.skipped.first.len() as u64;
    if report.skipped.count > named && named > 0 {
        text.push_str(&format!("\nskipped {} more", report.skipped.count - named));
    }
    if !report.hint.is_empty() {
        text.push_str(&format!("\nhint: {}", report.hint));
    }
    text
}

/// What was done, in one line.
fn summary(report: &Report) -> String {
    let counts = &report.counts;
    if let Some(said) = &report.restic {
        return restic_logs::summary(said, counts);
    }
    format!(
        "{} of {} files sent, {} deleted, {} bytes sent for {} bytes of content",
        counts.files_sent,
        counts.files_compared,
        counts.deleted,
        counts.wire_sent_bytes,
        counts.total_bytes,
    )
}

/// What is said of a success. Users' scripts look for some lines of the programs that moved data
/// before there were reports; those of rsync are kept.
fn success_logs(method: &Method, report: &Report) -> String {
    let counts = &report.counts;
    let mut logs = match (method, &report.restic) {
        (Method::Restic(_), Some(restic)) => restic_logs::lines(restic, counts),
        (_, _) => summary(report),
    };
    if let Method::Rsync(_) = method {
        logs.push_str(&format!(
            "\nsent {} bytes  received {} bytes\ntotal size is {}\nRsync completed in {}s",
            counts.wire_sent_bytes,
            counts.wire_received_bytes,
            counts.total_bytes,
            counts.elapsed_milliseconds.div_ceil(1000),
        ));
    }
    for not_kept in &report.not_kept {
        logs.push_str(&format!(
            "\n{} not kept on {} entries, such as {}",
            not_kept.attribute, not_kept.count, not_kept.example
        ));
    }
    logs
}

/// How long a mover waits after so many failures.
fn back_off(attempts: u32, permanent: bool) -> SignedDuration {
    let first = if permanent { BACK_OFF_FIRST_PERMANENT } else { BACK_OFF_FIRST };
    let doublings = attempts.saturating_sub(1).min(16);
    first.saturating_mul(1 << doublings).min(BACK_OFF_LONGEST)
}

/// The first slot after `since`. When `since` has not come yet, the clock was set back: then the first
/// slot after now, held on to once it was recorded.
fn next_slot(
    schedule: &Schedule,
    since: Timestamp,
    stored: Option<Timestamp>,
    now: Timestamp,
) -> Option<Timestamp> {
    if since <= now {
        return schedule.next_after(since);
    }
    let candidate = schedule.next_after(now);
    match (stored, candidate) {
        (Some(stored), Some(candidate)) if stored <= candidate && schedule.contains(stored) => {
            Some(stored)
        }
        (Some(_) | None, candidate) => candidate,
    }
}

/// The start of the slot after the one following `last`: the sync of that one should have ended by then.
fn deadline(trigger: &Trigger, last: Timestamp) -> Option<Timestamp> {
    match trigger {
        Trigger::Schedule(schedule) => schedule.next_after(schedule.next_after(last)?),
        Trigger::Manual(_) | Trigger::Continuous => None,
    }
}

/// Times in a status have a resolution of one second.
pub(crate) fn to_the_second(time: Timestamp) -> Timestamp {
    let second = time.as_second() - i64::from(time.subsec_nanosecond() < 0);
    Timestamp::from_second(second).unwrap_or(time)
}

fn after(time: Timestamp, wait: SignedDuration) -> Timestamp {
    time.checked_add(wait).unwrap_or(Timestamp::MAX)
}
