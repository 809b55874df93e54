//! Who is answered what, and a scrape over TLS.

use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;
use crate::review::tests::Fake;

fn request(method: &str, path: &str, authorization: Option<&str>) -> Request<()> {
    let mut request = Request::builder().method(method).uri(path);
    if let Some(authorization) = authorization {
        request = request.header(AUTHORIZATION, authorization);
    }
    request.body(()).unwrap()
}

#[tokio::test]
async fn only_bearers_who_may_get_metrics_get_them() {
    let reviews = Reviews::new(Fake::default());
    for (authorization, status) in [
        (None, 401),
        (Some("Basic scraper"), 401),
        (Some("Bearer "), 401),
        (Some("Bearer nonsense"), 401),
        (Some("Bearer stranger"), 403),
        (Some("Bearer unreachable"), 500),
        (Some("Bearer scraper"), 200),
        (Some("bearer scraper"), 200),
    ] {
        let request = request("GET", "/metrics", authorization);
        let answer = answer(request, Some(&reviews), &Metrics::default()).await;
        assert_eq!(answer.status(), status, "{authorization:?}");
        assert_eq!(answer.headers().contains_key(WWW_AUTHENTICATE), status == 401);
    }
}

#[tokio::test]
async fn without_reviews_everybody_may_read_and_nothing_else() {
    for (method, path, status) in [
        ("GET", "/metrics", 200),
        ("HEAD", "/metrics", 200),
        ("POST", "/metrics", 405),
        ("GET", "/", 404),
    ] {
        let request = request(method, path, None);
        let answer = answer(request, None::<&Reviews<Fake>>, &Metrics::default()).await;
        assert_eq!(answer.status(), status, "{method} {path}");
    }
}

#[tokio::test]
async fn metrics_are_read_over_tls() {
    let directory = tempfile::tempdir().unwrap();
    let files = Files {
        certificate: directory.path().join("tls.crt"),
        key: directory.path().join("tls.key"),
    };
    let made = crate::certificate::tests::made();
    std::fs::write(&files.certificate, &made.certificate).unwrap();
    std::fs::write(&files.key, &made.key).unwrap();
    let certificate = Arc::new(Certificate::new(Some(files)).await.unwrap());
    let listener = listen("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(serve(listener, Some(certificate), async |request| {
        answer(request, None::<&Reviews<Fake>>, &Metrics::default()).await
    }));

    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(made.certificate.as_bytes()).unwrap()).unwrap();
    let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let stream = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let mut stream = connector.connect(name, stream).await.unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.contains("content-type: application/openmetrics-text; version=1.0.0"));
    assert!(answer.ends_with("# EOF\n"));
}
