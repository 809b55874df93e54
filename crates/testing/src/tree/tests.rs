//! The trees themselves are as hard and as repeatable as they claim.

use super::*;
use crate::compare;
use crate::scratch::Scratch;

#[test]
fn hard_cases_hold_what_a_real_rsync_can_copy() {
    for privilege in Privilege::available() {
        let scratch = Scratch::with_attributes();
        let (a, b) = (scratch.join("a"), scratch.dir("b"));
        hard_cases(&a, *privilege);
        let copied = compare::rsync_copy(&a, &b);
        assert!(copied.is_empty(), "{copied}");
        compare::assert_same(&a, &b);
        fs::write(b.join("contents/text"), "other").unwrap();
        assert!(!compare::rsync_differences(&a, &b).is_empty());
        assert!(!compare::differences(&a, &b).is_empty());
    }
}

#[test]
fn the_same_seed_makes_the_same_tree_and_the_same_changes() {
    let scratch = Scratch::in_memory();
    let (a, b) = (scratch.join("a"), scratch.join("b"));
    for dir in [&a, &b] {
        random_tree(dir, 3, 60, Privilege::own());
        assert!(mutate(dir, 4, 60, Privilege::own()).len() > 20);
    }
    assert_eq!(compare::content(&a), compare::content(&b));
    mutate(&b, 5, 10, Privilege::own());
    assert_ne!(compare::content(&a), compare::content(&b));
}

#[test]
fn a_source_tree_has_as_many_files_as_asked_for() {
    let scratch = Scratch::in_memory();
    kernel_like(scratch.path(), 100);
    let files = compare::content(scratch.path());
    assert_eq!(
        files.values().filter(|content| matches!(content, compare::Content::File { .. })).count(),
        100
    );
}
