//! `Certificate`: what the metrics endpoint shows its clients, as it is on disk now.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustls::ServerConfig;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::TlsAcceptor;

/// Why there is no certificate to serve with.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CertificateError {
    /// A file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// A file holds something else.
    #[error("{} holds no {what} in PEM: {source}", path.display())]
    Pem {
        path: PathBuf,
        what: &'static str,
        #[source]
        source: pem::Error,
    },
    /// Certificate and key cannot be used, or not together.
    #[error("cannot serve with the certificate of {}: {source}", path.display())]
    Unusable {
        path: PathBuf,
        #[source]
        source: rustls::Error,
    },
    /// None could be made.
    #[error("cannot make a self-signed certificate: {0}")]
    SelfSign(#[from] rcgen::Error),
}

/// A certificate with its key. Files are looked at for each connection, so that whoever renews them
/// need not tell; while they cannot be used, the last ones that could be are.
pub(crate) struct Certificate {
    files: Option<Files>,
    current: Mutex<Current>,
}

/// Where certificate and key are.
#[derive(Debug, Clone)]
pub(crate) struct Files {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

/// What certificate and key say.
#[derive(PartialEq, Eq)]
struct Contents {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

struct Current {
    config: Arc<ServerConfig>,
    /// What was last read, whether it could be used or not; `None` if it could not be read.
    contents: Option<Contents>,
}

impl Certificate {
    /// The certificate in these files; one made for this process if there are none.
    pub(crate) async fn new(files: Option<Files>) -> Result<Self, CertificateError> {
        let current = match &files {
            Some(files) => {
                let contents = files.read().await?;
                Current { config: files.config(&contents)?, contents: Some(contents) }
            }
            None => Current { config: self_signed()?, contents: None },
        };
        Ok(Self { files, current: Mutex::new(current) })
    }

    /// What the next connection is accepted with.
    pub(crate) async fn acceptor(&self) -> TlsAcceptor {
        let Some(files) = &self.files else {
            return self.with(|current| current.config.clone().into());
        };
        let read = files.read().await;
        self.with(|current| {
            if read.as_ref().ok() != current.contents.as_ref() {
                let config = read.as_ref().map(|contents| files.config(contents));
                match config {
                    Ok(Ok(config)) => {
                        tracing::info!(file = %files.certificate.display(), "serving with a new certificate");
                        current.config = config;
                    }
                    Ok(Err(error)) => tracing::warn!("{error}; still serving with the last one"),
                    Err(error) => tracing::warn!("{error}; still serving with the last one"),
                }
                current.contents = read.ok();
            }
            current.config.clone().into()
        })
    }

    fn with<T>(&self, work: impl FnOnce(&mut Current) -> T) -> T {
        work(&mut self.current.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Files {
    async fn read(&self) -> Result<Contents, CertificateError> {
        let read = async |path: &Path| {
            let read = tokio::fs::read(path).await;
            read.map_err(|source| CertificateError::Read { path: path.to_owned(), source })
        };
        Ok(Contents { certificate: read(&self.certificate).await?, key: read(&self.key).await? })
    }

    fn config(&self, contents: &Contents) -> Result<Arc<ServerConfig>, CertificateError> {
        let chain: Result<Vec<_>, _> =
            CertificateDer::pem_slice_iter(&contents.certificate).collect();
        let chain = chain.and_then(|chain| {
            if chain.is_empty() { Err(pem::Error::NoItemsFound) } else { Ok(chain) }
        });
        let chain = chain.map_err(|source| CertificateError::Pem {
            path: self.certificate.clone(),
            what: "certificate",
            source,
        })?;
        let key = PrivateKeyDer::from_pem_slice(&contents.key).map_err(|source| {
            CertificateError::Pem { path: self.key.clone(), what: "private key", source }
        })?;
        config(chain, key)
            .map_err(|source| CertificateError::Unusable { path: self.certificate.clone(), source })
    }
}

/// A certificate that nobody can verify, for clients that only want the connection private.
fn self_signed() -> Result<Arc<ServerConfig>, CertificateError> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    config(vec![made.cert.der().clone()], key.into())
        .map_err(|source| CertificateError::Unusable { path: PathBuf::from("localhost"), source })
}

fn config(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<Arc<ServerConfig>, rustls::Error> {
    let mut config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) struct Pair {
        pub(crate) certificate: String,
        pub(crate) key: String,
    }

    pub(crate) fn made() -> Pair {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        Pair { certificate: made.cert.pem(), key: made.signing_key.serialize_pem() }
    }

    fn files(directory: &Path) -> Files {
        Files { certificate: directory.join("tls.crt"), key: directory.join("tls.key") }
    }

    fn write(files: &Files, pair: &Pair) {
        std::fs::write(&files.certificate, &pair.certificate).unwrap();
        std::fs::write(&files.key, &pair.key).unwrap();
    }

    async fn in_use(certificate: &Certificate) -> Arc<ServerConfig> {
        certificate.acceptor().await.config().clone()
    }

    #[tokio::test]
    async fn a_renewed_certificate_is_used_from_the_next_connection_on() {
        let directory = tempfile::tempdir().unwrap();
        let files = files(directory.path());
        write(&files, &made());
        let certificate = Certificate::new(Some(files.clone())).await.unwrap();
        let first = in_use(&certificate).await;
        assert!(Arc::ptr_eq(&first, &in_use(&certificate).await));
        write(&files, &made());
        assert!(!Arc::ptr_eq(&first, &in_use(&certificate).await));
    }

    #[tokio::test]
    async fn files_that_cannot_be_used_leave_the_last_certificate_in_use() {
        let directory = tempfile::tempdir().unwrap();
        let files = files(directory.path());
        write(&files, &made());
        let certificate = Certificate::new(Some(files.clone())).await.unwrap();
        let first = in_use(&certificate).await;
        let renewed = made();
        // Half of a renewal: the key is another's.
        std::fs::write(&files.certificate, &renewed.certificate).unwrap();
        assert!(Arc::ptr_eq(&first, &in_use(&certificate).await));
        std::fs::remove_file(&files.key).unwrap();
        assert!(Arc::ptr_eq(&first, &in_use(&certificate).await));
        write(&files, &renewed);
        assert!(!Arc::ptr_eq(&first, &in_use(&certificate).await));
    }

    #[tokio::test]
    async fn files_that_cannot_be_used_at_the_start_are_named() {
        let directory = tempfile::tempdir().unwrap();
        let files = files(directory.path());
        let says = async || Certificate::new(Some(files.clone())).await.err().unwrap().to_string();
        assert!(says().await.contains("tls.crt: No such file"));
        write(&files, &Pair { certificate: "text".to_owned(), key: made().key });
        assert!(says().await.contains("tls.crt holds no certificate in PEM"));
        write(&files, &Pair { certificate: made().certificate, key: "text".to_owned() });
        assert!(says().await.contains("tls.key holds no private key in PEM"));
        write(&files, &Pair { certificate: made().certificate, key: made().key });
        assert!(says().await.contains("cannot serve with the certificate of"));
    }

    #[tokio::test]
    async fn without_files_a_certificate_is_made() {
        Certificate::new(None).await.unwrap();
    }
}
