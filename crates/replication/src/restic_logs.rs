//! What is said of a success of restic, in the lines that users' scripts look for in its logs.

use volsync_contract::{Counts, ResticReport, RestoreOutcome, VerifyReport};

/// One line for each thing that was done, in its order.
pub(crate) fn lines(said: &ResticReport, counts: &Counts) -> String {
    let mut lines = Vec::new();
    if let Some(locks) = said.unlocked {
        lines.push(format!("successfully removed {locks} locks"));
    }
    match &said.repository {
        Some(id) if said.initialized => {
            lines.push("=== Initialize Dir ===".to_owned());
            lines.push(format!("created restic repository {}", short(id)));
        }
        Some(id) => lines.push(format!("repository {} opened", short(id))),
        None => {}
    }
    match said.restore {
        None => back_up(said, counts, &mut lines),
        Some(outcome) => restore(outcome, said, counts, &mut lines),
    }
    lines.push(format!("Restic completed in {}s", counts.elapsed_milliseconds.div_ceil(1000)));
    lines.join("\n")
}

/// The same in one line.
pub(crate) fn summary(said: &ResticReport, counts: &Counts) -> String {
    let id = said.snapshot.as_deref().map(short).unwrap_or_default();
    let Counts { files_compared, total_bytes, deleted, .. } = counts;
    match said.restore {
        None if said.empty => "the volume is empty, no backup was made".to_owned(),
        None => format!(
            "snapshot {id} saved: {files_compared} files, {total_bytes} bytes, {} bytes added to the repository",
            said.stored_bytes
        ),
        Some(RestoreOutcome::Restored) => format!(
            "snapshot {id} restored: {files_compared} entries, {total_bytes} bytes, {deleted} deleted"
        ),
        Some(RestoreOutcome::NothingEligible | RestoreOutcome::RepositoryMissing) => {
            "no data was restored".to_owned()
        }
    }
}

/// What a verification found damaged.
pub(crate) fn damage(verified: &VerifyReport) -> String {
    match verified.damaged {
        0 | 1 => verified.first.clone(),
        damaged => format!("{}; and {} more", verified.first, damaged - 1),
    }
}

fn back_up(said: &ResticReport, counts: &Counts, lines: &mut Vec<String>) {
    if said.empty {
        lines.push("== Directory is empty skipping backup ===".to_owned());
    }
    if let Some(snapshot) = &said.snapshot {
        lines.push(match &said.parent {
            Some(parent) => format!("using parent snapshot {}", short(parent)),
            None => "no parent snapshot found, will read all files".to_owned(),
        });
        lines.push(format!(
            "Added to the repository: {} bytes ({} bytes stored)",
            said.added_bytes, said.stored_bytes
        ));
        lines.push(format!(
            "processed {} files, {} bytes",
            counts.files_compared, counts.total_bytes
        ));
        lines.push(format!("snapshot {} saved", short(snapshot)));
    }
    if said.forgotten > 0 {
        lines.push(format!("successfully removed {} snapshots", said.forgotten));
    }
    if !said.unverified.is_empty() {
        lines.push(format!("not verified, the next sync tries again: {}", said.unverified));
    }
    if let Some(verified) = &said.verified {
        lines.push(format!(
            "verified: every snapshot's data is there, {} bytes read back",
            verified.bytes_read
        ));
        if verified.damaged > 0 {
            lines.pop();
            lines.push(format!("the repository is DAMAGED: {}", damage(verified)));
            lines.push("nothing is forgotten or pruned until it is whole".to_owned());
        }
    }
    if said.pruned {
        lines.push("successfully pruned the repository".to_owned());
    }
    if !said.postponed.is_empty() {
        lines
            .push(format!("put off to the next sync: the repository is locked {}", said.postponed));
    }
}

fn restore(outcome: RestoreOutcome, said: &ResticReport, counts: &Counts, lines: &mut Vec<String>) {
    match outcome {
        RestoreOutcome::Restored => {
            if said.deleting {
                lines.push("RESTORE_OPTIONS: --delete".to_owned());
            }
            let id = said.snapshot.as_deref().unwrap_or_default();
            lines.push(format!(
                "restoring snapshot {}: {} entries, {} bytes",
                short(id),
                counts.files_compared,
                counts.total_bytes
            ));
        }
        RestoreOutcome::NothingEligible | RestoreOutcome::RepositoryMissing => {
            lines.push("No eligible snapshots found".to_owned());
            lines.push("=== No data will be restored ===".to_owned());
        }
    }
}

/// As much of an ID as restic prints.
fn short(id: &str) -> &str {
    id.get(..8).unwrap_or(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backup_is_told_in_the_lines_of_restic() {
        let said = ResticReport {
            repository: Some("0123456789abcdef".into()),
            snapshot: Some("fedcba9876543210".into()),
            added_bytes: 100,
            stored_bytes: 50,
            forgotten: 2,
            ..ResticReport::default()
        };
        let counts = Counts {
            files_compared: 3,
            total_bytes: 120,
            elapsed_milliseconds: 1200,
            ..Counts::default()
        };
        assert_eq!(
            lines(&said, &counts),
            "repository 01234567 opened\n\
             no parent snapshot found, will read all files\n\
             Added to the repository: 100 bytes (50 bytes stored)\n\
             processed 3 files, 120 bytes\n\
             snapshot fedcba98 saved\n\
             successfully removed 2 snapshots\n\
             Restic completed in 2s"
        );
    }

    #[test]
    fn a_restore_that_found_nothing_says_so() {
        for outcome in [RestoreOutcome::NothingEligible, RestoreOutcome::RepositoryMissing] {
            let said = ResticReport { restore: Some(outcome), ..ResticReport::default() };
            assert_eq!(
                lines(&said, &Counts::default()),
                "No eligible snapshots found\n\
                 === No data will be restored ===\n\
                 Restic completed in 0s"
            );
        }
    }

    #[test]
    fn an_empty_volume_is_said_to_be_empty() {
        let said = ResticReport { empty: true, ..ResticReport::default() };
        let expected = "== Directory is empty skipping backup ===\nRestic completed in 0s";
        assert_eq!(lines(&said, &Counts::default()), expected);
    }
}
