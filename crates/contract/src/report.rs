//! `Report`: what a mover did, in at most 4 096 bytes of JSON.

use serde::{Deserialize, Serialize};

use crate::{ExitStatus, Retry, Verify};

/// Kubernetes cuts a termination message at this many bytes.
pub const MAX_REPORT_BYTES: usize = 4096;

/// What a mover did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Version of this form: 1.
    pub version: u32,
    /// How it ended.
    pub outcome: Outcome,
    /// One sentence that names the thing and says why; empty when complete.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// What helps, when that is known.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub hint: String,
    /// What was counted.
    #[serde(default)]
    pub counts: Counts,
    /// Content that could not be read or written.
    #[serde(default)]
    pub skipped: Skipped,
    /// Attributes that the mover was not permitted to keep, one entry an attribute.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub not_kept: Vec<NotKept>,
    /// What a restic mover says besides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restic: Option<ResticReport>,
}

/// What was done to a restic repository, as far as the mover came.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ResticReport {
    /// The ID of the repository, once it was opened.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repository: Option<String>,
    /// Whether the repository was made.
    pub initialized: bool,
    /// How many stale locks were removed because the user asked for it; `None`: not asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unlocked: Option<u32>,
    /// Whether no backup was made because the volume is empty.
    pub empty: bool,
    /// The ID of the snapshot that was saved or restored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<String>,
    /// The ID of the snapshot that a backup was compared with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// Bytes of files and trees that the repository did not have.
    pub added_bytes: u64,
    /// Of these, as stored: compressed and encrypted.
    pub stored_bytes: u64,
    /// How many snapshots were forgotten.
    pub forgotten: u32,
    /// Whether unused data was removed.
    pub pruned: bool,
    /// Who keeps the repository so that snapshots were not forgotten, or data not pruned; the next
    /// sync tries again.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub postponed: String,
    /// Why the repository was not verified though it was time; the next sync tries again.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub unverified: String,
    /// What a verification came to, or what the backup came across; `None`: neither.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verified: Option<VerifyReport>,
    /// How a restore ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restore: Option<RestoreOutcome>,
    /// Whether what the snapshot does not have was deleted.
    pub deleting: bool,
}

/// What a verification of a repository came to.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct VerifyReport {
    /// What was asked for; `None`: nothing was, and the backup came across damage.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub asked: Option<Verify>,
    /// Packs of data that were read.
    pub packs_read: u64,
    /// Bytes that were read of them.
    pub bytes_read: u64,
    /// How many things are damaged or missing.
    pub damaged: u64,
    /// The first of them; empty when there is none.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub first: String,
}

/// How a restore ended that did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RestoreOutcome {
    /// A snapshot was restored.
    Restored,
    /// There is a repository and no eligible snapshot in it.
    NothingEligible,
    /// There was no repository.
    RepositoryMissing,
}

impl RestoreOutcome {
    /// Every one.
    pub const ALL: [Self; 3] = [Self::Restored, Self::NothingEligible, Self::RepositoryMissing];

    /// As status and metrics spell it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Restored => "Restored",
            Self::NothingEligible => "NothingEligible",
            Self::RepositoryMissing => "RepositoryMissing",
        }
    }
}

/// How a mover ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Outcome {
    /// Everything moved.
    Complete,
    /// Done, but some content could not be read or written.
    Incomplete,
    /// It failed and may pass next time.
    FailedTransient,
    /// It failed and will not pass until someone changes something.
    FailedPermanent,
}

/// What was counted. Bytes are of content unless their name says otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Counts {
    /// Entries of all kinds compared.
    pub files_compared: u64,
    /// Files whose content was sent, whole or as a delta.
    pub files_sent: u64,
    /// Entries other than files made or replaced: directories, links, devices.
    pub others_made: u64,
    /// Entries whose attributes alone were changed.
    pub attributes_changed: u64,
    /// Entries deleted at the destination.
    pub deleted: u64,
    /// Bytes of content in all regular files of the source.
    pub total_bytes: u64,
    /// Bytes of content in the files that were sent.
    pub sent_file_bytes: u64,
    /// Of these, bytes that the destination already had.
    pub matched_bytes: u64,
    /// Bytes on the wire from source to destination, before encryption.
    pub wire_sent_bytes: u64,
    /// Bytes on the wire from destination to source, before encryption.
    pub wire_received_bytes: u64,
    /// How long it took, in milliseconds.
    pub elapsed_milliseconds: u64,
}

/// Content that could not be read or written.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Skipped {
    /// How many, in all.
    pub count: u64,
    /// The first of them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub first: Vec<SkippedItem>,
}

/// One thing that could not be read or written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SkippedItem {
    /// The path below the volume's root, odd bytes escaped.
    pub path: String,
    /// Why, such as `not read: permission denied`.
    pub why: String,
}

/// An attribute that could not be kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NotKept {
    /// `owner`, `mode`, `device`, or the name of an extended attribute.
    pub attribute: String,
    /// On how many entries.
    pub count: u64,
    /// One of them, odd bytes escaped.
    pub example: String,
}

impl Report {
    /// A report without counts or remarks.
    pub fn new(outcome: Outcome) -> Self {
        Self {
            version: 1,
            outcome,
            message: String::new(),
            hint: String::new(),
            counts: Counts::default(),
            skipped: Skipped::default(),
            not_kept: Vec::new(),
            restic: None,
        }
    }

    /// The report of a failure: one sentence, and what helps (or nothing).
    pub fn failed(retry: Retry, message: impl Into<String>, hint: impl Into<String>) -> Self {
        let outcome = match retry {
            Retry::Transient => Outcome::FailedTransient,
            Retry::Permanent => Outcome::FailedPermanent,
        };
        Self { message: message.into(), hint: hint.into(), ..Self::new(outcome) }
    }

    /// The exit status that goes with this report.
    pub const fn exit_status(&self) -> ExitStatus {
        match self.outcome {
            Outcome::Complete => ExitStatus::Complete,
            Outcome::Incomplete => ExitStatus::Incomplete,
            Outcome::FailedTransient => ExitStatus::Transient,
            Outcome::FailedPermanent => ExitStatus::Permanent,
        }
    }

    /// As JSON of at most [`MAX_REPORT_BYTES`]: examples are dropped from the end, then texts are
    /// cut, until it fits. Counts are never dropped.
    pub fn to_json(&self) -> String {
        let mut report = self.clone();
        loop {
            let json = serde_json::to_string(&report)
                .expect("a report of strings and numbers always serialises");
            if json.len() <= MAX_REPORT_BYTES {
                return json;
            }
            if report.skipped.first.pop().is_some() || report.not_kept.pop().is_some() {
                continue;
            }
            if !report.hint.is_empty() {
                report.hint.clear();
                continue;
            }
            if let Some(restic) = report.restic.as_mut().filter(|said| said.postponed.len() > 200) {
                restic.postponed.truncate(restic.postponed.floor_char_boundary(200));
                continue;
            }
            if let Some(restic) = report.restic.as_mut().filter(|said| said.unverified.len() > 200)
            {
                restic.unverified.truncate(restic.unverified.floor_char_boundary(200));
                continue;
            }
            let verified = report.restic.as_mut().and_then(|said| said.verified.as_mut());
            if let Some(verified) = verified.filter(|verified| verified.first.len() > 200) {
                verified.first.truncate(verified.first.floor_char_boundary(200));
                continue;
            }
            let half = report.message.len() / 2;
            let cut = (0..=half).rev().find(|&at| report.message.is_char_boundary(at)).unwrap_or(0);
            report.message.truncate(cut);
        }
    }

    /// Reads what [`Report::to_json`] wrote. Unknown fields of later versions are ignored.
    pub fn from_json(json: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(json)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_report_always_fits_and_comes_back(
            message in ".{0,6000}",
            paths in proptest::collection::vec(".{0,300}", 0..80),
            count in 0u64..,
            postponed in ".{0,6000}",
        ) {
            let mut report = Report::failed(Retry::Transient, message, "a hint");
            report.skipped.count = count;
            let snapshot = Some("ab".repeat(32));
            let verified = Some(VerifyReport { first: postponed.clone(), ..VerifyReport::default() });
            report.restic =
                Some(ResticReport { snapshot, postponed, verified, ..ResticReport::default() });
            report.skipped.first = paths
                .into_iter()
                .map(|path| SkippedItem { path, why: "not read: input/output error".into() })
                .collect();
            let json = report.to_json();
            prop_assert!(json.len() <= MAX_REPORT_BYTES);
            let back = Report::from_json(&json).unwrap();
            prop_assert_eq!(back.skipped.count, count);
            prop_assert_eq!(back.restic.as_ref().and_then(|said| said.snapshot.as_ref()).map(String::len), Some(64));
            prop_assert_eq!(back.exit_status(), ExitStatus::Transient);
        }
    }

    #[test]
    fn a_small_report_is_kept_whole() {
        let mut report = Report::new(Outcome::Incomplete);
        report.counts.files_sent = 3;
        report.not_kept.push(NotKept {
            attribute: "owner".into(),
            count: 2,
            example: "a/b".into(),
        });
        assert_eq!(Report::from_json(&report.to_json()).unwrap(), report);
    }
}
