//! A small HTTP server, for health probes and for metrics.

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::certificate::Certificate;

/// How many connections are answered at a time; more wait to be accepted.
const CONNECTIONS: usize = 64;
/// How long a connection may take from its first byte to its last. It is for one request.
const PATIENCE: Duration = Duration::from_secs(30);
/// The longest head of a request, which has room for any bearer token.
const HEAD_BYTES: usize = 64 * 1024;

/// What a request is answered with.
pub(crate) type Answer = Response<Full<Bytes>>;

/// An answer of plain text.
pub(crate) fn text(status: StatusCode, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    answer
}

/// Listens on an address such as `[::]:8081` or `localhost:8081`. Fails at once if it is taken or its
/// host is not known. Where the kernel has no IPv6, all addresses are those of IPv4.
pub(crate) async fn listen(address: &str) -> std::io::Result<TcpListener> {
    match (TcpListener::bind(address).await, address.strip_prefix("[::]:")) {
        (Err(error), Some(port)) if error.kind() != std::io::ErrorKind::AddrInUse => {
            TcpListener::bind(format!("0.0.0.0:{port}")).await
        }
        (bound, _) => bound,
    }
}

/// Answers requests for as long as the process lives; with a certificate, over TLS alone.
pub(crate) async fn serve<A, F>(listener: TcpListener, tls: Option<Arc<Certificate>>, answer: A)
where
    A: Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Answer> + Send + 'static,
{
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    while let Ok(place) = room.clone().acquire_owned().await {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_secs(1)).await;
                continue;
            }
        };
        let (tls, answer) = (tls.clone(), answer.clone());
        tokio::spawn(async move {
            match tokio::time::timeout(PATIENCE, connection(stream, tls, answer)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::debug!("a connection broke off: {error:#}"),
                Err(_) => tracing::debug!("a connection took longer than {} s", PATIENCE.as_secs()),
            }
            drop(place);
        });
    }
}

async fn connection<A, F>(
    stream: TcpStream,
    tls: Option<Arc<Certificate>>,
    answer: A,
) -> anyhow::Result<()>
where
    A: Fn(Request<Incoming>) -> F,
    F: Future<Output = Answer>,
{
    match tls {
        None => exchange(stream, answer).await?,
        Some(tls) => exchange(tls.acceptor().await.accept(stream).await?, answer).await?,
    }
    Ok(())
}

async fn exchange<S, A, F>(stream: S, answer: A) -> hyper::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
    A: Fn(Request<Incoming>) -> F,
    F: Future<Output = Answer>,
{
    let service = service_fn(|request| {
        let answer = answer(request);
        async { Ok::<_, Infallible>(answer.await) }
    });
    hyper::server::conn::http1::Builder::new()
        .keep_alive(false)
        .max_buf_size(HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service)
        .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_host_name_is_listened_on() {
        let listener = listen("localhost:0").await.unwrap();
        assert!(listener.local_addr().unwrap().ip().is_loopback());
        assert!(listen("no-such-host.invalid:0").await.is_err());
    }
}
