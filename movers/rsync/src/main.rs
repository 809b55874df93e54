//! `volsync-mover-rsync`: the mover's process. Its task comes in environment variables.

use std::process::ExitCode;

fn main() -> ExitCode {
    volsync_mover::run("rsync", volsync_mover_rsync::run)
}
