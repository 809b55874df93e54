//! What never replicates: `lost+found`, our own markers.

/// The directory in which ext file systems keep what a check has found, at their root.
pub const LOST_AND_FOUND: &[u8] = b"lost+found";

/// The directory in which movers keep what they need from one sync to the next, at a volume's root.
pub const MARKER: &[u8] = b".volsync";

/// Whether an entry directly below a volume's root is left out: it is neither sent nor deleted.
pub fn is_ignored_at_root(name: &[u8]) -> bool {
    name == LOST_AND_FOUND || name == MARKER
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_names_are_ignored() {
        assert!(is_ignored_at_root(b"lost+found"));
        assert!(is_ignored_at_root(b".volsync"));
        assert!(!is_ignored_at_root(b".volsync-old"));
        assert!(!is_ignored_at_root(b"lost"));
    }
}
