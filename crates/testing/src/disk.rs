//! `SmallDisk`: a file system of a few megabytes, to be filled up.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::as_user::is_root;
use crate::peers;
use crate::scratch::Scratch;

/// A tmpfs of limited size in a mount namespace of its own. It needs no root (a user namespace
/// serves an ordinary user) and vanishes with this process, however that ends.
#[derive(Debug)]
pub struct SmallDisk {
    holder: Child,
    mount_point: PathBuf,
    _scratch: Scratch,
}

impl SmallDisk {
    /// A disk of so many bytes.
    pub fn new(bytes: u64) -> Self {
        let scratch = Scratch::new();
        let mount_point = scratch.dir("disk");
        let script = r#"mount -t tmpfs -o "size=$1,mode=0777" none "$2" && echo ready && exec cat"#;
        let mut holder = Command::new(peers::tool("unshare"))
            .args(if is_root() { &["-m"][..] } else { &["-r", "-m"] })
            .args(["sh", "-c", script, "sh", &bytes.to_string()])
            .arg(&mount_point)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare starts");
        let mut line = String::new();
        BufReader::new(holder.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(
            line.trim(),
            "ready",
            "no tmpfs could be mounted in a namespace: are user namespaces allowed?"
        );
        Self { holder, mount_point, _scratch: scratch }
    }

    /// Makes it a disk of so many bytes.
    pub fn resize(&self, bytes: u64) {
        let options = format!("remount,size={bytes}");
        let mut mount = self.enter(&peers::tool("mount"));
        let done = mount.args(["-o", &options]).arg(&self.mount_point).status().unwrap();
        assert!(done.success(), "the disk cannot be made larger");
    }

    /// Where every process of the same user finds it.
    pub fn path(&self) -> PathBuf {
        let inside = self.mount_point.strip_prefix("/").unwrap();
        Path::new("/proc").join(self.holder.id().to_string()).join("root").join(inside)
    }

    /// Where programs inside its namespace find it; see [`SmallDisk::enter`].
    pub fn mount_point(&self) -> &Path {
        &self.mount_point
    }

    /// A command that runs `program` inside the namespace.
    pub fn enter(&self, program: &Path) -> Command {
        let mut command = Command::new(peers::tool("nsenter"));
        let target = self.holder.id().to_string();
        command.args(["-t", &target, "-m"]);
        if !is_root() {
            command.args(["-U", "--preserve-credentials"]);
        }
        command.arg("--").arg(program);
        command
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_disk_fills_up() {
        let disk = SmallDisk::new(1 << 20);
        std::fs::write(disk.path().join("fits"), vec![1; 100_000]).unwrap();
        let error = std::fs::write(disk.path().join("full"), vec![1; 2 << 20]).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
        let inside = disk.enter(Path::new("/bin/ls")).arg(disk.mount_point()).output().unwrap();
        assert!(String::from_utf8(inside.stdout).unwrap().contains("fits"));
    }
}
