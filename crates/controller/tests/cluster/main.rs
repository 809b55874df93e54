//! The operator in the test cluster when something breaks: itself, its leader, or the cluster.
#![allow(clippy::panic, reason = "this is test code: what goes wrong ends the test")]

mod faults;
mod killed;
mod leaders;
mod operator;
mod pair;
