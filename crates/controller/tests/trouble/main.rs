//! The operator in the test cluster when something breaks: itself, its leader, or the cluster.
//!
//! The scenarios are kept before this, and outages come last: after them the cluster's own controllers
//! take their time for a while.
#![allow(clippy::panic, reason = "this is test code: what goes wrong ends the test")]

mod killed;
mod leaders;
mod operator;
mod outages;
mod pair;
