//! `Gate`: a bounded number of files is in work.

use std::sync::{Condvar, Mutex, PoisonError};

/// Files in work at a time. Each may hold a directory and itself open.
const FILES: usize = 1024;

#[derive(Debug, Default)]
pub(super) struct Gate {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    inside: usize,
    open: bool,
}

impl Gate {
    /// Waits for a place. Every file that entered leaves once.
    pub(super) fn enter(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        while state.inside >= FILES && !state.open {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.inside += 1;
    }

    /// Gives a place back.
    pub(super) fn leave(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.inside = state.inside.saturating_sub(1);
        // Not for each place: whoever waits then goes on for a while.
        if state.inside == FILES / 2 || state.inside == 0 {
            self.changed.notify_all();
        }
    }

    /// Waits until all have left.
    pub(super) fn wait_until_empty(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        while state.inside > 0 && !state.open {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Nobody waits any more: it is over.
    pub(super) fn open_for_good(&self) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).open = true;
        self.changed.notify_all();
    }
}
