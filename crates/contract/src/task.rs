//! `Task`: what a mover is to do, as environment variables and back.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

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

impl Task {
    /// Which end this is.
    pub const fn direction(&self) -> Direction {
        match self.method {
            Method::RsyncSource(_) => Direction::Source,
            Method::RsyncDestination(_) => Direction::Destination,
        }
    }

    /// As environment variables.
    pub fn to_env(&self) -> BTreeMap<&'static str, String> {
        let text = |path: &PathBuf| path.to_string_lossy().into_owned();
        let mut vars = BTreeMap::from([
            (env::NAME, self.name.clone()),
            (env::DATA, text(&self.data)),
            (env::REPORT, text(&self.report)),
            (env::METHOD, "rsync".to_owned()),
        ]);
        if self.events {
            vars.insert(env::EVENTS, "json".to_owned());
        }
        if self.strict_attributes {
            vars.insert(env::STRICT_ATTRIBUTES, "1".to_owned());
        }
        match &self.method {
            Method::RsyncSource(source) => {
                vars.insert(env::DIRECTION, "source".to_owned());
                vars.insert(env::KEYS, text(&source.keys));
                vars.insert(env::DESTINATION_ADDRESS, source.address.clone());
                vars.insert(env::DESTINATION_PORT, source.port.to_string());
            }
            Method::RsyncDestination(destination) => {
                vars.insert(env::DIRECTION, "destination".to_owned());
                vars.insert(env::KEYS, text(&destination.keys));
                vars.insert(env::LISTEN, destination.listen.to_string());
            }
        }
        vars
    }

    /// Reads what [`Task::to_env`] wrote; `var` looks a variable up. Unset variables take the
    /// defaults of a mover's Pod.
    pub fn from_env(var: impl Fn(&str) -> Option<String>) -> Result<Self, TaskError> {
        let path =
            |name, default: &str| PathBuf::from(var(name).unwrap_or_else(|| default.to_owned()));
        let method = var(env::METHOD).unwrap_or_else(|| "rsync".to_owned());
        if method != "rsync" {
            return Err(TaskError::Invalid { name: env::METHOD, value: method, expected: "rsync" });
        }
        let keys = path(env::KEYS, paths::KEYS);
        let direction = var(env::DIRECTION).ok_or(TaskError::Missing(env::DIRECTION))?;
        let method = match direction.as_str() {
            "source" => Method::RsyncSource(RsyncSource {
                keys,
                address: var(env::DESTINATION_ADDRESS)
                    .filter(|address| !address.is_empty())
                    .ok_or(TaskError::Missing(env::DESTINATION_ADDRESS))?,
                port: parse(&var, env::DESTINATION_PORT, "a port from 1 to 65535", 22)?,
            }),
            "destination" => Method::RsyncDestination(RsyncDestination {
                keys,
                listen: parse(
                    &var,
                    env::LISTEN,
                    "an address and port such as [::]:8022",
                    SocketAddr::from(([0u16; 8], 8022)),
                )?,
            }),
            _ => {
                return Err(TaskError::Invalid {
                    name: env::DIRECTION,
                    value: direction,
                    expected: "source or destination",
                });
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
            address in "[a-z0-9.:-]{1,40}", port: u16, source: bool, listen: (u32, u16),
        ) -> Task {
            let keys = PathBuf::from("/keys");
            let method = if source {
                Method::RsyncSource(RsyncSource { keys, address, port })
            } else {
                let listen = SocketAddr::from((listen.0.to_be_bytes(), listen.1));
                Method::RsyncDestination(RsyncDestination { keys, listen })
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
