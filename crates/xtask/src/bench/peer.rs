//! The other side of a benchmark: a real rsync over a real ssh to a real sshd on loopback.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use volsync_testing::Scratch;
use volsync_testing::keys::KeyPair;
use volsync_testing::peers::{Sshd, tool};
use volsync_testing::proxy::Proxy;

use super::measure::{self, Measured, MemoryWatch, Process};
use crate::command::output;

/// Whether rsync compresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compression {
    /// `-z`.
    On,
    /// Without.
    Off,
}

/// Syncs `source` to `destination` once with `rsync -aAhHSx --delete -e ssh`.
pub(crate) fn sync(
    source: &Path,
    destination: &Path,
    compression: Compression,
    delay: Option<Duration>,
    watch_memory: bool,
) -> Result<Measured> {
    let scratch = Scratch::new();
    let (key, _) = KeyPair::both();
    // bash under sshd runs the user's start-up files unless it believes to be below another shell;
    // what they cost is no part of rsync.
    let sshd = Sshd::start(&[&key.public], "SetEnv SHLVL=2");
    let server =
        listener().context("the sshd that was just started is not in the process table")?;
    let proxy = delay.map(|delay| Proxy::start(sshd.address(), delay));
    let address = proxy.as_ref().map_or_else(|| sshd.address(), Proxy::address);
    let log = fs::File::create(scratch.join("log")).context("cannot create a log")?;

    let mut command = Command::new(tool("rsync"));
    command.env("LC_ALL", "C").args(["-aAhHSx", "--delete", "--stats", "--no-h"]);
    if compression == Compression::On {
        command.arg("-z");
    }
    command
        .arg("-e")
        .arg(ssh(&scratch, &key.private, address)?)
        .arg(source.join(""))
        .arg(format!("{}@{}:{}", user()?, address.ip(), destination.join("").display()))
        .stdin(Stdio::null())
        .stdout(
            fs::File::create(scratch.join("stats"))
                .context("cannot create a file for statistics")?,
        )
        .stderr(log);

    let begin = Instant::now();
    let client = command.spawn().context("cannot start rsync")?;
    let watch = watch_memory.then(|| MemoryWatch::start("rsync", client.id(), server));
    let client = measure::wait(client)?;
    let peaks = watch.map(MemoryWatch::finish);
    if !client.status.success() {
        let said = fs::read_to_string(scratch.join("log")).unwrap_or_default();
        bail!("rsync ended with {}:\n{said}\nsshd:\n{}", client.status, sshd.log());
    }
    let stats = fs::read_to_string(scratch.join("stats")).unwrap_or_default();
    Ok(Measured {
        wall: client.at.duration_since(begin),
        processor: client.processor + server_processor(server),
        wire_bytes: wire_bytes(&stats)
            .context("rsync --stats says nothing of bytes sent and received")?,
        source_peak: peaks.map(|(source, _)| source),
        destination_peak: peaks.map(|(_, destination)| destination),
    })
}

/// The process id of the sshd that this process started.
fn listener() -> Option<u32> {
    let own = std::process::id();
    Process::all()
        .into_iter()
        .find(|process| process.parent == own && process.name == "sshd")
        .map(|sshd| sshd.id)
}

/// What everything that sshd started has used, once it has ended.
fn server_processor(server: u32) -> Duration {
    let patience = Instant::now() + Duration::from_secs(3);
    while Instant::now() < patience && Process::all().iter().any(|process| process.parent == server)
    {
        std::thread::sleep(Duration::from_millis(10));
    }
    Process::read(server).map(|sshd| sshd.children).unwrap_or_default()
}

/// The ssh command, as rsync splits it into words.
fn ssh(scratch: &Scratch, private_key: &str, address: SocketAddr) -> Result<String> {
    let key = scratch.join("key");
    fs::write(&key, private_key).context("cannot write the client's key")?;
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600))
        .context("cannot protect the client's key")?;
    Ok(format!(
        "{} -F none -o BatchMode=yes -o IdentitiesOnly=yes -o StrictHostKeyChecking=no \
         -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR -i {} -p {}",
        tool("ssh").display(),
        key.display(),
        address.port()
    ))
}

fn user() -> Result<String> {
    Ok(output(Command::new(tool("id")).arg("-un"))?.trim().to_owned())
}

fn wire_bytes(stats: &str) -> Option<u64> {
    let number = |name: &str| -> Option<u64> {
        let text = stats.lines().find_map(|line| line.strip_prefix(name))?;
        text.chars().filter(char::is_ascii_digit).collect::<String>().parse().ok()
    };
    Some(number("Total bytes sent:")? + number("Total bytes received:")?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_both_ways_are_read_from_rsyncs_statistics() {
        let stats = "Number of files: 3\nTotal bytes sent: 1,234\nTotal bytes received: 66\n";
        assert_eq!(wire_bytes(stats), Some(1300));
        assert_eq!(wire_bytes("nothing"), None);
    }

    #[test]
    fn a_directory_is_copied_and_both_ends_are_measured() {
        let scratch = Scratch::new();
        let (from, to) = (scratch.dir("from"), scratch.dir("to"));
        fs::write(from.join("file"), vec![7; 3 << 20]).unwrap();
        let measured = sync(&from, &to, Compression::Off, None, true).unwrap();
        assert_eq!(fs::read(to.join("file")).unwrap().len(), 3 << 20);
        assert!(measured.wire_bytes > 3 << 20);
        assert!(measured.processor > Duration::ZERO);
    }
}
