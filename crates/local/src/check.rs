//! `volsync check`: what would happen and why, without touching data.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::{Value, json};
use volsync_contract::{Direction, ExitStatus};
use volsync_replication::{Method, Status, Trigger};
use volsync_volume::CopyMethod;

use crate::address::Peer;
use crate::args::{Output, Settings, Work};
use crate::dereference::{End, Resolved, dereference};
use crate::error::Error;
use crate::output::to_stdout;
use crate::secrets::KeySource;
use crate::state_directory::StateDirectory;
use crate::{status_store, words};

/// At most so many entries of a volume are counted.
const COUNTED: u64 = 1_000_000;

/// Validates the manifests and shows the plan.
pub(crate) fn check(settings: &Settings, work: &Work) -> Result<ExitStatus, Error> {
    let state = StateDirectory::new(settings.state_directory.clone());
    let everything = dereference(work, &state, &settings.zone)?;
    let now = Timestamp::now();
    let mut plans = Vec::new();
    for one in &everything.replications {
        plans.push(plan(one, &status_store::load(&state, one)?, now, &settings.zone));
    }
    match settings.output {
        Output::Json => {
            let items: Vec<_> = plans.iter().map(|(one, rows)| object(one, rows)).collect();
            to_stdout(&json!({"items": items, "notes": everything.notes}).to_string());
        }
        Output::Table => {
            for (one, rows) in &plans {
                to_stdout(&format!("{} {}", one.kind(), one.name));
                rows.iter().for_each(|(what, text)| to_stdout(&format!("  {what:<12} {text}")));
            }
            everything.notes.iter().for_each(|note| to_stdout(&format!("note: {note}")));
        }
    }
    Ok(ExitStatus::Complete)
}

type Rows = Vec<(&'static str, String)>;

fn object(one: &Resolved, rows: &Rows) -> Value {
    let plan: serde_json::Map<_, _> =
        rows.iter().map(|(what, text)| ((*what).to_owned(), Value::String(text.clone()))).collect();
    json!({"kind": one.kind(), "metadata": {"namespace": one.name.namespace, "name": one.name.name}, "plan": plan})
}

fn plan<'a>(
    one: &'a Resolved,
    status: &Status,
    now: Timestamp,
    zone: &TimeZone,
) -> (&'a Resolved, Rows) {
    let mut rows = vec![
        ("volume", volume(one)),
        ("image", image(one)),
        ("connection", connection(one)),
        ("next sync", next(one, status, now, zone)),
    ];
    if let Some(source) = one.keys() {
        rows.insert(3, ("keys", keys(source)));
    }
    let mirrors = match &one.replication.method {
        Method::Restic(restic) => restic.enable_file_deletion,
        _ => true,
    };
    if one.direction() == Direction::Destination && mirrors {
        rows.push((
            "deletes",
            "whatever the volume has and the source, or the snapshot, has not".to_owned(),
        ));
    }
    (one, rows)
}

fn volume(one: &Resolved) -> String {
    let directory = one.directory.display();
    if one.provisioned && !one.directory.exists() {
        return format!("{} will be made: {directory}", one.claim);
    }
    let size = size(&one.directory);
    let more = if size.all { "" } else { " or more" };
    let hidden = match size.unreadable {
        0 => String::new(),
        count => format!(", {} directories not readable", words::count(count)),
    };
    format!(
        "{} is {directory}: {} entries, {}{more}{hidden}",
        one.claim,
        words::count(size.entries),
        words::bytes(size.bytes)
    )
}

struct Size {
    entries: u64,
    bytes: u64,
    unreadable: u64,
    all: bool,
}

fn size(volume: &Path) -> Size {
    let mut size = Size { entries: 0, bytes: 0, unreadable: 0, all: true };
    let mut directories = vec![volume.to_owned()];
    while let Some(directory) = directories.pop() {
        let Ok(entries) = std::fs::read_dir(&directory) else {
            size.unreadable += 1;
            continue;
        };
        for entry in entries.flatten() {
            if size.entries == COUNTED {
                return Size { all: false, ..size };
            }
            size.entries += 1;
            let Ok(metadata) = entry.metadata() else { continue };
            if metadata.is_dir() {
                directories.push(entry.path());
            } else if metadata.is_file() {
                size.bytes += metadata.size();
            }
        }
    }
    size
}

fn image(one: &Resolved) -> String {
    match (one.copy_method, one.direction()) {
        (CopyMethod::Direct, Direction::Source) => "none: the volume itself is read".to_owned(),
        (CopyMethod::Direct, Direction::Destination) => {
            "none: the volume itself is the image".to_owned()
        }
        (CopyMethod::Clone | CopyMethod::Snapshot, Direction::Source) => {
            "a clone of every file, removed after the sync".to_owned()
        }
        (CopyMethod::Clone | CopyMethod::Snapshot, Direction::Destination) => {
            "a clone of every file after each sync; the last one is kept".to_owned()
        }
    }
}

fn connection(one: &Resolved) -> String {
    match &one.end {
        End::Source { peer: Peer::Here(name), .. } => {
            format!("to ReplicationDestination {name} of these manifests")
        }
        End::Source { peer: Peer::There { address, port }, .. } => {
            format!("to {address}, port {port}")
        }
        End::Repository(repository) => {
            format!("the restic repository that Secret {} describes", repository.secret)
        }
        End::Destination { listen, source, .. } => {
            let listens = match listen.port() {
                0 => format!("listens on a free port of {}", listen.ip()),
                port => format!("listens on every address, port {port}"),
            };
            match source {
                Some(source) => {
                    format!("{listens}, for ReplicationSource {source} of these manifests")
                }
                None => format!("{listens}, for a source elsewhere"),
            }
        }
    }
}

fn keys(keys: &KeySource) -> String {
    match keys {
        KeySource::Given(_) => "of the Secret in the manifests".to_owned(),
        KeySource::Generated { owner, .. } => {
            format!("generated once and kept; the other end needs Secret {}", owner.published())
        }
    }
}

fn next(one: &Resolved, status: &Status, now: Timestamp, zone: &TimeZone) -> String {
    if one.replication.paused {
        return "none: paused".to_owned();
    }
    if status.last_sync_time.is_none() {
        return "at once: there was none yet".to_owned();
    }
    match &one.replication.trigger {
        Trigger::Schedule(schedule) => match schedule.next_after(now) {
            Some(next) => format!("{:.0}", next.to_zoned(zone.clone())),
            None => "never: the schedule has no next time".to_owned(),
        },
        Trigger::Manual(tag) if status.last_manual_sync.as_deref() == Some(tag) => {
            format!("when spec.trigger.manual is no longer {tag:?}")
        }
        Trigger::Manual(tag) => format!("at once, for manual tag {tag:?}"),
        Trigger::Continuous => "at once, and again after each".to_owned(),
    }
}
