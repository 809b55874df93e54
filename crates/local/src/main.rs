//! `volsync`: replicates directories on one machine, from the manifests a cluster would be given.
//!
//! ```text
//!   manifests ── claims ── secrets          what the user wrote, and what it refers to
//!        │
//!        v
//!   reconcile: dereference, observe, step, record, act     one loop for every replication
//!        │                           ^
//!        v                           │
//!   supervise: a mover process ── events, report
//! ```

mod act;
mod address;
mod args;
mod build;
mod check;
mod claims;
mod clock;
mod dereference;
mod error;
mod live;
mod lock;
mod manifests;
mod observe;
mod output;
mod overlap;
mod point_in_time;
mod progress;
mod reconcile;
mod repository;
mod schema;
mod secrets;
mod state_directory;
mod status_command;
mod status_store;
mod supervise;
mod unsupported;
mod words;

use std::process::ExitCode;

fn main() -> ExitCode {
    let invocation = args::parse();
    start_logging(&invocation.settings);
    let result = match &invocation.command {
        args::Command::Run(work) => reconcile::run(&invocation.settings, work),
        args::Command::Sync { work, only } => {
            reconcile::sync(&invocation.settings, work, only.as_ref())
        }
        args::Command::Check(work) => check::check(&invocation.settings, work),
        args::Command::Status(paths) => status_command::status(&invocation.settings, paths),
    };
    match result {
        Ok(status) => ExitCode::from(status.code()),
        Err(error) => {
            output::print_error(&invocation.settings, &error);
            ExitCode::from(error.retry().exit_status().code())
        }
    }
}

/// Log lines are for those who ask for them; results are printed by `output`.
fn start_logging(settings: &args::Settings) {
    use tracing_subscriber::EnvFilter;
    let filter = settings.log_filter.as_deref().unwrap_or("warn");
    let filter = EnvFilter::try_new(filter).unwrap_or_else(|_| EnvFilter::new("warn"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = match settings.output {
        args::Output::Json => builder.json().try_init(),
        args::Output::Table => builder.with_ansi(settings.colour).try_init(),
    };
    if let Err(error) = started {
        tracing::warn!(%error, "logging was set up before");
    }
}
