//! `Task`: what a mover is to do, as environment variables and back.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::{env, paths};

/// What a mover is to do. `Debug` is safe to log: keys travel as files, never in a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    /// What the messages call this replication, such as `default/photos`.
    pub name: String,
    /// The mounted volume.
    pub data: PathBuf,
    /// Where the report goes.
    pub report: PathBuf,
    /// Whether to write events to standard output.
    pub events: bool,
    /// Whether attributes that could not be kept make the sync incomplete.
    pub strict_attributes: bool,
    /// What to do it with.
    pub method: Method,
}

/// Which end of a replication this mover is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Reads the volume and sends.
    Source,
    /// Receives and writes the volume.
    Destination,
}

/// The method and its side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Method {
    /// rsync over SSH, sending.
    RsyncSource(RsyncSource),
    /// rsync over SSH, receiving.
    RsyncDestination(RsyncDestination),
    /// Backup to a restic repository.
    ResticSource(ResticSource),
    /// Restore from a restic repository.
    ResticDestination(ResticDestination),
}

/// The sending side of rsync over SSH.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RsyncSource {
    /// Directory with `source`, `source.pub` and `destination.pub`.
    pub keys: PathBuf,
    /// Host name or address; IPv6 without brackets.
    pub address: String,
    /// TCP port, 22 unless the user says otherwise.
    pub port: u16,
}

/// The receiving side of rsync over SSH.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RsyncDestination {
    /// Directory with `destination`, `destination.pub` and `source.pub`.
    pub keys: PathBuf,
    /// Where to listen; `[::]:8022` (every address, IPv4 too) unless set.
    pub listen: SocketAddr,
}

/// A backup to a restic repository. Where that is and what it is opened with are no part of a task:
/// see [`repository`](crate::repository).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResticSource {
    /// Directory for what would otherwise be fetched again with every sync.
    pub cache: PathBuf,
    /// Names this replication and no other, everywhere and for all time, such as its UID: a lock
    /// that carries it was left by an earlier attempt. Empty: no lock is known again.
    pub replication: String,
    /// The host that the snapshot is recorded under.
    pub host: String,
    /// The path that the snapshot is recorded under.
    pub path: String,
    /// The tags of the snapshot; none is empty or has a comma.
    pub tags: Vec<String>,
    /// Patterns of gitignore, one line each: what is not backed up.
    pub exclude: Vec<String>,
    /// Whether what is in directories with a `CACHEDIR.TAG` is left out.
    pub exclude_caches: bool,
    /// Whether locks that nobody holds any more are removed first, as the user asked.
    pub unlock: bool,
    /// Whether unused data is removed after the backup.
    pub prune: bool,
    /// Which snapshots are kept, in the words of `restic forget`, such as `--keep-daily 7`.
    pub forget: String,
    /// How the repository is verified; `None`: not this time.
    pub verify: Option<Verify>,
    /// How many bytes a second may travel to and from the repository; `None`: as many as can.
    pub bandwidth: Option<NonZeroU64>,
}

/// How a repository is verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verify {
    /// How many percent of the data are read, 0 to 100.
    pub percent: u8,
    /// Which of these parts, counted from 0 and around.
    pub round: u32,
}

/// A restore from a restic repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResticDestination {
    /// Directory for what would otherwise be fetched again with every sync.
    pub cache: PathBuf,
    /// As [`ResticSource::replication`].
    pub replication: String,
    /// Only snapshots of this host are eligible; `None`: of every host.
    pub host: Option<String>,
    /// Only snapshots of this path are eligible.
    pub path: String,
    /// This snapshot and no other, by its ID or the beginning of it.
    pub snapshot: Option<String>,
    /// Whether it is a failure that there is no repository, or no eligible snapshot in it.
    pub required: bool,
    /// Only snapshots up to this time (RFC 3339) are eligible; empty: all.
    pub restore_as_of: String,
    /// How many eligible snapshots to skip, from the newest.
    pub previous: u32,
    /// Whether what the snapshot does not have is deleted.
    pub delete: bool,
    /// As [`ResticSource::bandwidth`].
    pub bandwidth: Option<NonZeroU64>,
}

/// A variable that is missing or cannot be read as what it stands for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TaskError {
    /// A variable without a default is not set.
    #[error("environment variable {0} must be defined")]
    Missing(&'static str),
    /// A variable has a value it cannot have.
    #[error("environment variable {name} is {value:?}, expected {expected}")]
    Invalid {
        /// The variable.
        name: &'static str,
        /// Its value.
        value: String,
        /// What it may be.
        expected: &'static str,
    },
}

/// The host that snapshots are recorded under unless the user names one.
pub const DEFAULT_HOST: &str = "volsync";
const RSYNC: &str = "rsync";
const RESTIC: &str = "restic";
/// The one option of a restore (upstream's spelling).
const DELETE: &str = "--delete";
const PERCENT: &str = "a number from 0 to 100";

impl Task {
    /// Which end this is.
    pub const fn direction(&self) -> Direction {
        match self.method {
            Method::RsyncSource(_) | Method::ResticSource(_) => Direction::Source,
            Method::RsyncDestination(_) | Method::ResticDestination(_) => Direction::Destination,
        }
    }

    /// The error of a mover that carries out another method, `expected`.
    pub fn misdirected(&self, expected: &'static str) -> TaskError {
        TaskError::Invalid { name: env::METHOD, value: self.method_name().to_owned(), expected }
    }

    const fn method_name(&self) -> &'static str {
        match self.method {
            Method::RsyncSource(_) | Method::RsyncDestination(_) => RSYNC,
            Method::ResticSource(_) | Method::ResticDestination(_) => RESTIC,
        }
    }

    /// As environment variables.
    pub fn to_env(&self) -> BTreeMap<&'static str, String> {
        let text = |path: &PathBuf| path.to_string_lossy().into_owned();
        let mut vars = BTreeMap::from([
            (env::NAME, self.name.clone()),
            (env::DATA, text(&self.data)),
            (env::REPORT, text(&self.report)),
        ]);
        vars.insert(env::METHOD, self.method_name().to_owned());
        let direction = match self.direction() {
            Direction::Source => "source",
            Direction::Destination => "destination",
        };
        vars.insert(env::DIRECTION, direction.to_owned());
        if self.events {
            vars.insert(env::EVENTS, "json".to_owned());
        }
        if self.strict_attributes {
            vars.insert(env::STRICT_ATTRIBUTES, "1".to_owned());
        }
        match &self.method {
            Method::RsyncSource(source) => {
                vars.insert(env::KEYS, text(&source.keys));
                vars.insert(env::DESTINATION_ADDRESS, source.address.clone());
                vars.insert(env::DESTINATION_PORT, source.port.to_string());
            }
            Method::RsyncDestination(destination) => {
                vars.insert(env::KEYS, text(&destination.keys));
                vars.insert(env::LISTEN, destination.listen.to_string());
            }
            Method::ResticSource(source) => {
                vars.insert(env::RESTIC_CACHE, text(&source.cache));
                vars.insert(env::REPLICATION, source.replication.clone());
                vars.insert(env::HOST, source.host.clone());
                vars.insert(env::PATH, source.path.clone());
                vars.insert(env::TAGS, source.tags.join(","));
                vars.insert(env::EXCLUDE, source.exclude.join("\n"));
                vars.insert(env::EXCLUDE_CACHES, flag(source.exclude_caches));
                vars.insert(env::UNLOCK, flag(source.unlock));
                vars.insert(env::PRUNE, flag(source.prune));
                vars.insert(env::FORGET_OPTIONS, source.forget.clone());
                vars.extend(source.bandwidth.map(|limit| (env::BANDWIDTH, limit.to_string())));
                if let Some(Verify { percent, round }) = source.verify {
                    vars.insert(env::VERIFY_PERCENT, percent.to_string());
                    vars.insert(env::VERIFY_ROUND, round.to_string());
                }
            }
            Method::ResticDestination(destination) => {
                vars.insert(env::RESTIC_CACHE, text(&destination.cache));
                vars.insert(env::REPLICATION, destination.replication.clone());
                vars.extend(destination.host.clone().map(|host| (env::HOST, host)));
                vars.insert(env::PATH, destination.path.clone());
                vars.extend(destination.snapshot.clone().map(|id| (env::SNAPSHOT, id)));
                vars.insert(env::RESTORE_REQUIRED, flag(destination.required));
                vars.insert(env::RESTORE_AS_OF, destination.restore_as_of.clone());
                vars.insert(env::SELECT_PREVIOUS, destination.previous.to_string());
                let options = if destination.delete { DELETE } else { "" };
                vars.insert(env::RESTORE_OPTIONS, options.to_owned());
                vars.extend(destination.bandwidth.map(|limit| (env::BANDWIDTH, limit.to_string())));
            }
        }
        vars
    }

    /// Reads what [`Task::to_env`] wrote; `var` looks a variable up. Unset variables take the
    /// defaults of a mover's Pod.
    pub fn from_env(var: impl Fn(&str) -> Option<String>) -> Result<Self, TaskError> {
        let path =
            |name, default: &str| PathBuf::from(var(name).unwrap_or_else(|| default.to_owned()));
        let keys = path(env::KEYS, paths::KEYS);
        let cache = path(env::RESTIC_CACHE, paths::CACHE);
        let replication = var(env::REPLICATION).unwrap_or_default();
        let recorded = given(&var, env::PATH).unwrap_or_else(|| paths::DATA.to_owned());
        let method = var(env::METHOD).unwrap_or_else(|| RSYNC.to_owned());
        let direction = var(env::DIRECTION).ok_or(TaskError::Missing(env::DIRECTION))?;
        let bandwidth = || match given(&var, env::BANDWIDTH) {
            None => Ok(None),
            Some(_) => {
                let expected = "bytes a second, from 1";
                parse(&var, env::BANDWIDTH, expected, NonZeroU64::MIN).map(Some)
            }
        };
        let method = match (method.as_str(), direction.as_str()) {
            (RESTIC, "source") => Method::ResticSource(ResticSource {
                cache,
                replication,
                host: given(&var, env::HOST).unwrap_or_else(|| DEFAULT_HOST.to_owned()),
                path: recorded,
                tags: list(&var, env::TAGS, ','),
                exclude: list(&var, env::EXCLUDE, '\n'),
                exclude_caches: parse_flag(&var, env::EXCLUDE_CACHES)?,
                unlock: parse_flag(&var, env::UNLOCK)?,
                prune: parse_flag(&var, env::PRUNE)?,
                forget: var(env::FORGET_OPTIONS).unwrap_or_default(),
                verify: match parse(&var, env::VERIFY_PERCENT, PERCENT, u8::MAX)? {
                    u8::MAX => None,
                    percent @ 0..=100 => Some(Verify {
                        percent,
                        round: parse(&var, env::VERIFY_ROUND, "a number from 0", 0)?,
                    }),
                    percent => {
                        let (name, value) = (env::VERIFY_PERCENT, percent.to_string());
                        return Err(TaskError::Invalid { name, value, expected: PERCENT });
                    }
                },
                bandwidth: bandwidth()?,
            }),
            (RESTIC, "destination") => Method::ResticDestination(ResticDestination {
                cache,
                replication,
                host: given(&var, env::HOST),
                path: recorded,
                snapshot: given(&var, env::SNAPSHOT),
                required: parse_flag(&var, env::RESTORE_REQUIRED)?,
                restore_as_of: var(env::RESTORE_AS_OF).unwrap_or_default(),
                previous: parse(&var, env::SELECT_PREVIOUS, "a number from 0", 0)?,
                delete: match var(env::RESTORE_OPTIONS).as_deref() {
                    None | Some("") => false,
                    Some(DELETE) => true,
                    Some(value) => {
                        let (name, value) = (env::RESTORE_OPTIONS, value.to_owned());
                        return Err(TaskError::Invalid { name, value, expected: DELETE });
                    }
                },
                bandwidth: bandwidth()?,
            }),
            (RSYNC, "source") => Method::RsyncSource(RsyncSource {
                keys,
                address: var(env::DESTINATION_ADDRESS)
                    .filter(|address| !address.is_empty())
                    .ok_or(TaskError::Missing(env::DESTINATION_ADDRESS))?,
                port: parse(&var, env::DESTINATION_PORT, "a port from 1 to 65535", 22)?,
            }),
            (RSYNC, "destination") => Method::RsyncDestination(RsyncDestination {
                keys,
                listen: parse(
                    &var,
                    env::LISTEN,
                    "an address and port such as [::]:8022",
                    SocketAddr::from(([0u16; 8], 8022)),
                )?,
            }),
            (RSYNC | RESTIC, _) => {
                return Err(TaskError::Invalid {
                    name: env::DIRECTION,
                    value: direction,
                    expected: "source or destination",
                });
            }
            (_, _) => {
                let (name, expected) = (env::METHOD, "rsync or restic");
                return Err(TaskError::Invalid { name, value: method, expected });
            }
        };
        Ok(Self {
            name: var(env::NAME).unwrap_or_else(|| "volume".to_owned()),
            data: path(env::DATA, paths::DATA),
            report: path(env::REPORT, paths::REPORT),
            events: var(env::EVENTS).as_deref() == Some("json"),
            strict_attributes: var(env::STRICT_ATTRIBUTES).as_deref() == Some("1"),
            method,
        })
    }
}

fn given(var: &impl Fn(&str) -> Option<String>, name: &str) -> Option<String> {
    var(name).filter(|value| !value.is_empty())
}

fn list(var: &impl Fn(&str) -> Option<String>, name: &str, separator: char) -> Vec<String> {
    given(var, name)
        .map(|text| text.split(separator).map(str::to_owned).collect())
        .unwrap_or_default()
}

fn flag(set: bool) -> String {
    if set { "1" } else { "0" }.to_owned()
}

fn parse_flag(
    var: &impl Fn(&str) -> Option<String>,
    name: &'static str,
) -> Result<bool, TaskError> {
    match var(name).as_deref() {
        None | Some("" | "0") => Ok(false),
        Some("1") => Ok(true),
        Some(value) => {
            Err(TaskError::Invalid { name, value: value.to_owned(), expected: "0 or 1" })
        }
    }
}

fn parse<T: std::str::FromStr>(
    var: &impl Fn(&str) -> Option<String>,
    name: &'static str,
    expected: &'static str,
    default: T,
) -> Result<T, TaskError> {
    match var(name) {
        None => Ok(default),
        Some(value) => value.parse().map_err(|_| TaskError::Invalid { name, value, expected }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(vars: &BTreeMap<&'static str, String>) -> Result<Task, TaskError> {
        Task::from_env(|name| vars.get(name).cloned())
    }

    prop_compose! {
        fn tasks()(
            name in "[a-z/-]{1,40}", data in "/[a-z/ ]{0,40}", events: bool, strict_attributes: bool,
            address in "[a-z0-9.:-]{1,40}", port: u16, which in 0..4, listen: (u32, u16),
            flags: (bool, bool), words in "[a-z0-9 -]{0,40}", previous: u32,
            tags in proptest::collection::vec("[a-z ]{1,9}", 0..4),
            exclude in proptest::collection::vec("[!a-z,*/ ]{1,9}", 0..4),
            snapshot in proptest::option::of("[0-9a-f]{4,64}"),
            host in proptest::option::of("[a-z0-9.-]{1,40}"),
            bandwidth in proptest::option::of(any::<NonZeroU64>()),
        ) -> Task {
            let keys = PathBuf::from("/keys");
            let cache = PathBuf::from("/c");
            let method = match which {
                0 => Method::RsyncSource(RsyncSource { keys, address, port }),
                1 => {
                    let listen = SocketAddr::from((listen.0.to_be_bytes(), listen.1));
                    Method::RsyncDestination(RsyncDestination { keys, listen })
                }
                2 => Method::ResticSource(ResticSource {
                    cache,
                    replication: words.clone(),
                    host: host.unwrap_or_else(|| DEFAULT_HOST.to_owned()),
                    path: "/data".into(),
                    tags,
                    exclude,
                    exclude_caches: flags.1,
                    unlock: flags.0,
                    prune: flags.1,
                    forget: words,
                    verify: flags.0.then_some(Verify { percent: 7, round: previous }),
                    bandwidth,
                }),
                _ => Method::ResticDestination(ResticDestination {
                    cache,
                    replication: words.clone(),
                    host,
                    path: "/data".into(),
                    snapshot,
                    required: flags.1,
                    restore_as_of: words,
                    previous,
                    delete: flags.0,
                    bandwidth,
                }),
            };
            Task { name, data: data.into(), report: "/r".into(), events, strict_attributes, method }
        }
    }

    proptest! {
        #[test]
        fn a_task_comes_back_from_its_environment(task in tasks()) {
            prop_assert_eq!(read(&task.to_env()).unwrap(), task);
        }
    }

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        let mut vars = BTreeMap::from([(env::DIRECTION, "source".to_owned())]);
        assert_eq!(read(&vars), Err(TaskError::Missing(env::DESTINATION_ADDRESS)));
        vars.insert(env::DESTINATION_ADDRESS, "mirror".into());
        vars.insert(env::DESTINATION_PORT, "70000".into());
        assert_eq!(
            read(&vars).unwrap_err().to_string(),
            r#"environment variable DESTINATION_PORT is "70000", expected a port from 1 to 65535"#
        );
    }
}
