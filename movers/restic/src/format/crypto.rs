//! Encryption: AES-256 in counter mode, authenticated with Poly1305-AES.
//!
//! A sealed message is a nonce of 16 bytes, the ciphertext, and a MAC of 16 bytes over the
//! ciphertext. The nonce is the first counter block, all of whose 128 bits count. The one-time key
//! of Poly1305 is the `r` of the master key and the nonce encrypted with AES-128 under its `k`.

use std::fmt;

use aws_lc_rs::cipher::{AES_128, AES_256, EncryptingKey, EncryptionContext, UnboundCipherKey};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::iv::FixedLength;
use aws_lc_rs::rand;
use poly1305::universal_hash::{KeyInit, UniversalHash};
use poly1305::{Block, Poly1305};

use super::error::Error;

/// Length of the nonce in front of a sealed message, in bytes.
pub(crate) const NONCE: usize = 16;
/// Length of the MAC behind it.
pub(crate) const MAC: usize = 16;
/// What sealing adds, in bytes.
pub(crate) const OVERHEAD: usize = NONCE + MAC;

/// The master key of a repository.
pub struct Key {
    cipher: EncryptingKey,
    mac_nonce: EncryptingKey,
    mac_r: [u8; 16],
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key")
    }
}

impl Key {
    /// From the three parts a key file holds: `encrypt`, `mac.k` and `mac.r`.
    pub fn new(encrypt: &[u8; 32], mac_k: &[u8; 16], mac_r: &[u8; 16]) -> Result<Self, Error> {
        let key = |algorithm, bytes: &[u8]| {
            UnboundCipherKey::new(algorithm, bytes).map_err(|_| Error::Crypto)
        };
        Ok(Self {
            cipher: EncryptingKey::ctr(key(&AES_256, encrypt)?).map_err(|_| Error::Crypto)?,
            mac_nonce: EncryptingKey::ecb(key(&AES_128, mac_k)?).map_err(|_| Error::Crypto)?,
            mac_r: *mac_r,
        })
    }

    /// Seals what `message` holds behind its first 16 bytes, which become the nonce, and appends
    /// the MAC.
    pub(crate) fn seal(&self, message: &mut Vec<u8>) -> Result<(), Error> {
        let (nonce, plain) = message.split_first_chunk_mut::<NONCE>().ok_or(Error::Crypto)?;
        rand::fill(nonce).map_err(|_| Error::Crypto)?;
        self.apply(nonce, plain)?;
        let mac = self.mac(nonce, plain)?;
        message.extend_from_slice(&mac);
        Ok(())
    }

    /// Verifies and decrypts a sealed message where it lies, and returns the part that is the
    /// plaintext; `None` if it is not authentic.
    pub(crate) fn open<'a>(&self, message: &'a mut [u8]) -> Result<Option<&'a mut [u8]>, Error> {
        let Some((nonce, rest)) = message.split_first_chunk_mut::<NONCE>() else {
            return Ok(None);
        };
        let Some((cipher, mac)) = rest.split_last_chunk_mut::<MAC>() else {
            return Ok(None);
        };
        if verify_slices_are_equal(&self.mac(nonce, cipher)?, mac).is_err() {
            return Ok(None);
        }
        self.apply(nonce, cipher)?;
        Ok(Some(cipher))
    }

    fn apply(&self, nonce: &[u8; NONCE], text: &mut [u8]) -> Result<(), Error> {
        let context = EncryptionContext::Iv128(FixedLength::from(nonce));
        self.cipher.less_safe_encrypt(text, context).map_err(|_| Error::Crypto)?;
        Ok(())
    }

    fn mac(&self, nonce: &[u8; NONCE], cipher: &[u8]) -> Result<[u8; MAC], Error> {
        let mut key = [0; 32];
        let (r, s) = key.split_at_mut(16);
        r.copy_from_slice(&self.mac_r);
        s.copy_from_slice(nonce);
        self.mac_nonce.less_safe_encrypt(s, EncryptionContext::None).map_err(|_| Error::Crypto)?;
        let mut poly = Poly1305::new(&key.into());
        // Whole blocks take the fast path, which `compute_unpadded` alone does not.
        let (blocks, rest) = Block::slice_as_chunks(cipher);
        poly.update(blocks);
        Ok(poly.compute_unpadded(rest).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> Key {
        Key::new(&[1; 32], &[2; 16], &[3; 16]).unwrap()
    }

    #[test]
    fn what_was_sealed_opens_and_what_was_changed_does_not() {
        for length in [0, 1, 15, 16, 17, 1000] {
            let plain: Vec<u8> = (0..length).map(|n| n as u8).collect();
            let mut message = vec![0; NONCE];
            message.extend_from_slice(&plain);
            key().seal(&mut message).unwrap();
            assert_eq!(message.len(), plain.len() + OVERHEAD);
            for at in [0, message.len() / 2, message.len() - 1] {
                let mut changed = message.clone();
                changed[at] ^= 1;
                assert!(key().open(&mut changed).unwrap().is_none());
            }
            assert_eq!(key().open(&mut message).unwrap().unwrap(), plain);
        }
        assert!(key().open(&mut [0; OVERHEAD - 1]).unwrap().is_none());
    }

    /// Test vector of restic (`internal/crypto/crypto_int_test.go`): Poly1305-AES of RFC draft.
    #[test]
    fn the_mac_is_poly1305_aes() {
        let hex = |text: &str| -> Vec<u8> {
            (0..text.len())
                .step_by(2)
                .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
                .collect()
        };
        let k: [u8; 16] = hex("ec074c835580741701425b623235add6").try_into().unwrap();
        let r: [u8; 16] = hex("851fc40c3467ac0be05cc20404f3f700").try_into().unwrap();
        let nonce: [u8; 16] = hex("fb447350c4e868c52ac3275cf9d4327e").try_into().unwrap();
        let key = Key::new(&[0; 32], &k, &r).unwrap();
        assert_eq!(
            key.mac(&nonce, &hex("f3f6")).unwrap().to_vec(),
            hex("f4c633c3044fc145f84f335cb81953de")
        );
    }
}
