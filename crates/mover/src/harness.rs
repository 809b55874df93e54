//! The life of a mover process: read the task, run, write the report, choose the exit code.

use std::future::Future;
use std::process::ExitCode;
use std::sync::Arc;

use rustix::process::{Resource, getrlimit, setrlimit, umask};
use tracing_subscriber::EnvFilter;
use volsync_contract::{Report, Retry, Task};

use crate::environment::Environment;
use crate::error::{Classified, Error};
use crate::events::Events;
use crate::monitor::Monitor;
use crate::{Shutdown, atomic_file};

/// What the harness gives a mover.
#[derive(Debug, Clone)]
pub struct Context {
    /// Counts and per-item failures.
    pub monitor: Arc<Monitor>,
    /// Whether to stop.
    pub shutdown: Shutdown,
    /// Events for the shell.
    pub events: Events,
    /// What describes a repository; empty for movers that have none.
    pub environment: Environment,
}

/// Runs a mover. `mover` returns the report of a sync that came to its end, or an error.
pub fn run<F, Fut, E>(name: &str, mover: F) -> ExitCode
where
    F: FnOnce(Task, Context) -> Fut,
    Fut: Future<Output = Result<Report, E>>,
    E: Classified,
{
    start_logging();
    let version = env!("CARGO_PKG_VERSION");
    tracing::info!("volsync {name} mover {version}");
    // Modes are set exactly; files are private until then.
    umask(rustix::fs::Mode::empty());
    let task = match Task::from_env(|name| std::env::var(name).ok()) {
        Ok(task) => task,
        Err(error) => {
            let report = failed(&Error::from(error));
            let path = std::env::var(volsync_contract::env::REPORT)
                .unwrap_or_else(|_| volsync_contract::paths::REPORT.to_owned());
            return end(report, path.as_ref());
        }
    };
    raise_open_files();
    let path = task.report.clone();
    let report =
        match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
            Ok(runtime) => {
                let report = runtime.block_on(live(task, mover));
                runtime.shutdown_background();
                report
            }
            Err(error) => {
                Report::failed(Retry::Transient, format!("the mover cannot start: {error}"), "")
            }
        };
    end(report, &path)
}

async fn live<F, Fut, E>(task: Task, mover: F) -> Report
where
    F: FnOnce(Task, Context) -> Fut,
    Fut: Future<Output = Result<Report, E>>,
    E: Classified,
{
    let shutdown = match Shutdown::on_signals() {
        Ok(shutdown) => shutdown,
        Err(error) => {
            return Report::failed(
                Retry::Transient,
                format!("the mover cannot listen for signals: {error}"),
                "",
            );
        }
    };
    let monitor = Arc::new(Monitor::new(task.strict_attributes));
    let events = Events::new(task.events);
    let ticker = tokio::spawn(events.progress(monitor.clone()));
    let variables = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let environment = Environment::new(variables);
    let context = Context { monitor: monitor.clone(), shutdown, events, environment };
    let result = mover(task, context).await;
    ticker.abort();
    events.send(&volsync_contract::Event::Progress(monitor.progress()));
    result.unwrap_or_else(|error| {
        let report = failed(&error);
        // What was counted up to the failure is true all the same.
        let counted = monitor.report(report.outcome);
        Report { message: report.message, hint: report.hint, ..counted }
    })
}

fn failed(error: &impl Classified) -> Report {
    Report::failed(error.retry(), error.to_string(), error.hint())
}

fn end(report: Report, path: &std::path::Path) -> ExitCode {
    match report.message.as_str() {
        "" => tracing::info!(counts = ?report.counts, "done"),
        message => tracing::error!(hint = report.hint, "{message}"),
    }
    let mut status = report.exit_status();
    if let Err(error) = atomic_file::write(path, report.to_json().as_bytes()) {
        tracing::error!(path = %path.display(), %error, "the report cannot be written");
        // Without a report no sync has succeeded.
        if status.code() == 0 {
            status = volsync_contract::ExitStatus::Transient;
        }
    }
    ExitCode::from(status.code())
}

fn start_logging() {
    let filter =
        EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info,russh=warn"));
    let json = std::env::var("VOLSYNC_LOG_FORMAT").is_ok_and(|format| format == "json");
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started =
        if json { builder.json().try_init() } else { builder.with_ansi(false).try_init() };
    if let Err(error) = started {
        tracing::warn!(%error, "logging was set up before");
    }
}

/// A mover holds directories and basis files open; the soft limit is often 1024.
fn raise_open_files() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::debug!(%error, "the limit of open files stays as it is");
    }
}
