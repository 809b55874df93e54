//! A cluster in memory: an API server that can be told to fail, and the controllers around it, played;
//! and what objects are compared with.

mod api_server;
mod cluster;
mod golden;
mod manifests;

pub(crate) use self::api_server::{ApiServer, Fault, REFUSAL, Request};
pub(crate) use self::cluster::{Cluster, NAMESPACE};
pub(crate) use self::golden::golden;
pub(crate) use self::manifests::{
    claim, claim_in_use, destination, keys_secret, previous_image, source,
};
