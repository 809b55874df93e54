//! From settings to a session: who logs in, which key the server must have, the handshake.

use std::borrow::Cow;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use russh::client::{self, AuthResult, DisconnectReason, Handle};
use russh::keys::{Algorithm, HashAlg, PrivateKey, PrivateKeyWithHashAlg, PublicKeyOrCertificate};
use russh::{ChannelMsg, Disconnect, Preferred, cipher, compression};
use russh_sftp::client::{Config as SftpConfig, RawSftpSession};
use tokio::net::{TcpStream, lookup_host};
use tokio::sync::watch;
use tokio::time::timeout;

use super::known_hosts::{KnownHosts, Verdict};
use super::session::{End, Ending, Session, over};
use super::trouble::{Trouble, printable};
use super::unfinished::LeftBehind;
use crate::error::{Kind, chain};
use crate::settings::Settings;

/// What the settings are called. restic has none: it leaves all of this to `ssh`.
const USER: &str = "SFTP_USER";
const PRIVATE_KEY: &str = "SFTP_PRIVATE_KEY";
const PASSPHRASE: &str = "SFTP_PRIVATE_KEY_PASSPHRASE";
const PASSWORD: &str = "SFTP_PASSWORD";
const KNOWN_HOSTS: &str = "SFTP_KNOWN_HOSTS";

/// The port of SSH.
const PORT: u16 = 22;

const SUBSYSTEM: &str = "sftp";

/// How long each address of the server is given to accept a connection.
const CONNECT: Duration = Duration::from_secs(15);

/// How long all may take from there until files can be asked for.
const HANDSHAKE: Duration = Duration::from_secs(20);

/// After so long without a word the server is asked whether it still lives.
const KEEPALIVE: Duration = Duration::from_secs(15);

/// After so long without a word it is gone.
const SILENCE: Duration = Duration::from_secs(60);

/// How long one request may take, in seconds: all that are on their way share the connection.
/// Whole calls are given up sooner.
const REQUEST_SECONDS: u64 = 600;

/// What may be on its way to us, in bytes.
const WINDOW: u32 = 16 << 20;
const PACKET: u32 = 65_535;

/// The longest answer that is believed, in bytes.
const LONGEST_ANSWER: u32 = 1 << 20;

/// Ciphers with acceleration first, and no old ones.
const CIPHERS: &[cipher::Name] = &[
    cipher::AES_128_GCM,
    cipher::AES_256_GCM,
    cipher::CHACHA20_POLY1305,
    cipher::AES_256_CTR,
    cipher::AES_192_CTR,
    cipher::AES_128_CTR,
];

/// How to connect to a server, and as whom.
pub(super) struct Connect {
    host: String,
    port: u16,
    user: String,
    key: Option<Arc<PrivateKey>>,
    password: Option<String>,
    known: Arc<KnownHosts>,
    left_behind: Arc<LeftBehind>,
}

/// Believes the server's own key alone, and tells when the connection is over.
pub(super) struct HostCheck {
    known: Arc<KnownHosts>,
    /// Why a key was refused.
    refused: Arc<OnceLock<String>>,
    end: watch::Sender<Option<End>>,
}

impl Connect {
    /// `Err`: what is wrong with the settings.
    pub(super) fn new(
        user: Option<String>,
        host: String,
        port: Option<u16>,
        settings: &Settings,
    ) -> Result<Self, String> {
        let user = user.or_else(|| settings.get(USER).map(str::to_owned)).ok_or_else(|| {
            format!("it does not say who logs in: write sftp:USER@HOST:/PATH, or set {USER}")
        })?;
        let key = settings.get(PRIVATE_KEY).map(|text| private_key(text, settings.get(PASSPHRASE)));
        let key = key.transpose()?.map(Arc::new);
        let password = settings.get(PASSWORD).map(str::to_owned);
        if key.is_none() && password.is_none() {
            return Err(format!("{PRIVATE_KEY} is missing (or {PASSWORD})"));
        }
        let known = settings.get(KNOWN_HOSTS).ok_or_else(|| {
            let scan = port.map_or_else(String::new, |port| format!("-p {port} "));
            format!(
                "{KNOWN_HOSTS} is missing: it says which server is the right one, \
                 as ssh-keyscan {scan}{host} prints it"
            )
        })?;
        let port = port.unwrap_or(PORT);
        let known = KnownHosts::parse(known, &host, port)
            .map_err(|problem| format!("{KNOWN_HOSTS} cannot be used: {problem}"))?;
        let (known, left_behind) = (Arc::new(known), Arc::default());
        Ok(Self { host, port, user, key, password, known, left_behind })
    }

    /// Connects to the first address that answers.
    pub(super) async fn connect(&self) -> Result<Session, Trouble> {
        let socket = self.socket().await?;
        let silence = |_| Err(Trouble::new(Kind::Unreachable, "the SSH server does not answer"));
        timeout(HANDSHAKE, self.handshake(socket)).await.unwrap_or_else(silence)
    }

    async fn socket(&self) -> Result<TcpStream, Trouble> {
        let found = lookup_host((self.host.as_str(), self.port)).await;
        let addresses: Vec<SocketAddr> = found
            .map_err(|error| {
                let reason = format!("{} has no address: {}", self.host, chain(&error));
                Trouble::new(Kind::Unreachable, reason)
            })?
            .collect();
        let mut last = format!("{} has no address", self.host);
        for address in addresses {
            match timeout(CONNECT, TcpStream::connect(address)).await {
                Ok(Ok(socket)) => return Ok(socket),
                Ok(Err(error)) => last = format!("{address}: {}", chain(&error)),
                Err(_) => last = format!("{address} does not answer"),
            }
        }
        Err(Trouble::new(Kind::Unreachable, last))
    }

    async fn handshake(&self, socket: TcpStream) -> Result<Session, Trouble> {
        let of_socket = |error: io::Error| Trouble::lost(&chain(&error));
        socket.set_nodelay(true).map_err(of_socket)?;
        let cut = socket.as_fd().try_clone_to_owned().map_err(of_socket)?;
        let (end, ending) = watch::channel(None);
        let refused = Arc::new(OnceLock::new());
        let check = HostCheck { known: self.known.clone(), refused: refused.clone(), end };
        let config = Arc::new(self.config());
        let failed = |error: russh::Error| failed(&ending, &error);
        let connected = client::connect_stream(config, socket, check).await;
        let mut ssh = connected.map_err(|error| match refused.get() {
            Some(why) => Trouble::new(Kind::Untrusted, why),
            None => failed(error),
        })?;
        self.log_in(&mut ssh, &ending).await?;
        let mut channel = ssh.channel_open_session().await.map_err(failed)?;
        channel.request_subsystem(true, SUBSYSTEM).await.map_err(failed)?;
        loop {
            match channel.wait().await {
                Some(ChannelMsg::Success) => break,
                Some(ChannelMsg::Failure) => {
                    let reason = "the server lets nobody use SFTP";
                    return Err(Trouble::new(Kind::Unsupported, reason));
                }
                Some(_) => {}
                None => return Err(failed(russh::Error::Disconnect)),
            }
        }
        let sftp = SftpConfig {
            max_packet_len: LONGEST_ANSWER,
            request_timeout_secs: REQUEST_SECONDS,
            ..SftpConfig::default()
        };
        let raw = RawSftpSession::new_with_config(channel.into_stream(), sftp);
        Session::start(raw, ssh, cut, ending, self.left_behind.clone()).await
    }

    fn config(&self) -> client::Config {
        client::Config {
            window_size: WINDOW,
            maximum_packet_size: PACKET,
            preferred: Preferred {
                key: Cow::Owned(key_types(&self.known)),
                cipher: Cow::Borrowed(CIPHERS),
                compression: Cow::Borrowed(&[compression::NONE]),
                ..Preferred::default()
            },
            inactivity_timeout: Some(SILENCE),
            keepalive_interval: Some(KEEPALIVE),
            // The silence ends it.
            keepalive_max: 0,
            nodelay: true,
            ..client::Config::default()
        }
    }

    async fn log_in(&self, ssh: &mut Handle<HostCheck>, ending: &Ending) -> Result<(), Trouble> {
        let user = self.user.as_str();
        let mut tried = Vec::new();
        if let Some(key) = &self.key {
            tried.push(PRIVATE_KEY);
            let key = PrivateKeyWithHashAlg::new(key.clone(), Some(HashAlg::Sha256));
            if is_in(ssh.authenticate_publickey(user, key).await, ending).await? {
                return Ok(());
            }
        }
        // A server may ask for both, or take the password alone.
        if let Some(password) = &self.password {
            tried.push(PASSWORD);
            if is_in(ssh.authenticate_password(user, password.as_str()).await, ending).await? {
                return Ok(());
            }
        }
        let tried = tried.join(" and ");
        Err(Trouble::new(Kind::Forbidden, format!("the server refuses {user} with {tried}")))
    }
}

impl client::Handler for HostCheck {
    type Error = russh::Error;

    async fn check_server_key(
        &mut self,
        presented: &PublicKeyOrCertificate,
    ) -> Result<bool, russh::Error> {
        let key = presented.public_key();
        let verdict = match presented {
            PublicKeyOrCertificate::PublicKey { .. } => self.known.judge(&key.to_bytes()?),
            PublicKeyOrCertificate::Certificate(_) => Verdict::Unknown,
        };
        let problem = match verdict {
            Verdict::Trusted => return Ok(true),
            Verdict::Revoked => format!("is revoked in {KNOWN_HOSTS}"),
            Verdict::Unknown => format!("is not in {KNOWN_HOSTS}"),
        };
        let (kind, fingerprint) = (key.algorithm(), key.fingerprint(HashAlg::Sha256));
        let why = format!("the server's key ({kind} {fingerprint}) {problem}");
        // There is one key to a connection.
        self.refused.get_or_init(|| why);
        Ok(false)
    }

    async fn disconnected(
        &mut self,
        reason: DisconnectReason<russh::Error>,
    ) -> Result<(), russh::Error> {
        let (end, done) = match reason {
            DisconnectReason::ReceivedDisconnect(info) => {
                let end = match info.reason_code {
                    Disconnect::NoMoreAuthMethodsAvailable | Disconnect::IllegalUserName => {
                        End::Refused
                    }
                    _ => End::Lost(format!("the server says {:?}", printable(&info.message))),
                };
                (end, Ok(()))
            }
            DisconnectReason::Error(error) => {
                let end = match &error {
                    russh::Error::NoAuthMethod => End::Refused,
                    russh::Error::InactivityTimeout | russh::Error::KeepaliveTimeout => {
                        End::Lost(format!("the server was silent for {} s", SILENCE.as_secs()))
                    }
                    russh::Error::Disconnect | russh::Error::HUP => {
                        End::Lost("the server has ended it".to_owned())
                    }
                    other => End::Lost(chain(other)),
                };
                (end, Err(error))
            }
        };
        self.end.send_replace(Some(end));
        done
    }
}

/// What went wrong, in the words of whoever ended the connection if that is known.
fn failed(ending: &Ending, error: &russh::Error) -> Trouble {
    let trouble = Trouble::of_ssh(error);
    match &*ending.borrow() {
        Some(End::Lost(why)) if trouble.kind == Kind::Unreachable => Trouble::lost(why),
        _ => trouble,
    }
}

/// Whether the server let somebody in.
async fn is_in(answer: Result<AuthResult, russh::Error>, ending: &Ending) -> Result<bool, Trouble> {
    match answer {
        Ok(AuthResult::Success) => Ok(true),
        Ok(AuthResult::Failure { remaining_methods, .. }) if !remaining_methods.is_empty() => {
            Ok(false)
        }
        // The library says of a connection that broke that nothing is left to try.
        Ok(AuthResult::Failure { .. }) | Err(_) => match over(&mut ending.clone()).await {
            End::Refused => Ok(false),
            End::Lost(why) => Err(Trouble::lost(&why)),
        },
    }
}

/// Types of host keys, those that are known first: a server presents the first of them that it has.
/// RSA with SHA-1 is none.
fn key_types(known: &KnownHosts) -> Vec<Algorithm> {
    let is_known = |of: &Algorithm| match of {
        Algorithm::Rsa { .. } => known.has("ssh-rsa"),
        other => known.has(other.as_str()),
    };
    let all = Preferred::default().key;
    let all = all.iter().filter(|of| !matches!(of, Algorithm::Rsa { hash: None })).cloned();
    let (mut first, rest): (Vec<Algorithm>, Vec<Algorithm>) = all.partition(is_known);
    first.extend(rest);
    first
}

/// A private key as OpenSSH writes it. The library's words are left out: some quote what they cannot
/// understand.
fn private_key(text: &str, passphrase: Option<&str>) -> Result<PrivateKey, String> {
    use russh::keys::Error;
    // In one line its ends of lines are written out (rclone's key_pem).
    let text = text.replace("\\n", "\n");
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    match russh::keys::decode_secret_key(&lines.join("\n"), passphrase) {
        Ok(key) if !key.is_encrypted() => Ok(key),
        Ok(_) | Err(Error::KeyIsEncrypted) => {
            Err(format!("{PRIVATE_KEY} is encrypted: set {PASSPHRASE}"))
        }
        Err(Error::SshKey(russh::keys::ssh_key::Error::Crypto)) if passphrase.is_some() => {
            Err(format!("{PASSPHRASE} does not open {PRIVATE_KEY}"))
        }
        Err(_) => Err(format!("{PRIVATE_KEY} is no private key as ssh-keygen writes it")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST_KEY: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILIG2T/B0l0gaqj3puu510tu9N1OkQ4znY3LYuEm5zCF";

    fn problem(user: Option<&str>, all: &[(&str, &str)]) -> Option<String> {
        let settings = Settings::new(
            all.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
        );
        Connect::new(user.map(str::to_owned), "nas".to_owned(), Some(2222), &settings).err()
    }

    #[test]
    fn what_is_missing_is_named() {
        let known = format!("nas {HOST_KEY}");
        let (known, password) = ((KNOWN_HOSTS, known.as_str()), (PASSWORD, "sesame"));
        assert_eq!(problem(Some("me"), &[known, password]), None);
        assert_eq!(problem(None, &[known, password, (USER, "me")]), None);
        let user = problem(None, &[known, password]).unwrap();
        assert!(user.contains("sftp:USER@HOST:/PATH"), "{user}");
        let credential = problem(Some("me"), &[known]).unwrap();
        assert!(credential.contains(PRIVATE_KEY) && credential.contains(PASSWORD), "{credential}");
        let host = problem(Some("me"), &[password]).unwrap();
        assert!(host.contains(KNOWN_HOSTS) && host.contains("ssh-keyscan -p 2222 nas"), "{host}");
        let line = problem(Some("me"), &[(KNOWN_HOSTS, "nas\n"), password]).unwrap();
        assert!(line.contains("line 1"), "{line}");
    }

    #[test]
    fn a_key_that_is_none_is_named_and_not_shown() {
        let known = format!("nas {HOST_KEY}");
        for text in ["sesame", "-----BEGIN OPENSSH PRIVATE KEY-----\nsesame\n"] {
            let all = [(KNOWN_HOSTS, known.as_str()), (PRIVATE_KEY, text)];
            let problem = problem(Some("me"), &all).unwrap();
            assert!(problem.starts_with(PRIVATE_KEY), "{problem}");
            assert!(!problem.contains("sesame"), "{problem}");
        }
    }

    #[test]
    fn a_server_is_asked_for_a_key_that_is_known() {
        let text = format!("nas {HOST_KEY}\nother ssh-rsa AAAAB3NzaC1yc2EAAAABIw==");
        let kinds = |host| key_types(&KnownHosts::parse(&text, host, 22).unwrap());
        assert_eq!(kinds("nas")[0], Algorithm::Ed25519);
        assert!(matches!(kinds("other")[0], Algorithm::Rsa { hash: Some(HashAlg::Sha512) }));
        assert!(!kinds("nas").contains(&Algorithm::Rsa { hash: None }));
        assert_eq!(kinds("nas").len(), Preferred::default().key.len() - 1);
    }
}
