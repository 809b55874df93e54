//! Benchmarks of the operator that is installed in the project's own cluster.

mod burst;
mod idle;
mod installed;
mod latency;
mod pair;
mod spread;
mod trace;
mod watch;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use volsync_testing::scenario::Cluster;

use crate::args::{OperatorBenchOptions, Output, Question};
use crate::cluster::TestCluster;
use crate::table;
use installed::Installed;

/// What one question found out.
#[derive(Debug, Default)]
struct Finding {
    rows: Vec<Row>,
    /// Where the rows come from: a title, and a table with its heading.
    raw: Vec<(String, Vec<Vec<String>>)>,
}

/// A figure, and what was hoped for.
#[derive(Debug)]
struct Row {
    what: String,
    figure: String,
    goal: Option<Goal>,
}

#[derive(Debug)]
struct Goal {
    text: String,
    reached: bool,
}

impl Row {
    fn with_goal(what: &str, figure: String, goal: &str, reached: bool) -> Self {
        let goal = Some(Goal { text: goal.to_owned(), reached });
        Self { what: what.to_owned(), figure, goal }
    }

    fn without_goal(what: &str, figure: String) -> Self {
        Self { what: what.to_owned(), figure, goal: None }
    }

    fn goal(&self) -> &str {
        self.goal.as_ref().map_or("-", |goal| &goal.text)
    }

    fn word(&self) -> &'static str {
        match &self.goal {
            Some(Goal { reached: true, .. }) => "goal reached",
            Some(Goal { reached: false, .. }) => "NOT REACHED",
            None => "-",
        }
    }
}

/// Starts the cluster unless it runs, asks what was asked for, and prints the table.
pub(super) fn operator(options: &OperatorBenchOptions) -> Result<()> {
    let cluster = TestCluster::installed()?;
    let found = ask(options);
    // Taken down after a failure as well.
    cluster.stop()?;
    let (installed, findings) = found?;
    match options.output {
        Output::Table => print_tables(&installed, &findings),
        Output::Json => println!("{:#}", as_json(&installed, &findings)),
    }
    Ok(())
}

fn ask(options: &OperatorBenchOptions) -> Result<(Installed, Vec<Finding>)> {
    let asked =
        if options.questions.is_empty() { Question::all() } else { options.questions.as_slice() };
    let divisor = if options.quick { 10 } else { 1 };
    let runs = if options.quick { 2 } else { options.runs };
    let mut findings = Vec::new();
    let mut installed = None;
    for question in asked {
        let name = question.name();
        let cluster = Cluster::new(&format!("bench-{name}"))?;
        let operator = Installed::find(&cluster)?;
        eprintln!("{name}: {operator}");
        let finding = match question {
            Question::Latency => latency::latency(&cluster, runs)?,
            Question::Idle => idle::idle(&cluster, &operator, 500 / divisor)?,
            Question::Burst => burst::burst(&cluster, 50 / divisor)?,
        };
        for row in &finding.rows {
            // What is known already is worth seeing when a later question fails.
            eprintln!("{name}: {}: {} (goal {}): {}", row.what, row.figure, row.goal(), row.word());
        }
        findings.push(finding);
        installed = Some(operator);
        // What is being removed must not disturb what is measured next.
        eprintln!("{name}: removing namespace {}", cluster.namespace());
        cluster.run(&["delete", "namespace", cluster.namespace(), "--timeout", "600s"], None)?;
    }
    installed.map(|installed| (installed, findings)).context("nothing was asked")
}

/// Whether a replication is at rest, as the operator says: what its last sync left is gone as well.
fn is_at_rest(replication: &Value) -> bool {
    let conditions = replication["status"]["conditions"].as_array();
    let mut reasons = conditions.into_iter().flatten().filter_map(|said| said["reason"].as_str());
    reasons.any(|reason| reason.starts_with("WaitingFor"))
}

fn print_tables(installed: &Installed, findings: &[Finding]) {
    println!("\n{installed}\n");
    let mut all = vec![table::row(["what", "figure", "goal", "verdict"])];
    for row in findings.iter().flat_map(|finding| &finding.rows) {
        all.push(vec![
            row.what.clone(),
            row.figure.clone(),
            row.goal().to_owned(),
            row.word().to_owned(),
        ]);
    }
    println!("{}", table::table(&all));
    for (title, rows) in findings.iter().flat_map(|finding| &finding.raw) {
        println!("{title}\n\n{}", table::table(rows));
    }
}

fn as_json(installed: &Installed, findings: &[Finding]) -> Value {
    let row = |row: &Row| json!({"what": row.what, "figure": row.figure, "goal": row.goal(), "verdict": row.word()});
    let raw = |(title, rows): &(String, Vec<Vec<String>>)| json!({"title": title, "rows": rows});
    json!({
        "operator": installed.to_string(),
        "rows": findings.iter().flat_map(|finding| &finding.rows).map(row).collect::<Vec<_>>(),
        "raw": findings.iter().flat_map(|finding| &finding.raw).map(raw).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replication_is_at_rest_once_the_operator_says_so() {
        let says = |reason| json!({"status": {"conditions": [{"reason": reason}]}});
        assert!(is_at_rest(&says("WaitingForSchedule")) && is_at_rest(&says("WaitingForManual")));
        assert!(!is_at_rest(&says("CleaningUp")) && !is_at_rest(&json!({})));
    }

    #[test]
    fn a_figure_without_a_goal_has_no_verdict() {
        let row = Row::without_goal("a bare pod", "3 s".to_owned());
        assert_eq!((row.goal(), row.word()), ("-", "-"));
        let row = Row::with_goal("a sync", "6 s".to_owned(), "< 5 s", false);
        assert_eq!((row.goal(), row.word()), ("< 5 s", "NOT REACHED"));
    }
}
