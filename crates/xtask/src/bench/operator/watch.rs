//! `Watches`: what becomes of the objects of a namespace, and when that was seen.

use std::collections::HashSet;
use std::io::BufReader;
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use serde_json::{Deserializer, Value};
use volsync_testing::scenario::Cluster;

/// An object as it was when it had changed.
#[derive(Debug)]
pub(super) struct Seen {
    /// By our own clock: those of the API are to the second.
    pub(super) at: Instant,
    pub(super) object: Value,
}

impl Seen {
    /// The text at a path such as `/metadata/uid`; empty if there is none.
    pub(super) fn text(&self, pointer: &str) -> &str {
        self.object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
    }
}

/// One `kubectl get --watch` for each kind.
#[derive(Debug)]
pub(super) struct Watches {
    processes: Vec<Child>,
    events: Receiver<Result<Seen>>,
    /// UIDs of all objects seen so far.
    known: HashSet<String>,
}

impl Watches {
    /// Watches these kinds in the namespace of `cluster`.
    pub(super) fn start(cluster: &Cluster, kinds: &[&'static str]) -> Result<Self> {
        let (tell, events) = channel();
        let mut watches = Self { processes: Vec::new(), events, known: HashSet::new() };
        for &kind in kinds {
            let arguments = ["get", kind, "--watch", "--output-watch-events", "--output", "json"];
            let mut command = cluster.command(&arguments);
            command.stdin(Stdio::null()).stdout(Stdio::piped());
            let mut process = command.spawn().context("cannot start kubectl get --watch")?;
            let stdout = process.stdout.take().context("kubectl has no standard output")?;
            watches.processes.push(process);
            let tell = tell.clone();
            thread::spawn(move || read(kind, BufReader::new(stdout), &tell));
        }
        Ok(watches)
    }

    /// The next change before `deadline`. What is being deleted is passed over.
    pub(super) fn next(&mut self, deadline: Instant) -> Result<Option<Seen>> {
        loop {
            let wait = deadline.saturating_duration_since(Instant::now());
            let seen = match self.events.recv_timeout(wait) {
                Ok(seen) => seen?,
                Err(RecvTimeoutError::Timeout) => return Ok(None),
                Err(RecvTimeoutError::Disconnected) => bail!("every watch has ended"),
            };
            self.known.insert(seen.text("/metadata/uid").to_owned());
            if seen.object["metadata"]["deletionTimestamp"].is_null() {
                return Ok(Some(seen));
            }
        }
    }

    /// Passes over everything that was seen by now; the UIDs of all objects seen so far.
    pub(super) fn known(&mut self) -> Result<HashSet<String>> {
        while self.next(Instant::now() + Duration::from_millis(100))?.is_some() {}
        Ok(self.known.clone())
    }
}

impl Drop for Watches {
    fn drop(&mut self) {
        for process in &mut self.processes {
            if process.kill().is_ok() {
                // It ends, and is no longer of interest.
                drop(process.wait());
            }
        }
    }
}

/// Hands on what one watch says until it ends or nobody listens.
fn read(kind: &str, stdout: impl std::io::Read, tell: &Sender<Result<Seen>>) {
    for event in Deserializer::from_reader(stdout).into_iter::<Value>() {
        let at = Instant::now();
        let seen = match event {
            Ok(mut event) if event["type"] != "ERROR" => {
                Ok(Seen { at, object: event["object"].take() })
            }
            Ok(error) => Err(anyhow!("the watch of {kind} broke off: {}", error["object"])),
            Err(error) => Err(anyhow!("cannot read the watch of {kind}: {error}")),
        };
        if tell.send(seen).is_err() {
            return;
        }
    }
    // Fails if nobody listens any more.
    drop(tell.send(Err(anyhow!("the watch of {kind} has ended"))));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watch_is_read_object_by_object_and_its_end_is_an_error() {
        let (tell, events) = channel();
        let said = br#"{"type": "ADDED", "object": {"kind": "Job"}}
            {"type": "MODIFIED", "object": {"kind": "Pod"}}"#;
        read("jobs", said.as_slice(), &tell);
        assert_eq!(events.recv().unwrap().unwrap().text("/kind"), "Job");
        assert_eq!(events.recv().unwrap().unwrap().text("/kind"), "Pod");
        let end = events.recv().unwrap().unwrap_err().to_string();
        assert!(end.contains("jobs has ended"), "{end}");
    }
}
