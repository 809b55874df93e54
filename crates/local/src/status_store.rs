//! Status files in the shape of the API, written atomically: what `kubectl get -o yaml` would show.

use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use volsync_api::v1alpha1::{ReplicationDestinationStatus, ReplicationSourceStatus, RsyncStatus};
use volsync_contract::Direction;
use volsync_replication::Status;

use crate::dereference::{End, Resolved};
use crate::error::Error;
use crate::live::Live;
use crate::manifests::ObjectName;
use crate::secrets::KeySource;
use crate::state_directory::{self, StateDirectory};

fn path(state: &StateDirectory, kind: &str, name: &ObjectName) -> PathBuf {
    state.status().join(kind).join(&name.namespace).join(format!("{}.yaml", name.name))
}

/// What was recorded of a replication; nothing yet is an empty status.
pub(crate) fn load(state: &StateDirectory, resolved: &Resolved) -> Result<Status, Error> {
    let path = path(state, resolved.kind(), &resolved.name);
    let object = match state_directory::read(&path)? {
        Some(text) => parse(&path, &text)?,
        None => return Ok(Status::default()),
    };
    let status = object.get("status").cloned().unwrap_or_else(|| json!({}));
    Ok(match resolved.direction() {
        Direction::Source => Status::from_source(&read::<ReplicationSourceStatus>(&path, status)?),
        Direction::Destination => {
            Status::from_destination(&read::<ReplicationDestinationStatus>(&path, status)?)
        }
    })
}

fn parse(path: &Path, text: &str) -> Result<Value, Error> {
    serde_saphyr::from_str(text).map_err(|error| Error::ParseFile {
        path: path.to_owned(),
        why: error.without_snippet().to_string(),
    })
}

fn read<T: DeserializeOwned>(path: &Path, status: Value) -> Result<T, Error> {
    serde_json::from_value(status)
        .map_err(|error| Error::ParseFile { path: path.to_owned(), why: error.to_string() })
}

/// Records how a replication stands, unless that is what was recorded last.
pub(crate) fn record(
    state: &StateDirectory,
    live: &mut Live,
    status: &Status,
) -> Result<(), Error> {
    let resolved = &live.resolved;
    let path = path(state, resolved.kind(), &resolved.name);
    let unwritable = |error: &dyn std::fmt::Display| Error::ParseFile {
        path: path.clone(),
        why: error.to_string(),
    };
    let rsync = published(live);
    let status = match resolved.direction() {
        Direction::Source => {
            let mut shown = ReplicationSourceStatus::default();
            status.write_to_source(&mut shown);
            shown.rsync = rsync;
            serde_json::to_value(shown)
        }
        Direction::Destination => {
            let mut shown = ReplicationDestinationStatus::default();
            status.write_to_destination(&mut shown);
            shown.rsync = rsync;
            serde_json::to_value(shown)
        }
    }
    .map_err(|error| unwritable(&error))?;
    let mut object = resolved.written.clone();
    object["metadata"]["namespace"] = Value::String(resolved.name.namespace.clone());
    object["status"] = status;
    if live.recorded.as_ref() == Some(&object) {
        return Ok(());
    }
    let text = serde_saphyr::to_string(&object).map_err(|error| unwritable(&error))?;
    state_directory::write(&path, text.as_bytes())?;
    live.recorded = Some(object);
    Ok(())
}

fn published(live: &Live) -> Option<RsyncStatus> {
    if let End::Repository(_) = live.resolved.end {
        return None;
    }
    let own = |owner: &crate::secrets::Owner| {
        owner.direction == live.resolved.direction() && owner.name == live.resolved.name
    };
    let ssh_keys = match live.resolved.keys() {
        Some(KeySource::Generated { owner, .. }) if own(owner) => Some(owner.published()),
        Some(KeySource::Generated { .. } | KeySource::Given(_)) | None => None,
    };
    Some(RsyncStatus {
        ssh_keys,
        address: live.listening.map(|listening| listening.ip().to_string()),
        port: live.listening.map(|listening| i32::from(listening.port())),
    })
}

/// Every object that was recorded, sources first, by name.
pub(crate) fn all(state: &StateDirectory) -> Result<Vec<Value>, Error> {
    let mut found = Vec::new();
    for kind in ["ReplicationSource", "ReplicationDestination"] {
        let mut files: Vec<_> =
            entries(&state.status().join(kind)).iter().flat_map(|path| entries(path)).collect();
        files.retain(|path| path.extension().is_some_and(|end| end == "yaml"));
        files.sort();
        for file in files {
            if let Some(text) = state_directory::read(&file)? {
                found.push(parse(&file, &text)?);
            }
        }
    }
    Ok(found)
}

fn entries(directory: &Path) -> Vec<PathBuf> {
    let found = std::fs::read_dir(directory).into_iter().flatten();
    found.filter_map(|entry| entry.ok().map(|entry| entry.path())).collect()
}
