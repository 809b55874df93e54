//! The workloads: what is prepared, what is run, what is verified, what is asked of the figures.

use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use volsync_testing::Scratch;
use volsync_testing::compare::rsync_differences;

use super::data;
use super::measure::Measured;
use super::peer::{self, Compression};
use super::verdict::Verdict;
use super::{best, movers};
use crate::args::Workload;
use crate::command::output;
use crate::repository;
use crate::table;

/// Who is measured. Ours is last, so that its result is there to be verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tool {
    /// Real rsync.
    Rsync,
    /// Real rsync with `-z`.
    RsyncCompressed,
    /// Our movers.
    Ours,
}

impl Tool {
    const ALL: [Self; 3] = [Self::Rsync, Self::RsyncCompressed, Self::Ours];

    /// As printed.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Rsync => "rsync",
            Self::RsyncCompressed => "rsync -z",
            Self::Ours => "ours",
        }
    }
}

/// The runs of every tool.
type Results = Vec<(Tool, Vec<Measured>)>;

/// One row of the table.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) workload: Workload,
    /// What was copied.
    pub(crate) data: String,
    pub(crate) results: Results,
    pub(crate) verdict: Verdict,
    pub(crate) notes: Vec<String>,
}

impl Row {
    /// The runs of one tool.
    pub(crate) fn of(&self, tool: Tool) -> &[Measured] {
        runs_of(&self.results, tool)
    }
}

fn runs_of(results: &[(Tool, Vec<Measured>)], tool: Tool) -> &[Measured] {
    results.iter().find(|(other, _)| *other == tool).map_or(&[], |(_, runs)| runs.as_slice())
}

/// What all workloads share.
#[derive(Debug)]
pub(crate) struct Bench {
    /// Where the release movers are.
    pub(crate) movers: PathBuf,
    /// How often each tool runs.
    pub(crate) runs: u32,
    /// How much smaller than asked for the data is.
    pub(crate) divisor: u64,
}

/// How one workload treats every run.
struct Course<'a> {
    source: &'a Path,
    destination: &'a Path,
    runs: u32,
    delay: Option<Duration>,
    watch_memory: bool,
    /// `sync -f` after rsync, which does not flush by itself as ours does.
    flush: bool,
    /// Brings the destination into its first state.
    reset: &'a dyn Fn() -> Result<()>,
}

impl Bench {
    /// Runs one workload with every tool.
    pub(crate) fn run(&self, workload: Workload) -> Result<Row> {
        match workload {
            Workload::FirstCopy => self.first_copy(),
            Workload::FirstCopyDisk => self.first_copy_disk(),
            Workload::Unchanged => self.unchanged(),
            Workload::Edits => self.edits(),
            Workload::Delayed => self.delayed(),
            Workload::Memory => self.memory(),
        }
    }

    fn first_copy(&self) -> Result<Row> {
        let scratch = Scratch::in_memory();
        let (source, destination) = (scratch.dir("source"), scratch.join("destination"));
        data::source_tree(&source, self.divisor > 1)?;
        let (results, _) = self.measure(&Course {
            source: &source,
            destination: &destination,
            runs: self.runs,
            delay: None,
            watch_memory: false,
            flush: false,
            reset: &|| empty(&destination),
        })?;
        let verdict = Verdict::times_faster(ratio(&results), 3.0, 1.5);
        Ok(Row {
            workload: Workload::FirstCopy,
            data: describe(&source)?,
            results,
            verdict,
            notes: Vec::new(),
        })
    }

    fn first_copy_disk(&self) -> Result<Row> {
        let scratch = Scratch::in_memory();
        let source = scratch.dir("source");
        data::source_tree(&source, self.divisor > 1)?;
        let disk = OnDisk::new()?;
        let destination = disk.0.join("destination");
        let earlier = Cell::new(0);
        let (results, unflushed) = self.measure(&Course {
            source: &source,
            destination: &destination,
            runs: self.runs,
            delay: None,
            watch_memory: false,
            flush: true,
            reset: &|| {
                // Not deleted before all is measured: ext4 does not give an inode out again for
                // minutes after it was freed, and searches past it, which slows whoever comes
                // next several times over.
                if destination.exists() {
                    earlier.set(earlier.get() + 1);
                    let aside = disk.0.join(format!("earlier-{}", earlier.get()));
                    fs::rename(&destination, &aside)
                        .with_context(|| format!("cannot set {} aside", destination.display()))?;
                }
                empty(&destination)?;
                flush(&destination)
            },
        })?;
        let verdict = Verdict::times_faster(ratio(&results), 1.0001, 1.0);
        let mut notes = vec![
            "first-copy-disk: rsync is followed by sync -f, as ours flushes before it ends"
                .to_owned(),
        ];
        if let Some(fastest) = unflushed.iter().min() {
            notes.push(format!(
                "first-copy-disk: rsync alone, unflushed: {}",
                table::seconds(*fastest)
            ));
        }
        Ok(Row {
            workload: Workload::FirstCopyDisk,
            data: describe(&source)?,
            results,
            verdict,
            notes,
        })
    }

    fn unchanged(&self) -> Result<Row> {
        let scratch = Scratch::in_memory();
        let (source, destination) = (scratch.dir("source"), scratch.join("destination"));
        data::many_files(&source, 500_000 / self.divisor, 20, 200)?;
        data::copy(&source, &destination)?;
        let (results, _) = self.measure(&Course {
            source: &source,
            destination: &destination,
            runs: self.runs,
            delay: None,
            watch_memory: false,
            flush: false,
            reset: &|| Ok(()),
        })?;
        let verdict = Verdict::times_faster(ratio(&results), 3.0, 1.5);
        Ok(Row {
            workload: Workload::Unchanged,
            data: describe(&source)?,
            results,
            verdict,
            notes: Vec::new(),
        })
    }

    fn edits(&self) -> Result<Row> {
        let scratch = Scratch::in_memory();
        let (source, destination, old) =
            (scratch.dir("source"), scratch.dir("destination"), scratch.join("old"));
        let size = (2 << 30) / self.divisor;
        data::large_file(&old, size)?;
        let file = source.join("file");
        fs::copy(&old, &file).with_context(|| format!("cannot write {}", file.display()))?;
        let edits = data::scatter_edits(&file, size)?;
        let (results, _) = self.measure(&Course {
            source: &source,
            destination: &destination,
            runs: self.runs,
            delay: None,
            watch_memory: false,
            flush: false,
            reset: &|| {
                empty(&destination)?;
                output(
                    Command::new("cp")
                        .args(["-a", "--reflink=never"])
                        .arg(&old)
                        .arg(destination.join("file")),
                )
                .map(drop)
            },
        })?;
        let wire = |tool| {
            runs_of(&results, tool).iter().map(|run| run.wire_bytes).min().unwrap_or(0) as f64
        };
        let more = wire(Tool::Ours) / wire(Tool::Rsync).min(wire(Tool::RsyncCompressed)).max(1.0);
        let verdict = Verdict::times_faster(ratio(&results), 2.0, 1.2).and(
            more <= 1.1,
            &format!("wire {more:.2}x"),
            "wire at most 1.1x",
        );
        let data = format!("{}, {} edits", table::bytes(size), table::count(edits));
        Ok(Row { workload: Workload::Edits, data, results, verdict, notes: Vec::new() })
    }

    fn delayed(&self) -> Result<Row> {
        let scratch = Scratch::in_memory();
        let (source, destination) = (scratch.dir("source"), scratch.join("destination"));
        data::many_files(&source, 10_000 / self.divisor, 1 << 10, 8 << 10)?;
        let (results, _) = self.measure(&Course {
            source: &source,
            destination: &destination,
            runs: self.runs,
            delay: Some(Duration::from_millis(25)),
            watch_memory: false,
            flush: false,
            reset: &|| empty(&destination),
        })?;
        let verdict = Verdict::times_faster(ratio(&results), 2.0, 1.2);
        let data = format!("{}, 25 ms each way", describe(&source)?);
        Ok(Row { workload: Workload::Delayed, data, results, verdict, notes: Vec::new() })
    }

    fn memory(&self) -> Result<Row> {
        let scratch = Scratch::in_memory();
        let (source, destination) = (scratch.dir("source"), scratch.join("destination"));
        data::many_files(&source, 1_000_000 / self.divisor, 20, 60)?;
        let mut course = Course {
            source: &source,
            destination: &destination,
            runs: 1,
            delay: None,
            watch_memory: true,
            flush: false,
            reset: &|| empty(&destination),
        };
        let (mut results, _) = self.measure(&course)?;
        // The same again with nothing to do: comparing may need more than copying.
        course.reset = &|| Ok(());
        let (again, _) = self.measure(&course)?;
        for ((_, runs), (_, more)) in results.iter_mut().zip(again) {
            for (run, other) in runs.iter_mut().zip(more) {
                run.source_peak = run.source_peak.max(other.source_peak);
                run.destination_peak = run.destination_peak.max(other.destination_peak);
            }
        }
        let peak = |tool| {
            runs_of(&results, tool)
                .iter()
                .filter_map(|run| run.source_peak.max(run.destination_peak))
                .max()
        };
        let verdict = Verdict::at_most_mib(peak(Tool::Ours).unwrap_or(0), 32, 96);
        let mut notes =
            vec!["memory: the larger of a first copy and of a sync without changes".to_owned()];
        if let Some(rsync) = peak(Tool::Rsync) {
            notes.push(format!("memory: the largest process of rsync had {}", table::bytes(rsync)));
        }
        Ok(Row { workload: Workload::Memory, data: describe(&source)?, results, verdict, notes })
    }

    /// Runs the tools in turn, as often as asked for, and verifies our last result. Also returns
    /// what rsync took before it was flushed.
    fn measure(&self, course: &Course<'_>) -> Result<(Results, Vec<Duration>)> {
        let mut results: Results = Tool::ALL.map(|tool| (tool, Vec::new())).into();
        let mut unflushed = Vec::new();
        for number in 0..course.runs {
            for (tool, runs) in &mut results {
                (course.reset)()?;
                let measured = match tool {
                    Tool::Ours => movers::sync(
                        &self.movers,
                        course.source,
                        course.destination,
                        course.delay,
                        course.watch_memory,
                    )?,
                    Tool::Rsync | Tool::RsyncCompressed => {
                        let compression =
                            if *tool == Tool::Rsync { Compression::Off } else { Compression::On };
                        let mut measured = peer::sync(
                            course.source,
                            course.destination,
                            compression,
                            course.delay,
                            course.watch_memory,
                        )?;
                        if course.flush {
                            unflushed.push(measured.wall);
                            let begin = Instant::now();
                            flush(course.destination)?;
                            measured.wall += begin.elapsed();
                        }
                        measured
                    }
                };
                eprintln!(
                    "  run {} of {}, {}: {}",
                    number + 1,
                    course.runs,
                    tool.name(),
                    table::seconds(measured.wall)
                );
                runs.push(measured);
            }
        }
        let differences = rsync_differences(course.source, course.destination);
        if !differences.is_empty() {
            let first: Vec<&str> = differences.lines().take(20).collect();
            bail!(
                "our copy differs from the source by the judgement of rsync:\n{}",
                first.join("\n")
            );
        }
        Ok((results, unflushed))
    }
}

/// How many times faster ours is than the faster rsync.
fn ratio(results: &[(Tool, Vec<Measured>)]) -> f64 {
    let wall = |tool| best(runs_of(results, tool)).map_or(f64::NAN, |run| run.wall.as_secs_f64());
    wall(Tool::Rsync).min(wall(Tool::RsyncCompressed)) / wall(Tool::Ours)
}

pub(super) fn empty(dir: &Path) -> Result<()> {
    if dir.exists() {
        fs::remove_dir_all(dir).with_context(|| format!("cannot remove {}", dir.display()))?;
    }
    fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))
}

fn flush(dir: &Path) -> Result<()> {
    output(Command::new("sync").arg("-f").arg(dir)).map(drop)
}

pub(super) fn describe(dir: &Path) -> Result<String> {
    let (files, bytes) = data::size_of(dir)?;
    Ok(format!("{} files, {}", table::count(files), table::bytes(bytes)))
}

/// A directory on the disk of the user's cache, removed on drop.
pub(super) struct OnDisk(PathBuf);

impl OnDisk {
    /// An empty one.
    pub(super) fn new() -> Result<Self> {
        let dir = repository::cache()?.join(format!("bench/disk-{}", std::process::id()));
        fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
        Ok(Self(dir))
    }

    /// An empty directory in it.
    pub(super) fn dir(&self, name: &str) -> Result<PathBuf> {
        let dir = self.0.join(name);
        empty(&dir)?;
        Ok(dir)
    }
}

impl Drop for OnDisk {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
