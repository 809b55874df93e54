//! Command line and environment, all of it.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{ArgAction, Parser};
use jiff::tz::TimeZone;

use crate::certificate::Files;
use crate::context::Settings;
use crate::scrape::ScrapeOptions;

const RSYNC_IMAGE: &str = "localhost/volsync-mover-rsync:dev";
const RESTIC_IMAGE: &str = "localhost/volsync-mover-restic:dev";

/// The VolSync operator: schedules Jobs that replicate PersistentVolumes.
///
/// It looks at every ReplicationSource and ReplicationDestination and brings each as far as it can be
/// brought. In a cluster it is installed by the chart, which gives these flags. Outside of one, with
/// your own rights:
///
///     volsync-controller --kubeconfig ~/.kube/config --rsync-container-image REGISTRY/IMAGE:TAG
///
/// A flag may be written --flag=value, --flag value or -flag=value. A switch is turned on by its name
/// and off by =false.
#[derive(Debug, Clone, Parser)]
#[command(name = "volsync-controller", version, args_override_self = true, verbatim_doc_comment)]
pub(crate) struct Args {
    /// Where /healthz and /readyz are served; 0 serves them nowhere.
    #[arg(long, default_value = ":8081", value_name = "ADDRESS")]
    health_probe_bind_address: String,
    /// Only lead while holding the Lease, so that several replicas can run.
    #[arg(long, value_name = "BOOL", default_value = "false", default_missing_value = "true",
        num_args = 0..=1, require_equals = true, value_parser = go_bool, action = ArgAction::Set)]
    leader_elect: bool,
    /// SecurityContextConstraints that privileged movers use on OpenShift.
    #[arg(long, default_value = "volsync-privileged-mover", value_name = "NAME")]
    scc_name: String,
    /// Secrets of the operator's namespace to pull movers' images with, separated by commas.
    #[arg(long, default_value = "", value_name = "NAMES", hide_default_value = true)]
    mover_image_pull_secrets: String,
    /// At most so many bytes of what a mover said are kept in latestMoverStatus; all (4096 bytes at
    /// most) if not given. MOVER_LOG_TAIL_LINES and MOVER_LOG_DEBUG have no effect: what is kept is
    /// the mover's report, not lines of its log.
    #[arg(
        long,
        env = "MOVER_LOG_MAX_BYTES",
        default_value = "",
        value_name = "BYTES",
        allow_hyphen_values = true,
        hide_default_value = true
    )]
    mover_log_max_bytes: String,
    /// How to reach the API server; without it KUBECONFIG, then ~/.kube/config, then the pod's own
    /// ServiceAccount.
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<String>,
    /// Namespace the operator runs in, where its Lease is.
    #[arg(
        long,
        env = "VOLSYNC_NAMESPACE",
        default_value = "volsync-system",
        value_name = "NAMESPACE"
    )]
    namespace: String,
    /// Only look at these namespaces, separated by commas.
    #[arg(
        long,
        env = "VOLSYNC_WATCH_NAMESPACE",
        default_value = "",
        value_name = "NAMES",
        hide_default_value = true
    )]
    watch_namespace: String,
    /// This process, in the Lease: no two are called the same.
    #[arg(long, env = "HOSTNAME", default_value_t = a_name(), hide = true)]
    identity: String,
    #[command(flatten)]
    images: Images,
    #[command(flatten)]
    proxies: Proxies,
    #[command(flatten)]
    metrics: Metrics,
    #[command(flatten)]
    logging: Logs,
}

/// The images of movers. A flag is stronger than the environment.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Images")]
struct Images {
    /// Image of the rsync mover.
    #[arg(
        long,
        env = "RELATED_IMAGE_RSYNC_CONTAINER",
        default_value = RSYNC_IMAGE,
        value_name = "IMAGE"
    )]
    rsync_container_image: String,
    /// Image of the restic mover.
    #[arg(
        long,
        env = "RELATED_IMAGE_RESTIC_CONTAINER",
        default_value = RESTIC_IMAGE,
        value_name = "IMAGE"
    )]
    restic_container_image: String,
    /// Accepted without effect: this release has no rclone mover.
    #[arg(long, env = "RELATED_IMAGE_RCLONE_CONTAINER", value_name = "IMAGE")]
    rclone_container_image: Option<String>,
    /// Accepted without effect: this release has no rsync-tls mover.
    #[arg(long, env = "RELATED_IMAGE_RSYNC_TLS_CONTAINER", value_name = "IMAGE")]
    rsync_tls_container_image: Option<String>,
    /// Accepted without effect: this release has no syncthing mover.
    #[arg(long, env = "RELATED_IMAGE_SYNCTHING_CONTAINER", value_name = "IMAGE")]
    syncthing_container_image: Option<String>,
}

/// By which proxies movers reach stores. They are the environment's, as for other programs.
#[derive(Debug, Clone, clap::Args)]
struct Proxies {
    #[arg(long, env = "HTTP_PROXY", hide = true)]
    http_proxy: Option<String>,
    #[arg(long, env = "HTTPS_PROXY", hide = true)]
    https_proxy: Option<String>,
    #[arg(long, env = "NO_PROXY", hide = true)]
    no_proxy: Option<String>,
}

/// The endpoint for Prometheus.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Metrics")]
struct Metrics {
    /// Where /metrics is served, such as :8443; 0 serves it nowhere.
    #[arg(long, default_value = "0", value_name = "ADDRESS")]
    metrics_bind_address: String,
    /// Serve /metrics over TLS.
    #[arg(long, value_name = "BOOL", default_value = "true", default_missing_value = "true",
        num_args = 0..=1, require_equals = true, value_parser = go_bool, action = ArgAction::Set)]
    metrics_secure: bool,
    /// Answer only to bearer tokens whose user may get the nonResourceURL /metrics. Without TLS
    /// everybody is answered.
    #[arg(long, value_name = "BOOL", default_value = "true", default_missing_value = "true",
        num_args = 0..=1, require_equals = true, value_parser = go_bool, action = ArgAction::Set)]
    metrics_require_rbac: bool,
    /// Directory of the certificate, which is read again when it changes; without it one is made that
    /// clients cannot verify.
    #[arg(long, default_value = "", value_name = "DIRECTORY", hide_default_value = true)]
    metrics_cert_path: String,
    /// File of the certificate in that directory.
    #[arg(long, default_value = "tls.crt", value_name = "FILE")]
    metrics_cert_name: String,
    /// File of its private key in that directory.
    #[arg(long, default_value = "tls.key", value_name = "FILE")]
    metrics_cert_key: String,
    /// Accepted without effect: metrics are served over HTTP/1.1.
    #[arg(long, value_name = "BOOL", default_value = "false", default_missing_value = "true",
        num_args = 0..=1, require_equals = true, value_parser = go_bool, action = ArgAction::Set)]
    enable_http2: bool,
}

/// What is logged and how.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Logging")]
struct Logs {
    /// What to log, such as `info` or `volsync_controller=debug`; stronger than --zap-log-level.
    #[arg(long, env = "RUST_LOG", value_name = "FILTER")]
    log: Option<String>,
    /// What to log: debug, info (the default), error, panic, or a number: 1 is debug, more is more.
    #[arg(long, value_name = "LEVEL", value_parser = zap_level)]
    zap_log_level: Option<&'static str>,
    /// Log as text or as one JSON object a line.
    #[arg(long, value_name = "ENCODER", default_value = "console", value_parser = ["console", "json"])]
    zap_encoder: String,
    /// Accepted without effect: level and encoder have flags of their own.
    #[arg(long, value_name = "BOOL", default_value = "true", default_missing_value = "true",
        num_args = 0..=1, require_equals = true, value_parser = go_bool, action = ArgAction::Set,
        hide_default_value = true)]
    zap_devel: bool,
    /// Accepted without effect: errors say what failed and why, without stack traces.
    #[arg(long, value_name = "LEVEL")]
    zap_stacktrace_level: Option<String>,
    /// Accepted without effect: times are RFC 3339.
    #[arg(long, value_name = "ENCODING")]
    zap_time_encoding: Option<String>,
}

/// What was asked for, parsed.
#[derive(Debug, Clone)]
pub(crate) struct Invocation {
    /// Where to serve health probes.
    pub(crate) health: Option<String>,
    /// Whether and how to serve metrics.
    pub(crate) scrape: Option<ScrapeOptions>,
    pub(crate) leader_elect: bool,
    pub(crate) kubeconfig: Option<PathBuf>,
    pub(crate) namespace: String,
    pub(crate) identity: String,
    /// Where to look; empty: everywhere.
    pub(crate) watch_namespaces: Vec<String>,
    pub(crate) logging: Logging,
    pub(crate) settings: Settings,
}

/// What is logged and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Logging {
    pub(crate) filter: String,
    pub(crate) json: bool,
}

/// Reads command line and environment; ends the process with help or an error if it has to.
pub(crate) fn parse() -> Invocation {
    let args = Args::parse_from(long_flags(std::env::args_os()));
    match args.invocation() {
        Ok(invocation) => invocation,
        Err(why) => {
            use clap::CommandFactory;
            Args::command().error(clap::error::ErrorKind::ValueValidation, why).exit()
        }
    }
}

impl Args {
    fn invocation(self) -> Result<Invocation, String> {
        Ok(Invocation {
            health: address(&self.health_probe_bind_address)?,
            scrape: self.metrics.options()?,
            leader_elect: self.leader_elect,
            kubeconfig: self.kubeconfig.filter(|path| !path.is_empty()).map(PathBuf::from),
            namespace: self.namespace.clone(),
            identity: self.identity,
            watch_namespaces: names(&self.watch_namespace),
            logging: self.logging.parsed(),
            settings: Settings {
                zone: TimeZone::system(),
                rsync_image: or(self.images.rsync_container_image, RSYNC_IMAGE),
                restic_image: or(self.images.restic_container_image, RESTIC_IMAGE),
                proxies: self.proxies.variables(),
                scc_name: self.scc_name,
                mover_log_bytes: bytes(&self.mover_log_max_bytes)?,
                namespace: self.namespace,
                pull_secrets: names(&self.mover_image_pull_secrets),
            },
        })
    }
}

impl Proxies {
    /// In capitals and not, as programs differ in which they read.
    fn variables(self) -> Vec<(String, String)> {
        let Self { http_proxy, https_proxy, no_proxy } = self;
        let given =
            [("HTTP_PROXY", http_proxy), ("HTTPS_PROXY", https_proxy), ("NO_PROXY", no_proxy)];
        given
            .into_iter()
            .filter_map(|(name, value)| value.map(|value| (name, value)))
            .flat_map(|(name, value)| {
                [(name.to_owned(), value.clone()), (name.to_ascii_lowercase(), value)]
            })
            .collect()
    }
}

impl Metrics {
    fn options(self) -> Result<Option<ScrapeOptions>, String> {
        let Some(address) = address(&self.metrics_bind_address)? else { return Ok(None) };
        let given = !self.metrics_cert_path.is_empty();
        let directory = PathBuf::from(self.metrics_cert_path);
        Ok(Some(ScrapeOptions {
            address,
            secure: self.metrics_secure,
            require_rbac: self.metrics_require_rbac,
            certificate: given.then(|| Files {
                certificate: directory.join(self.metrics_cert_name),
                key: directory.join(self.metrics_cert_key),
            }),
        }))
    }
}

impl Logs {
    fn parsed(self) -> Logging {
        let log = self.log.filter(|filter| !filter.is_empty());
        let filter = log.unwrap_or_else(|| self.zap_log_level.unwrap_or("info").to_owned());
        Logging { filter, json: self.zap_encoder == "json" }
    }
}

/// Go's `flag` package takes `-flag` for `--flag`.
fn long_flags(args: impl Iterator<Item = OsString>) -> impl Iterator<Item = OsString> {
    let mut flags = true;
    args.map(move |arg| {
        flags &= arg != "--";
        let text = arg.to_str().unwrap_or_default();
        let name = text.strip_prefix('-').filter(|name| name.len() > 1);
        match name {
            Some(name) if flags && name.starts_with(|c: char| c.is_ascii_alphabetic()) => {
                format!("--{name}").into()
            }
            Some(_) | None => arg,
        }
    })
}

/// Outside of a pod, which has a host name of its own.
fn a_name() -> String {
    format!("volsync-controller-{}", std::process::id())
}

/// What Go's `strconv.ParseBool` takes for a boolean.
fn go_bool(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err("true or false is expected".to_owned()),
    }
}

/// A level of zap as a filter of ours.
fn zap_level(text: &str) -> Result<&'static str, String> {
    match (text.to_ascii_lowercase().as_str(), text.parse::<u8>()) {
        ("debug", _) | (_, Ok(1)) => Ok("info,volsync_controller=debug"),
        (_, Ok(2..)) => Ok("debug"),
        ("info", _) => Ok("info"),
        ("error" | "panic", _) => Ok("error"),
        _ => Err("debug, info, error, panic or a number from 1 is expected".to_owned()),
    }
}

/// What was given, unless that is nothing.
fn or(given: String, default: &str) -> String {
    if given.is_empty() { default.to_owned() } else { given }
}

/// The names of a list, each once. A chart writes an empty list as one empty name.
fn names(list: &str) -> Vec<String> {
    let names: BTreeSet<&str> = list.split(',').map(str::trim).collect();
    names.into_iter().filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

/// Nothing is no limit; what is negative leaves nothing.
fn bytes(text: &str) -> Result<Option<usize>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    let limit: i64 = text.parse().map_err(|_| format!("{text:?} is no number of bytes"))?;
    Ok(Some(usize::try_from(limit).unwrap_or(0)))
}

/// `:8081`, `127.0.0.1:8081`, `localhost:8081`; `0` and nothing are none. A host name is resolved by who
/// listens.
fn address(text: &str) -> Result<Option<String>, String> {
    if text.is_empty() || text == "0" {
        return Ok(None);
    }
    let full = if text.starts_with(':') { format!("[::]{text}") } else { text.to_owned() };
    let named = |(host, port): (&str, &str)| {
        !host.is_empty() && !host.contains([':', '[', ']']) && port.parse::<u16>().is_ok()
    };
    if full.parse::<SocketAddr>().is_ok() || full.rsplit_once(':').is_some_and(named) {
        return Ok(Some(full));
    }
    Err(format!("{text:?} is no address such as :8081 or 127.0.0.1:8081"))
}

#[cfg(test)]
mod tests;
