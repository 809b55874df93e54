//! Command line and environment, all of it.

use std::net::SocketAddr;

use clap::Parser;
use jiff::tz::TimeZone;

/// The VolSync operator: schedules Jobs that replicate PersistentVolumes.
#[derive(Debug, Clone, Parser)]
#[command(name = "volsync-controller", version)]
pub(crate) struct Args {
    /// Where /healthz and /readyz are served; 0 serves them nowhere.
    #[arg(long, default_value = ":8081", value_name = "ADDRESS")]
    health_probe_bind_address: String,
    /// Only lead while holding the Lease, so that several replicas can run.
    #[arg(long, num_args = 0..=1, default_value_t = false, default_missing_value = "true", require_equals = true)]
    leader_elect: bool,
    /// SecurityContextConstraints that privileged movers use on OpenShift.
    #[arg(long, default_value = "volsync-privileged-mover", value_name = "NAME")]
    scc_name: String,
    /// Image of the rsync mover.
    #[arg(
        long,
        env = "RELATED_IMAGE_RSYNC_CONTAINER",
        default_value = "localhost/volsync-mover-rsync:dev",
        value_name = "IMAGE"
    )]
    rsync_container_image: String,
    /// Namespace the operator runs in, where its Lease is.
    #[arg(
        long,
        env = "VOLSYNC_NAMESPACE",
        default_value = "volsync-system",
        value_name = "NAMESPACE"
    )]
    namespace: String,
    /// Only look at this namespace.
    #[arg(long, env = "VOLSYNC_WATCH_NAMESPACE", value_name = "NAMESPACE")]
    watch_namespace: Option<String>,
    /// What to log, such as `info` or `volsync_controller=debug`.
    #[arg(long, env = "RUST_LOG", default_value = "info", value_name = "FILTER")]
    log: String,
    /// This process, in the Lease.
    #[arg(long, env = "HOSTNAME", default_value = "volsync-controller", hide = true)]
    identity: String,
}

/// What was asked for, parsed.
#[derive(Debug, Clone)]
pub(crate) struct Invocation {
    /// Where to serve health probes.
    pub(crate) health: Option<SocketAddr>,
    pub(crate) leader_elect: bool,
    pub(crate) namespace: String,
    pub(crate) identity: String,
    pub(crate) watch_namespace: Option<String>,
    pub(crate) log: String,
    pub(crate) settings: crate::context::Settings,
}

/// Reads command line and environment; ends the process with help or an error if it has to.
pub(crate) fn parse() -> Invocation {
    let args = Args::parse();
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
            leader_elect: self.leader_elect,
            namespace: self.namespace,
            identity: self.identity,
            watch_namespace: self.watch_namespace.filter(|namespace| !namespace.is_empty()),
            log: self.log,
            settings: crate::context::Settings {
                zone: TimeZone::system(),
                rsync_image: self.rsync_container_image,
                scc_name: self.scc_name,
            },
        })
    }
}

/// `:8081`, `127.0.0.1:8081`; `0` and nothing are none.
fn address(text: &str) -> Result<Option<SocketAddr>, String> {
    if text.is_empty() || text == "0" {
        return Ok(None);
    }
    let full = if text.starts_with(':') { format!("[::]{text}") } else { text.to_owned() };
    full.parse()
        .map(Some)
        .map_err(|_| format!("{text:?} is no address such as :8081 or 127.0.0.1:8081"))
}
