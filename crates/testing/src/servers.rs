//! Real object stores on loopback, stopped on drop.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::peers::{free_address, installed};
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
        Self::start(|address, directory| {
            let (user, password) = REST_USER;
            let mut command = Command::new(installed("rclone/bin/rclone"));
            command
                .args(["serve", "restic", "--addr", &address.to_string()])
                .args(["--user", user, "--pass", password])
                .args(["--config", "/dev/null"])
                .arg(directory)
                .env_remove("AWS_CA_BUNDLE");
            command
        })
    }

    /// Starts what `command` makes of a free address and an empty directory.
    pub fn start(command: impl Fn(SocketAddr, PathBuf) -> Command) -> Self {
        let scratch = Scratch::new();
        let directory = scratch.join("objects");
        fs::create_dir(&directory).unwrap();
        for _ in 0..5 {
            let address = free_address();
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

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
