//! Builds everything and runs every test, with one closing summary.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::args::TestOptions;
use crate::cluster::TestCluster;
use crate::command::{cargo, line, run};
use crate::repository;
use crate::setup::{self, Need};

/// Sets up, builds, starts a cluster, tests, takes the cluster down, sums up.
pub(crate) fn test(options: &TestOptions) -> Result<()> {
    setup::setup(vec![Need::Test, Need::Image, Need::Cluster])?;
    let root = repository::root();
    let start = Instant::now();
    // The programs under test must lie beside the tests' own executables.
    run(cargo(&root).args(["build", "--workspace", "--all-targets"]))?;
    let cluster = TestCluster::start()?;
    let built = start.elapsed();
    let tested = run_tests(&root, options);
    // Taken down after a failure as well.
    cluster.stop()?;
    let (status, tally) = tested?;

    println!();
    for name in &tally.failures {
        println!("failed: {name}");
    }
    println!("{} passed, {} failed, {} skipped", tally.passed, tally.failed, tally.ignored);
    if tally.ignored > 0 {
        println!("skipped are the long runs: cargo xtask test --long");
    }
    println!(
        "built in {:.0} s, tested in {:.0} s",
        built.as_secs_f64(),
        start.elapsed().saturating_sub(built).as_secs_f64()
    );
    if !status.success() {
        bail!("cargo test failed: {status}");
    }
    if tally.passed == 0 && options.arguments.is_empty() {
        bail!("cargo test ran no test");
    }
    Ok(())
}

fn run_tests(root: &Path, options: &TestOptions) -> Result<(ExitStatus, Tally)> {
    let mut command = cargo(root);
    command.args(["test", "--workspace", "--no-fail-fast"]);
    if options.long {
        command.env("PROPTEST_CASES", "4096");
    }
    if options.long || !options.arguments.is_empty() {
        command.arg("--");
    }
    if options.long {
        command.arg("--include-ignored");
    }
    command.args(&options.arguments);
    eprintln!("$ {}", line(&command));
    let mut child = command.stdout(Stdio::piped()).spawn().context("cannot start cargo test")?;
    let mut tally = Tally::default();
    if let Some(stdout) = child.stdout.take() {
        for text in BufReader::new(stdout).split(b'\n') {
            let text = text.context("cannot read what cargo test prints")?;
            let text = String::from_utf8_lossy(&text);
            println!("{text}");
            tally.read(&text);
        }
    }
    let status = child.wait().context("cannot wait for cargo test")?;
    Ok((status, tally))
}

/// The counts of all test programs of a run.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tally {
    passed: u64,
    failed: u64,
    ignored: u64,
    failures: Vec<String>,
}

impl Tally {
    fn read(&mut self, text: &str) {
        if let Some(name) =
            text.strip_prefix("test ").and_then(|rest| rest.strip_suffix(" ... FAILED"))
        {
            self.failures.push(name.to_owned());
        }
        let Some(counts) = text.strip_prefix("test result: ") else {
            return;
        };
        for count in counts.split(['.', ';']) {
            let mut words = count.split_whitespace();
            let Some(number) = words.next().and_then(|word| word.parse::<u64>().ok()) else {
                continue;
            };
            match words.next() {
                Some("passed") => self.passed += number,
                Some("failed") => self.failed += number,
                Some("ignored") => self.ignored += number,
                Some(_) | None => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counts_of_every_test_program_are_added_up() {
        let mut tally = Tally::default();
        for text in [
            "test a::b ... ok",
            "test a::c ... FAILED",
            "test result: FAILED. 12 passed; 1 failed; 2 ignored; 0 measured; 3 filtered out; finished in 0.00s",
            "test result: ok. 5 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.20s",
        ] {
            tally.read(text);
        }
        assert_eq!(
            tally,
            Tally { passed: 17, failed: 1, ignored: 2, failures: vec!["a::c".to_owned()] }
        );
    }
}
