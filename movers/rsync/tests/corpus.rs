//! Every input the fuzzers keep, and frames of every message damaged in every byte, through the same
//! operations as the fuzzers use.

#![allow(clippy::panic, clippy::unwrap_used, reason = "a finding ends the test")]

#[path = "../fuzz/operations.rs"]
mod operations;

use std::fs;
use std::path::Path;

fn corpus(target: &str) -> Vec<Vec<u8>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let inputs: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| fs::read(entry.unwrap().path()).unwrap())
        .collect();
    assert!(inputs.len() >= 5, "the corpus of {target} has been lost");
    inputs
}

fn damaged(input: &[u8], run: impl Fn(&[u8])) {
    run(input);
    for at in 0..input.len() {
        run(&input[..at]);
        for bit in [0x01, 0x10, 0x80] {
            let mut changed = input.to_vec();
            changed[at] ^= bit;
            run(&changed);
        }
    }
}

#[test]
fn the_corpus_of_messages_finds_nothing() {
    for input in corpus("messages") {
        damaged(&input, operations::messages);
    }
}

#[test]
fn the_corpus_of_sessions_finds_nothing() {
    for input in corpus("sessions") {
        damaged(&input, operations::sessions);
    }
}
