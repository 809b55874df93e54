//! The native session between two volsync movers: protocol, comparison, delta transfer.
//!
//! ```text
//!   source                                           destination
//!   walk ------ listings (bounded by credit) ------> generator --- wanted files ---+
//!                                                        | made at once: all else  |
//!   senders <--- requests, block signatures ------------- + <----------------------+
//!      +------- small batches, deltas -------------> receivers: verify, rename
//!                                                        delete pass, flush
//! ```
//!
//! Memory is bounded by windows on each arrow (listings, requests, frames), never by the number
//! of files.

pub mod content;
mod delete;
pub mod delta;
mod destination_session;
mod generator;
mod hard_links;
mod link;
mod listing;
pub mod message;
mod receiver;
mod sender;
pub mod session;
mod source_session;
mod target;

pub use destination_session::receive;
pub use link::LinkError;
pub use source_session::send;
