//! What a person or a script is told: state changes, results, errors.

use std::io::Write;

use jiff::Timestamp;
use serde_json::{Value, json};
use volsync_contract::{Counts, Outcome, Progress, Report, ResticReport, RestoreOutcome};

use crate::args::{Output, Settings};
use crate::error::Error;
use crate::progress::Screen;
use crate::words;

/// Says things, as the user wants to hear them.
#[derive(Debug)]
pub(crate) struct Console {
    json: bool,
    colour: bool,
    /// Whether lines say when: they do in the log of a long run.
    dated: bool,
    screen: Screen,
}

/// The two ends of a result, as people name them.
#[derive(Debug, Clone)]
pub(crate) struct Ends {
    pub(crate) kind: &'static str,
    pub(crate) name: String,
    /// The other end, if it has a name here.
    pub(crate) peer: Option<String>,
}

impl Console {
    pub(crate) fn new(settings: &Settings, dated: bool) -> Self {
        Self {
            json: settings.output == Output::Json,
            colour: settings.colour,
            dated: dated && !settings.terminal,
            screen: Screen::new(settings.terminal),
        }
    }

    /// A replication changed its state.
    pub(crate) fn change(&self, now: Timestamp, kind: &str, name: &str, event: &str, text: &str) {
        if self.json {
            to_stdout(&json!({"time": now.to_string(), "event": event, "kind": kind, "name": name, "message": text}).to_string());
        } else {
            self.screen.line(&format!("{}{kind:<22} {name}   {text}", self.date(now)));
        }
    }

    /// Something worth knowing that is not about one replication.
    pub(crate) fn note(&self, now: Timestamp, text: &str) {
        if self.json {
            to_stdout(
                &json!({"time": now.to_string(), "event": "note", "message": text}).to_string(),
            );
        } else {
            self.screen.line(&format!("{}note: {text}", self.date(now)));
        }
    }

    /// How far a replication has come; shown on a terminal only.
    pub(crate) fn progress(&mut self, kind: &str, name: &str, progress: &Progress) {
        self.screen.show(&format!("{kind:<22} {name}"), progress);
    }

    /// A sync came to an end.
    pub(crate) fn result(&mut self, now: Timestamp, ends: &Ends, report: &Report) {
        self.screen.hide(&format!("{:<22} {}", ends.kind, ends.name));
        if self.json {
            let mut line = json!({"time": now.to_string(), "event": "result", "kind": ends.kind, "name": ends.name, "peer": ends.peer});
            if let (Some(line), Ok(Value::Object(report))) =
                (line.as_object_mut(), serde_json::to_value(report))
            {
                line.extend(report);
            }
            to_stdout(&line.to_string());
        } else {
            let text = format!("{}{}", self.date(now), result(ends, report, self.colour));
            self.screen.suspend(|| to_stdout(&text));
        }
    }

    fn date(&self, now: Timestamp) -> String {
        if self.dated { format!("{now:.0}  ") } else { String::new() }
    }
}

const REST: &str = "the rest is complete; the next sync tries these again";

/// The result of one sync in words.
fn result(ends: &Ends, report: &Report, colour: bool) -> String {
    let who = match &ends.peer {
        Some(peer) => format!("{} → {peer}", ends.name),
        None => ends.name.clone(),
    };
    let paint = |code: &str, text: &str| {
        if colour { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    };
    match report.outcome {
        Outcome::Complete => format!("{} {who}   {}", paint("32", "✔"), counted(report)),
        Outcome::Incomplete => {
            let mut text = format!("{} {who}   {}", paint("33", "!"), counted(report));
            for item in &report.skipped.first {
                text.push_str(&format!("\n  {:<20} {}", item.path, item.why));
            }
            let more = report.skipped.count.saturating_sub(report.skipped.first.len() as u64);
            if more > 0 {
                text.push_str(&format!("\n  and {} more", words::count(more)));
            }
            if !report.message.is_empty() && report.skipped.first.is_empty() {
                text.push_str(&format!("\n  {}", report.message));
            }
            // What the last line says need not be said twice.
            if !report.hint.is_empty() && !report.hint.starts_with(REST) {
                text.push_str(&format!("\nhint: {}", report.hint));
            }
            text + &format!("\n  {REST} (exit status 3)")
        }
        Outcome::FailedTransient | Outcome::FailedPermanent => {
            let message =
                report.message.strip_prefix(&format!("{}: ", ends.name)).unwrap_or(&report.message);
            let mut text = format!("{} {}: {message}", paint("31", "error:"), ends.name);
            for item in &report.skipped.first {
                text.push_str(&format!("\n  {:<20} {}", item.path, item.why));
            }
            if !report.hint.is_empty() {
                text.push_str(&format!("\nhint: {}", report.hint));
            }
            text
        }
    }
}

fn counted(report: &Report) -> String {
    let counts = &report.counts;
    let mut text = match &report.restic {
        Some(said) => restic(said, counts),
        None => rsync(counts),
    };
    if counts.deleted > 0 {
        text.push_str(&format!(", {} deleted", words::count(counts.deleted)));
    }
    if report.skipped.count > 0 {
        text.push_str(&format!(", {} not complete", words::count(report.skipped.count)));
    }
    text.push_str(&format!(
        ", in {}",
        words::duration(counts.elapsed_milliseconds as f64 / 1000.0)
    ));
    let mut before = "; ";
    for not_kept in &report.not_kept {
        text.push_str(&format!(
            "{before}{} not kept on {}",
            not_kept.attribute,
            words::count(not_kept.count)
        ));
        before = ", ";
    }
    if !report.not_kept.is_empty() {
        text.push_str(&format!(" (mover runs as uid {})", rustix::process::getuid().as_raw()));
    }
    text
}

fn rsync(counts: &Counts) -> String {
    let mut text = compared(counts, "sent");
    if counts.files_sent > 0 {
        let wire = counts.wire_sent_bytes + counts.wire_received_bytes;
        text.push_str(&format!(
            " ({} read, {} on the wire)",
            words::bytes(counts.sent_file_bytes),
            words::bytes(wire)
        ));
    }
    text
}

fn restic(said: &ResticReport, counts: &Counts) -> String {
    let snapshot = said.snapshot.as_deref().unwrap_or_default();
    let snapshot = snapshot.get(..8).unwrap_or(snapshot);
    match said.restore {
        None if said.empty => "the volume is empty, nothing was backed up".to_owned(),
        None => {
            let mut text = format!(
                "snapshot {snapshot}: {} ({} read, {} stored)",
                compared(counts, "saved"),
                words::bytes(counts.sent_file_bytes),
                words::bytes(said.stored_bytes)
            );
            if said.forgotten > 0 {
                text.push_str(&format!(", {} forgotten", words::count(said.forgotten.into())));
            }
            match &said.verified {
                Some(verified) if verified.damaged > 0 => {
                    text.push_str(", the repository is DAMAGED, nothing is forgotten");
                }
                Some(verified) if verified.packs_read == 0 => {
                    text.push_str(", repository verified (structure only)");
                }
                Some(verified) => text.push_str(&format!(
                    ", repository verified ({} read back)",
                    words::bytes(verified.bytes_read)
                )),
                None => {}
            }
            if !said.unverified.is_empty() {
                text.push_str(&format!(
                    ", not verified, nothing is forgotten: {}",
                    said.unverified
                ));
            }
            if !said.postponed.is_empty() {
                text.push_str(&format!(
                    ", old ones are forgotten next time: the repository is locked {}",
                    said.postponed
                ));
            }
            text
        }
        Some(RestoreOutcome::Restored) => format!(
            "snapshot {snapshot}: {} ({})",
            compared(counts, "restored"),
            words::bytes(counts.sent_file_bytes)
        ),
        Some(RestoreOutcome::NothingEligible) => {
            "no snapshot is eligible, nothing was restored".to_owned()
        }
        Some(RestoreOutcome::RepositoryMissing) => {
            "there was no repository: it was made, nothing was restored".to_owned()
        }
    }
}

fn compared(counts: &Counts, moved: &str) -> String {
    let files = words::count(counts.files_sent);
    format!("{} compared, {files} {moved}", words::count(counts.files_compared))
}

/// Prints what stopped a command.
pub(crate) fn print_error(settings: &Settings, error: &Error) {
    if settings.output == Output::Json {
        let problems = match error {
            Error::Manifests(problems) => problems.to_json(),
            _ => Value::Array(Vec::new()),
        };
        let line = json!({"event": "error", "message": error.to_string(), "problems": problems, "hint": error.hint()});
        to_stdout(&line.to_string());
        return;
    }
    let label = if settings.colour { "\u{1b}[31merror:\u{1b}[0m" } else { "error:" };
    to_stderr(&format!("{label} {error}"));
    if let Some(hint) = error.hint() {
        to_stderr(&format!("hint: {hint}"));
    }
}

/// Prints a line; that nobody reads it any more is no reason to stop replicating.
pub(crate) fn to_stdout(text: &str) {
    let mut out = std::io::stdout().lock();
    if writeln!(out, "{text}").and_then(|()| out.flush()).is_err() {
        tracing::trace!("standard output is closed");
    }
}

/// Prints a line beside the results.
pub(crate) fn to_stderr(text: &str) {
    if writeln!(std::io::stderr().lock(), "{text}").is_err() {
        tracing::trace!("standard error is closed");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use volsync_contract::{NotKept, Retry, SkippedItem};

    fn ends() -> Ends {
        Ends {
            kind: "ReplicationSource",
            name: "default/photos".into(),
            peer: Some("default/mirror".into()),
        }
    }

    fn report(outcome: Outcome) -> Report {
        let mut report = Report::new(outcome);
        report.counts.files_compared = 83_731;
        report.counts.files_sent = 12_418;
        report.counts.sent_file_bytes = 1 << 30;
        report.counts.wire_sent_bytes = 410 << 20;
        report.counts.elapsed_milliseconds = 6_200;
        report
    }

    #[test]
    fn a_success_is_one_line() {
        let mut report = report(Outcome::Complete);
        report.counts.deleted = 17;
        assert_eq!(
            result(&ends(), &report, false),
            "✔ default/photos → default/mirror   83 731 compared, 12 418 sent (1.0 GiB read, 410 MiB on the wire), 17 deleted, in 6.2 s"
        );
        report.not_kept =
            vec![NotKept { attribute: "owner".into(), count: 12_418, example: "a".into() }];
        assert!(
            result(&ends(), &report, false)
                .contains("in 6.2 s; owner not kept on 12 418 (mover runs as uid ")
        );
    }

    #[test]
    fn what_is_missing_is_named() {
        let mut report = report(Outcome::Incomplete);
        report.skipped.count = 3;
        report.skipped.first = vec![SkippedItem {
            path: "mail/cur/17".into(),
            why: "not read: input/output error".into(),
        }];
        let text = result(&ends(), &report, false);
        assert!(text.contains(", 3 not complete, in 6.2 s\n  mail/cur/17          not read: input/output error\n  and 2 more\n"), "{text}");
        assert!(text.ends_with("the next sync tries these again (exit status 3)"), "{text}");
    }

    #[test]
    fn a_failure_is_a_sentence_and_a_hint() {
        let report =
            Report::failed(Retry::Transient, "default/photos: cannot connect", "is it there?");
        assert_eq!(
            result(&ends(), &report, false),
            "error: default/photos: cannot connect\nhint: is it there?"
        );
    }
}
