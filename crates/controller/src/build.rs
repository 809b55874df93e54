//! Builders: what should exist → Kubernetes objects. Pure; each is held to the specification by a
//! golden file.

pub(crate) mod claim;
pub(crate) mod job;
pub(crate) mod secret;
pub(crate) mod security_context_constraints;
pub(crate) mod service;
pub(crate) mod service_account;
pub(crate) mod snapshot;
pub(crate) mod volume_populator;

#[cfg(test)]
mod tests;
