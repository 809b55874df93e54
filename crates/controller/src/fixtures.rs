//! A cluster in memory: an API server that can be told to fail, and the controllers around it, played.

mod api_server;
mod cluster;
mod manifests;

pub(crate) use self::api_server::{ApiServer, Fault, REFUSAL, Request};
pub(crate) use self::cluster::{Cluster, NAMESPACE};
pub(crate) use self::manifests::{
    claim, claim_in_use, destination, keys_secret, previous_image, source,
};
