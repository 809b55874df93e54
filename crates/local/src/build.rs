//! `SyncPlan` → the `Task` of a mover and the process that carries it out.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use volsync_contract::{Method, RsyncDestination, RsyncSource, Task};
use volsync_replication::SyncPlan;

use crate::address::{Peer, reachable};
use crate::args::Settings;
use crate::dereference::{End, Resolved};
use crate::supervise::Start;

/// The binary that moves the data of a replication.
pub(crate) fn program(settings: &Settings, resolved: &Resolved) -> PathBuf {
    settings.movers.join(match resolved.end {
        End::Source { .. } | End::Destination { .. } => "volsync-mover-rsync",
        End::Repository(_) => "volsync-mover-restic",
    })
}

/// What the mover of one replication is told. `data` is its volume or a copy of it; `listening` is
/// where its destination listens, if that is on this machine.
pub(crate) fn build_task(
    resolved: &Resolved,
    plan: &SyncPlan,
    data: &Path,
    directory: &Path,
    cache: PathBuf,
    listening: Option<std::net::SocketAddr>,
) -> Option<Task> {
    let keys = directory.join("keys");
    let method = match &resolved.end {
        End::Source { peer: Peer::There { address, port }, .. } => {
            Method::RsyncSource(RsyncSource { keys, address: address.clone(), port: *port })
        }
        End::Source { peer: Peer::Here(_), .. } => {
            let listening = reachable(listening?);
            Method::RsyncSource(RsyncSource {
                keys,
                address: listening.ip().to_string(),
                port: listening.port(),
            })
        }
        End::Destination { listen, .. } => {
            Method::RsyncDestination(RsyncDestination { keys, listen: *listen })
        }
        End::Repository(_) => plan.restic(String::new(), cache)?,
    };
    Some(Task {
        name: resolved.name.to_string(),
        data: data.to_owned(),
        report: directory.join("report"),
        events: true,
        strict_attributes: false,
        method,
    })
}

/// The process that carries out `task`.
pub(crate) fn build_start(
    settings: &Settings,
    resolved: &Resolved,
    task: &Task,
    directory: &Path,
) -> Start {
    let mut environment = BTreeMap::<OsString, OsString>::new();
    if let End::Repository(repository) = &resolved.end {
        environment = repository.environment(directory);
        let proxies = settings.proxies.iter();
        environment.extend(proxies.map(|(name, value)| (name.into(), value.into())));
    }
    let told = task.to_env().into_iter();
    environment.extend(told.map(|(name, value)| (name.into(), value.into())));
    if let Some(filter) = &settings.log_filter {
        environment.insert("RUST_LOG".into(), filter.into());
    }
    Start {
        program: program(settings, resolved),
        environment,
        directory: directory.to_owned(),
        report: task.report.clone(),
        show_log: settings.log_filter.is_some(),
        name: task.name.clone(),
    }
}
