//! The operator: watches ReplicationSources and ReplicationDestinations and schedules Jobs that run
//! the movers.

mod access;
mod apply;
mod args;
mod build;
mod cache;
mod certificate;
mod clean_up;
mod context;
mod dereference;
mod error;
mod events;
mod health;
mod keep;
mod kind;
mod lease;
mod metrics;
mod no_pod;
mod no_volume;
mod observe;
mod placement;
mod populator;
mod privilege;
mod pull_secrets;
mod reconcile;
mod registration;
mod restic;
mod review;
mod rsync;
mod run;
mod scrape;
mod serve;
mod update_status;
mod volume;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use futures::FutureExt;
use lease::{Fence, Leadership};
use volsync_api::{ReplicationDestination, ReplicationSource};

#[tokio::main]
async fn main() -> ExitCode {
    let invocation = args::parse();
    if let Err(error) = start_logging(&invocation.logging) {
        tracing::warn!(%error, "logging was set up before");
    }
    if rustls::crypto::aws_lc_rs::default_provider().install_default().is_err() {
        tracing::debug!("a provider of ciphers was installed before");
    }
    match serve(invocation).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start_logging(logging: &args::Logging) -> Result<(), tracing_subscriber::util::TryInitError> {
    use tracing_subscriber::util::SubscriberInitExt;
    let filter = tracing_subscriber::EnvFilter::try_new(&logging.filter)
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false);
    if logging.json { lines.json().finish().try_init() } else { lines.finish().try_init() }
}

/// How the API server is reached.
async fn configure(kubeconfig: Option<PathBuf>) -> anyhow::Result<kube::Config> {
    use kube::config::{Config, KubeConfigOptions, Kubeconfig};
    let Some(path) = kubeconfig else {
        return Config::infer().await.context("cannot find the Kubernetes cluster");
    };
    let cannot = || format!("cannot use the kubeconfig {}", path.display());
    let file = Kubeconfig::read_from(&path).with_context(cannot)?;
    let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await;
    config.with_context(cannot)
}

async fn serve(invocation: args::Invocation) -> anyhow::Result<()> {
    let config = configure(invocation.kubeconfig).await?;
    let unusable = "cannot connect to the Kubernetes API server";
    let client = kube::Client::try_from(config.clone()).context(unusable)?;
    let fence = Fence::default();
    let fenced = kube::client::ClientBuilder::try_from(config).context(unusable)?;
    let fenced = fenced.with_layer(&fence).build();
    let version =
        client.apiserver_version().await.context("cannot reach the Kubernetes API server")?;
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        kubernetes = version.git_version,
        "Registered Movers: [rsync]"
    );
    if let Some(address) = invocation.health {
        let listener = serve::listen(&address).await;
        let listener =
            listener.with_context(|| format!("cannot serve health probes on {address}"))?;
        tokio::spawn(serve::serve(listener, None, |request| async move {
            health::answer(request.uri().path())
        }));
    }
    let ctx = Arc::new(context::Context::new(fenced, invocation.settings));
    if let Some(options) = invocation.scrape {
        scrape::start(options, client.clone(), ctx.metrics.clone()).await?;
    }
    let asked = stopped()?.shared();
    let mut leadership = invocation
        .leader_elect
        .then(|| Leadership::new(client, &invocation.namespace, invocation.identity, fence));
    if let Some(leadership) = &mut leadership {
        tokio::select! {
            () = leadership.acquire() => {}
            () = asked.clone() => return Ok(()),
        }
    }
    let (lose, lost) = tokio::sync::oneshot::channel::<()>();
    let lost = lost.map(|_| ()).shared();
    let stop = futures::future::select(asked.clone(), lost).map(|_| ()).shared();
    let places = run::places(invocation.watch_namespaces).into_iter().map(|place| {
        futures::future::join4(
            run::run::<ReplicationSource>(ctx.clone(), place.clone(), stop.clone()),
            run::run::<ReplicationDestination>(ctx.clone(), place.clone(), stop.clone()),
            populator::run(ctx.clone(), place.clone(), stop.clone()),
            keep::run(ctx.clone(), place, stop.clone()),
        )
    });
    let controllers = futures::future::join(
        futures::future::join_all(places),
        registration::run(ctx.clone(), stop.clone()),
    );
    let Some(leadership) = &mut leadership else {
        controllers.await;
        tracing::info!("stopped");
        return Ok(());
    };
    let mut controllers = std::pin::pin!(controllers);
    let lost = tokio::select! {
        _ = &mut controllers => false,
        () = leadership.keep() => true,
    };
    if lost {
        // Dropping this stops the controllers after what they are in the middle of.
        drop(lose);
        controllers.await;
        anyhow::bail!("this replica leads no longer");
    }
    leadership.release().await.context("cannot give the Lease up")?;
    tracing::info!("stopped");
    Ok(())
}

/// Ends when the process is asked to.
fn stopped() -> anyhow::Result<impl Future<Output = ()> + Send + Sync + 'static> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

#[cfg(test)]
mod fixtures;
