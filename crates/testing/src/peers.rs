//! The real programs that tests hold ours against; a missing one is a failure, never a skip.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::as_user::is_root;
use crate::keys::{KeyKind, KeyPair};
use crate::scratch::Scratch;

/// Where a program is; also looks where only root's `PATH` does.
pub fn tool(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/bin", "/bin"].map(PathBuf::from))
        .map(|dir| dir.join(name))
        .find(|file| file.is_file())
        .unwrap_or_else(|| panic!("{name} is not installed: run cargo xtask setup"))
}

/// Where a program is that `cargo xtask setup` put into its own directory: `path` below
/// `~/.cache/volsync/tools`.
pub fn installed(path: &str) -> PathBuf {
    let cache = std::env::var_os("XDG_CACHE_HOME").map_or_else(
        || PathBuf::from(std::env::var_os("HOME").expect("HOME is set")).join(".cache"),
        PathBuf::from,
    );
    let file = cache.join("volsync/tools").join(path);
    assert!(file.is_file(), "{} is not installed: run cargo xtask setup", file.display());
    file
}

/// Where one of our own programs is: beside the test's own executable.
pub fn own_binary(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a process knows its executable");
    test.ancestors()
        .skip(1)
        .take(3)
        .map(|dir| dir.join(name))
        .find(|file| file.is_file())
        .unwrap_or_else(|| {
            panic!("{name} is not beside {}: run cargo build --workspace first", test.display())
        })
}

/// An address on loopback that was free a moment ago.
pub fn free_address() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr()).unwrap()
}

/// A real OpenSSH server on loopback, with keys of its own; stopped on drop.
#[derive(Debug)]
pub struct Sshd {
    child: Child,
    scratch: Scratch,
    address: SocketAddr,
    host_key: KeyPair,
}

impl Sshd {
    /// Starts one that lets the owners of `authorized` public keys in, as the user of this
    /// process. `extra` are further lines of its configuration.
    pub fn start(authorized: &[&str], extra: &str) -> Self {
        let scratch = Scratch::new();
        let host_key = KeyPair::new(KeyKind::Ed25519);
        private(&scratch.join("host"), &host_key.private);
        private(&scratch.join("authorized"), &authorized.concat());
        if is_root() {
            fs::create_dir_all("/run/sshd").unwrap();
        }
        for _ in 0..5 {
            let address = free_address();
            let path = scratch.path().display();
            let config = format!(
                "ListenAddress {address}\nHostKey {path}/host\nAuthorizedKeysFile {path}/authorized\n\
                 PidFile none\nStrictModes no\nUsePAM no\nPasswordAuthentication no\n\
                 PermitRootLogin yes\nLogLevel VERBOSE\n{extra}\n"
            );
            fs::write(scratch.join("config"), config).unwrap();
            let log = fs::File::create(scratch.join("log")).unwrap();
            let mut child = Command::new(tool("sshd"))
                .args(["-D", "-e", "-f"])
                .arg(scratch.join("config"))
                .stdin(Stdio::null())
                .stderr(log)
                .spawn()
                .expect("sshd starts");
            let patience = Instant::now() + Duration::from_secs(10);
            while Instant::now() < patience && child.try_wait().unwrap().is_none() {
                if TcpStream::connect(address).is_ok() {
                    return Self { child, scratch, address, host_key };
                }
                std::thread::sleep(Duration::from_millis(10));
            }
            let _ = child.kill();
            let _ = child.wait();
        }
        panic!(
            "sshd did not start:\n{}",
            fs::read_to_string(scratch.join("log")).unwrap_or_default()
        );
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its host key.
    pub const fn host_key(&self) -> &KeyPair {
        &self.host_key
    }

    /// What it logged so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.scratch.join("log")).unwrap_or_default()
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A command of the real `ssh` client that asks nothing and believes `host_public` alone. The
/// private key is put into `scratch`.
pub fn ssh(
    scratch: &Scratch,
    address: SocketAddr,
    private_key: &str,
    host_public: &str,
) -> Command {
    let key = scratch.join("client-key");
    private(&key, private_key);
    let hosts = scratch.join("known-hosts");
    fs::write(&hosts, format!("[{}]:{} {host_public}", address.ip(), address.port())).unwrap();
    let mut command = Command::new(tool("ssh"));
    command
        .args(["-F", "none", "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes"])
        .args(["-o", "StrictHostKeyChecking=yes"])
        .arg("-o")
        .arg(format!("UserKnownHostsFile={}", hosts.display()))
        .arg("-i")
        .arg(&key)
        .args(["-p", &address.port().to_string(), "-l", "root"])
        .arg(address.ip().to_string())
        .stdin(Stdio::null());
    command
}

fn private(file: &Path, content: &str) {
    use std::os::unix::fs::PermissionsExt;
    fs::write(file, content).unwrap();
    fs::set_permissions(file, fs::Permissions::from_mode(0o600)).unwrap();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_real_client_talks_to_a_real_server() {
        let scratch = Scratch::new();
        let (user, _) = KeyPair::both();
        let sshd = Sshd::start(&[&user.public], "");
        let name = String::from_utf8(Command::new(tool("id")).arg("-un").output().unwrap().stdout)
            .unwrap();
        let mut ssh = ssh(&scratch, sshd.address(), &user.private, &sshd.host_key().public);
        let output = ssh.args(["-l", name.trim(), "echo", "hello"]).output().unwrap();
        assert_eq!(
            String::from_utf8_lossy(&output.stdout),
            "hello\n",
            "{output:?}\n{}",
            sshd.log()
        );
    }
}
