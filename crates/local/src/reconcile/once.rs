//! When the one sync of each replication is over, and how the whole run ended.

use jiff::{SignedDuration, Timestamp};
use volsync_contract::{ExitStatus, Outcome, Report};

use super::{Mode, Runner};
use crate::address::Peer;
use crate::dereference::End;
use crate::error::Error;
use crate::live::{Finished, Live, Slot};
use crate::observe::observe;
use volsync_replication::State;

/// How long the other end may take to say what went wrong, once this one failed.
const LAST_WORDS: SignedDuration = SignedDuration::from_secs(2);
/// How long the other end may take to finish, once this one is done.
const LAST_STROKES: SignedDuration = SignedDuration::from_secs(60);

impl Runner {
    /// In a single run: whether there is nothing to do for it, as it is paused or cannot run.
    pub(super) fn pass_by(&mut self, index: usize, now: Timestamp, blocked: Option<&str>) -> bool {
        let live = &mut self.lives[index];
        if self.mode == Mode::Keep || !matches!(live.mover, Slot::Empty) {
            return false;
        }
        let (kind, name) = (live.resolved.kind(), live.resolved.name.to_string());
        if live.resolved.replication.paused {
            live.finished = Some(Finished::Paused);
            self.console.change(now, kind, &name, "paused", "paused; not synchronized");
        } else if let (Some(why), State::Initial | State::CleaningUp) =
            (blocked, State::of(&live.status))
            && live.status.last_manual_sync.as_deref() != Some(self.tag.as_str())
        {
            live.finished = Some(Finished::WithPeer);
            self.console.change(now, kind, &name, "skipped", &format!("not synchronized: {why}"));
        }
        self.lives[index].finished.is_some()
    }

    /// In a single run: whether its mover failed, which ends it; the step that recorded it was its last.
    pub(super) fn failed_once(&mut self, index: usize) -> bool {
        let live = &mut self.lives[index];
        let Slot::Ended { ending, .. } = &live.mover else { return false };
        let status = match &ending.report {
            Some(report) if report.outcome == Outcome::Complete => return false,
            Some(report) => report.exit_status(),
            None => ExitStatus::Transient,
        };
        if self.mode == Mode::Once {
            live.finished = Some(Finished::Ended(status));
        }
        self.mode == Mode::Once
    }

    /// In a single run: marks a replication that is at rest again as finished.
    pub(super) fn finish_once(&mut self, index: usize, now: Timestamp) -> Result<(), Error> {
        if self.mode == Mode::Keep {
            return Ok(());
        }
        let live = &self.lives[index];
        let done = live.status.last_manual_sync.as_deref() == Some(self.tag.as_str());
        let rests = !observe(live, &self.hands.state, None).leftovers;
        if done && rests {
            let verified = live.status.restic.verification.as_ref();
            let status = match verified.is_some_and(|last| last.damage.is_some()) {
                true => ExitStatus::Incomplete,
                false => ExitStatus::Complete,
            };
            self.lives[index].finished = Some(Finished::Ended(status));
            self.record(index, now)?;
        }
        Ok(())
    }

    /// In a single run: something that could not be done is how it ended.
    pub(super) fn give_up(&mut self, index: usize, now: Timestamp, error: &Error) {
        if self.mode == Mode::Once {
            let live = &mut self.lives[index];
            live.stop();
            live.finished = Some(Finished::Ended(error.retry().exit_status()));
            let report =
                Report::failed(error.retry(), error.to_string(), error.hint().unwrap_or_default());
            self.show_result(index, &report, now);
        }
    }

    /// Whether all is done; where one end is and the other is not, sees to it that it will be.
    pub(super) fn all_finished(&mut self, now: Timestamp) -> bool {
        for index in 0..self.lives.len() {
            let Some(other) = self.other_end(index) else { continue };
            let (one, two) = (&self.lives[index], &self.lives[other]);
            match (one.finished, two.finished) {
                (
                    Some(Finished::Ended(ExitStatus::Complete)),
                    Some(Finished::Ended(ExitStatus::Complete)),
                ) => {
                    self.show_success(index, now);
                }
                (Some(how), None) => self.hurry(other, how, now),
                (None, _) | (Some(_), Some(_)) => {}
            }
        }
        self.lives.iter().all(|live| live.finished.is_some())
    }

    pub(super) fn other_end(&self, index: usize) -> Option<usize> {
        let live = &self.lives[index];
        let (direction, name) = match &live.resolved.end {
            End::Source { peer: Peer::Here(name), .. } => {
                (volsync_contract::Direction::Destination, name)
            }
            End::Destination { source: Some(name), .. } => {
                (volsync_contract::Direction::Source, name)
            }
            End::Source { peer: Peer::There { .. }, .. }
            | End::Destination { source: None, .. }
            | End::Repository(_) => return None,
        };
        self.lives.iter().position(|other| {
            other.resolved.direction() == direction && other.resolved.name == *name
        })
    }

    /// Prints the success of a pair, once.
    fn show_success(&mut self, index: usize, now: Timestamp) {
        if let Some(report) = self.lives[index].success.take() {
            self.show_result(index, &report, now);
        }
    }

    /// Ends what waits in vain for its other end, after it had time for its own words.
    fn hurry(&mut self, index: usize, how: Finished, now: Timestamp) {
        let patience = match how {
            Finished::Ended(ExitStatus::Complete | ExitStatus::Incomplete) => LAST_STROKES,
            Finished::Ended(ExitStatus::Transient | ExitStatus::Permanent) => LAST_WORDS,
            Finished::WithPeer | Finished::Paused => SignedDuration::ZERO,
        };
        let live: &mut Live = &mut self.lives[index];
        let until = match live.until {
            Some(until) => until,
            None => now.checked_add(patience).unwrap_or(now),
        };
        live.until = Some(until);
        if now < until && !matches!(live.mover, Slot::Empty) {
            live.look_again = Some(live.look_again.map_or(until, |at| at.min(until)));
            return;
        }
        live.stop();
        live.finished = Some(Finished::WithPeer);
    }

    /// The worst of all.
    pub(super) fn exit_status(&self) -> ExitStatus {
        let ended =
            |status| self.lives.iter().any(|live| live.finished == Some(Finished::Ended(status)));
        let alone = self.lives.iter().any(|live| live.finished == Some(Finished::WithPeer));
        let any_failed = [ExitStatus::Permanent, ExitStatus::Transient, ExitStatus::Incomplete];
        match any_failed.into_iter().find(|&status| ended(status)) {
            Some(status) => status,
            // It waited for an end that never came, though that did not fail either.
            None if alone
                && !self.lives.iter().any(|live| live.finished == Some(Finished::Paused)) =>
            {
                ExitStatus::Transient
            }
            None => ExitStatus::Complete,
        }
    }
}
