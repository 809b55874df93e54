//! Movers as processes: a destination and a source that find each other on loopback.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use volsync_contract::{Event, Method, Progress, Report, RsyncDestination, RsyncSource, Task};

use crate::as_user::Privilege;
use crate::keys::KeySecrets;
use crate::peers;
use crate::scratch::Scratch;

/// How long a mover may take before a test calls it stuck.
pub const PATIENCE: Duration = Duration::from_secs(150);

/// The two rsync movers of one replication and their keys.
#[derive(Debug)]
pub struct MoverPair {
    source: PathBuf,
    destination: PathBuf,
    keys: KeySecrets,
    scratch: Scratch,
    privilege: Privilege,
    strict: bool,
    started: AtomicU32,
}

impl MoverPair {
    /// Movers with the privilege of this process.
    pub fn new(source: &Path, destination: &Path) -> Self {
        Self::with(source, destination, Privilege::own())
    }

    /// Movers with a privilege. The destination is made, and given to it.
    pub fn with(source: &Path, destination: &Path, privilege: Privilege) -> Self {
        if !destination.exists() {
            fs::create_dir_all(destination).unwrap();
            privilege.take(destination);
        }
        Self {
            source: source.to_owned(),
            destination: destination.to_owned(),
            keys: KeySecrets::new(privilege),
            scratch: Scratch::new(),
            privilege,
            strict: false,
            started: AtomicU32::new(0),
        }
    }

    /// With other keys.
    #[must_use]
    pub fn with_keys(mut self, keys: KeySecrets) -> Self {
        self.keys = keys;
        self
    }

    /// Attributes that cannot be kept make the sync incomplete.
    #[must_use]
    pub const fn strict(mut self) -> Self {
        self.strict = true;
        self
    }

    /// The keys, to be damaged.
    pub const fn keys(&self) -> &KeySecrets {
        &self.keys
    }

    /// The source's volume.
    pub fn source(&self) -> &Path {
        &self.source
    }

    /// The destination's volume.
    pub fn destination(&self) -> &Path {
        &self.destination
    }

    /// Starts a destination on any free port and waits until it listens.
    #[track_caller]
    pub fn start_destination(&self) -> (Running, SocketAddr) {
        let mut running = self.start_destination_on(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        match running.listening(Duration::from_secs(30)) {
            Some(address) => (running, address),
            None => panic!(
                "the destination does not listen: {}",
                running.wait_for(Duration::from_secs(1))
            ),
        }
    }

    /// Starts a destination at an address without waiting for it.
    pub fn start_destination_on(&self, listen: SocketAddr) -> Running {
        let method =
            Method::RsyncDestination(RsyncDestination { keys: self.keys.destination(), listen });
        self.start(&self.destination, method, "destination")
    }

    /// Starts a source that connects to `address`.
    pub fn start_source(&self, address: SocketAddr) -> Running {
        self.start_source_to(&address.ip().to_string(), address.port())
    }

    /// Starts a source that connects to a name.
    pub fn start_source_to(&self, address: &str, port: u16) -> Running {
        let method = Method::RsyncSource(RsyncSource {
            keys: self.keys.source(),
            address: address.to_owned(),
            port,
        });
        self.start(&self.source, method, "source")
    }

    /// Runs both to their ends.
    #[track_caller]
    pub fn sync(&self) -> Synced {
        let (destination, address) = self.start_destination();
        let source = self.start_source(address).wait();
        if source.code == Some(0) || source.code == Some(3) {
            Synced { source, destination: destination.wait() }
        } else {
            Synced { source, destination: destination.stop() }
        }
    }

    /// Runs both and fails unless both end with exit code 0.
    #[track_caller]
    pub fn sync_completely(&self) -> Synced {
        let synced = self.sync();
        synced.source.assert_code(0);
        synced.destination.assert_code(0);
        synced
    }

    fn start(&self, data: &Path, method: Method, side: &'static str) -> Running {
        let number = self.started.fetch_add(1, Ordering::SeqCst);
        let own = self.scratch.dir(format!("{number}-{side}"));
        self.privilege.take(&own);
        let task = Task {
            name: format!("test/{side}"),
            data: data.to_owned(),
            report: own.join("report"),
            events: true,
            strict_attributes: self.strict,
            method,
        };
        let log = own.join("log");
        let mut child = self
            .privilege
            .command(&peers::own_binary("volsync-mover-rsync"), &self.scratch)
            .envs(task.to_env())
            .env("RUST_BACKTRACE", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(fs::File::create(&log).unwrap())
            .spawn()
            .expect("the mover starts");
        let progress = Arc::new(Mutex::new(Progress::default()));
        let (heard, listening) = mpsc::channel();
        let output = BufReader::new(child.stdout.take().unwrap());
        let seen = Arc::clone(&progress);
        thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                match serde_json::from_str::<Event>(&line) {
                    Ok(Event::Listening { address }) => drop(heard.send(address)),
                    Ok(Event::Progress(now)) => *seen.lock().unwrap() = now,
                    Err(error) => {
                        panic!("the mover wrote a line that is no event ({error}): {line}")
                    }
                }
            }
        });
        Running { child, side, report: task.report, log, listening, progress, ended: false }
    }
}

/// A mover at work; killed on drop.
#[derive(Debug)]
pub struct Running {
    child: Child,
    side: &'static str,
    report: PathBuf,
    log: PathBuf,
    listening: mpsc::Receiver<SocketAddr>,
    progress: Arc<Mutex<Progress>>,
    ended: bool,
}

impl Running {
    /// Waits for the address a destination listens at; `None` when it ends before.
    pub fn listening(&mut self, patience: Duration) -> Option<SocketAddr> {
        self.listening.recv_timeout(patience).ok()
    }

    /// How far it has come by its own word.
    pub fn progress(&self) -> Progress {
        *self.progress.lock().unwrap()
    }

    /// Whether it is still at work.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits for its end.
    #[track_caller]
    pub fn wait(self) -> Ended {
        self.wait_for(PATIENCE)
    }

    /// Waits so long for its end; then it is killed, and its exit code is `None`.
    pub fn wait_for(mut self, patience: Duration) -> Ended {
        let patience = Instant::now() + patience;
        while self.is_running() && Instant::now() < patience {
            thread::sleep(Duration::from_millis(2));
        }
        self.end()
    }

    /// Kills it as `kill -9` does.
    pub fn kill(mut self) -> Ended {
        self.end()
    }

    /// Asks it to stop as Kubernetes does, and waits.
    pub fn stop(self) -> Ended {
        if let Some(pid) = Pid::from_raw(self.child.id() as i32) {
            let _ = kill_process(pid, Signal::TERM);
        }
        self.wait_for(Duration::from_secs(20))
    }

    fn end(&mut self) -> Ended {
        let _ = self.child.kill();
        let status = self.child.wait().unwrap();
        self.ended = true;
        let report = fs::read_to_string(&self.report).ok().filter(|text| !text.is_empty());
        Ended {
            side: self.side,
            code: status.code(),
            report: report.map(|text| {
                Report::from_json(&text)
                    .unwrap_or_else(|error| panic!("not a report ({error}): {text}"))
            }),
            log: fs::read_to_string(&self.log).unwrap_or_default(),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.ended {
            self.end();
        }
    }
}

/// Both movers after their ends.
#[derive(Debug)]
pub struct Synced {
    /// The sender.
    pub source: Ended,
    /// The receiver.
    pub destination: Ended,
}

/// A mover after its end.
#[derive(Debug)]
pub struct Ended {
    /// Which side it was.
    pub side: &'static str,
    /// Its exit code; `None` when it was killed.
    pub code: Option<i32>,
    /// Its report; `None` when it wrote none.
    pub report: Option<Report>,
    /// What it wrote to standard error.
    pub log: String,
}

impl Ended {
    /// Fails unless it ended with this exit code and its report says the same.
    #[track_caller]
    pub fn assert_code(&self, code: i32) {
        assert_eq!(self.code, Some(code), "{self}");
        assert_eq!(self.code, Some(i32::from(self.report().exit_status().code())), "{self}");
    }

    /// Its report; fails when there is none.
    #[track_caller]
    pub fn report(&self) -> &Report {
        self.report.as_ref().unwrap_or_else(|| panic!("no report: {self}"))
    }

    /// Fails unless it ended with one of these codes and one clear sentence that has all `words`.
    #[track_caller]
    pub fn assert_failed(&self, codes: &[i32], words: &[&str]) {
        assert!(
            self.code.is_some_and(|code| codes.contains(&code)),
            "expected one of {codes:?}: {self}"
        );
        let report = self.report();
        assert!(
            !report.message.is_empty() && !report.message.contains('\n'),
            "not one sentence: {self}"
        );
        let all = format!("{} {}", report.message, report.hint).to_lowercase();
        for word in words {
            assert!(all.contains(&word.to_lowercase()), "{word:?} is not named: {self}");
        }
    }

    /// Why a path was skipped; fails when it was not.
    #[track_caller]
    pub fn why_skipped(&self, path: &str) -> &str {
        let item = self.report().skipped.first.iter().find(|item| item.path == path);
        &item.unwrap_or_else(|| panic!("{path} is not named: {self}")).why
    }
}

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let tail: Vec<&str> = self.log.lines().rev().take(30).collect();
        let tail: Vec<&str> = tail.into_iter().rev().collect();
        write!(
            f,
            "{} ended with {:?}, report {:#?}, log:\n{}",
            self.side,
            self.code,
            self.report,
            tail.join("\n")
        )
    }
}
