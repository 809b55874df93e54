//! `volsync status`: where each replication stands, from what was recorded.

use jiff::Timestamp;
use serde_json::{Value, json};
use volsync_contract::ExitStatus;
use volsync_replication::GoDuration;

use crate::args::{Output, Settings};
use crate::error::Error;
use crate::manifests::{self, ObjectName};
use crate::output::to_stdout;
use crate::state_directory::StateDirectory;
use crate::{status_store, words};

/// Shows every replication that was recorded, or those of the manifests alone.
pub(crate) fn status(
    settings: &Settings,
    paths: &[std::path::PathBuf],
) -> Result<ExitStatus, Error> {
    let state = StateDirectory::new(settings.state_directory.clone());
    let mut objects = status_store::all(&state)?;
    if !paths.is_empty() {
        // What is wrong with a manifest is for `check`; here only its name is wanted.
        let (manifests, _) = manifests::load(paths);
        objects.retain(|object| {
            let Some(name) = name(object) else { return false };
            match text(object, "/kind") {
                "ReplicationSource" => manifests.sources.contains_key(&name),
                _ => manifests.destinations.contains_key(&name),
            }
        });
    }
    match settings.output {
        Output::Json => {
            let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
            to_stdout(&serde_json::to_string_pretty(&list).unwrap_or_default());
        }
        Output::Table if objects.is_empty() => to_stdout("nothing was replicated yet"),
        Output::Table => {
            let now = Timestamp::now();
            let rows: Vec<_> = objects.iter().map(|object| row(object, now)).collect();
            table(&rows).iter().for_each(|line| to_stdout(line));
        }
    }
    Ok(ExitStatus::Complete)
}

fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn name(object: &Value) -> Option<ObjectName> {
    let part = |pointer| object.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
    Some(ObjectName { namespace: part("/metadata/namespace")?, name: part("/metadata/name")? })
}

const HEADER: [&str; 8] =
    ["KIND", "NAME", "METHOD", "STATE", "LAST SYNC", "DURATION", "NEXT SYNC", "LAST RESULT"];

fn row(object: &Value, now: Timestamp) -> [String; 8] {
    let kind = if text(object, "/kind") == "ReplicationSource" { "source" } else { "destination" };
    let method = object.get("spec").and_then(Value::as_object).and_then(|spec| {
        let methods = ["rsync", "rsyncTLS", "rclone", "restic", "syncthing", "external"];
        methods.into_iter().find(|method| spec.contains_key(*method))
    });
    let paused = object.pointer("/spec/paused") == Some(&Value::Bool(true));
    let time = |pointer| text(object, pointer).parse::<Timestamp>().ok();
    let last = time("/status/lastSyncTime")
        .map(|last| format!("{} ago", words::roughly(now.duration_since(last).as_secs())));
    let next = time("/status/nextSyncTime").map(|next| {
        let left = next.duration_since(now).as_secs();
        if left < 0 { "overdue".to_owned() } else { format!("in {}", words::roughly(left)) }
    });
    let or_dash = |text: Option<String>| {
        text.filter(|text| !text.is_empty()).unwrap_or_else(|| "-".to_owned())
    };
    let duration = Some(text(object, "/status/lastSyncDuration").to_owned());
    [
        kind.to_owned(),
        name(object).map(|name| name.to_string()).unwrap_or_default(),
        or_dash(method.map(str::to_owned)),
        if paused { "Paused".to_owned() } else { or_dash(Some(reason(object))) },
        or_dash(last),
        or_dash(duration.map(|duration| spoken(&duration))),
        or_dash(next),
        or_dash(Some(result(object))),
    ]
}

fn reason(object: &Value) -> String {
    let conditions = object.pointer("/status/conditions").and_then(Value::as_array);
    let synchronizing =
        conditions.into_iter().flatten().find(|one| text(one, "/type") == "Synchronizing");
    synchronizing.map(|condition| text(condition, "/reason").to_owned()).unwrap_or_default()
}

/// How the lines of a restic mover begin that say more than its first, the most telling one first.
const TELLING: [&str; 5] = [
    "the repository is DAMAGED",
    "snapshot ",
    "restoring snapshot ",
    "No eligible snapshots",
    "== Directory is empty",
];

fn result(object: &Value) -> String {
    let logs = text(object, "/status/latestMoverStatus/logs");
    match text(object, "/status/latestMoverStatus/result") {
        "Failed" => format!("failed: {}", logs.lines().next().unwrap_or_default()),
        _ => {
            let telling =
                TELLING.iter().find_map(|start| logs.lines().find(|line| line.starts_with(start)));
            telling.or_else(|| logs.lines().next()).unwrap_or_default().to_owned()
        }
    }
}

/// `1m50.209297869s` as people say it.
fn spoken(duration: &str) -> String {
    let parsed = duration.parse::<GoDuration>();
    parsed.map_or_else(|_| duration.to_owned(), |parsed| words::duration(parsed.0.as_secs_f64()))
}

fn table(rows: &[[String; 8]]) -> Vec<String> {
    let header = HEADER.map(str::to_owned);
    let all = || std::iter::once(&header).chain(rows);
    let width =
        |column: usize| all().map(|row| row[column].chars().count()).max().unwrap_or_default();
    let widths: Vec<_> = (0..HEADER.len()).map(width).collect();
    let line = |row: &[String; 8]| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    all().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_says_when_and_how_it_went() {
        let now: Timestamp = "2026-01-02T12:00:00Z".parse().unwrap();
        let object = json!({
            "kind": "ReplicationSource",
            "metadata": {"namespace": "default", "name": "photos"},
            "spec": {"rsync": {}, "trigger": {}},
            "status": {
                "lastSyncTime": "2026-01-02T11:48:00Z", "nextSyncTime": "2026-01-02T12:48:00Z",
                "lastSyncDuration": "41.209297869s",
                "latestMoverStatus": {"result": "Failed", "logs": "destination full\nmore"},
                "conditions": [{"type": "Synchronizing", "reason": "WaitingForSchedule"}],
            },
        });
        let expected = [
            "source",
            "default/photos",
            "rsync",
            "WaitingForSchedule",
            "12 min ago",
            "41 s",
            "in 48 min",
            "failed: destination full",
        ];
        assert_eq!(row(&object, now), expected.map(str::to_owned));
        let lines = table(&[row(&object, now)]);
        assert!(lines[0].starts_with("KIND    NAME            METHOD"), "{}", lines[0]);
    }

    #[test]
    fn what_is_not_known_is_a_dash() {
        let row = row(&json!({"kind": "ReplicationDestination"}), Timestamp::UNIX_EPOCH);
        assert_eq!(row[2..], ["-", "-", "-", "-", "-", "-"].map(str::to_owned));
    }
}
