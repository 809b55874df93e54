//! Certificates that are trusted besides the system's.

use std::fs;
use std::path::Path;

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

/// The content of a file of certificates, each of which can be trusted; or what is wrong with it.
/// Libraries panic at a bad certificate or pass over it, so it is looked at here.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, String> {
    let problem = |what: &str| format!("the custom CA {}: {what}", path.display());
    let pem = fs::read(path).map_err(|error| problem(&error.to_string().to_lowercase()))?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate =
            certificate.map_err(|error| problem(&format!("it is not PEM: {error}")))?;
        roots.add(certificate).map_err(|error| problem(&format!("a bad certificate: {error}")))?;
    }
    if roots.is_empty() {
        return Err(problem("it holds no certificate"));
    }
    Ok(pem)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_certificate_is_refused_with_the_file_s_name() {
        let scratch = tempfile::tempdir().unwrap();
        let file = scratch.path().join("ca.crt");
        assert!(read(&file).unwrap_err().contains("no such file"));
        fs::write(&file, "").unwrap();
        assert!(read(&file).unwrap_err().ends_with("ca.crt: it holds no certificate"));
        let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        fs::write(&file, broken).unwrap();
        assert!(read(&file).unwrap_err().contains("a bad certificate"));
        fs::write(&file, "-----BEGIN CERTIFICATE-----\n!!!!\n").unwrap();
        assert!(read(&file).unwrap_err().contains("it is not PEM"));
    }
}
