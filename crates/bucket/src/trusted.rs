//! The certificates that servers are trusted by.

use std::fs;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

/// The system's certificates, or those that Mozilla trusts where there are none, as in our images; and
/// those of a file, if there is one.
pub(crate) fn certificates(custom: Option<&Path>) -> Result<Vec<CertificateDer<'static>>, String> {
    or_built_in(rustls_native_certs::load_native_certs().certs, custom)
}

fn or_built_in(
    mut trusted: Vec<CertificateDer<'static>>,
    custom: Option<&Path>,
) -> Result<Vec<CertificateDer<'static>>, String> {
    // A system may have some that cannot be read; libraries would trust none for it.
    trusted.retain(|certificate| RootCertStore::empty().add(certificate.clone()).is_ok());
    if trusted.is_empty() {
        trusted.extend_from_slice(webpki_root_certs::TLS_SERVER_ROOT_CERTS);
    }
    if let Some(custom) = custom {
        trusted.extend(read(custom)?);
    }
    Ok(trusted)
}

/// The same for who wants text (RFC 7468).
pub(crate) fn pem(custom: Option<&Path>) -> Result<Vec<u8>, String> {
    let mut pem = String::new();
    for certificate in certificates(custom)? {
        let text = STANDARD.encode(certificate);
        pem.push_str("-----BEGIN CERTIFICATE-----\n");
        for line in text.as_bytes().chunks(64) {
            pem.extend(line.iter().copied().map(char::from));
            pem.push('\n');
        }
        pem.push_str("-----END CERTIFICATE-----\n");
    }
    Ok(pem.into_bytes())
}

/// The certificates of a file, each of which can be trusted; or what is wrong with it.
/// Libraries panic at a bad certificate or pass over it, so it is looked at here.
fn read(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let problem = |what: &str| format!("the custom CA {}: {what}", path.display());
    let pem = fs::read(path).map_err(|error| problem(&error.to_string().to_lowercase()))?;
    let mut found = Vec::new();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate =
            certificate.map_err(|error| problem(&format!("it is not PEM: {error}")))?;
        RootCertStore::empty()
            .add(certificate.clone())
            .map_err(|error| problem(&format!("a bad certificate: {error}")))?;
        found.push(certificate);
    }
    if found.is_empty() {
        return Err(problem("it holds no certificate"));
    }
    Ok(found)
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

    #[test]
    fn where_the_system_trusts_nobody_there_is_somebody_to_trust() {
        let built_in = webpki_root_certs::TLS_SERVER_ROOT_CERTS;
        assert_eq!(or_built_in(Vec::new(), None).unwrap(), built_in);
        let unreadable = CertificateDer::from(vec![1, 2, 3]);
        assert_eq!(or_built_in(vec![unreadable], None).unwrap(), built_in);
        let own = or_built_in(vec![built_in[0].clone()], None).unwrap();
        assert_eq!(own, &built_in[..1]);
    }

    #[test]
    fn some_are_always_trusted_and_the_text_holds_them_all() {
        let trusted = certificates(None).unwrap();
        assert!(trusted.len() > 50, "{}", trusted.len());
        let text = pem(None).unwrap();
        let again: Vec<_> = CertificateDer::pem_slice_iter(&text).map(Result::unwrap).collect();
        assert_eq!(again, trusted);
    }
}
