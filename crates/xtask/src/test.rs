//! Builds everything and runs every test, with one closing summary.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::args::TestOptions;
use crate::cluster::TestCluster;
use crate::command::{cargo, output, run};
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
    let tally = tested?;

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
    if !tally.failed_programs.is_empty() {
        bail!("not all tests passed: {}", tally.failed_programs.join(", "));
    }
    if tally.passed == 0 && options.arguments.is_empty() {
        bail!("no test was run");
    }
    Ok(())
}

/// Runs all test programs, those that wait for the cluster beside the others: they hardly compute.
/// Then the examples of the documentation.
fn run_tests(root: &Path, options: &TestOptions) -> Result<Tally> {
    let (of_cluster, others): (Vec<_>, Vec<_>) =
        programs(root)?.into_iter().partition(Program::needs_cluster);
    let tally = Mutex::new(Tally::default());
    let run_all = |programs: &[Program]| -> Result<()> {
        for program in programs {
            let (passed, said) = program.run(options)?;
            // One at a time: what a program says stays together.
            let mut tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
            println!("\n{}\n{said}", program.title);
            said.lines().for_each(|line| tally.read(line));
            if !passed {
                tally.failed_programs.push(program.title.clone());
            }
        }
        Ok(())
    };
    thread::scope(|scope| {
        let beside = scope.spawn(|| run_all(&of_cluster));
        let done = run_all(&others);
        let beside = beside.join().unwrap_or_else(|_| bail!("the tests of the cluster broke off"));
        done.and(beside)
    })?;
    run(cargo(root).args(["test", "--workspace", "--doc", "--quiet"]))?;
    Ok(tally.into_inner().unwrap_or_else(PoisonError::into_inner))
}

/// A test program that was built.
#[derive(Debug)]
struct Program {
    /// Package and target.
    title: String,
    executable: PathBuf,
    /// Of its package; tests run there.
    directory: PathBuf,
}

impl Program {
    /// From what cargo says of something that it has built.
    fn from_message(message: &Value) -> Option<Self> {
        let executable = message["executable"].as_str()?;
        let directory = Path::new(message["manifest_path"].as_str()?).parent()?;
        let target = message["target"]["name"].as_str()?;
        let kind = message["target"]["kind"][0].as_str()?;
        let is_test = message["profile"]["test"].as_bool()?;
        let package = directory.file_name()?.to_str()?;
        is_test.then(|| Self {
            title: format!("{package}: {kind} {target}"),
            executable: executable.into(),
            directory: directory.to_owned(),
        })
    }

    fn needs_cluster(&self) -> bool {
        ["controller: test scenarios", "controller: test trouble"].contains(&self.title.as_str())
    }

    /// Runs it; whether all passed, and what was said.
    fn run(&self, options: &TestOptions) -> Result<(bool, String)> {
        let mut command = Command::new(&self.executable);
        command.current_dir(&self.directory).env("CARGO_MANIFEST_DIR", &self.directory);
        if options.long {
            command.arg("--include-ignored").env("PROPTEST_CASES", "4096");
        }
        command.args(&options.arguments);
        eprintln!("running {}", self.title);
        let output = command
            .stdin(Stdio::null())
            .output()
            .with_context(|| format!("cannot start {}", self.executable.display()))?;
        let mut said = String::from_utf8_lossy(&output.stdout).into_owned();
        if !output.status.success() {
            said.push_str(&String::from_utf8_lossy(&output.stderr));
            said.push_str(&format!("{}: {}\n", self.title, output.status));
        }
        Ok((output.status.success(), said))
    }
}

/// Every test program of the workspace, built.
fn programs(root: &Path) -> Result<Vec<Program>> {
    let mut command = cargo(root);
    command.args(["test", "--workspace", "--no-run"]);
    let messages = output(command.arg("--message-format=json-render-diagnostics"))?;
    let messages = messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut programs: Vec<_> =
        messages.filter_map(|message| Program::from_message(&message)).collect();
    // Cargo names them as they are built. The scenarios come before the outages, after which a cluster
    // takes its time for a while.
    programs.sort_by(|a, b| a.title.cmp(&b.title));
    Ok(programs)
}

/// The counts of all test programs of a run.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tally {
    passed: u64,
    failed: u64,
    ignored: u64,
    failures: Vec<String>,
    /// Programs in which not all tests passed, or that broke off.
    failed_programs: Vec<String>,
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
            Tally {
                passed: 17,
                failed: 1,
                ignored: 2,
                failures: vec!["a::c".to_owned()],
                failed_programs: Vec::new(),
            }
        );
    }

    #[test]
    fn what_cargo_built_as_a_test_is_a_program() {
        let built = |test: bool, name: &str| {
            serde_json::json!({
                "executable": "/target/debug/deps/it",
                "manifest_path": "/repository/crates/controller/Cargo.toml",
                "target": {"name": name, "kind": ["test"]},
                "profile": {"test": test},
            })
        };
        assert!(Program::from_message(&built(false, "trouble")).is_none());
        let program = Program::from_message(&built(true, "trouble")).unwrap();
        assert_eq!(program.title, "controller: test trouble");
        assert_eq!(program.directory, Path::new("/repository/crates/controller"));
        assert!(program.needs_cluster());
        assert!(!Program::from_message(&built(true, "tidy")).unwrap().needs_cluster());
        assert!(Program::from_message(&serde_json::json!({"reason": "build-finished"})).is_none());
    }
}
