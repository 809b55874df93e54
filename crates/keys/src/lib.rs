//! SSH keys as `ssh-keygen -t rsa -b 4096` makes them, for replications whose manifests bring none.

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use ssh_key::private::{RsaKeypair, RsaPrivateKey};
use ssh_key::public::RsaPublicKey;
use ssh_key::{LineEnding, Mpint, PrivateKey};

/// A private key and its public key. `Debug` shows neither.
pub struct SshKey {
    /// In the form of `PROTOCOL.key` of OpenSSH, armoured.
    pub private: Vec<u8>,
    /// One line: the algorithm and the key in base64 (RFC 4253, section 6.6), with a line feed.
    pub public: Vec<u8>,
}

impl std::fmt::Debug for SshKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SshKey")
    }
}

/// No key could be generated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot generate an SSH key: {0}")]
pub struct GenerateKeyError(String);

/// A new RSA key of 4 096 bits without comment or passphrase. Takes a second or so of one core.
pub fn generate() -> Result<SshKey, GenerateKeyError> {
    let failed = |why: &dyn std::fmt::Display| GenerateKeyError(why.to_string());
    let pair = KeyPair::generate(KeySize::Rsa4096).map_err(|error| failed(&error))?;
    let der = pair.as_der().map_err(|error| failed(&error))?;
    let numbers = rsa_numbers(der.as_ref()).ok_or_else(|| failed(&"its encoding is not PKCS#8"))?;
    let key = open_ssh(&numbers).map_err(|error| failed(&error))?;
    let private = key.to_openssh(LineEnding::LF).map_err(|error| failed(&error))?;
    let public = key.public_key().to_openssh().map_err(|error| failed(&error))?;
    Ok(SshKey {
        private: private.as_bytes().to_vec(),
        public: format!("{}\n", public.trim_end()).into_bytes(),
    })
}

fn open_ssh([n, e, d, p, q, iqmp]: &[&[u8]; 6]) -> ssh_key::Result<PrivateKey> {
    let number = |bytes: &[u8]| Mpint::from_positive_bytes(bytes);
    let public = RsaPublicKey::new(number(e), number(n))?;
    let private = RsaPrivateKey::new(number(d), number(iqmp), number(p), number(q))?;
    Ok(PrivateKey::from(RsaKeypair::new(public, private)?))
}

/// `n`, `e`, `d`, `p`, `q` and `q⁻¹ mod p` of a PKCS#8 key.
///
/// ```text
/// SEQUENCE { version, algorithm, OCTET STRING { SEQUENCE { version, n, e, d, p, q, dp, dq, qinv } } }
/// ```
fn rsa_numbers(der: &[u8]) -> Option<[&[u8]; 6]> {
    const SEQUENCE: u8 = 0x30;
    const INTEGER: u8 = 0x02;
    const OCTET_STRING: u8 = 0x04;
    let (info, _) = element(der, SEQUENCE)?;
    let (_version, rest) = element(info, INTEGER)?;
    let (_algorithm, rest) = element(rest, SEQUENCE)?;
    let (key, _) = element(rest, OCTET_STRING)?;
    let (mut rest, _) = element(key, SEQUENCE)?;
    let mut numbers = [&[][..]; 9];
    for number in &mut numbers {
        (*number, rest) = element(rest, INTEGER)?;
    }
    let [_version, n, e, d, p, q, _dp, _dq, iqmp] = numbers;
    Some([n, e, d, p, q, iqmp])
}

/// The content of the first element, which must have this tag, and what follows it.
fn element(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&[found, first], rest) = bytes.split_first_chunk::<2>()?;
    if found != tag {
        return None;
    }
    if first < 0x80 {
        return rest.split_at_checked(usize::from(first));
    }
    let (length, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
    let length = length
        .iter()
        .try_fold(0usize, |sum, &byte| sum.checked_mul(256)?.checked_add(byte.into()))?;
    rest.split_at_checked(length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use std::process::Command;

    #[test]
    fn ssh_keygen_reads_the_private_key_and_finds_the_public_one() {
        let key = generate().unwrap();
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("key");
        std::fs::write(&file, &key.private).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        let read = Command::new("ssh-keygen").arg("-y").arg("-f").arg(&file).output().unwrap();
        assert_eq!(
            String::from_utf8_lossy(&read.stdout).trim(),
            String::from_utf8_lossy(&key.public).trim()
        );
        let listed = Command::new("ssh-keygen").arg("-l").arg("-f").arg(&file).output().unwrap();
        let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
        assert!(listed.starts_with("4096 ") && listed.trim_end().ends_with("(RSA)"), "{listed}");
    }

    #[test]
    fn a_truncated_encoding_is_refused() {
        let pair = KeyPair::generate(KeySize::Rsa2048).unwrap();
        let der = pair.as_der().unwrap();
        let der: &[u8] = der.as_ref();
        assert!(rsa_numbers(der).is_some());
        for length in (0..der.len()).step_by(7) {
            assert!(rsa_numbers(&der[..length]).is_none());
        }
    }
}
