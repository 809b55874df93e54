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
    thread::scope(|scope| {
        // Go waits for one processor where cargo needs two, and the other way round.
        let cluster = scope.spawn(TestCluster::build);
        // The programs under test must lie beside the tests' own executables.
        let built = run(cargo(&root).args(["build", "--workspace", "--all-targets"]));
        let cluster =
            cluster.join().unwrap_or_else(|_| bail!("the build of the cluster broke off"));
        built.and(cluster)
    })?;
    let cluster = TestCluster::start()?;
    let built = start.elapsed();
    let tested = run_tests(&root, options);
    // Taken down after a failure as well.
    cluster.stop()?;
    let tally = tested?;

    println!();
    for name in &tally.unsteady {
        println!("unsteady, it passed only when it was run again by itself: {name}");
    }
    for name in tally.broken.iter().flat_map(|broken| &broken.tests) {
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
    if !tally.broken.is_empty() {
        let titles: Vec<_> = tally.broken.iter().map(|broken| &*broken.program.title).collect();
        bail!("not all tests passed: {}", titles.join(", "));
    }
    if tally.passed == 0 && options.arguments.is_empty() {
        bail!("no test was run");
    }
    Ok(())
}

/// As many failed tests at most are run a second time: where more fail, something is broken.
const UNSTEADY: usize = 2;

/// Runs all test programs, those that wait for the cluster beside the others: they hardly compute.
/// Then, by itself and once, what failed: a test that the machine kept waiting says so, and it is
/// told as unsteady. Then the examples of the documentation.
fn run_tests(root: &Path, options: &TestOptions) -> Result<Tally> {
    let (of_cluster, others): (Vec<_>, Vec<_>) =
        programs(root)?.into_iter().partition(Program::needs_cluster);
    let tally = Mutex::new(Tally::default());
    let run_all = |programs: &[Program]| -> Result<()> {
        for program in programs {
            let (passed, said) = program.run(options, &options.arguments)?;
            // One at a time: what a program says stays together.
            let mut tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
            println!("\n{}\n{said}", program.title);
            tally.read(&said);
            if !passed {
                tally.broken.push(Broken::new(program.clone(), &said));
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
    let mut tally = tally.into_inner().unwrap_or_else(PoisonError::into_inner);
    tally.try_again(|program, name| {
        let (passed, said) = program.run(options, &["--exact".to_owned(), name.to_owned()])?;
        println!("\n{}, again\n{said}", program.title);
        let mut again = Tally::default();
        again.read(&said);
        Ok(passed && again.passed == 1)
    })?;
    run(cargo(root).args(["test", "--workspace", "--doc", "--quiet"]))?;
    Ok(tally)
}

/// A test program that was built.
#[derive(Clone, Debug, PartialEq, Eq)]
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
    fn run(&self, options: &TestOptions, arguments: &[String]) -> Result<(bool, String)> {
        let mut command = Command::new(&self.executable);
        command.current_dir(&self.directory).env("CARGO_MANIFEST_DIR", &self.directory);
        if options.long {
            command.arg("--include-ignored").env("PROPTEST_CASES", "4096");
        }
        command.args(arguments);
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

/// A program in which not all tests passed, or that broke off.
#[derive(Debug, PartialEq, Eq)]
struct Broken {
    program: Program,
    tests: Vec<String>,
    /// Whether it went on to its end, so that there is nothing wrong but these tests.
    ended: bool,
}

impl Broken {
    fn new(program: Program, said: &str) -> Self {
        let (tests, mut own) = (failures(said), Tally::default());
        own.read(said);
        Self { program, ended: !tests.is_empty() && own.failed == tests.len(), tests }
    }
}

/// The tests that failed, from what their program said.
fn failures(said: &str) -> Vec<String> {
    let name = |line: &str| {
        line.strip_prefix("test ")
            .and_then(|rest| rest.strip_suffix(" ... FAILED"))
            .map(str::to_owned)
    };
    said.lines().filter_map(name).collect()
}

/// The counts of all test programs of a run.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tally {
    passed: usize,
    failed: usize,
    ignored: usize,
    broken: Vec<Broken>,
    /// Tests that passed at their second try.
    unsteady: Vec<String>,
}

impl Tally {
    fn read(&mut self, said: &str) {
        for counts in said.lines().filter_map(|line| line.strip_prefix("test result: ")) {
            for count in counts.split(['.', ';']) {
                let mut words = count.split_whitespace();
                let Some(number) = words.next().and_then(|word| word.parse::<usize>().ok()) else {
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

    /// Runs failed tests again by `run`, which tells whether one passed.
    fn try_again(&mut self, mut run: impl FnMut(&Program, &str) -> Result<bool>) -> Result<()> {
        if self.failed > UNSTEADY {
            return Ok(());
        }
        for broken in std::mem::take(&mut self.broken) {
            if !broken.ended {
                self.broken.push(broken);
                continue;
            }
            let Broken { program, tests, ended } = broken;
            let mut still = Vec::new();
            for test in tests {
                if run(&program, &test)? {
                    self.failed -= 1;
                    self.passed += 1;
                    self.unsteady.push(test);
                } else {
                    still.push(test);
                }
            }
            if !still.is_empty() {
                self.broken.push(Broken { program, tests: still, ended });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(title: &str) -> Program {
        Program {
            title: title.to_owned(),
            executable: PathBuf::from("/it"),
            directory: PathBuf::from("/"),
        }
    }

    #[test]
    fn the_counts_of_every_test_program_are_added_up() {
        let mut tally = Tally::default();
        let said = "test a::b ... ok\ntest a::c ... FAILED\ntest result: FAILED. 12 passed; \
                    1 failed; 2 ignored; 0 measured; 3 filtered out; finished in 0.00s\n";
        tally.read(said);
        tally.read(
            "test result: ok. 5 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.20s",
        );
        assert_eq!(tally, Tally { passed: 17, failed: 1, ignored: 2, ..Tally::default() });
        assert_eq!(failures(said), ["a::c"]);
    }

    #[test]
    fn what_passes_at_its_second_try_is_told_and_what_fails_again_or_broke_off_stays() {
        let broken = |title, tests: &[&str]| Broken {
            program: program(title),
            tests: tests.iter().map(|&test| test.to_owned()).collect(),
            ended: !tests.is_empty(),
        };
        let failed = |failed, broken| Tally { passed: 3, failed, broken, ..Tally::default() };

        let mut tally =
            failed(2, vec![broken("a", &["slow"]), broken("b", &["wrong"]), broken("c", &[])]);
        tally.try_again(|_, test| Ok(test == "slow")).unwrap();
        assert_eq!((tally.passed, tally.failed), (4, 1));
        assert_eq!(tally.unsteady, ["slow"]);
        assert_eq!(tally.broken, [broken("b", &["wrong"]), broken("c", &[])]);

        // One that named a test and then broke off has not run the others.
        let said = "test a ... ok\ntest slow ... FAILED\nfatal runtime error: stack overflow\n";
        let off = Broken::new(program("d"), said);
        assert_eq!((&off.tests[..], off.ended), (&["slow".to_owned()][..], false));
        let mut tally = failed(0, vec![off]);
        tally.try_again(|_, _| Ok(true)).unwrap();
        assert_eq!(tally.broken.len(), 1);

        let many = || failed(3, vec![broken("a", &["one", "two", "three"])]);
        let mut tally = many();
        tally.try_again(|_, _| Ok(true)).unwrap();
        assert_eq!(tally, many());
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
