//! The restic mover against restic itself, on repositories in memory.

mod tools;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use volsync_testing::Scratch;
use volsync_testing::compare::rsync_differences;
use volsync_testing::tree::mutate;

use self::tools::{Repository, Tool};
use super::measure::Measured;
use super::verdict::Verdict;
use super::workloads::{OnDisk, describe, empty};
use super::{best_and_median, data, peak};
use crate::args::{BackupWorkload, Output, ResticBenchOptions};
use crate::repository;
use crate::setup::{self, Need};
use crate::table;

/// Snapshots before a prune, each of a few changes more.
const GENERATIONS: u64 = 20;

/// One row of the table.
struct Row {
    name: String,
    data: String,
    ours: Vec<Measured>,
    restic: Vec<Measured>,
    verdict: Verdict,
}

/// Runs the workloads asked for and prints the table.
pub(super) fn restic(options: &ResticBenchOptions) -> Result<()> {
    setup::setup(vec![Need::Bench])?;
    let bench = Bench {
        movers: repository::build_release("restic")?,
        runs: if options.quick { 1 } else { options.runs },
        divisor: if options.quick { 20 } else { 1 },
    };
    let chosen =
        if options.workloads.is_empty() { BackupWorkload::all() } else { &options.workloads };
    let mut rows = Vec::new();
    for workload in chosen {
        eprintln!("{}: running", workload.name());
        for row in bench.run(*workload)? {
            eprintln!(
                "{}: {} (goal {}): {}",
                row.name,
                row.verdict.figure,
                row.verdict.goal,
                row.verdict.word()
            );
            rows.push(row);
        }
    }
    match options.output {
        Output::Table => print(&rows, bench.runs),
        Output::Json => println!("{:#}", Value::Array(rows.iter().map(as_json).collect())),
    }
    Ok(())
}

/// What all workloads share.
struct Bench {
    movers: PathBuf,
    runs: u32,
    divisor: u64,
}

impl Bench {
    fn run(&self, workload: BackupWorkload) -> Result<Vec<Row>> {
        match workload {
            BackupWorkload::SourceTree => self.source_tree(),
            BackupWorkload::Unchanged => self.unchanged(),
            BackupWorkload::Large => self.large(),
            BackupWorkload::Prune => self.prune(),
            BackupWorkload::Memory => self.memory(),
        }
    }

    fn tool(&self, tool: Tool) -> Repository<'_> {
        Repository::new(tool, &self.movers)
    }

    /// A first backup, a restore of it, and a restore over what was restored.
    fn source_tree(&self) -> Result<Vec<Row>> {
        let scratch = Scratch::in_memory();
        let source = scratch.dir("source");
        data::source_tree(&source, self.divisor > 1)?;
        let mut runs = [Runs::default(), Runs::default(), Runs::default()];
        for _ in 0..self.runs {
            for tool in Tool::ALL {
                let repository = self.tool(tool);
                let restored = scratch.dir("restored");
                runs[0].add(tool, repository.back_up(&source)?);
                runs[1].add(tool, repository.restore(&restored)?);
                runs[2].add(tool, repository.restore(&restored)?);
                same(&source, &restored)?;
                repository.check()?;
                empty(&restored)?;
            }
        }
        let data = describe(&source)?;
        let rows = ["first backup", "restore", "restore over the same"].into_iter().zip(runs);
        let wanted = [(2.0, 1.0), (2.0, 1.2), (5.0, 1.0)];
        Ok(rows
            .zip(wanted)
            .map(|((name, runs), (goal, floor))| runs.into_row(name, data.clone(), goal, floor))
            .collect())
    }

    /// A second backup of very many files of which none changed.
    fn unchanged(&self) -> Result<Vec<Row>> {
        let scratch = Scratch::in_memory();
        let source = scratch.dir("source");
        data::many_files(&source, 500_000 / self.divisor, 20, 200)?;
        let mut runs = Runs::default();
        for tool in Tool::ALL {
            let repository = self.tool(tool);
            repository.back_up(&source)?;
            for _ in 0..self.runs {
                runs.add(tool, repository.back_up(&source)?);
            }
            repository.check()?;
        }
        Ok(vec![runs.into_row("nothing changed", describe(&source)?, 3.0, 1.0)])
    }

    /// Large files that do not compress, there and back.
    fn large(&self) -> Result<Vec<Row>> {
        // Memory holds the repository and what is restored; the source is read from the page cache.
        let disk = OnDisk::new()?;
        let scratch = Scratch::in_memory();
        let source = disk.dir("source")?;
        for number in 0..4 {
            // A size of its own, or all would be the same.
            let size = (1 << 30) / self.divisor + number * 4096;
            data::large_file(&source.join(format!("file-{number}")), size)?;
        }
        let (mut there, mut back) = (Runs::default(), Runs::default());
        for tool in Tool::ALL {
            for _ in 0..self.runs {
                let repository = self.tool(tool);
                let restored = scratch.dir("restored");
                there.add(tool, repository.back_up(&source)?);
                back.add(tool, repository.restore(&restored)?);
                same(&source, &restored)?;
                empty(&restored)?;
            }
        }
        let data = describe(&source)?;
        Ok(vec![
            there.into_row("large files: backup", data.clone(), 1.5, 1.0),
            back.into_row("large files: restore", data, 1.5, 1.0),
        ])
    }

    /// The last of many snapshots is kept, the others go with what only they had.
    fn prune(&self) -> Result<Vec<Row>> {
        let scratch = Scratch::in_memory();
        let source = scratch.dir("source");
        data::source_tree(&source, true)?;
        let all = self.tool(Tool::Ours);
        for generation in 0..GENERATIONS {
            mutate(&source, generation, 200, volsync_testing::Privilege::own());
            data::large_file(&source.join("changes"), (16 << 20) + generation)?;
            all.back_up(&source)?;
        }
        let mut runs = Runs::default();
        for _ in 0..self.runs {
            for tool in Tool::ALL {
                let copy = self.tool(tool);
                copy.take_over(&all)?;
                runs.add(tool, copy.prune(&source)?);
                copy.check()?;
            }
        }
        let data = format!("{GENERATIONS} snapshots of {}", describe(&source)?);
        Ok(vec![runs.into_row("prune", data, 2.0, 1.0)])
    }

    /// The largest process of a backup and of a restore.
    fn memory(&self) -> Result<Vec<Row>> {
        let scratch = Scratch::in_memory();
        let source = scratch.dir("source");
        data::many_files(&source, 1_000_000 / self.divisor, 20, 60)?;
        let mut runs = Runs::default();
        for tool in Tool::ALL {
            let repository = self.tool(tool);
            let restored = scratch.dir("restored");
            runs.add(tool, repository.back_up(&source)?);
            runs.add(tool, repository.restore(&restored)?);
            empty(&restored)?;
        }
        let most = |runs: &[Measured]| runs.iter().filter_map(|run| run.source_peak).max();
        let ours = most(&runs.ours).context("our memory was not seen")?;
        let restic = most(&runs.restic).context("the memory of restic was not seen")?;
        let verdict = Verdict::at_most_mib(ours, 250, restic >> 20);
        let Runs { ours, restic } = runs;
        let data = describe(&source)?;
        Ok(vec![Row { name: "memory".to_owned(), data, ours, restic, verdict }])
    }
}

/// The runs of both tools.
#[derive(Default)]
struct Runs {
    ours: Vec<Measured>,
    restic: Vec<Measured>,
}

impl Runs {
    fn add(&mut self, tool: Tool, measured: Measured) {
        eprintln!("  {}: {}", tool.name(), table::seconds(measured.wall));
        match tool {
            Tool::Ours => self.ours.push(measured),
            Tool::Restic => self.restic.push(measured),
        }
    }

    fn into_row(self, name: &str, data: String, goal: f64, floor: f64) -> Row {
        let best = |runs: &[Measured]| {
            runs.iter().map(|run| run.wall.as_secs_f64()).fold(f64::INFINITY, f64::min)
        };
        let verdict = Verdict::times_faster(best(&self.restic) / best(&self.ours), goal, floor);
        Row { name: name.to_owned(), data, ours: self.ours, restic: self.restic, verdict }
    }
}

/// A real rsync finds nothing to do, but for the attributes of the root, which no backup holds.
fn same(source: &Path, restored: &Path) -> Result<()> {
    let found = rsync_differences(source, restored);
    let mut lines = found.lines().filter(|line| !line.ends_with(" ./"));
    match lines.next() {
        None => Ok(()),
        Some(first) => bail!("what was restored differs from its source: {first}"),
    }
}

fn print(rows: &[Row], runs: u32) {
    let mut lines = vec![table::row([
        "workload", "ours", "restic", "our peak", "its peak", "figure", "goal", "at least",
        "verdict",
    ])];
    for row in rows {
        let most = |runs: &[Measured]| peak(runs.iter().filter_map(|run| run.source_peak).max());
        lines.push(vec![
            format!("{}: {}", row.name, row.data),
            best_and_median(&row.ours),
            best_and_median(&row.restic),
            most(&row.ours),
            most(&row.restic),
            row.verdict.figure.clone(),
            row.verdict.goal.clone(),
            row.verdict.floor.clone(),
            row.verdict.word().to_owned(),
        ]);
    }
    println!(
        "\nwall time, best of {runs} (median), and peak memory of one process; repositories in memory\n"
    );
    println!("{}", table::table(&lines));
}

fn as_json(row: &Row) -> Value {
    let runs = |runs: &[Measured]| -> Vec<Value> {
        runs.iter()
            .map(|run| {
                json!({
                    "wallSeconds": run.wall.as_secs_f64(),
                    "processorSeconds": run.processor.as_secs_f64(),
                    "peakBytes": run.source_peak,
                })
            })
            .collect()
    };
    json!({
        "workload": row.name,
        "data": row.data,
        "figure": row.verdict.figure,
        "goal": row.verdict.goal,
        "verdict": row.verdict.word(),
        "ours": runs(&row.ours),
        "restic": runs(&row.restic),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_best_runs_are_held_against_each_other() {
        let took = |seconds| Measured { wall: Duration::from_secs(seconds), ..Measured::default() };
        let runs = Runs { ours: vec![took(4), took(2)], restic: vec![took(5), took(9)] };
        let row = runs.into_row("backup", String::new(), 2.0, 1.0);
        assert_eq!((row.verdict.figure.as_str(), row.verdict.word()), ("2.50x", "goal reached"));
    }

    #[test]
    fn the_attributes_of_the_root_are_its_owners() {
        let scratch = Scratch::new();
        let (a, b) = (scratch.dir("a"), scratch.dir("b"));
        std::fs::write(a.join("file"), "one").unwrap();
        assert!(same(&a, &b).is_err());
        data::copy(&a.join("file"), &b.join("file")).unwrap();
        same(&a, &b).unwrap();
    }
}
