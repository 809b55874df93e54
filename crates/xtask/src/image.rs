//! Container images: one per program, from scratch, with a static binary and nothing else.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::args::{self, ImageOptions};
use crate::command::{cargo, output, run};
use crate::setup::{self, Need};
use crate::{repository, table};

/// The tag of an image that was built from a checkout.
const TAG: &str = "dev";

/// An image we build.
struct Image {
    /// As it is asked for.
    name: &'static str,
    /// The package whose binary it holds.
    package: &'static str,
    /// Its recipe, in `Containerfiles`.
    recipe: &'static str,
    /// What else the recipe is told, `NAME=VALUE`.
    arguments: &'static [&'static str],
}

const IMAGES: &[Image] = &[
    Image {
        name: "controller",
        package: "volsync-controller",
        recipe: "controller.Containerfile",
        arguments: &[],
    },
    Image {
        name: "mover-rsync",
        package: "volsync-mover-rsync",
        recipe: "mover.Containerfile",
        arguments: &["MOVER=rsync"],
    },
    Image {
        name: "mover-restic",
        package: "volsync-mover-restic",
        recipe: "mover.Containerfile",
        // As upstream's: volumes belong to root unless the user says otherwise, in which case the
        // user says as whom the mover runs.
        arguments: &["MOVER=restic", "UID=0"],
    },
];

/// Builds the images asked for, or all, and says what each is called, its digest, and, of those
/// that are saved, the size and the file.
pub(crate) fn image(options: &ImageOptions) -> Result<()> {
    let images = chosen(&options.names)?;
    setup::setup(vec![Need::Image])?;
    let engine = Engine::find()?;
    let binaries = build_binaries(&images)?;
    for image in images {
        let reference = build_image(&engine, image, &binaries)?;
        let digest = engine.digest(&reference)?;
        let Some(directory) = &options.save else {
            println!("{reference} {digest}");
            continue;
        };
        let archive = directory.join(image.archive());
        engine.save(&reference, &archive)?;
        let size = fs::metadata(&archive)
            .with_context(|| format!("cannot see {}", archive.display()))?
            .len();
        println!("{reference} {digest} {} {}", table::bytes(size), archive.display());
    }
    Ok(())
}

/// Builds every image and hands each to `import` as an archive.
pub(crate) fn for_each_archive(import: impl Fn(&Path) -> Result<()>) -> Result<()> {
    let directory = repository::cache()?.join("archives");
    image(&ImageOptions { names: Vec::new(), save: Some(directory.clone()) })?;
    for image in IMAGES {
        import(&directory.join(image.archive()))?;
    }
    fs::remove_dir_all(&directory).with_context(|| format!("cannot remove {}", directory.display()))
}

impl Image {
    fn reference(&self) -> String {
        format!("localhost/volsync-{}:{TAG}", self.name)
    }

    fn archive(&self) -> String {
        format!("{}.tar", self.name)
    }
}

fn chosen(names: &[String]) -> Result<Vec<&'static Image>> {
    if names.is_empty() {
        return Ok(IMAGES.iter().collect());
    }
    let find = |name: &String| {
        IMAGES.iter().find(|image| image.name == name).with_context(|| {
            let known: Vec<&str> = IMAGES.iter().map(|image| image.name).collect();
            format!("there is no image {name}; there are: {}", known.join(", "))
        })
    };
    names.iter().map(find).collect()
}

/// What builds images: whichever is installed.
struct Engine {
    program: &'static str,
}

impl Engine {
    fn find() -> Result<Self> {
        setup::image_builder()
            .map(|program| Self { program })
            .context("none of buildah, podman and docker is installed")
    }

    fn command(&self) -> Command {
        Command::new(self.program)
    }

    /// The digest of an image.
    fn digest(&self, reference: &str) -> Result<String> {
        let format = match self.program {
            "buildah" => "{{.FromImageDigest}}",
            "podman" => "{{.Digest}}",
            // Docker knows no digest of a manifest that was not pushed.
            _ => "{{.Id}}",
        };
        let mut command = self.command();
        command.args(["inspect", "--type", "image", "--format", format, reference]);
        Ok(output(&mut command)?.trim().to_owned())
    }

    /// Puts an image into a file that every container runtime loads, in place of what it held.
    fn save(&self, reference: &str, archive: &Path) -> Result<()> {
        // Buildah adds to an archive that exists.
        match fs::remove_file(archive) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("cannot replace {}", archive.display()));
            }
            Ok(()) | Err(_) => {}
        }
        if let Some(directory) = archive.parent() {
            fs::create_dir_all(directory)
                .with_context(|| format!("cannot make {}", directory.display()))?;
        }
        let file = archive.display();
        let mut command = self.command();
        match self.program {
            "docker" => command.args(["save", "--output"]).arg(archive).arg(reference),
            _ => command
                .args(["push", "--quiet", reference])
                .arg(format!("docker-archive:{file}:{reference}")),
        };
        run(&mut command)
    }
}

/// Builds one image from the binary of its package.
fn build_image(engine: &Engine, image: &Image, binaries: &Path) -> Result<String> {
    let root = repository::root();
    let context = binaries.join("image").join(image.name);
    fs::create_dir_all(&context).with_context(|| format!("cannot make {}", context.display()))?;
    let binary = context.join(image.package);
    fs::copy(binaries.join(image.package), &binary)
        .with_context(|| format!("cannot copy {}", image.package))?;
    // Whoever builds it, with whatever umask: modes are part of the digest.
    fs::set_permissions(&binary, fs::Permissions::from_mode(0o755))
        .with_context(|| format!("cannot make {} executable", binary.display()))?;
    let git = |arguments: &[&str]| {
        output(Command::new("git").current_dir(&root).args(arguments))
            .map(|text| text.trim().to_owned())
    };
    let commit = git(&["rev-parse", "HEAD"])?;
    let seconds = git(&["show", "--no-patch", "--format=%ct", "HEAD"])?;
    let reference = image.reference();
    let mut command = engine.command();
    command.arg("build");
    match engine.program {
        "docker" => command.env("SOURCE_DATE_EPOCH", &seconds),
        _ => command.args(["--timestamp", &seconds]),
    };
    if engine.program == "buildah" {
        // There is nothing to run in an image from scratch, and this one works everywhere.
        command.args(["--isolation", "chroot"]);
    }
    let version = concat!("VERSION=", env!("CARGO_PKG_VERSION"));
    let revision = format!("REVISION={commit}");
    for argument in image.arguments.iter().copied().chain([version, &revision]) {
        command.args(["--build-arg", argument]);
    }
    command.arg("--quiet").args(["--tag", &reference, "--file"]);
    command.arg(root.join("Containerfiles").join(image.recipe)).arg(&context);
    run(&mut command)?;
    Ok(reference)
}

/// Static binaries of the images' packages, the same from any checkout of one commit.
fn build_binaries(images: &[&Image]) -> Result<PathBuf> {
    let root = repository::root();
    let metadata = repository::metadata(&root)?;
    let target_directory = metadata["target_directory"]
        .as_str()
        .context("cargo metadata names no target directory")?;
    let target = setup::static_target();
    let registry = args::variable("CARGO_HOME")
        .or_else(|| args::variable("HOME").map(|home| home.join(".cargo")))
        .context("neither CARGO_HOME nor HOME is set")?;
    // Panic messages would hold the paths of one machine. Those of this repository are relative
    // already, and a flag that differs from checkout to checkout would compile everything again.
    let renamed = format!("--remap-path-prefix={}=/cargo", registry.display());
    let mut command = cargo(&root);
    command.env("CARGO_ENCODED_RUSTFLAGS", renamed);
    command.args(["build", "--release", "--locked", "--target", &target]);
    command.args(["--config", "profile.release.strip=\"debuginfo\""]);
    for image in images {
        command.args(["--package", image.package]);
    }
    run(&mut command)?;
    Ok(Path::new(target_directory).join(target).join("release"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_image_has_its_recipe_and_is_found_by_its_name() {
        for image in IMAGES {
            let recipe = repository::root().join("Containerfiles").join(image.recipe);
            assert!(recipe.is_file(), "{} is missing", recipe.display());
            assert!(chosen(&[image.name.to_owned()]).is_ok());
        }
        assert_eq!(chosen(&[]).unwrap().len(), IMAGES.len());
    }

    #[test]
    fn an_image_that_does_not_exist_is_named_with_those_that_do() {
        let error = chosen(&["rsync".to_owned()]).err().unwrap().to_string();
        assert!(error.contains("rsync") && error.contains("mover-rsync"), "{error}");
    }
}
