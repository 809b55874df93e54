//! Key files: the master key of a repository, sealed with a password.
//!
//! A file of JSON (restic's design document, "Keys, Encryption and MAC"): parameters of scrypt, and
//! `data`, which the key derived from the password opens. It holds the master key, again as JSON.

use aws_lc_rs::rand;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::format::{Error, Key};

/// What restic's own keys cost to derive: 64 MiB and about a tenth of a second.
const LOG_N: u8 = 15;
const R: u32 = 8;
const P: u32 = 1;
/// What is refused: more than a gigabyte of memory.
const MOST_BYTES: u64 = 1 << 30;

/// A key file.
#[derive(Debug, Serialize, Deserialize)]
pub struct KeyFile {
    #[serde(default)]
    created: String,
    #[serde(default)]
    username: String,
    #[serde(default)]
    hostname: String,
    kdf: String,
    #[serde(rename = "N")]
    n: u64,
    r: u32,
    p: u32,
    salt: String,
    data: String,
}

#[derive(Serialize, Deserialize)]
struct MasterKey {
    mac: Mac,
    encrypt: String,
}

#[derive(Serialize, Deserialize)]
struct Mac {
    k: String,
    r: String,
}

impl KeyFile {
    /// Seals a new master key with a password.
    pub fn create(password: &str, host: &str) -> Result<(Self, Key), Error> {
        let (mut encrypt, mut k, mut r, mut salt) = ([0; 32], [0; 16], [0; 16], [0; 64]);
        for part in [&mut encrypt[..], &mut k, &mut r, &mut salt] {
            rand::fill(part).map_err(|_| Error::Crypto)?;
        }
        let encode = |bytes: &[u8]| STANDARD.encode(bytes);
        let master =
            MasterKey { mac: Mac { k: encode(&k), r: encode(&r) }, encrypt: encode(&encrypt) };
        let json = serde_json::to_vec(&master).map_err(|error| damaged(&error.to_string()))?;
        let mut data = vec![0; 16];
        data.extend_from_slice(&json);
        derive(password, &salt, LOG_N, R, P)?.seal(&mut data)?;
        let file = Self {
            created: Timestamp::now().to_string(),
            username: "volsync".to_owned(),
            hostname: host.to_owned(),
            kdf: "scrypt".to_owned(),
            n: 1 << LOG_N,
            r: R,
            p: P,
            salt: encode(&salt),
            data: encode(&data),
        };
        Ok((file, Key::new(&encrypt, &k, &r)?))
    }

    /// The master key; `None` if this is not the password. Blocks for a tenth of a second.
    pub fn open(&self, password: &str) -> Result<Option<Key>, Error> {
        let memory = self.n.saturating_mul(128).saturating_mul(u64::from(self.r));
        if self.kdf != "scrypt" || !self.n.is_power_of_two() || self.n < 2 {
            return Err(damaged("its parameters are none of scrypt"));
        }
        if memory > MOST_BYTES || self.p > 16 {
            return Err(damaged("its parameters ask for more than a gigabyte of memory"));
        }
        let log_n = u8::try_from(self.n.ilog2()).map_err(|_| damaged("N is too large"))?;
        let salt = decode(&self.salt)?;
        let mut data = decode(&self.data)?;
        let Some(json) = derive(password, &salt, log_n, self.r, self.p)?.open(&mut data)? else {
            return Ok(None);
        };
        let master: MasterKey =
            serde_json::from_slice(json).map_err(|error| damaged(&error.to_string()))?;
        let key = Key::new(
            &exactly(&master.encrypt)?,
            &exactly(&master.mac.k)?,
            &exactly(&master.mac.r)?,
        )?;
        Ok(Some(key))
    }
}

fn derive(password: &str, salt: &[u8], log_n: u8, r: u32, p: u32) -> Result<Key, Error> {
    let parameters = scrypt::Params::new(log_n, r, p)
        .map_err(|_| damaged("its parameters are none of scrypt"))?;
    let mut derived = [0; 64];
    scrypt::scrypt(password.as_bytes(), salt, &parameters, &mut derived)
        .map_err(|_| Error::Crypto)?;
    let (encrypt, mac) = derived.split_first_chunk::<32>().ok_or(Error::Crypto)?;
    let (k, r) = mac.split_first_chunk::<16>().ok_or(Error::Crypto)?;
    Key::new(encrypt, k, r.try_into().map_err(|_| Error::Crypto)?)
}

fn decode(text: &str) -> Result<Vec<u8>, Error> {
    STANDARD.decode(text).map_err(|error| damaged(&error.to_string()))
}

fn exactly<const N: usize>(text: &str) -> Result<[u8; N], Error> {
    decode(text)?.try_into().map_err(|_| damaged("the master key has another length"))
}

fn damaged(why: &str) -> Error {
    Error::Damaged { what: "a key file".to_owned(), why: why.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_password_opens_what_it_sealed_and_no_other_does() {
        let (file, key) = KeyFile::create("secret", "here").unwrap();
        let mut message = vec![0; 20];
        key.seal(&mut message).unwrap();
        let file: KeyFile = serde_json::from_str(&serde_json::to_string(&file).unwrap()).unwrap();
        assert!(file.open("other").unwrap().is_none());
        assert!(file.open("secret").unwrap().unwrap().open(&mut message).unwrap().is_some());
    }

    #[test]
    fn absurd_parameters_are_refused_before_memory_is_taken() {
        let (mut file, _) = KeyFile::create("secret", "here").unwrap();
        for n in [0, 1, 3, 1 << 40] {
            file.n = n;
            assert!(matches!(file.open("secret"), Err(Error::Damaged { .. })), "{n}");
        }
    }
}
