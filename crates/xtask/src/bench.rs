//! Benchmarks: a mover against the real tool, side by side in one run; the operator in a cluster.

pub(crate) mod data;
mod measure;
mod movers;
mod operator;
mod peer;
mod restic;
mod verdict;
mod workloads;

use anyhow::Result;
use serde_json::{Value, json};

use crate::args::{BenchOptions, Output, RsyncBenchOptions, Subject, Workload};
use crate::repository;
use crate::setup::{self, Need};
use crate::table;
use measure::Measured;
use verdict::Verdict;
use workloads::{Bench, Row, Tool};

/// Measures what was asked for and prints it.
pub(crate) fn bench(options: &BenchOptions) -> Result<()> {
    match &options.subject {
        Subject::Rsync(options) => rsync(options),
        Subject::Restic(options) => restic::restic(options),
        Subject::Operator(options) => operator::operator(options),
    }
}

/// Runs the workloads asked for and prints the table.
fn rsync(options: &RsyncBenchOptions) -> Result<()> {
    setup::setup(vec![Need::Bench])?;
    let bench = Bench {
        movers: repository::build_release("rsync")?,
        runs: if options.quick { 1 } else { options.runs },
        divisor: if options.quick { 20 } else { 1 },
    };
    let workloads = if options.workloads.is_empty() { Workload::all() } else { &options.workloads };
    let mut rows = Vec::new();
    for workload in workloads {
        eprintln!("{}: running", workload.name());
        let row = bench.run(*workload)?;
        if options.output == Output::Table {
            // What is known already is worth seeing when a later workload fails.
            eprintln!("{}", sentence(&row));
        }
        rows.push(row);
    }
    match options.output {
        Output::Table => print_tables(&rows, &bench),
        Output::Json => println!("{:#}", Value::Array(rows.iter().map(as_json).collect())),
    }
    Ok(())
}

fn sentence(row: &Row) -> String {
    format!(
        "{}: {} (goal {}): {}",
        row.workload.name(),
        row.verdict.figure,
        row.verdict.goal,
        row.verdict.word()
    )
}

fn print_tables(rows: &[Row], bench: &Bench) {
    let mut times = vec![table::row([
        "workload", "ours", "rsync", "rsync -z", "figure", "goal", "at least", "verdict",
    ])];
    for row in rows {
        let Verdict { figure, goal, floor, .. } = &row.verdict;
        times.push(vec![
            format!("{}: {}", row.workload.name(), row.data),
            best_and_median(row.of(Tool::Ours)),
            best_and_median(row.of(Tool::Rsync)),
            best_and_median(row.of(Tool::RsyncCompressed)),
            figure.clone(),
            goal.clone(),
            floor.clone(),
            row.verdict.word().to_owned(),
        ]);
    }
    println!("\nwall time, best of {} (median); rsync -aAhHSx --delete -e ssh\n", bench.runs);
    println!("{}", table::table(&times));

    let mut costs = vec![table::row([
        "workload",
        "tool",
        "processor time",
        "on the wire",
        "source peak",
        "destination peak",
    ])];
    for row in rows {
        for (tool, runs) in &row.results {
            let Some(best) = best(runs) else { continue };
            costs.push(vec![
                row.workload.name(),
                tool.name().to_owned(),
                table::seconds(best.processor),
                table::bytes(best.wire_bytes),
                peak(best.source_peak),
                peak(best.destination_peak),
            ]);
        }
    }
    println!(
        "processor time of all processes of both ends; wire bytes before encryption; peak memory of one process\n"
    );
    println!("{}", table::table(&costs));
    for note in rows.iter().flat_map(|row| &row.notes) {
        println!("{note}");
    }
}

fn peak(bytes: Option<u64>) -> String {
    bytes.map_or_else(|| "-".to_owned(), table::bytes)
}

fn best(runs: &[Measured]) -> Option<&Measured> {
    runs.iter().min_by_key(|run| run.wall)
}

fn median(runs: &[Measured]) -> Option<&Measured> {
    let mut sorted: Vec<&Measured> = runs.iter().collect();
    sorted.sort_by_key(|run| run.wall);
    sorted.get(sorted.len() / 2).copied()
}

fn best_and_median(runs: &[Measured]) -> String {
    match (best(runs), median(runs)) {
        (Some(best), Some(median)) => {
            format!("{} ({:.2})", table::seconds(best.wall), median.wall.as_secs_f64())
        }
        (None, _) | (_, None) => "-".to_owned(),
    }
}

fn as_json(row: &Row) -> Value {
    let runs = |runs: &[Measured]| -> Vec<Value> {
        runs.iter()
            .map(|run| {
                json!({
                    "wallSeconds": run.wall.as_secs_f64(),
                    "processorSeconds": run.processor.as_secs_f64(),
                    "wireBytes": run.wire_bytes,
                    "sourcePeakBytes": run.source_peak,
                    "destinationPeakBytes": run.destination_peak,
                })
            })
            .collect()
    };
    json!({
        "workload": row.workload.name(),
        "data": row.data,
        "figure": row.verdict.figure,
        "goal": row.verdict.goal,
        "atLeast": row.verdict.floor,
        "verdict": row.verdict.word(),
        "runs": row.results.iter().map(|(tool, list)| json!({ "tool": tool.name(), "runs": runs(list) })).collect::<Vec<_>>(),
        "notes": row.notes,
    })
}
