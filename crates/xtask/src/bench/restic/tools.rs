//! A repository in memory, and the tool that works on it: our mover, or restic.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use volsync_contract::{Method, ResticDestination, ResticSource, Task, repository};
use volsync_testing::Scratch;
use volsync_testing::peers::installed;

use crate::bench::data;
use crate::bench::measure::{self, Measured, MemoryWatch};
use crate::command::{line, output};

const MOVER: &str = "volsync-mover-restic";
const RESTIC: &str = "restic-current";
const PASSWORD: &str = "benchmark";
const HOST: &str = "volsync";
const PATH: &str = "/data";
/// Nothing is forgotten by what is not about forgetting.
const KEEP_ALL: &str = "--keep-last 1000";

/// Who is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tool {
    Ours,
    Restic,
}

impl Tool {
    pub(super) const ALL: [Self; 2] = [Self::Restic, Self::Ours];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::Restic => "restic",
        }
    }
}

/// One tool's repository, cache and logs.
pub(super) struct Repository<'a> {
    tool: Tool,
    movers: &'a Path,
    scratch: Scratch,
}

impl<'a> Repository<'a> {
    /// One that does not exist yet.
    pub(super) fn new(tool: Tool, movers: &'a Path) -> Self {
        Self { tool, movers, scratch: Scratch::in_memory() }
    }

    fn path(&self) -> PathBuf {
        self.scratch.join("repository")
    }

    /// Becomes a copy of another repository.
    pub(super) fn take_over(&self, other: &Self) -> Result<()> {
        data::copy(&other.path(), &self.path())
    }

    /// Backs a directory up; the first time, the repository is made.
    pub(super) fn back_up(&self, source: &Path) -> Result<Measured> {
        match self.tool {
            Tool::Ours => self.run(self.mover(source, self.source_method(KEEP_ALL, false))),
            Tool::Restic => {
                if !self.path().exists() {
                    output(self.restic().arg("init"))?;
                }
                let mut restic = self.restic();
                restic.args(["backup", "--quiet", "--host", HOST, "."]).current_dir(source);
                self.run(restic)
            }
        }
    }

    /// Keeps the last snapshot, and only what it needs. Ours backs up first, as it always does.
    pub(super) fn prune(&self, source: &Path) -> Result<Measured> {
        match self.tool {
            Tool::Ours => self.run(self.mover(source, self.source_method("--keep-last 1", true))),
            Tool::Restic => {
                let mut restic = self.restic();
                restic.args(["forget", "--quiet", "--keep-last", "1", "--prune"]);
                self.run(restic)
            }
        }
    }

    /// Restores the last backup.
    pub(super) fn restore(&self, target: &Path) -> Result<Measured> {
        match self.tool {
            Tool::Ours => {
                let method = Method::ResticDestination(ResticDestination {
                    cache: self.scratch.dir("cache"),
                    replication: String::new(),
                    host: None,
                    path: PATH.to_owned(),
                    snapshot: None,
                    required: true,
                    restore_as_of: String::new(),
                    previous: 0,
                    delete: false,
                    bandwidth: None,
                });
                self.run(self.mover(target, method))
            }
            Tool::Restic => {
                let mut restic = self.restic();
                restic.args(["restore", "--quiet", "latest", "--target"]).arg(target);
                self.run(restic)
            }
        }
    }

    /// Restic reads everything and finds nothing wrong.
    pub(super) fn check(&self) -> Result<()> {
        output(self.restic().args(["check", "--read-data"])).map(drop)
    }

    fn source_method(&self, forget: &str, prune: bool) -> Method {
        Method::ResticSource(ResticSource {
            cache: self.scratch.dir("cache"),
            replication: String::new(),
            host: HOST.to_owned(),
            path: PATH.to_owned(),
            tags: Vec::new(),
            unlock: false,
            prune,
            exclude: Vec::new(),
            exclude_caches: false,
            verify: None,
            forget: forget.to_owned(),
            bandwidth: None,
        })
    }

    fn mover(&self, data: &Path, method: Method) -> Command {
        let task = Task {
            name: "bench/restic".to_owned(),
            data: data.to_owned(),
            report: self.scratch.join("report"),
            events: false,
            strict_attributes: false,
            method,
        };
        let mut command = Command::new(self.movers.join(MOVER));
        command.envs(task.to_env());
        command.env(repository::REPOSITORY, self.path()).env(repository::PASSWORD, PASSWORD);
        command
    }

    /// Restic, with a cache as the mover has one.
    fn restic(&self) -> Command {
        let mut command = Command::new(installed(&format!("bin/{RESTIC}")));
        command.arg("--repo").arg(self.path()).arg("--cache-dir").arg(self.scratch.dir("cache"));
        command.env(repository::PASSWORD, PASSWORD);
        command
    }

    fn run(&self, mut command: Command) -> Result<Measured> {
        let log = self.scratch.join("log");
        let file = fs::File::create(&log).context("cannot create a log")?;
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(file);
        let begin = Instant::now();
        let child = command.spawn().with_context(|| format!("cannot start {}", line(&command)))?;
        let name = if self.tool == Tool::Ours { MOVER } else { RESTIC };
        let watch = MemoryWatch::start(name, child.id(), child.id());
        let ended = measure::wait(child)?;
        let (peak, _) = watch.finish();
        if !ended.status.success() {
            let said = fs::read_to_string(&log).unwrap_or_default();
            bail!("{} ended with {}:\n{said}", self.tool.name(), ended.status);
        }
        Ok(Measured {
            wall: ended.at.duration_since(begin),
            processor: ended.processor,
            wire_bytes: 0,
            source_peak: Some(peak),
            destination_peak: None,
        })
    }
}
