//! What tests are made of: directory trees, a comparison by real rsync, real peers, a hostile
//! network, failing disks, movers as processes, and the scenario runner.
//!
//! Only ever a dev-dependency. Whatever goes wrong in here ends the test that called it, with the
//! thing's name in the message.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "this crate is test code: what goes wrong ends the test"
)]

pub mod as_user;
pub mod compare;
pub mod disk;
pub mod failing_fs;
pub mod http_proxy;
pub mod keys;
pub mod keystone;
pub mod mover;
pub mod peers;
pub mod proxy;
pub mod servers;

pub mod scenario;
pub mod scratch;
pub mod seed;
pub mod swift_server;
pub mod tree;

pub use as_user::Privilege;
pub use scratch::Scratch;
pub use seed::Seed;
