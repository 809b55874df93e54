//! Starts, listens to, stops and reaps mover processes.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus as ProcessStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufRead, AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::oneshot;
use volsync_contract::{Event, ExitStatus, Report};

use crate::error::Error;
use crate::state_directory::{self, StateDirectory};

/// How long a mover may take to stop before it is killed.
const GRACE: Duration = Duration::from_secs(10);
/// The longest line of a mover that is looked at.
const LONGEST_LINE: usize = 64 * 1024;
/// How many of its last log lines are kept, for when it ends without a report.
const TAIL_LINES: usize = 5;

/// What to start.
#[derive(Debug)]
pub(crate) struct Start {
    pub(crate) program: PathBuf,
    /// Its whole environment.
    pub(crate) environment: BTreeMap<OsString, OsString>,
    /// Its own directory, with process id, report and log.
    pub(crate) directory: PathBuf,
    pub(crate) report: PathBuf,
    /// Whether its log lines are shown too.
    pub(crate) show_log: bool,
    /// What the messages call it.
    pub(crate) name: String,
}

/// What a mover said or did. `mover` tells one process from the next of the same replication.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) mover: u64,
    pub(crate) what: What,
}

/// What a mover said or did.
#[derive(Debug)]
pub(crate) enum What {
    Event(Event),
    Ended(Ending),
}

/// How a mover ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ending {
    /// Its report, if it left one that agrees with its exit code.
    pub(crate) report: Option<Box<Report>>,
    /// What is known when there is no report.
    pub(crate) message: String,
}

/// A running mover. Dropping it ends the process at once.
#[derive(Debug)]
pub(crate) struct Mover {
    pub(crate) id: u64,
    pid: Option<Pid>,
    stop: Option<oneshot::Sender<()>>,
}

impl Mover {
    /// Asks it to stop; it is killed if it does not. It still tells how it ended.
    pub(crate) fn stop(&mut self) {
        if let Some(stop) = self.stop.take()
            && stop.send(()).is_err()
        {
            tracing::debug!(mover = self.id, "the mover has ended already");
        }
    }
}

impl Mover {
    /// Ends it at once.
    pub(crate) fn kill(&self) {
        if let Some(pid) = self.pid {
            signal(pid, Signal::KILL);
        }
    }
}

/// Starts a mover; what it says arrives at `told`.
pub(crate) fn start(id: u64, start: Start, told: UnboundedSender<Told>) -> Result<Mover, Error> {
    state_directory::remove(&start.report)?;
    let log_path = start.directory.join("log");
    let log =
        File::create(&log_path).map_err(|source| Error::WriteFile { path: log_path, source })?;
    let mut child = Command::new(&start.program)
        .env_clear()
        .envs(&start.environment)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // A terminal's interrupt is ours to hand on.
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(|source| Error::StartMover { path: start.program.clone(), source })?;
    if let Some(pid) = child.id() {
        let started = start_time(pid).unwrap_or_default();
        state_directory::write(
            &start.directory.join("pid"),
            format!("{pid} {started}\n").as_bytes(),
        )?;
    }
    let (stop, stopped) = oneshot::channel();
    let pid = child.id().and_then(pid);
    let stdout = child.stdout.take();
    let stderr = child.stderr.take();
    tokio::spawn(async move {
        let events = told.clone();
        let listen = async {
            if let Some(stdout) = stdout {
                read_events(BufReader::new(stdout), id, &events).await;
            }
        };
        let write_log = async {
            match stderr {
                Some(stderr) => keep_log(BufReader::new(stderr), log, &start).await,
                None => Vec::new(),
            }
        };
        let (ended, (), tail) = tokio::join!(reap(child, stopped), listen, write_log);
        let ending = ending(ended, &start.report, &tail);
        if let Err(error) = state_directory::remove(&start.directory.join("pid")) {
            tracing::warn!(%error, "a process id stays behind");
        }
        if told.send(Told { mover: id, what: What::Ended(ending) }).is_err() {
            tracing::debug!(mover = id, "nobody waits for this mover any more");
        }
    });
    Ok(Mover { id, pid, stop: Some(stop) })
}

async fn reap(mut child: Child, stop: oneshot::Receiver<()>) -> std::io::Result<ProcessStatus> {
    // A mover that was dropped has to stop just like one that was asked to.
    tokio::select! {
        status = child.wait() => return status,
        _ = stop => {}
    }
    if let Some(pid) = child.id().and_then(pid) {
        signal(pid, Signal::TERM);
    }
    match tokio::time::timeout(GRACE, child.wait()).await {
        Ok(status) => status,
        Err(_) => {
            child.start_kill()?;
            child.wait().await
        }
    }
}

async fn read_events(mut stdout: impl AsyncBufRead + Unpin, id: u64, told: &UnboundedSender<Told>) {
    let mut line = Vec::new();
    while next_line(&mut stdout, &mut line).await {
        match serde_json::from_slice(&line) {
            Ok(event) => {
                if told.send(Told { mover: id, what: What::Event(event) }).is_err() {
                    tracing::debug!(mover = id, "nobody listens to this mover any more");
                }
            }
            Err(_) => tracing::debug!(line = %line.escape_ascii(), "not an event"),
        }
    }
}

async fn keep_log(
    mut stderr: impl AsyncBufRead + Unpin,
    mut log: File,
    start: &Start,
) -> Vec<String> {
    let mut tail = Vec::new();
    let mut line = Vec::new();
    while next_line(&mut stderr, &mut line).await {
        if let Err(error) = log.write_all(&line).and_then(|()| log.write_all(b"\n")) {
            tracing::debug!(%error, "a log line is lost");
        }
        let text = String::from_utf8_lossy(&line).into_owned();
        if start.show_log {
            tracing::info!(target: "mover", name = start.name, "{text}");
        }
        if tail.len() == TAIL_LINES {
            tail.remove(0);
        }
        tail.push(text);
    }
    tail
}

/// The next line, without its end and cut at [`LONGEST_LINE`]; `false` at the end of input.
async fn next_line(input: &mut (impl AsyncBufRead + Unpin), line: &mut Vec<u8>) -> bool {
    line.clear();
    loop {
        let Ok(bytes) = input.fill_buf().await else { return false };
        if bytes.is_empty() {
            return !line.is_empty();
        }
        let end = bytes.iter().position(|&byte| byte == b'\n');
        let part = &bytes[..end.unwrap_or(bytes.len())];
        let room = LONGEST_LINE.saturating_sub(line.len()).min(part.len());
        line.extend_from_slice(&part[..room]);
        let used = part.len() + usize::from(end.is_some());
        input.consume(used);
        if end.is_some() {
            return true;
        }
    }
}

/// A report counts if it is there, can be read and agrees with the exit code.
fn ending(ended: std::io::Result<ProcessStatus>, report: &Path, tail: &[String]) -> Ending {
    use std::os::unix::process::ExitStatusExt;
    let said = match tail.last() {
        Some(line) => format!("; it last said: {line}"),
        None => String::new(),
    };
    let without = |message: String| Ending { report: None, message: format!("{message}{said}") };
    let ended = match ended {
        Ok(ended) => ended,
        Err(error) => return without(format!("the mover cannot be waited for: {error}")),
    };
    let Some(code) = ended.code() else {
        let signal = ended.signal().unwrap_or_default();
        return without(format!("the mover was ended by signal {signal}"));
    };
    let found = match fs::read_to_string(report) {
        Ok(text) => {
            Report::from_json(&text).map_err(|error| format!("its report cannot be read: {error}"))
        }
        Err(error) => Err(format!("it left no report: {}", crate::words::io_reason(&error))),
    };
    match (ExitStatus::from_code(code), found) {
        (Some(status), Ok(report)) if report.exit_status() == status => {
            Ending { report: Some(Box::new(report)), message: String::new() }
        }
        (_, Ok(_)) => without(format!(
            "the mover ended with exit code {code}, which its report does not agree with"
        )),
        (_, Err(why)) => without(format!("the mover ended with exit code {code}; {why}")),
    }
}

/// Ends movers that a killed runner left behind; the lock must be held.
pub(crate) fn end_stale(state: &StateDirectory) -> Result<usize, Error> {
    let mut ended = 0;
    for kind in entries(&state.movers()) {
        for directory in entries(&kind).iter().flat_map(|namespace| entries(namespace)) {
            let file = directory.join("pid");
            let Some(text) = state_directory::read(&file)? else { continue };
            ended += usize::from(end_one(&text));
            state_directory::remove(&file)?;
        }
    }
    Ok(ended)
}

fn end_one(recorded: &str) -> bool {
    let mut parts = recorded.split_whitespace().map(str::parse::<u64>);
    let (Some(Ok(number)), Some(Ok(started))) = (parts.next(), parts.next()) else { return false };
    let Ok(number) = u32::try_from(number) else { return false };
    let lives = || start_time(number) == Some(started);
    let (true, Some(pid)) = (started != 0 && lives(), pid(number)) else { return false };
    signal(pid, Signal::TERM);
    for _ in 0..50 {
        if !lives() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    signal(pid, Signal::KILL);
    true
}

fn entries(directory: &Path) -> Vec<PathBuf> {
    let found = fs::read_dir(directory).into_iter().flatten();
    found.filter_map(|entry| entry.ok().map(|entry| entry.path())).collect()
}

fn pid(number: u32) -> Option<Pid> {
    i32::try_from(number).ok().and_then(Pid::from_raw)
}

fn signal(pid: Pid, signal: Signal) {
    if let Err(error) = kill_process(pid, signal) {
        tracing::debug!(%error, "a signal did not arrive");
    }
}

/// When a process started, in ticks since the machine did; tells a process from a later one of its number.
fn start_time(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything; a zombie has ended.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    if fields.next()? == "Z" {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use tokio::sync::mpsc;

    struct Script {
        directory: tempfile::TempDir,
    }

    impl Script {
        fn new(text: &str) -> Self {
            let directory = tempfile::tempdir().unwrap();
            let program = directory.path().join("mover");
            fs::write(&program, format!("#!/bin/sh\n{text}\n")).unwrap();
            fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
            Self { directory }
        }

        fn start(&self, told: UnboundedSender<Told>) -> Mover {
            let directory = self.directory.path().to_owned();
            let report = directory.join("report");
            let environment =
                BTreeMap::from([(OsString::from("REPORT"), report.clone().into_os_string())]);
            let program = directory.join("mover");
            let what = Start {
                program,
                environment,
                directory,
                report,
                show_log: false,
                name: "a".into(),
            };
            start(1, what, told).unwrap()
        }
    }

    fn ends(script: &str, stop: bool) -> (Vec<Event>, Ending) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let script = Script::new(script);
            let (sender, mut told) = mpsc::unbounded_channel();
            let mut mover = script.start(sender);
            let mut events = Vec::new();
            loop {
                let said =
                    tokio::time::timeout(Duration::from_secs(20), told.recv()).await.unwrap();
                match said.unwrap().what {
                    What::Event(event) => {
                        events.push(event);
                        if stop {
                            mover.stop();
                        }
                    }
                    What::Ended(ending) => {
                        assert!(!script.directory.path().join("pid").exists());
                        return (events, ending);
                    }
                }
            }
        })
    }

    const COMPLETE: &str = r#"{"version":1,"outcome":"complete"}"#;
    const LISTENING: &str = r#"{"event":"listening","address":"127.0.0.1:4"}"#;

    #[test]
    fn an_exit_code_without_a_report_is_a_failure() {
        for (script, why) in [
            ("exit 0", "exit code 0; it left no report"),
            (
                "echo no space >&2; exit 7",
                "exit code 7; it left no report: no such file or directory; it last said: no space",
            ),
            ("echo '{' > $REPORT; exit 0", "exit code 0; its report cannot be read"),
            ("kill -9 $$", "ended by signal 9"),
        ] {
            let (_, ending) = ends(script, false);
            assert_eq!(ending.report, None, "{script}");
            assert!(ending.message.contains(why), "{script}: {}", ending.message);
        }
    }

    #[test]
    fn a_report_that_disagrees_with_the_exit_code_does_not_count() {
        let (_, ending) = ends(&format!("echo '{COMPLETE}' > $REPORT; exit 1"), false);
        assert_eq!(ending.report, None);
        assert!(ending.message.contains("exit code 1, which its report does not agree with"));
    }

    #[test]
    fn events_are_read_and_whatever_else_is_on_the_way_is_passed_over() {
        let garbage = "head -c 200000 /dev/zero; echo; echo '{\"event\":\"dancing\"}'; printf '\\377\\376\\n'";
        let script = format!("{garbage}; echo '{LISTENING}'; echo '{COMPLETE}' > $REPORT");
        let (events, ending) = ends(&format!("PATH=/usr/bin:/bin; {script}"), false);
        assert_eq!(events, [Event::Listening { address: "127.0.0.1:4".parse().unwrap() }]);
        assert!(ending.report.is_some(), "{}", ending.message);
    }

    #[test]
    fn a_mover_is_asked_to_stop_and_may_still_report() {
        let script = format!(
            "PATH=/usr/bin:/bin; end() {{ echo '{COMPLETE}' > $REPORT; exit 0; }}; trap end TERM; \
             echo '{LISTENING}'; while :; do sleep 0.05; done"
        );
        let (_, ending) = ends(&script, true);
        assert!(ending.report.is_some(), "{}", ending.message);
    }

    #[test]
    fn a_mover_of_a_killed_runner_is_ended_and_a_stranger_with_its_number_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let state = StateDirectory::new(directory.path().to_owned());
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let started = start_time(child.id()).unwrap();
        let file = directory.path().join("movers/ReplicationSource/default/a/pid");
        state_directory::write(&file, format!("{} {}", child.id(), started + 1).as_bytes())
            .unwrap();
        assert_eq!(end_stale(&state).unwrap(), 0);
        assert!(child.try_wait().unwrap().is_none());
        state_directory::write(&file, format!("{} {started}", child.id()).as_bytes()).unwrap();
        assert_eq!(end_stale(&state).unwrap(), 1);
        assert!(!child.wait().unwrap().success());
        assert!(!file.exists());
    }
}
