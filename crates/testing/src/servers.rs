//! Real object stores on loopback, stopped on drop.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rcgen::generate_simple_self_signed;

use crate::keys::{KeyKind, KeyPair};
use crate::peers::{Sshd, free_address, installed, tool};
use crate::scratch::Scratch;

/// A server that keeps its objects as files of a directory.
#[derive(Debug)]
pub struct Server {
    child: Child,
    scratch: Scratch,
    address: SocketAddr,
}

/// What the S3 server's clients identify themselves with.
pub const S3_KEYS: (&str, &str) = ("AKIATESTTESTTEST", "a-secret-access-key-of-tests");

/// The account of an Azure server and its key, which every Azurite has (Azurite's manual, "Default
/// Storage Account").
pub const AZURE_ACCOUNT: (&str, &str) = (
    "devstoreaccount1",
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==",
);

/// What the REST server's clients identify themselves with.
pub const REST_USER: (&str, &str) = ("somebody", "a-password-of-tests");

impl Server {
    /// An S3 server (s3s-fs) without buckets.
    pub fn s3() -> Self {
        Self::start(|address, directory| {
            let (key, secret) = S3_KEYS;
            let mut command = Command::new(installed("bin/s3s-fs"));
            command
                .args(["--host", &address.ip().to_string()])
                .args(["--port", &address.port().to_string()])
                .args(["--access-key", key, "--secret-key", secret])
                .arg(directory);
            command
        })
    }

    /// A server of restic's REST protocol (`rclone serve restic`) with no repository.
    pub fn rest() -> Self {
        Self::start(rclone_serve_restic)
    }

    /// An S3 server that restic can read back from (`rclone serve s3`), without buckets, at one of this
    /// machine's addresses.
    pub fn rclone_s3(here: IpAddr) -> Self {
        Self::start_at(here, |address, directory| {
            let (key, secret) = S3_KEYS;
            let mut command = Command::new(installed("rclone/bin/rclone"));
            command
                .args(["serve", "s3", "--addr", &address.to_string()])
                .args(["--auth-key", &format!("{key},{secret}"), "--config", "/dev/null"])
                .arg(directory)
                .env_remove("AWS_CA_BUNDLE");
            command
        })
    }

    /// An S3 server (s3s-fs) that asks nobody who he is, and takes what Google's dialect is for S3's.
    pub fn anonymous_s3() -> Self {
        Self::start(|address, directory| {
            let mut command = Command::new(installed("bin/s3s-fs"));
            command
                .args(["--host", &address.ip().to_string()])
                .args(["--port", &address.port().to_string()])
                .arg(directory);
            command
        })
    }

    /// A server of Azure's protocol (Azurite) without containers. Its account has the name and the
    /// key that all of them have.
    pub fn azure() -> Self {
        Self::start(|address, directory| {
            let mut command = Command::new(installed("azurite/node_modules/.bin/azurite-blob"));
            command
                .args(["--blobHost", &address.ip().to_string()])
                .args(["--blobPort", &address.port().to_string()])
                .args(["--silent", "--disableTelemetry", "--location"])
                .arg(directory);
            command
        })
    }

    /// Starts what `command` makes of a free address and an empty directory.
    pub fn start(command: impl Fn(SocketAddr, PathBuf) -> Command) -> Self {
        Self::start_at(Ipv4Addr::LOCALHOST.into(), command)
    }

    /// The same at one of this machine's addresses.
    fn start_at(here: IpAddr, command: impl Fn(SocketAddr, PathBuf) -> Command) -> Self {
        let scratch = Scratch::new();
        let directory = scratch.join("objects");
        fs::create_dir(&directory).unwrap();
        for _ in 0..5 {
            let address = SocketAddr::new(here, free_address().port());
            let log = fs::File::create(scratch.join("log")).unwrap();
            let mut child = command(address, directory.clone())
                .stdin(Stdio::null())
                .stdout(log.try_clone().unwrap())
                .stderr(log)
                .spawn()
                .expect("a server starts");
            let patience = Instant::now() + Duration::from_secs(20);
            while Instant::now() < patience && child.try_wait().unwrap().is_none() {
                if TcpStream::connect(address).is_ok() {
                    return Self { child, scratch, address };
                }
                std::thread::sleep(Duration::from_millis(10));
            }
            let _ = child.kill();
            let _ = child.wait();
        }
        panic!(
            "the server did not start:\n{}",
            fs::read_to_string(scratch.join("log")).unwrap_or_default()
        );
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where its objects lie.
    pub fn directory(&self) -> PathBuf {
        self.scratch.join("objects")
    }

    /// What it logged so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.scratch.join("log")).unwrap_or_default()
    }
}

/// A server of restic's REST protocol whose certificate is of an authority that nobody else knows.
#[derive(Debug)]
pub struct SecureServer {
    server: Server,
    authority: String,
    // Its certificate and key lie here.
    _scratch: Scratch,
}

impl SecureServer {
    /// With no repository, at one of this machine's addresses. Who uses it is [`REST_USER`].
    pub fn rest(here: IpAddr) -> Self {
        let scratch = Scratch::new();
        let made = generate_simple_self_signed([here.to_string()]).unwrap();
        let (certificate, key) = (scratch.join("certificate.pem"), scratch.join("key.pem"));
        fs::write(&certificate, made.cert.pem()).unwrap();
        fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        let server = Server::start_at(here, |address, directory| {
            let mut command = rclone_serve_restic(address, directory);
            command.arg("--cert").arg(&certificate).arg("--key").arg(&key);
            command
        });
        Self { server, authority: made.cert.pem(), _scratch: scratch }
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// The certificate to trust, in PEM.
    pub fn authority(&self) -> &str {
        &self.authority
    }
}

/// A server of SFTP (OpenSSH's `sshd`) that lets the owner of one key in, as the user of this
/// process.
#[derive(Debug)]
pub struct SftpServer {
    sshd: Sshd,
    scratch: Scratch,
    user: String,
    key: KeyPair,
}

impl SftpServer {
    /// With an empty directory, in memory where the machine has such a place.
    pub fn start() -> Self {
        let scratch = Scratch::in_memory();
        fs::create_dir(scratch.join("objects")).unwrap();
        let key = KeyPair::new(KeyKind::Ed25519);
        let sshd = Sshd::start(&[&key.public], "Subsystem sftp internal-sftp");
        let user = Command::new(tool("id")).arg("-un").output().expect("id starts");
        let user = String::from_utf8(user.stdout).unwrap().trim().to_owned();
        Self { sshd, scratch, user, key }
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.sshd.address()
    }

    /// Who logs in.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// The private key that opens it, as `ssh-keygen` writes it.
    pub fn private_key(&self) -> &str {
        &self.key.private
    }

    /// Its host key as a line of `known_hosts`, for whoever reaches it at this address.
    pub fn known_hosts(&self, address: SocketAddr) -> String {
        format!("[{}]:{} {}", address.ip(), address.port(), self.sshd.host_key().public)
    }

    /// Where its objects lie.
    pub fn directory(&self) -> PathBuf {
        self.scratch.join("objects")
    }

    /// What it logged so far.
    pub fn log(&self) -> String {
        self.sshd.log()
    }
}

fn rclone_serve_restic(address: SocketAddr, directory: PathBuf) -> Command {
    let (user, password) = REST_USER;
    let mut command = Command::new(installed("rclone/bin/rclone"));
    command
        .args(["serve", "restic", "--addr", &address.to_string()])
        .args(["--user", user, "--pass", password])
        .args(["--config", "/dev/null"])
        .arg(directory)
        .env_remove("AWS_CA_BUNDLE");
    command
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
