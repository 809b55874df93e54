//! The SSH transport against OpenSSH, and against itself where OpenSSH cannot misbehave enough.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on shall panic")]

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::time::timeout;
use volsync_contract::Retry;
use volsync_mover_rsync::ssh::client::{Target, connect, connect_with};
use volsync_mover_rsync::ssh::keys::{DestinationKeys, SourceKeys};
use volsync_mover_rsync::ssh::server::Server;
use volsync_mover_rsync::ssh::{Error, Pace, SUBSYSTEM, Stream};

const SOON: Duration = Duration::from_secs(60);

/// A directory with both key pairs, as a Secret holds them.
struct Keys(tempfile::TempDir);

impl Keys {
    fn make(kind: &[&str]) -> Self {
        let keys = Self(tempfile::tempdir().unwrap());
        keygen(&keys.path("source"), kind);
        keygen(&keys.path("destination"), kind);
        keys
    }

    fn ed25519() -> Self {
        Self::make(&["-t", "ed25519"])
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn source(&self) -> SourceKeys {
        SourceKeys::read(self.0.path()).unwrap()
    }

    fn destination(&self) -> DestinationKeys {
        DestinationKeys::read(self.0.path()).unwrap()
    }

    /// A destination on the loopback address that sends back what it receives.
    fn echo(&self, pace: Pace) -> SocketAddr {
        let mut server = self.server(pace);
        let address = server.local_address();
        tokio::spawn(async move {
            while let Some(stream) = server.accept().await {
                tokio::spawn(echo(stream));
            }
        });
        address
    }

    fn server(&self, pace: Pace) -> Server {
        Server::bind_with("127.0.0.1:0".parse().unwrap(), self.destination(), pace).unwrap()
    }
}

fn keygen(path: &Path, kind: &[&str]) {
    let made = Command::new("ssh-keygen")
        .args(["-q", "-N", ""])
        .args(kind)
        .arg("-f")
        .arg(path)
        .status()
        .unwrap();
    assert!(made.success());
}

async fn echo(stream: Stream) {
    let Stream { mut sender, mut receiver, .. } = stream;
    while let Ok(Some(bytes)) = receiver.receive().await {
        if sender.send(bytes).await.is_err() {
            return;
        }
    }
    // The source says afterwards that it is content.
    sender.close().await.unwrap_or_default();
    tokio::time::sleep(Duration::from_millis(500)).await;
}

fn target(address: SocketAddr) -> Target {
    Target { address: address.ip().to_string(), port: address.port() }
}

/// Sends so many bytes while receiving as many, and compares them.
async fn round_trip(stream: Stream, total: usize) {
    let Stream { mut sender, mut receiver, .. } = stream;
    let pattern = |at: usize| (at % 251) as u8;
    let sending = async {
        let mut at = 0;
        while at < total {
            let length = (total - at).min(300_000);
            let part: Vec<u8> = (at..at + length).map(pattern).collect();
            sender.send(Bytes::from(part)).await.unwrap();
            at += length;
        }
        sender.close().await.unwrap();
    };
    let receiving = async {
        let mut at = 0;
        while let Some(bytes) = receiver.receive().await.unwrap() {
            assert!(
                bytes.iter().enumerate().all(|(i, &byte)| byte == pattern(at + i)),
                "wrong bytes at {at}"
            );
            at += bytes.len();
        }
        assert_eq!(at, total);
    };
    timeout(SOON, async { tokio::join!(sending, receiving) })
        .await
        .expect("the transfer has stopped");
}

/// The real client, with the given key, options and command.
async fn ssh(address: SocketAddr, keys: &Keys, key: &str, arguments: &[&str]) -> Output {
    let host = fs::read_to_string(keys.path("destination.pub")).unwrap();
    fs::write(keys.path("known"), format!("[{}]:{} {host}", address.ip(), address.port())).unwrap();
    let mut command = Command::new("ssh");
    command
        .args([
            "-F",
            "none",
            "-o",
            "BatchMode=yes",
            "-o",
            "IdentitiesOnly=yes",
            "-o",
            "IdentityAgent=none",
        ])
        .args(["-o", "StrictHostKeyChecking=yes", "-o", "ExitOnForwardFailure=yes"])
        .arg("-o")
        .arg(format!("UserKnownHostsFile={}", keys.path("known").display()))
        .arg("-i")
        .arg(keys.path(key))
        .args(["-p", &address.port().to_string()])
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    let waiting = tokio::task::spawn_blocking(move || child.wait_with_output().unwrap());
    timeout(Duration::from_secs(20), waiting).await.expect("ssh hangs").unwrap()
}

/// A real server that runs `cat` as our subsystem.
struct Sshd {
    child: Child,
    address: SocketAddr,
}

impl Drop for Sshd {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Sshd {
    fn start(keys: &Keys, subsystem: &str) -> Self {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        fs::create_dir_all("/run/sshd").unwrap();
        let configuration = keys.path("sshd_config");
        let text = format!(
            "ListenAddress {free}\nHostKey {}\nAuthorizedKeysFile {}\nStrictModes no\nUsePAM no\nPidFile none\n\
             PermitRootLogin prohibit-password\nSubsystem {subsystem} /bin/cat\n",
            keys.path("destination").display(),
            keys.path("source.pub").display(),
        );
        fs::write(&configuration, text).unwrap();
        let child = Command::new("/usr/sbin/sshd")
            .args(["-D", "-e", "-f"])
            .arg(&configuration)
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let sshd = Self { child, address: free };
        let started = Instant::now();
        while std::net::TcpStream::connect(free).is_err() {
            assert!(started.elapsed() < Duration::from_secs(10), "sshd does not start");
            std::thread::sleep(Duration::from_millis(20));
        }
        sshd
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn openssh_is_accepted_with_the_right_key_and_the_subsystem() {
    for kind in [
        &["-t", "ed25519"][..],
        &["-t", "rsa", "-b", "4096"],
        &["-t", "rsa", "-b", "2048", "-m", "PEM"],
    ] {
        let keys = Keys::make(kind);
        let mut server = keys.server(Pace::default());
        let address = server.local_address();
        let greeting = tokio::spawn(async move {
            let Stream { mut sender, mut receiver, .. } = server.accept().await.unwrap();
            sender.send(Bytes::from_static(b"hello")).await.unwrap();
            assert!(receiver.receive().await.unwrap().is_none());
            sender.close().await.unwrap();
            tokio::time::sleep(Duration::from_millis(300)).await;
        });
        let said = ssh(address, &keys, "source", &["-s", "anyone@127.0.0.1", SUBSYSTEM]).await;
        assert_eq!(said.stdout, b"hello", "{kind:?}: {}", String::from_utf8_lossy(&said.stderr));
        greeting.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn openssh_gets_nothing_but_the_subsystem() {
    let keys = Keys::ed25519();
    keygen(&keys.path("stranger"), &["-t", "ed25519"]);
    let mut server = keys.server(Pace::default());
    let address = server.local_address();
    let host = "root@127.0.0.1";
    for (what, key, arguments) in [
        ("a command", "source", &[host, "id"][..]),
        ("a shell", "source", &[host]),
        ("a terminal", "source", &["-tt", host]),
        ("another subsystem", "source", &["-s", host, "sftp"]),
        ("a tunnel", "source", &["-W", "127.0.0.1:1", host]),
        ("a remote forward", "source", &["-N", "-R", "0:127.0.0.1:1", host]),
        ("a wrong key", "stranger", &["-s", host, SUBSYSTEM]),
        ("no key", "source", &["-o", "PubkeyAuthentication=no", "-s", host, SUBSYSTEM]),
    ] {
        let said = ssh(address, &keys, key, arguments).await;
        assert!(!said.status.success(), "{what} was not refused");
        assert!(said.stdout.is_empty(), "{what} was answered");
    }
    // None of it has come through, and the server still lives.
    assert!(timeout(Duration::from_millis(100), server.accept()).await.is_err());
    let stream = connect(&target(address), &keys.source()).await.unwrap();
    assert!(timeout(SOON, server.accept()).await.unwrap().is_some());
    drop(stream);
}

#[tokio::test(flavor = "multi_thread")]
async fn openssh_serves_us_too() {
    for kind in [&["-t", "ed25519"][..], &["-t", "rsa", "-b", "4096"]] {
        let keys = Keys::make(kind);
        let sshd = Sshd::start(&keys, SUBSYSTEM);
        let stream = connect(&target(sshd.address), &keys.source()).await.unwrap();
        round_trip(stream, 64 << 20).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_our_subsystem_is_named() {
    let keys = Keys::ed25519();
    let sshd = Sshd::start(&keys, "other");
    let mut stream = connect(&target(sshd.address), &keys.source()).await.unwrap();
    let error = timeout(SOON, stream.receiver.receive()).await.unwrap().unwrap_err();
    assert!(matches!(error, Error::NotOurs { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_different_host_key_is_permanent_and_says_so() {
    let (keys, others) = (Keys::ed25519(), Keys::ed25519());
    fs::copy(others.path("destination.pub"), keys.path("pinned")).unwrap();
    let server = keys.server(Pace::default());
    fs::rename(keys.path("pinned"), keys.path("destination.pub")).unwrap();
    let error = connect(&target(server.local_address()), &keys.source()).await.unwrap_err();
    assert!(matches!(error, Error::HostKey { .. }), "{error}");
    assert_eq!(error.retry(), Retry::Permanent);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_source_key_is_permanent_and_says_so() {
    let (keys, others) = (Keys::ed25519(), Keys::ed25519());
    let server = keys.server(Pace::default());
    fs::copy(others.path("source"), keys.path("source")).unwrap();
    let error = connect(&target(server.local_address()), &keys.source()).await.unwrap_err();
    assert!(matches!(error, Error::Authentication { .. }), "{error}");
    assert_eq!(error.retry(), Retry::Permanent);
}

/// Connects again and again, as a source does whose keys are refused.
async fn connect_at_last(address: SocketAddr, keys: &Keys) {
    let connected = timeout(SOON, async {
        while connect(&target(address), &keys.source()).await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    connected.await.expect("the right keys are refused");
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_are_put_right_while_a_destination_listens_are_taken_up() {
    let (keys, others) = (Keys::ed25519(), Keys::ed25519());
    let right = fs::read(keys.path("source.pub")).unwrap();
    fs::copy(others.path("source.pub"), keys.path("source.pub")).unwrap();
    let server = keys.server(Pace::default());
    let address = server.local_address();
    let error = connect(&target(address), &keys.source()).await.unwrap_err();
    assert!(matches!(error, Error::Authentication { .. }), "{error}");
    // A Secret that is half written is not what they become.
    fs::write(keys.path("source.pub"), "").unwrap();
    let error = connect(&target(address), &keys.source()).await.unwrap_err();
    assert!(matches!(error, Error::Authentication { .. }), "{error}");
    fs::write(keys.path("source.pub"), right).unwrap();
    connect_at_last(address, &keys).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_key_that_is_put_right_while_a_destination_listens_is_taken_up() {
    let (keys, others) = (Keys::ed25519(), Keys::ed25519());
    let server = keys.server(Pace::default());
    let address = server.local_address();
    for name in ["destination", "destination.pub"] {
        fs::copy(others.path(name), keys.path(name)).unwrap();
    }
    let error = connect(&target(address), &keys.source()).await.unwrap_err();
    assert!(matches!(error, Error::HostKey { .. }), "{error}");
    connect_at_last(address, &keys).await;
}

#[tokio::test]
async fn nobody_listening_is_transient() {
    let keys = Keys::ed25519();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = connect(&target(free), &keys.source()).await.unwrap_err();
    assert!(matches!(error, Error::Connect { .. }), "{error}");
    assert_eq!(error.retry(), Retry::Transient);
}

#[tokio::test]
async fn an_address_that_swallows_connections_is_given_up() {
    let keys = Keys::ed25519();
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    // The kernel answers as many connections as fit into the queue, and one more.
    let full = socket.listen(1).unwrap();
    let address = full.local_addr().unwrap();
    let mut queue = Vec::new();
    while let Ok(connected) =
        timeout(Duration::from_millis(200), tokio::net::TcpStream::connect(address)).await
    {
        queue.push(connected.unwrap());
    }
    let pace = Pace { connect: Duration::from_millis(300), ..Pace::default() };
    let (target, source) = (target(address), keys.source());
    let connecting = connect_with(&target, &source, pace);
    let error = timeout(Duration::from_secs(2), connecting).await.unwrap().unwrap_err();
    assert!(matches!(error, Error::Connect { .. }), "{error}");
    assert_eq!(error.retry(), Retry::Transient);
}

#[tokio::test]
async fn a_taken_port_is_named() {
    let keys = Keys::ed25519();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let error = Server::bind(address, keys.destination()).unwrap_err();
    assert!(matches!(error, Error::Listen { .. }), "{error}");
    assert!(error.to_string().contains(&address.to_string()));
}

#[tokio::test(flavor = "multi_thread")]
async fn both_directions_are_full_without_a_deadlock() {
    let keys = Keys::ed25519();
    let address = keys.echo(Pace::default());
    let stream = connect(&target(address), &keys.source()).await.unwrap();
    round_trip(stream, 64 << 20).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_ends_that_only_send_at_first_do_not_wait_for_each_other() {
    let keys = Keys::ed25519();
    let mut server = keys.server(Pace::default());
    let stream = connect(&target(server.local_address()), &keys.source()).await.unwrap();
    let other = server.accept().await.unwrap();
    let both = async { tokio::join!(round_trip(stream, 128 << 20), round_trip(other, 128 << 20)) };
    timeout(SOON, both).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_renewed_at_full_speed() {
    let keys = Keys::ed25519();
    let pace = Pace { rekey_bytes: Some(3 << 20), ..Pace::default() };
    let address = keys.echo(pace);
    let stream = connect_with(&target(address), &keys.source(), pace).await.unwrap();
    round_trip(stream, 64 << 20).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_is_killed_ends_both_halves() {
    let keys = Keys::ed25519();
    let mut server = keys.server(Pace::default());
    let mut stream = connect(&target(server.local_address()), &keys.source()).await.unwrap();
    let other = server.accept().await.unwrap();
    // The other side receives nothing, so that the window and all buffers run full.
    let sending = tokio::spawn(async move {
        loop {
            if let Err(error) = stream.sender.send(Bytes::from(vec![0; 1 << 20])).await {
                return (error, stream.receiver.receive().await);
            }
        }
    });
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(!sending.is_finished());
    drop(other);
    let (error, received) =
        timeout(Duration::from_secs(5), sending).await.expect("the end went unnoticed").unwrap();
    assert!(matches!(error, Error::Lost { .. }), "{error}");
    assert_eq!(error.retry(), Retry::Transient);
    assert!(received.is_err() || received.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_peer_is_given_up() {
    let keys = Keys::ed25519();
    let sshd = Sshd::start(&keys, SUBSYSTEM);
    let pace = Pace {
        keepalive: Duration::from_millis(300),
        silence: Duration::from_secs(2),
        ..Pace::default()
    };
    let mut stream = connect_with(&target(sshd.address), &keys.source(), pace).await.unwrap();
    // Answers to keepalives count: nothing else is said for longer than the silence.
    assert!(timeout(Duration::from_secs(4), stream.receiver.receive()).await.is_err());
    let processes =
        Command::new("pgrep").args(["-P", &sshd.child.id().to_string()]).output().unwrap();
    let session = String::from_utf8(processes.stdout).unwrap();
    let session = session.split_whitespace().next().unwrap();
    assert!(Command::new("kill").args(["-STOP", session]).status().unwrap().success());
    let end = timeout(Duration::from_secs(8), stream.receiver.receive()).await;
    assert!(Command::new("kill").args(["-KILL", session]).status().unwrap().success());
    let error = end.expect("the silence went unnoticed").unwrap_err();
    assert!(matches!(error, Error::Silent { seconds: 2, .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_that_say_nothing_or_nonsense_do_not_keep_a_source_out() {
    use std::io::Write;
    let keys = Keys::ed25519();
    let mut server = keys.server(Pace::default());
    let address = server.local_address();
    let mut idle = Vec::new();
    for number in 0..12 {
        let mut socket = std::net::TcpStream::connect(address).unwrap();
        if number % 3 > 0 {
            socket.write_all(b"SSH-2.0-x\r\n").unwrap();
        }
        if number % 3 > 1 {
            socket.write_all(&[0xff; 4096]).unwrap();
        }
        idle.push(socket);
    }
    let stream = timeout(SOON, connect(&target(address), &keys.source())).await.unwrap().unwrap();
    assert!(timeout(SOON, server.accept()).await.unwrap().is_some());
    drop(stream);
}

#[test]
fn a_bad_key_file_is_named_and_never_shown() {
    let keys = Keys::ed25519();
    let debug = format!("{:?} {:?}", keys.source(), keys.destination());
    assert_eq!(debug, "SourceKeys(..) DestinationKeys(..)");

    let why = |keys: &Keys| SourceKeys::read(keys.0.path()).unwrap_err();
    fs::write(keys.path("destination.pub"), "").unwrap();
    assert!(why(&keys).to_string().contains("destination.pub"));
    fs::remove_file(keys.path("source")).unwrap();
    keygen(&keys.path("source"), &["-t", "ed25519", "-N", "a passphrase"]);
    assert!(why(&keys).to_string().contains("passphrase"), "{}", why(&keys));
    fs::write(keys.path("source"), "sesame").unwrap();
    let error = why(&keys);
    assert!(
        matches!(error, Error::BadKey { .. }) && !error.to_string().contains("sesame"),
        "{error}"
    );
    assert_eq!(error.retry(), Retry::Permanent);
    fs::remove_file(keys.path("source")).unwrap();
    assert!(matches!(why(&keys), Error::ReadKey { .. }));
}
