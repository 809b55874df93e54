//! What movers tell is taken in, and what happened is told to the user.

use jiff::Timestamp;
use volsync_contract::{Direction, Event, Outcome, Report, Retry};
use volsync_replication::{EventKind, Happening};

use super::{Mode, Runner};
use crate::address::Peer;
use crate::dereference::End;
use crate::live::{Live, Slot};
use crate::output::Ends;
use crate::supervise::{Ending, Told, What};

impl Runner {
    /// Takes in what a mover told; whether that is a reason for another round.
    pub(super) fn take(&mut self, told: Told, now: Timestamp) -> bool {
        let ours = |live: &Live| matches!(&live.mover, Slot::Running { mover, .. } if mover.id == told.mover);
        let Some(index) = self.lives.iter().position(ours) else { return false };
        match told.what {
            What::Event(Event::Listening { address }) => {
                let live = &mut self.lives[index];
                live.listening = Some(address);
                let (kind, name) = (live.resolved.kind(), live.resolved.name.to_string());
                self.console.change(
                    now,
                    kind,
                    &name,
                    "listening",
                    &format!("listening on {address}"),
                );
                true
            }
            What::Event(Event::Progress(progress)) => {
                let resolved = &self.lives[index].resolved;
                let fed = matches!(resolved.end, End::Destination { source: Some(_), .. });
                if !fed {
                    self.console.progress(resolved.kind(), &resolved.name.to_string(), &progress);
                }
                false
            }
            What::Ended(ending) => {
                self.ended(index, ending, now);
                true
            }
        }
    }

    fn ended(&mut self, index: usize, ending: Ending, now: Timestamp) {
        let live = &mut self.lives[index];
        live.listening = None;
        let Slot::Running { run, stopping, .. } = std::mem::replace(&mut live.mover, Slot::Empty)
        else {
            return;
        };
        let complete =
            ending.report.as_ref().is_some_and(|report| report.outcome == Outcome::Complete);
        if stopping && !complete {
            // It did what it was asked to; that is no failure.
            return;
        }
        if !complete {
            live.attempts += 1;
        }
        let report = ending.report.as_deref().cloned().unwrap_or_else(|| {
            let hint = format!(
                "its log is {}",
                live.mover_directory(&self.hands.state).join("log").display()
            );
            Report::failed(Retry::Transient, ending.message.clone(), hint)
        });
        live.mover = Slot::Ended { run, ending, ended: now };
        let shown = match (&live.resolved.end, report.outcome) {
            // In a single run, success is the word of both ends.
            (End::Source { peer: Peer::Here(_), .. }, Outcome::Complete) => self.mode == Mode::Keep,
            (
                End::Source { .. } | End::Destination { source: None, .. } | End::Repository(_),
                _,
            ) => true,
            (End::Destination { .. }, Outcome::Complete) => false,
            (End::Destination { .. }, Outcome::Incomplete) => report.skipped.count > 0,
            (End::Destination { .. }, Outcome::FailedTransient | Outcome::FailedPermanent) => true,
        };
        // Both ends know why a sync failed; one of them saying so is enough.
        let told =
            self.other_end(index).is_some_and(|other| self.failed_with(other, &report.message));
        if told && report.outcome != Outcome::Complete {
            tracing::debug!(index, "the other end said the same");
        } else if shown {
            self.show_result(index, &report, now);
        } else if matches!(self.lives[index].resolved.end, End::Source { .. }) {
            self.lives[index].success = Some(report);
        }
    }

    /// Whether the mover of a replication ended just so.
    fn failed_with(&self, index: usize, message: &str) -> bool {
        match &self.lives[index].mover {
            Slot::Ended { ending, .. } => ending.report.as_ref().is_some_and(|report| {
                report.outcome != Outcome::Complete
                    && report.skipped.count == 0
                    && report.message == message
            }),
            Slot::Empty | Slot::Running { .. } => false,
        }
    }

    pub(super) fn show_result(&mut self, index: usize, report: &Report, now: Timestamp) {
        let resolved = &self.lives[index].resolved;
        let peer = match &resolved.end {
            End::Source { peer: Peer::Here(peer), .. } => Some(peer.to_string()),
            End::Source { peer: Peer::There { address, port }, .. } if address.contains(':') => {
                Some(format!("[{address}]:{port}"))
            }
            End::Source { peer: Peer::There { address, port }, .. } => {
                Some(format!("{address}:{port}"))
            }
            End::Destination { .. } | End::Repository(_) => None,
        };
        let ends = Ends { kind: resolved.kind(), name: resolved.name.to_string(), peer };
        self.console.result(now, &ends, report);
    }

    /// Tells what a step says happened, unless a result has told it already.
    pub(super) fn tell(&self, index: usize, now: Timestamp, happenings: &[Happening]) {
        let resolved = &self.lives[index].resolved;
        for happening in happenings {
            let told = match happening {
                Happening::SyncCompleted { .. } | Happening::NothingRestored { .. } => false,
                // A destination says that it listens, which is more.
                Happening::SyncStarted { .. } => {
                    self.mode == Mode::Keep && resolved.direction() == Direction::Source
                }
                Happening::SyncIncomplete { .. } | Happening::MoverFailed { .. } => {
                    self.mode == Mode::Keep
                }
                Happening::IntervalMissed { .. }
                | Happening::RepositoryDamaged { .. }
                | Happening::Blocked { .. } => true,
            };
            if told {
                let event = match happening.kind() {
                    EventKind::Normal => happening.to_string(),
                    EventKind::Warning => format!("warning: {happening}"),
                };
                let name = resolved.name.to_string();
                self.console.change(now, resolved.kind(), &name, happening.reason(), &event);
            }
        }
    }
}
