//! The `local` driver: directories as volumes, and the `volsync` binary run by an ordinary user.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::volume::{Stamps, change, check_files, same, same_as_one, same_below, untouched};
use super::{Driver, Expect, Outcome, Status, Tree, Wait, said, unmet};
use crate::as_user::{Privilege, is_root};
use crate::compare;
use crate::disk::SmallDisk;
use crate::scratch::Scratch;

/// One scenario's machine.
#[derive(Debug)]
pub struct Local {
    volsync: PathBuf,
    scratch: Scratch,
    /// Where this process and where `volsync` finds a volume.
    volumes: BTreeMap<String, (PathBuf, PathBuf)>,
    disk: Option<SmallDisk>,
    stamps: BTreeMap<String, Stamps>,
    runner: Option<Child>,
    said: String,
}

const USER: Privilege = Privilege::User;

impl Local {
    /// An empty machine with this `volsync`, whose movers lie beside it.
    pub fn new(volsync: &Path) -> Self {
        let scratch = Scratch::new();
        // Where the user cannot reach the build, all programs are copied, side by side.
        for mover in ["volsync-mover-rsync", "volsync-mover-restic"] {
            USER.command(&volsync.with_file_name(mover), &scratch);
        }
        for dir in ["manifests", "state"] {
            USER.take(&scratch.dir(dir));
        }
        Self {
            volsync: volsync.to_owned(),
            scratch,
            volumes: BTreeMap::new(),
            disk: None,
            stamps: BTreeMap::new(),
            runner: None,
            said: String::new(),
        }
    }

    fn volume(&self, name: &str) -> Result<&Path> {
        let known =
            self.volumes.get(name).with_context(|| format!("no tree has made volume {name}"))?;
        Ok(&known.0)
    }

    /// `volsync VERB` with the manifests, the volumes and the state directory.
    fn command(&self, verb: &str) -> Command {
        let mut command = match &self.disk {
            None => USER.command(&self.volsync, &self.scratch),
            Some(disk) if is_root() => {
                let as_user = USER.command(&self.volsync, &self.scratch);
                let mut entered = disk.enter(Path::new(as_user.get_program()));
                entered.args(as_user.get_args());
                entered
            }
            Some(disk) => disk.enter(&self.volsync),
        };
        command.arg(verb).arg(self.scratch.join("manifests"));
        command.arg("--state-dir").arg(self.scratch.join("state"));
        for (name, (_, seen)) in &self.volumes {
            command.arg("--volume").arg(format!("{name}={}", seen.display()));
        }
        command.env("HOME", self.scratch.path()).stdin(Stdio::null());
        command
    }

    fn log(&self) -> String {
        fs::read_to_string(self.scratch.join("log")).unwrap_or_default()
    }

    /// Lets the replications follow their triggers.
    fn start(&mut self) -> Result<()> {
        if let Some(runner) = &mut self.runner {
            let ended = runner.try_wait()?;
            ensure!(ended.is_none(), "volsync run ended by itself: {ended:?}\n{}", self.log());
            return Ok(());
        }
        let log =
            fs::OpenOptions::new().create(true).append(true).open(self.scratch.join("log"))?;
        let runner = self.command("run").stdout(log.try_clone()?).stderr(log).spawn()?;
        self.runner = Some(runner);
        Ok(())
    }

    fn stop(&mut self) -> Result<()> {
        let Some(mut runner) = self.runner.take() else {
            return Ok(());
        };
        if let Some(pid) = Pid::from_raw(runner.id() as i32) {
            let _ = kill_process(pid, Signal::TERM);
        }
        let patience = Instant::now() + Duration::from_secs(20);
        while Instant::now() < patience {
            if runner.try_wait()?.is_some() {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(10));
        }
        runner.kill()?;
        runner.wait()?;
        bail!("volsync run did not stop within 20 seconds of SIGTERM\n{}", self.log());
    }

    /// One sync of everything; whether all succeeded, and what was said.
    fn sync(&mut self) -> Result<bool> {
        self.stop()?;
        let log = fs::File::create(self.scratch.join("log"))?;
        let mut child = self.command("sync").stdout(log.try_clone()?).stderr(log).spawn()?;
        let patience = Instant::now() + Duration::from_secs(150);
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break status;
            }
            if Instant::now() > patience {
                child.kill()?;
                child.wait()?;
                bail!("volsync sync is stuck\n{}", self.log());
            }
            thread::sleep(Duration::from_millis(5));
        };
        self.said = self.log();
        ensure!(status.code().is_some(), "volsync sync was killed: {status}\n{}", self.said);
        Ok(status.success())
    }

    /// A status as `volsync status` shows it; null when it has none.
    fn status(&self, of: &str) -> Result<Value> {
        let (kind, name) = of.split_once('/').with_context(|| format!("{of} is not KIND/NAME"))?;
        let output = self.command("status").args(["--output", "json"]).output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        let objects = serde_json::Deserializer::from_str(&text).into_iter::<Value>();
        let shown: Vec<Value> = objects.collect::<Result<_, _>>().with_context(|| {
            format!(
                "volsync status printed no JSON: {text}{}",
                String::from_utf8_lossy(&output.stderr)
            )
        })?;
        Ok(find_status(&Value::Array(shown), kind, name).cloned().unwrap_or(Value::Null))
    }

    fn unmet(&self, wanted: &Status) -> Result<Option<String>> {
        let status = self.status(&wanted.of)?;
        let unmet = unmet(&status, wanted);
        Ok((!unmet.is_empty())
            .then(|| format!("{}: {}; its status is {status}", wanted.of, unmet.join(", "))))
    }

    fn remember_stamps(&mut self) {
        let stamps =
            self.volumes.iter().map(|(name, (path, _))| (name.clone(), compare::stamps(path)));
        self.stamps = stamps.collect();
    }
}

/// The status of an object in whatever list it is shown.
fn find_status<'a>(value: &'a Value, kind: &str, name: &str) -> Option<&'a Value> {
    match value {
        Value::Array(items) => items.iter().find_map(|item| find_status(item, kind, name)),
        Value::Object(object) => {
            let text = |value: Option<&'a Value>| value.and_then(Value::as_str);
            let metadata = object.get("metadata").and_then(|metadata| metadata.get("name"));
            let named = text(metadata.or_else(|| object.get("name")))
                .map(|own| own.rsplit('/').next() == Some(name));
            if named == Some(true) && text(object.get("kind")) == Some(kind) {
                return object.get("status");
            }
            object.values().find_map(|value| find_status(value, kind, name))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
    }
}

impl Driver for Local {
    fn apply(&mut self, manifest: &Value) -> Result<()> {
        let text = |pointer| manifest.pointer(pointer).and_then(Value::as_str).unwrap_or("default");
        let name =
            format!("{}-{}-{}", text("/kind"), text("/metadata/namespace"), text("/metadata/name"));
        let file = self.scratch.join("manifests").join(format!("{}.yaml", name.to_lowercase()));
        // Renamed into place: a runner that watches must never see half a manifest.
        let beside = self.scratch.join("manifest");
        let mut written = fs::File::create(&beside)?;
        written.write_all(serde_json::to_string_pretty(manifest)?.as_bytes())?;
        drop(written);
        USER.take(&beside);
        Ok(fs::rename(beside, file)?)
    }

    fn tree(&mut self, tree: &Tree) -> Result<()> {
        let name = &tree.volume;
        if !self.volumes.contains_key(name) {
            let paths = if let Some(size) = tree.size {
                ensure!(self.disk.is_none(), "only one volume of a scenario can have a size");
                let disk = self.disk.insert(SmallDisk::new(size));
                (disk.path(), disk.mount_point().to_owned())
            } else {
                let path = self.scratch.dir(format!("volumes/{name}"));
                (path.clone(), path)
            };
            USER.take(&paths.0);
            self.volumes.insert(name.clone(), paths);
        }
        change(self.volume(name)?, tree, USER)
    }

    fn wait(&mut self, wait: &Wait) -> Result<()> {
        self.remember_stamps();
        match wait {
            Wait::Sync(outcome) => {
                let succeeded = self.sync()?;
                ensure!(
                    succeeded == (*outcome == Outcome::Succeeds),
                    "expected that it {outcome:?}\n{}",
                    self.said
                );
            }
            Wait::Until(wanted) => {
                self.start()?;
                let patience = Instant::now() + Duration::from_secs(wanted.timeout);
                while let Some(unmet) = self.unmet(wanted)? {
                    ensure!(
                        Instant::now() < patience,
                        "after {} s {unmet}\n{}",
                        wanted.timeout,
                        self.log()
                    );
                    self.start()?;
                    thread::sleep(Duration::from_millis(200));
                }
            }
            Wait::Files(files) => {
                self.start()?;
                let patience = Instant::now() + Duration::from_secs(60);
                while let Err(missing) = check_files(self.volume(&files.volume)?, files) {
                    ensure!(Instant::now() < patience, "after 60 s {missing:#}\n{}", self.log());
                    self.start()?;
                    thread::sleep(Duration::from_millis(200));
                }
            }
            Wait::Count(_) | Wait::Object(_) => bail!("only a cluster has objects"),
            Wait::Seconds(seconds) => {
                self.start()?;
                thread::sleep(Duration::from_secs_f64(*seconds));
                self.start()?;
            }
        }
        Ok(())
    }

    fn expect(&mut self, expect: &Expect) -> Result<()> {
        match expect {
            Expect::Same([a, b]) => {
                same(self.volume(a)?, self.volume(b)?).with_context(|| self.said.clone())?
            }
            Expect::SameBelow([a, b]) => {
                same_below(self.volume(a)?, self.volume(b)?).with_context(|| self.said.clone())?
            }
            Expect::SameAsOne { volume, of } => {
                let of: Vec<PathBuf> = of
                    .iter()
                    .map(|name| Ok(self.volume(name)?.to_owned()))
                    .collect::<Result<_>>()?;
                same_as_one(self.volume(volume)?, &of)?;
            }
            Expect::Untouched(name) => {
                let before = self.stamps.get(name).context("nothing was waited for yet")?;
                untouched(self.volume(name)?, before)?;
            }
            Expect::Files(files) => check_files(self.volume(&files.volume)?, files)?,
            Expect::Status(wanted) => {
                if let Some(unmet) = self.unmet(wanted)? {
                    bail!("{unmet}\n{}", self.log());
                }
            }
            Expect::Said(words) => said(&self.said, words)?,
        }
        Ok(())
    }

    fn kubectl(&mut self, _: &[String]) -> Result<()> {
        bail!("only a cluster has kubectl")
    }

    fn address(&self) -> Result<IpAddr> {
        Ok(Ipv4Addr::LOCALHOST.into())
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        if self.stop().is_err() {
            // It has been killed.
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_status_is_found_in_a_list_of_objects() {
        let list = json!({"items": [
            {"kind": "ReplicationDestination", "metadata": {"name": "photos"}, "status": {"a": 1}},
            {"kind": "ReplicationSource", "name": "default/photos", "status": {"b": 2}},
        ]});
        assert_eq!(find_status(&list, "ReplicationSource", "photos"), Some(&json!({"b": 2})));
        assert_eq!(find_status(&list, "ReplicationDestination", "photos"), Some(&json!({"a": 1})));
        assert_eq!(find_status(&list, "ReplicationSource", "mail"), None);
    }
}
