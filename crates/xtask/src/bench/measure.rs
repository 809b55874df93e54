//! What a run costs: wall time, processor time of both ends, peak memory, by `/proc`.

use std::collections::BTreeMap;
use std::fs;
use std::process::{Child, ExitStatus};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

/// What one run of one tool cost.
#[derive(Debug, Clone, Default)]
pub(crate) struct Measured {
    /// From start to end.
    pub(crate) wall: Duration,
    /// Of all processes of both ends, user and system.
    pub(crate) processor: Duration,
    /// Both ways, before encryption.
    pub(crate) wire_bytes: u64,
    /// The largest process of the sending end; `None` where it was not watched.
    pub(crate) source_peak: Option<u64>,
    /// The largest process of the receiving end.
    pub(crate) destination_peak: Option<u64>,
}

/// How a child ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) at: Instant,
    /// Of the child and of every process it waited for.
    pub(crate) processor: Duration,
}

/// Waits for a child and reads what it used before it is reaped.
pub(crate) fn wait(mut child: Child) -> Result<Ended> {
    let pid = child.id();
    let id = Pid::from_raw(pid.cast_signed()).context("a child has a process id")?;
    waitid(WaitId::Pid(id), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT)
        .with_context(|| format!("cannot wait for process {pid}"))?;
    let at = Instant::now();
    let processor =
        Process::read(pid).map(|process| process.own + process.children).unwrap_or_default();
    let status = child.wait().with_context(|| format!("cannot wait for process {pid}"))?;
    Ok(Ended { status, at, processor })
}

/// One line of the process table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Process {
    pub(crate) id: u32,
    pub(crate) name: String,
    pub(crate) parent: u32,
    /// Processor time of the process itself.
    pub(crate) own: Duration,
    /// Processor time of the children it has waited for, and theirs.
    pub(crate) children: Duration,
}

impl Process {
    /// Reads one, if it exists; also one that has ended and was not waited for.
    pub(crate) fn read(id: u32) -> Option<Self> {
        Self::parse(id, &fs::read_to_string(format!("/proc/{id}/stat")).ok()?)
    }

    /// Reads all.
    pub(crate) fn all() -> Vec<Self> {
        let Ok(entries) = fs::read_dir("/proc") else {
            return Vec::new();
        };
        entries
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .filter_map(Self::read)
            .collect()
    }

    fn parse(id: u32, stat: &str) -> Option<Self> {
        // The name stands in parentheses and may itself hold spaces and parentheses.
        let (start, rest) = stat.rsplit_once(')')?;
        let (_, name) = start.split_once('(')?;
        let fields: Vec<&str> = rest.split_whitespace().collect();
        let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<u64>().ok());
        let time = |ticks: u64| {
            Duration::from_millis(ticks * 1000 / rustix::param::clock_ticks_per_second())
        };
        Some(Self {
            id,
            name: name.to_owned(),
            parent: fields.get(1)?.parse().ok()?,
            own: time(ticks(11)? + ticks(12)?),
            children: time(ticks(13)? + ticks(14)?),
        })
    }
}

/// The most memory that a process ever had resident, in bytes.
fn peak_memory(id: u32) -> Option<u64> {
    memory(id, "VmHWM:")
}

/// The memory that a process has resident, in bytes.
pub(crate) fn resident_memory(id: u32) -> Option<u64> {
    memory(id, "VmRSS:")
}

fn memory(id: u32, which: &str) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(which))?;
    line.trim().trim_end_matches(" kB").parse::<u64>().ok().map(|kib| kib * 1024)
}

/// Watches the peak memory of processes below two roots until asked for the result.
#[derive(Debug)]
pub(crate) struct MemoryWatch {
    done: Arc<AtomicBool>,
    thread: JoinHandle<(u64, u64)>,
}

impl MemoryWatch {
    /// Watches the processes called `name` at and below `source` and `destination`.
    pub(crate) fn start(name: &'static str, source: u32, destination: u32) -> Self {
        let done = Arc::new(AtomicBool::new(false));
        let asked = Arc::clone(&done);
        let thread = thread::spawn(move || {
            let mut peaks = (0, 0);
            while !asked.load(Ordering::SeqCst) {
                let all = Process::all();
                for process in all.iter().filter(|process| name.starts_with(&process.name)) {
                    let Some(peak) = peak_memory(process.id) else {
                        continue;
                    };
                    if below(&all, process.id, source) {
                        peaks.0 = peaks.0.max(peak);
                    } else if below(&all, process.id, destination) {
                        peaks.1 = peaks.1.max(peak);
                    }
                }
                thread::sleep(Duration::from_millis(100));
            }
            peaks
        });
        Self { done, thread }
    }

    /// The largest process of the source and of the destination.
    pub(crate) fn finish(self) -> (u64, u64) {
        self.done.store(true, Ordering::SeqCst);
        self.thread.join().unwrap_or_default()
    }
}

fn below(all: &[Process], id: u32, root: u32) -> bool {
    let parents: BTreeMap<u32, u32> =
        all.iter().map(|process| (process.id, process.parent)).collect();
    let mut at = id;
    while at != root {
        match parents.get(&at) {
            Some(parent) if *parent != at && *parent != 0 => at = *parent,
            Some(_) | None => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::process::{Command, Stdio};

    #[test]
    fn a_name_with_parentheses_is_read() {
        let stat = "17 (a) (b) S 4 17 17 0 -1 4194560 0 0 0 0 100 50 20 10 20 0 1 0 0";
        let process = Process::parse(17, stat).unwrap();
        assert_eq!((process.name.as_str(), process.parent), ("a) (b", 4));
        let tick = 1000 / rustix::param::clock_ticks_per_second();
        assert_eq!(process.own, Duration::from_millis(150 * tick));
        assert_eq!(process.children, Duration::from_millis(30 * tick));
    }

    #[test]
    fn a_child_is_measured_with_its_own_children() {
        let work = "sh -c 'i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done'; exit 5";
        let ended = wait(Command::new("sh").args(["-c", work]).spawn().unwrap()).unwrap();
        assert_eq!(ended.status.code(), Some(5));
        assert!(ended.processor > Duration::ZERO);
    }

    #[test]
    fn memory_is_seen_and_its_peak_is_the_most_of_it() {
        // Another process: our own allocates in other tests meanwhile. Once it has answered it rests.
        let mut cat = Command::new("cat");
        let mut cat = cat.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        cat.stdin.as_mut().unwrap().write_all(b"?").unwrap();
        cat.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
        let resident = resident_memory(cat.id());
        let peak = peak_memory(cat.id());
        cat.kill().unwrap();
        cat.wait().unwrap();
        let (resident, peak) = (resident.unwrap(), peak.unwrap());
        assert!(resident > 100_000, "{resident}");
        assert!(peak >= resident, "{peak} < {resident}");
    }
}
