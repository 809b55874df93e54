//! `volsync-mover-restic`: the mover's process. Its task comes in environment variables.

use std::process::ExitCode;

fn main() -> ExitCode {
    volsync_mover::run("restic", volsync_mover_restic::run)
}
