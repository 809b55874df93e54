//! A volume, a repository, and the mover as a process.
#![allow(dead_code, reason = "no test needs all of it")]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use volsync_contract::{
    Method, Report, ResticDestination, ResticReport, ResticSource, Task, Verify,
};
use volsync_testing::{Scratch, Seed, peers};

pub(crate) const PASSWORD: &str = "secret";

pub(crate) struct Place {
    pub(crate) scratch: Scratch,
    pub(crate) seed: Seed,
    /// Where the cache of backups is.
    pub(crate) cache: PathBuf,
    /// Whether a restore must find a snapshot.
    pub(crate) required: bool,
    /// Of which path that snapshot is.
    pub(crate) recorded: String,
    /// Up to when it was taken; empty: at any time.
    pub(crate) as_of: String,
    /// What the repository's Secret says.
    pub(crate) secret: Vec<(&'static str, String)>,
}

impl Place {
    /// With a repository in a directory.
    pub(crate) fn new(seed: u64) -> Self {
        let scratch = Scratch::new();
        let repository = scratch.join("repository").display().to_string();
        Self::with_secret(scratch, seed, vec![("RESTIC_REPOSITORY", repository)])
    }

    /// With what describes a repository.
    pub(crate) fn with_secret(
        scratch: Scratch,
        seed: u64,
        mut secret: Vec<(&'static str, String)>,
    ) -> Self {
        secret.push(("RESTIC_PASSWORD", PASSWORD.to_owned()));
        secret.push(("RESTIC_PACK_SIZE", "4".to_owned()));
        scratch.dir("volume");
        scratch.dir("restored");
        let cache = scratch.join("cache");
        let (seed, recorded) = (Seed::new(seed), "/data".to_owned());
        let as_of = String::new();
        let mut place = Self { scratch, seed, cache, required: true, recorded, as_of, secret };
        for _ in 0..3 {
            place.change();
        }
        place
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.scratch.join(name)
    }

    pub(crate) fn change(&mut self) {
        for dir in ["a", "b", "b/below", "c"] {
            let dir = self.path("volume").join(dir);
            std::fs::create_dir_all(&dir).unwrap();
            for _ in 0..3 {
                let name = format!("file-{}", self.seed.below(12));
                let length = self.seed.below(400_000) as usize;
                std::fs::write(dir.join(name), self.seed.bytes(length)).unwrap();
            }
        }
    }

    fn start(&self, data: &Path, method: Method) -> Child {
        let task = Task {
            name: "test/data".to_owned(),
            data: data.to_owned(),
            report: self.path("report"),
            events: false,
            strict_attributes: false,
            method,
        };
        Command::new(peers::own_binary("volsync-mover-restic"))
            .envs(self.secret.iter().map(|(name, value)| (*name, value)))
            .envs(task.to_env())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    /// A backup, and if it prunes a verification of half of the data, too.
    pub(crate) fn back_up(&self, prune: bool) -> Child {
        self.start(
            &self.path("volume"),
            Method::ResticSource(ResticSource {
                cache: self.cache.clone(),
                replication: "uid-1".to_owned(),
                host: "volsync".to_owned(),
                path: "/data".to_owned(),
                tags: Vec::new(),
                exclude: Vec::new(),
                exclude_caches: false,
                unlock: false,
                prune,
                forget: "--keep-last 2".to_owned(),
                verify: prune.then_some(Verify { percent: 50, round: 0 }),
                bandwidth: None,
            }),
        )
    }

    pub(crate) fn restore(&self) -> Child {
        self.start(
            &self.path("restored"),
            Method::ResticDestination(ResticDestination {
                cache: self.path("cache-of-restores"),
                replication: "uid-2".to_owned(),
                host: None,
                path: self.recorded.clone(),
                snapshot: None,
                required: self.required,
                restore_as_of: self.as_of.clone(),
                previous: 0,
                delete: true,
                bandwidth: None,
            }),
        )
    }

    /// Lets it go to its end, which must be a good one.
    pub(crate) fn whole(&self, child: Child) -> ResticReport {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", said(&output));
        let report: Report =
            serde_json::from_slice(&std::fs::read(self.path("report")).unwrap()).unwrap();
        report.restic.unwrap()
    }

    /// Lets it go to its end, which must be a bad one, and takes its words.
    pub(crate) fn failure(&self, child: Child) -> String {
        let output = child.wait_with_output().unwrap();
        let said = said(&output);
        assert!(output.status.code().is_some_and(|code| code > 0), "{said}");
        assert!(!said.contains("panicked"), "{said}");
        said
    }

    /// Real restic, which is told what the Secret says, in the volume.
    pub(crate) fn restic(&self, arguments: &[&str]) -> String {
        let output = Command::new(peers::installed("bin/restic-current"))
            .arg("--no-cache")
            .args(arguments)
            .envs(self.secret.iter().map(|(name, value)| (*name, value)))
            .current_dir(self.path("volume"))
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "restic {arguments:?}: {said}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Real restic reads every byte, and takes no notice of locks.
    pub(crate) fn check_in(&self, repository: &str) {
        self.restic(&["check", "--read-data", "--no-lock", "--repo", repository]);
    }

    /// The same in the repository that is a directory.
    pub(crate) fn check(&self) {
        self.check_in(&self.path("repository").display().to_string());
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}
