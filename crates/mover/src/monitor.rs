//! `Monitor`: what a sync counted, could not read or write, and was not permitted to keep.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use volsync_contract::{Counts, NotKept, Outcome, Phase, Progress, Report, Skipped, SkippedItem};

use crate::apply::Attribute;
use crate::path::RelPath;

/// Paths named in a report; more are counted.
const EXAMPLES: usize = 20;
/// Attributes named in a report.
const ATTRIBUTES: usize = 32;

/// Counts what a sync does. Shared by all threads of a mover.
#[derive(Debug)]
pub struct Monitor {
    started: Instant,
    phase: AtomicU8,
    total_known: AtomicBool,
    found_files: AtomicU64,
    found_bytes: AtomicU64,
    compared: AtomicU64,
    done_bytes: AtomicU64,
    files_sent: AtomicU64,
    sent_file_bytes: AtomicU64,
    matched_bytes: AtomicU64,
    others_made: AtomicU64,
    attributes_changed: AtomicU64,
    deleted: AtomicU64,
    wire_sent: AtomicU64,
    wire_received: AtomicU64,
    strict: bool,
    skipped: Mutex<Skipped>,
    not_kept: Mutex<BTreeMap<Attribute, NotKept>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Monitor {
    /// Nothing so far. With `strict_attributes`, a sync that could not keep an attribute is
    /// incomplete.
    pub fn new(strict_attributes: bool) -> Self {
        Self {
            started: Instant::now(),
            phase: AtomicU8::new(0),
            total_known: AtomicBool::new(false),
            found_files: AtomicU64::new(0),
            found_bytes: AtomicU64::new(0),
            compared: AtomicU64::new(0),
            done_bytes: AtomicU64::new(0),
            files_sent: AtomicU64::new(0),
            sent_file_bytes: AtomicU64::new(0),
            matched_bytes: AtomicU64::new(0),
            others_made: AtomicU64::new(0),
            attributes_changed: AtomicU64::new(0),
            deleted: AtomicU64::new(0),
            wire_sent: AtomicU64::new(0),
            wire_received: AtomicU64::new(0),
            strict: strict_attributes,
            skipped: Mutex::default(),
            not_kept: Mutex::default(),
        }
    }

    /// Forgets a sync that came to nothing, before another one begins.
    pub fn begin_again(&self) {
        for counter in [
            &self.found_files,
            &self.found_bytes,
            &self.compared,
            &self.done_bytes,
            &self.files_sent,
            &self.sent_file_bytes,
            &self.matched_bytes,
            &self.others_made,
            &self.attributes_changed,
            &self.deleted,
            &self.wire_sent,
            &self.wire_received,
        ] {
            counter.store(0, Relaxed);
        }
        self.total_known.store(false, Relaxed);
        *lock(&self.skipped) = Skipped::default();
        lock(&self.not_kept).clear();
    }

    /// Content that could not be read or written: the sync is incomplete.
    pub fn skipped(&self, path: &RelPath, why: &str) {
        let mut skipped = lock(&self.skipped);
        skipped.count += 1;
        if skipped.first.len() < EXAMPLES {
            tracing::warn!(%path, "{why}");
            skipped.first.push(SkippedItem { path: path.to_string(), why: why.to_owned() });
        }
    }

    /// An attribute that may not be set.
    pub fn not_kept(&self, path: &RelPath, attribute: Attribute) {
        let mut not_kept = lock(&self.not_kept);
        if let Some(known) = not_kept.get_mut(&attribute) {
            known.count += 1;
        } else if not_kept.len() < ATTRIBUTES {
            tracing::info!(%path, %attribute, "not permitted to keep an attribute; further ones are only counted");
            let first =
                NotKept { attribute: attribute.to_string(), count: 1, example: path.to_string() };
            not_kept.insert(attribute, first);
        }
    }

    /// Entries found at the source.
    pub fn found(&self, files: u64, bytes: u64) {
        self.found_files.fetch_add(files, Relaxed);
        self.found_bytes.fetch_add(bytes, Relaxed);
    }

    /// The source has been walked to its end.
    pub fn total_known(&self, bytes: u64) {
        self.found_bytes.store(bytes, Relaxed);
        self.total_known.store(true, Relaxed);
    }

    /// Entries compared.
    pub fn compared(&self, files: u64) {
        self.compared.fetch_add(files, Relaxed);
    }

    /// How far the peer says it has come.
    pub fn peer_progress(&self, compared: u64, done_bytes: u64) {
        self.compared.store(compared, Relaxed);
        self.done_bytes.store(done_bytes, Relaxed);
    }

    /// Bytes that need no more work.
    pub fn done_bytes(&self, bytes: u64) {
        self.done_bytes.fetch_add(bytes, Relaxed);
    }

    /// A file whose content was sent, whole or as a delta.
    pub fn sent_file(&self, bytes: u64) {
        self.files_sent.fetch_add(1, Relaxed);
        self.sent_file_bytes.fetch_add(bytes, Relaxed);
    }

    /// Bytes of sent files that the destination had.
    pub fn matched(&self, bytes: u64) {
        self.matched_bytes.fetch_add(bytes, Relaxed);
    }

    /// A directory, link or device made or replaced.
    pub fn other_made(&self) {
        self.others_made.fetch_add(1, Relaxed);
    }

    /// An entry of which attributes alone were changed.
    pub fn attributes_changed(&self) {
        self.attributes_changed.fetch_add(1, Relaxed);
    }

    /// Entries deleted.
    pub fn deleted(&self, entries: u64) {
        self.deleted.fetch_add(entries, Relaxed);
    }

    /// Bytes on the wire so far: from source to destination, and back.
    pub fn wire(&self, to_destination: u64, to_source: u64) {
        self.wire_sent.store(to_destination, Relaxed);
        self.wire_received.store(to_source, Relaxed);
    }

    /// What the mover does now.
    pub fn phase(&self, phase: Phase) {
        let number = match phase {
            Phase::Connecting => 0,
            Phase::Transferring => 1,
            Phase::Deleting => 2,
            Phase::Finishing => 3,
        };
        self.phase.store(number, Relaxed);
    }

    /// Whether everything moved.
    pub fn is_complete(&self) -> bool {
        lock(&self.skipped).count == 0 && (!self.strict || lock(&self.not_kept).is_empty())
    }

    /// How far it has come.
    pub fn progress(&self) -> Progress {
        Progress {
            phase: match self.phase.load(Relaxed) {
                0 => Phase::Connecting,
                1 => Phase::Transferring,
                2 => Phase::Deleting,
                _ => Phase::Finishing,
            },
            files_compared: self.compared.load(Relaxed),
            files_total: self.found_files.load(Relaxed),
            bytes_done: self.done_bytes.load(Relaxed),
            bytes_total: self.found_bytes.load(Relaxed),
            wire_bytes: self.wire_sent.load(Relaxed) + self.wire_received.load(Relaxed),
            total_known: self.total_known.load(Relaxed),
        }
    }

    /// Everything, as a report.
    pub fn report(&self, outcome: Outcome) -> Report {
        let mut report = Report::new(outcome);
        report.counts = Counts {
            files_compared: self.compared.load(Relaxed),
            files_sent: self.files_sent.load(Relaxed),
            others_made: self.others_made.load(Relaxed),
            attributes_changed: self.attributes_changed.load(Relaxed),
            deleted: self.deleted.load(Relaxed),
            total_bytes: self.found_bytes.load(Relaxed),
            sent_file_bytes: self.sent_file_bytes.load(Relaxed),
            matched_bytes: self.matched_bytes.load(Relaxed),
            wire_sent_bytes: self.wire_sent.load(Relaxed),
            wire_received_bytes: self.wire_received.load(Relaxed),
            elapsed_milliseconds: u64::try_from(self.started.elapsed().as_millis())
                .unwrap_or(u64::MAX),
        };
        report.skipped = lock(&self.skipped).clone();
        report.not_kept = lock(&self.not_kept).values().cloned().collect();
        if outcome == Outcome::Incomplete {
            report.message = if report.skipped.count > 0 {
                format!("{} not complete", report.skipped.count)
            } else {
                "attributes were not kept".to_owned()
            };
            report.hint = "the rest is complete; the next sync tries these again".to_owned();
        }
        report
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_skipped_files_are_counted_and_the_first_are_named() {
        let monitor = Monitor::new(false);
        for n in 0..1000 {
            monitor.skipped(
                &RelPath::root().join(format!("f{n}").as_bytes()),
                "not read: permission denied",
            );
        }
        let report = monitor.report(Outcome::Incomplete);
        assert_eq!((report.skipped.count, report.skipped.first.len()), (1000, EXAMPLES));
        assert!(!monitor.is_complete());
    }

    #[test]
    fn attributes_not_kept_matter_only_when_strict() {
        for strict in [false, true] {
            let monitor = Monitor::new(strict);
            monitor.not_kept(&RelPath::root().join(b"a"), Attribute::Owner);
            monitor.not_kept(&RelPath::root().join(b"b"), Attribute::Owner);
            assert_eq!(monitor.is_complete(), !strict);
            let report = monitor.report(Outcome::Complete);
            assert_eq!((report.not_kept[0].count, &report.not_kept[0].example[..]), (2, "a"));
        }
    }
}
