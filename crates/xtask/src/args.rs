//! The verbs and their options.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::setup::Need;

/// What the developer asked for; ends the process when that makes no sense.
pub(crate) fn read() -> Verb {
    Xtask::parse().verb
}

/// A variable of the environment that changes where things are kept.
pub(crate) fn variable(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

/// Where programs are looked for: `PATH`, and the places that only root has there.
pub(crate) fn search_path() -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let roots = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(roots).collect()
}

/// Developer verbs of volsync. Start with `cargo xtask demo`.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Xtask {
    #[command(subcommand)]
    verb: Verb,
}

/// One verb a file.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Install what this machine lacks, through the system's package manager
    Setup(SetupOptions),
    /// Replicate real directories, or back them up and restore them; verify the result independently,
    /// show what moved and how fast
    Demo(DemoOptions),
    /// Build everything and run every test
    Test(TestOptions),
    /// Measure a mover against the real tool, or the operator in a cluster
    Bench(BenchOptions),
    /// Build container images of this checkout, all unless named: controller, mover-rsync, mover-restic
    Image(ImageOptions),
    /// Start, stop or look at the project's own one-node Kubernetes
    Cluster(ClusterOptions),
    /// Write the CRDs of deploy/crds and of the Helm chart from the Rust types
    Crdgen,
    /// Write deploy/install.yaml from the Helm chart
    Render,
    /// Check the dependency rules, names and sizes of docs/architecture.md
    Tidy,
}

/// Options of `setup`.
#[derive(Debug, Args)]
pub(crate) struct SetupOptions {
    /// Also what `cargo xtask bench` needs: a large source tree
    #[arg(long)]
    bench: bool,
    /// Also what the lints need: cargo-deny
    #[arg(long)]
    lint: bool,
}

impl SetupOptions {
    /// What to check for.
    pub(crate) fn need(&self) -> Vec<Need> {
        let mut need = vec![Need::Demo, Need::Test];
        if self.bench {
            need.push(Need::Bench);
        }
        if self.lint {
            need.push(Need::Lint);
        }
        need
    }
}

/// Options of `demo`.
#[derive(Debug, Args)]
pub(crate) struct DemoOptions {
    /// What to show
    #[arg(value_enum, default_value_t = Demonstrated::Rsync)]
    pub(crate) of: Demonstrated,
    /// Keep the directories, and say where they are
    #[arg(long)]
    pub(crate) keep: bool,
}

/// What the demo can show.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Demonstrated {
    /// A directory replicated into another
    Rsync,
    /// A directory backed up and restored, in a repository that restic reads
    Restic,
}

/// Options of `test`.
#[derive(Debug, Args)]
pub(crate) struct TestOptions {
    /// The long runs: a thousand kills, months of simulated schedules, more random cases
    #[arg(long)]
    pub(crate) long: bool,
    /// Passed on to `cargo test`, such as `-- --test-threads 1`
    #[arg(last = true)]
    pub(crate) arguments: Vec<String>,
}

/// Options of `bench`.
#[derive(Debug, Args)]
pub(crate) struct BenchOptions {
    /// What is measured
    #[command(subcommand)]
    pub(crate) subject: Subject,
}

/// What has a benchmark.
#[derive(Debug, Subcommand)]
pub(crate) enum Subject {
    /// The rsync mover against rsync over ssh, in the same run
    Rsync(RsyncBenchOptions),
    /// The restic mover against restic, in the same run
    Restic(ResticBenchOptions),
    /// The operator in the project's own cluster, which is started unless it runs
    Operator(OperatorBenchOptions),
}

/// Options of `bench rsync`.
#[derive(Debug, Args)]
pub(crate) struct RsyncBenchOptions {
    /// Which rows of the table; all of them unless named
    pub(crate) workloads: Vec<Workload>,
    /// A twentieth of the data and one run, to see that it works
    #[arg(long)]
    pub(crate) quick: bool,
    /// How often each is run; the best of them counts, for both
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) runs: u32,
    /// How the result is printed
    #[arg(long, default_value = "table")]
    pub(crate) output: Output,
}

/// Options of `bench restic`.
#[derive(Debug, Args)]
pub(crate) struct ResticBenchOptions {
    /// Which workloads; all of them unless named
    pub(crate) workloads: Vec<BackupWorkload>,
    /// A twentieth of the data and one run, to see that it works
    #[arg(long)]
    pub(crate) quick: bool,
    /// How often each is run; the best of them counts, for both
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) runs: u32,
    /// How the result is printed
    #[arg(long, default_value = "table")]
    pub(crate) output: Output,
}

/// What is backed up and restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum BackupWorkload {
    /// A source tree: a first backup, a restore, a restore over the same
    SourceTree,
    /// A second backup of 500 000 files of which none changed
    Unchanged,
    /// 4 GiB of large files that do not compress
    Large,
    /// All but the last of 20 snapshots go, with what only they had
    Prune,
    /// Peak memory with 1 000 000 files
    Memory,
}

impl BackupWorkload {
    /// Every workload, in the table's order.
    pub(crate) fn all() -> &'static [Self] {
        Self::value_variants()
    }

    /// As it is typed.
    pub(crate) fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }
}

/// Options of `bench operator`.
#[derive(Debug, Args)]
pub(crate) struct OperatorBenchOptions {
    /// Which questions; all of them unless named
    pub(crate) questions: Vec<Question>,
    /// A tenth of the replications and two runs, to see that it works
    #[arg(long)]
    pub(crate) quick: bool,
    /// How often a sync is timed; the median counts
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) runs: u32,
    /// How the result is printed
    #[arg(long, default_value = "table")]
    pub(crate) output: Output,
}

/// What is asked of the operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Question {
    /// How long a sync takes from its manual trigger to its record, and what of that is ours
    Latency,
    /// What 500 sources cost that wait for their schedules
    Idle,
    /// How long 50 pairs take that are due in the same minute
    Burst,
}

impl Question {
    /// Every question, in the table's order.
    pub(crate) fn all() -> &'static [Self] {
        Self::value_variants()
    }

    /// As it is typed.
    pub(crate) fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }
}

/// The rows of the benchmark table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Workload {
    /// A first copy of a source tree, both ends in memory
    FirstCopy,
    /// The same onto the disk
    FirstCopyDisk,
    /// A second sync of 500 000 files of which none changed
    Unchanged,
    /// One file of 2 GiB with 1 % scattered edits
    Edits,
    /// 10 000 small files through a proxy that adds 25 ms each way
    Delayed,
    /// Peak memory with 1 000 000 files
    Memory,
}

impl Workload {
    /// Every row, in the table's order.
    pub(crate) fn all() -> &'static [Self] {
        Self::value_variants()
    }

    /// As it is typed.
    pub(crate) fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }
}

/// Options of `image`.
#[derive(Debug, Args)]
pub(crate) struct ImageOptions {
    /// Which images
    pub(crate) names: Vec<String>,
    /// Also write each to DIR/NAME.tar, which every container runtime loads
    #[arg(long, value_name = "DIR")]
    pub(crate) save: Option<PathBuf>,
}

/// Options of `cluster`.
#[derive(Debug, Args)]
pub(crate) struct ClusterOptions {
    /// What to do with it
    #[command(subcommand)]
    pub(crate) verb: ClusterVerb,
}

/// What can be done with the cluster.
#[derive(Debug, Subcommand)]
pub(crate) enum ClusterVerb {
    /// Build what is missing (a quarter of an hour the first time), start it, wait until it is ready
    Up,
    /// Stop it; only what it started is ended
    Down {
        /// Also remove its state: what the next `up` starts from is empty
        #[arg(long)]
        purge: bool,
    },
    /// Say what runs; exit status 1 unless the node is ready
    Status,
    /// Build all images and import them as localhost/volsync-NAME:dev
    LoadImages,
    /// Install the operator from its Helm chart, with the images of load-images, and wait for it
    Install,
    /// Use every facility once: volumes, snapshots, clones, block, Services, DNS, exec
    Check,
    /// Hold its CSI driver to the CSI specification
    Sanity,
}

/// How a result is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// For people
    Table,
    /// For programs
    Json,
}
