//! One runner per state directory.

use std::fs::File;
use std::io::{Read, Seek, Write};

use rustix::fs::{FlockOperation, flock};

use crate::error::Error;
use crate::state_directory::{StateDirectory, make_directory};

/// Held as long as the runner lives; the kernel lets go of it however the runner ends.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

/// Takes the lock, or names the process that has it.
pub(crate) fn take(state: &StateDirectory) -> Result<Lock, Error> {
    make_directory(state.path())?;
    let path = state.path().join("lock");
    let failed = |source| Error::WriteFile { path: path.clone(), source };
    let mut file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(failed)?;
    if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        let mut pid = String::new();
        let known = file.read_to_string(&mut pid).is_ok() && !pid.trim().is_empty();
        let pid = if known { pid.trim().to_owned() } else { "not known".to_owned() };
        return Err(Error::Locked { directory: state.path().to_owned(), pid });
    }
    file.set_len(0).map_err(failed)?;
    file.rewind().map_err(failed)?;
    writeln!(file, "{}", std::process::id()).map_err(failed)?;
    Ok(Lock { _file: file })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_runner_is_told_of_the_first_and_may_follow_it() {
        let directory = tempfile::tempdir().unwrap();
        let state = StateDirectory::new(directory.path().to_owned());
        let first = take(&state).unwrap();
        let said = take(&state).unwrap_err().to_string();
        assert!(said.contains(&format!("process {}", std::process::id())), "{said}");
        drop(first);
        take(&state).unwrap();
    }
}
