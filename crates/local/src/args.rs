//! Flags and their environment variables; nothing else in the crate reads the environment.

use std::io::IsTerminal;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// What the user asked for, and where things are.
#[derive(Debug)]
pub(crate) struct Invocation {
    pub(crate) command: Command,
    pub(crate) settings: Settings,
}

/// One verb.
#[derive(Debug)]
pub(crate) enum Command {
    Run(Work),
    Sync { work: Work, only: Option<Only> },
    Check(Work),
    Status(Vec<PathBuf>),
}

/// Manifests, and the directories of their volumes.
#[derive(Debug)]
pub(crate) struct Work {
    pub(crate) manifests: Vec<PathBuf>,
    pub(crate) volumes: Vec<VolumeFlag>,
}

/// What every command needs to know about its surroundings.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) state_directory: PathBuf,
    pub(crate) output: Output,
    /// Where the mover binaries are.
    pub(crate) movers: PathBuf,
    /// `RUST_LOG`, passed on to the movers; their log lines are shown when it is set.
    pub(crate) log_filter: Option<String>,
    /// Variables that tell movers by which proxies stores are reached.
    pub(crate) proxies: Vec<(String, String)>,
    /// The zone of schedules that name none, and of times that people read.
    pub(crate) zone: jiff::tz::TimeZone,
    /// Standard error is a terminal that can move its cursor.
    pub(crate) terminal: bool,
    /// Standard output and standard error may be coloured.
    pub(crate) colour: bool,
}

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// Lines and tables for people.
    Table,
    /// One JSON object a line.
    Json,
}

/// `--volume [NAMESPACE/]CLAIM=DIR`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct VolumeFlag {
    pub(crate) namespace: Option<String>,
    pub(crate) claim: String,
    pub(crate) directory: PathBuf,
}

/// `--only KIND/NAME`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Only {
    pub(crate) kind: OnlyKind,
    pub(crate) name: String,
}

/// The kind of an `--only`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OnlyKind {
    Source,
    Destination,
}

impl std::fmt::Display for Only {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = match self.kind {
            OnlyKind::Source => "ReplicationSource",
            OnlyKind::Destination => "ReplicationDestination",
        };
        write!(f, "{kind}/{}", self.name)
    }
}

const EXAMPLE: &str = "Example:
  volsync sync photos.yaml --volume photos=/srv/photos --volume mirror=/mnt/disk/photos
";

const RUN_EXAMPLE: &str = "Example:
  volsync run /etc/volsync --volume photos=/srv/photos --volume mirror=/mnt/disk/photos
";

const CHECK_EXAMPLE: &str = "Example:
  volsync check photos.yaml --volume photos=/srv/photos --volume mirror=/mnt/disk/photos
";

const STATUS_EXAMPLE: &str = "Example:
  volsync status photos.yaml
";

const AFTER: &str = "\
A ReplicationDestination listens on a free port of the loopback address. With spec.rsync.port, or
with serviceType NodePort or LoadBalancer, it listens on every address at that port (22 unless set).
A ReplicationSource whose address is volsync-rsync-dst-NAME is connected with the
ReplicationDestination NAME of the same manifests, wherever that listens.

Exit status: 0 all succeeded; 1 failed, trying again may help; 2 something must be changed first;
3 done, but some files could not be read or written.";

#[derive(Parser)]
#[command(
    name = "volsync",
    version,
    about = "Replicates directories on one machine, from the same manifests as in a cluster",
    help_template = "{before-help}\n{about}\n\n{usage-heading} {usage}\n\n{all-args}{after-help}\n",
    before_help = EXAMPLE,
    after_help = AFTER,
    disable_help_subcommand = true
)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,

    /// Keep status, keys and provisioned volumes here [default: volsync in the XDG state directory]
    #[arg(long, value_name = "DIR", global = true)]
    state_dir: Option<PathBuf>,

    /// Print lines and tables, or JSON
    #[arg(long, value_enum, default_value = "table", global = true)]
    output: Output,

    #[arg(long, env = "VOLSYNC_MOVER_DIR", hide = true, global = true)]
    mover_dir: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Verb {
    /// Keep to the schedules until stopped
    #[command(before_help = RUN_EXAMPLE)]
    Run(Manifests),
    /// Run each replication once, now, whatever its trigger says
    #[command(before_help = EXAMPLE)]
    Sync {
        #[command(flatten)]
        manifests: Manifests,
        /// Run only this replication, and the one of the same manifests it is connected with
        #[arg(long, value_name = "KIND/NAME", value_parser = parse_only)]
        only: Option<Only>,
    },
    /// Validate and show the plan without touching data
    #[command(before_help = CHECK_EXAMPLE)]
    Check(Manifests),
    /// Show where each replication stands
    #[command(before_help = STATUS_EXAMPLE)]
    Status {
        /// Show only the replications of these manifests
        #[arg(value_name = "FILE|DIR")]
        manifests: Vec<PathBuf>,
        // So that the flags of `sync` can be left on the line; a status needs no volumes.
        #[arg(long = "volume", hide = true, value_parser = parse_volume)]
        _volumes: Vec<VolumeFlag>,
    },
}

#[derive(Args)]
struct Manifests {
    /// Manifests in YAML or JSON; `-` is standard input
    #[arg(required = true, value_name = "FILE|DIR")]
    manifests: Vec<PathBuf>,

    /// The directory of a PersistentVolumeClaim; may be given several times
    #[arg(long = "volume", value_name = "[NAMESPACE/]CLAIM=DIR", value_parser = parse_volume)]
    volumes: Vec<VolumeFlag>,
}

impl From<Manifests> for Work {
    fn from(given: Manifests) -> Self {
        Self { manifests: given.manifests, volumes: given.volumes }
    }
}

/// Reads the command line; ends the process on `--help` and on what cannot be understood.
pub(crate) fn parse() -> Invocation {
    let cli = Cli::parse();
    let command = match cli.verb {
        Verb::Run(manifests) => Command::Run(manifests.into()),
        Verb::Sync { manifests, only } => Command::Sync { work: manifests.into(), only },
        Verb::Check(manifests) => Command::Check(manifests.into()),
        Verb::Status { manifests, _volumes: _ } => Command::Status(manifests),
    };
    let dumb = variable("TERM").is_none_or(|term| term == "dumb");
    let terminal = std::io::stderr().is_terminal() && !dumb;
    let settings = Settings {
        state_directory: absolute(cli.state_dir.unwrap_or_else(default_state_directory)),
        output: cli.output,
        movers: absolute(cli.mover_dir.unwrap_or_else(own_directory)),
        log_filter: variable("RUST_LOG"),
        proxies: proxies(),
        zone: jiff::tz::TimeZone::system(),
        terminal: terminal && cli.output == Output::Table,
        colour: terminal && std::io::stdout().is_terminal() && variable("NO_COLOR").is_none(),
    };
    Invocation { command, settings }
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// The proxies of the environment, spelt both ways.
fn proxies() -> Vec<(String, String)> {
    let spelt = |name: &str| [name.to_owned(), name.to_ascii_lowercase()];
    let names = ["HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"].iter().flat_map(|name| spelt(name));
    names.filter_map(|name| variable(&name).map(|value| (name, value))).collect()
}

fn absolute(path: PathBuf) -> PathBuf {
    std::path::absolute(&path).unwrap_or(path)
}

fn own_directory() -> PathBuf {
    std::env::current_exe().ok().and_then(|exe| exe.parent().map(PathBuf::from)).unwrap_or_default()
}

fn default_state_directory() -> PathBuf {
    variable("XDG_STATE_HOME")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
        .or_else(|| variable("HOME").map(|home| PathBuf::from(home).join(".local/state")))
        .unwrap_or_else(|| PathBuf::from("/var/lib"))
        .join("volsync")
}

fn parse_volume(text: &str) -> Result<VolumeFlag, String> {
    let (claim, directory) = text
        .split_once('=')
        .filter(|(claim, directory)| !claim.is_empty() && !directory.is_empty())
        .ok_or_else(|| "expected CLAIM=DIR or NAMESPACE/CLAIM=DIR".to_owned())?;
    let (namespace, claim) = match claim.split_once('/') {
        Some((namespace, claim)) => (Some(namespace.to_owned()), claim),
        None => (None, claim),
    };
    if claim.is_empty() || claim.contains('/') || namespace.as_deref() == Some("") {
        return Err("expected CLAIM=DIR or NAMESPACE/CLAIM=DIR".to_owned());
    }
    Ok(VolumeFlag { namespace, claim: claim.to_owned(), directory: absolute(directory.into()) })
}

fn parse_only(text: &str) -> Result<Only, String> {
    let kinds = "source (ReplicationSource) or destination (ReplicationDestination)";
    let (kind, name) = text
        .split_once('/')
        .filter(|(_, name)| !name.is_empty())
        .ok_or_else(|| format!("expected KIND/NAME, KIND being {kinds}"))?;
    let kind = match kind.to_ascii_lowercase().as_str() {
        "rs" | "source" | "replicationsource" | "replicationsources" => OnlyKind::Source,
        "rd" | "destination" | "replicationdestination" | "replicationdestinations" => {
            OnlyKind::Destination
        }
        _ => return Err(format!("{kind:?} is no kind; expected {kinds}")),
    };
    Ok(Only { kind, name: name.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_volume_may_name_its_namespace() {
        let flag = parse_volume("photos/raw=/srv/a=b").unwrap();
        assert_eq!(flag.namespace.as_deref(), Some("photos"));
        assert_eq!(flag.claim, "raw");
        assert_eq!(flag.directory, PathBuf::from("/srv/a=b"));
        assert_eq!(parse_volume("raw=/srv").unwrap().namespace, None);
        for bad in ["raw", "=/srv", "raw=", "a/b/c=/srv", "/raw=/srv"] {
            assert!(parse_volume(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn only_takes_a_kind_and_a_name() {
        assert_eq!(parse_only("ReplicationSource/a").unwrap().kind, OnlyKind::Source);
        assert_eq!(parse_only("destination/a").unwrap().kind, OnlyKind::Destination);
        assert!(parse_only("pod/a").unwrap_err().contains("ReplicationSource"));
        assert!(parse_only("a").is_err());
    }
}
