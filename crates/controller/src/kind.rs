//! `Kind`: what ReplicationSource and ReplicationDestination have in common.

use jiff::tz::TimeZone;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::ResourceExt;
use serde_json::Value;
use volsync_api::v1alpha1::RsyncStatus;
use volsync_api::{ReplicationDestination, ReplicationSource};
use volsync_contract::Direction;
use volsync_replication::{Problem, Replication, Status, validate_destination, validate_source};

use crate::apply::{Object, json};
use crate::error::Error;

/// What ReplicationSource and ReplicationDestination have in common.
pub(crate) trait Kind: Object {
    /// Which end it is.
    const DIRECTION: Direction;
    /// Where a mover's pod keeps the name of its replication.
    const ANNOTATION: &'static str;

    /// What the user asks for, or everything that is wrong with it.
    fn validate(&self, zone: &TimeZone) -> Result<Replication, Vec<Problem>>;

    /// What was recorded of it.
    fn recorded(&self) -> Status;

    /// The claim a source replicates.
    fn source_claim(&self) -> Option<&str>;

    /// What the other end of rsync over SSH was told.
    fn published(&self) -> RsyncStatus;

    /// The status with these written into it, as JSON.
    fn written(&self, status: &Status, published: &RsyncStatus) -> Result<Value, Error>;

    /// The status as it is, as JSON.
    fn unwritten(&self) -> Result<Value, Error>;
}

impl Kind for ReplicationSource {
    const DIRECTION: Direction = Direction::Source;
    const ANNOTATION: &'static str = "volsync.backube/replication-source";

    fn validate(&self, zone: &TimeZone) -> Result<Replication, Vec<Problem>> {
        validate_source(self, zone)
    }

    fn recorded(&self) -> Status {
        self.status.as_ref().map(Status::from_source).unwrap_or_default()
    }

    fn source_claim(&self) -> Option<&str> {
        self.spec.source_pvc.as_deref()
    }

    fn published(&self) -> RsyncStatus {
        self.status.as_ref().and_then(|status| status.rsync.clone()).unwrap_or_default()
    }

    fn written(&self, status: &Status, published: &RsyncStatus) -> Result<Value, Error> {
        let mut written = self.status.clone().unwrap_or_default();
        status.write_to_source(&mut written);
        write_published(&mut written.rsync, published);
        json(&written)
    }

    fn unwritten(&self) -> Result<Value, Error> {
        json(&self.status.clone().unwrap_or_default())
    }
}

impl Kind for ReplicationDestination {
    const DIRECTION: Direction = Direction::Destination;
    const ANNOTATION: &'static str = "volsync.backube/replication-destination";

    fn validate(&self, zone: &TimeZone) -> Result<Replication, Vec<Problem>> {
        validate_destination(self, zone)
    }

    fn recorded(&self) -> Status {
        self.status.as_ref().map(Status::from_destination).unwrap_or_default()
    }

    fn source_claim(&self) -> Option<&str> {
        None
    }

    fn published(&self) -> RsyncStatus {
        self.status.as_ref().and_then(|status| status.rsync.clone()).unwrap_or_default()
    }

    fn written(&self, status: &Status, published: &RsyncStatus) -> Result<Value, Error> {
        let mut written = self.status.clone().unwrap_or_default();
        status.write_to_destination(&mut written);
        write_published(&mut written.rsync, published);
        json(&written)
    }

    fn unwritten(&self) -> Result<Value, Error> {
        json(&self.status.clone().unwrap_or_default())
    }
}

fn write_published(written: &mut Option<RsyncStatus>, published: &RsyncStatus) {
    if written.is_some() || *published != RsyncStatus::default() {
        *written = Some(published.clone());
    }
}

/// A replication as the owner of what is made for it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Owner {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) uid: String,
    pub(crate) direction: Direction,
    /// To be put on what it owns.
    pub(crate) reference: OwnerReference,
    /// Annotation with its name, for pods, which it owns by way of a Job.
    pub(crate) annotation: &'static str,
}

impl Owner {
    /// The owner that `object` is; `None` for one that was not read from an API server.
    pub(crate) fn of<K: Kind>(object: &K) -> Option<Self> {
        let mut reference = object.controller_owner_ref(&())?;
        reference.block_owner_deletion = Some(true);
        Some(Self {
            namespace: object.namespace()?,
            name: object.name_any(),
            uid: object.uid()?,
            direction: K::DIRECTION,
            reference,
            annotation: K::ANNOTATION,
        })
    }

    /// Labels of what is made for it; with `cleanup`, it goes when a sync ends.
    pub(crate) fn labels(&self, cleanup: bool) -> std::collections::BTreeMap<String, String> {
        use volsync_api::keys;
        let mut labels = std::collections::BTreeMap::from([(
            keys::CREATED_BY.to_owned(),
            keys::CREATED_BY_VOLSYNC.to_owned(),
        )]);
        if cleanup {
            labels.insert(keys::CLEANUP.to_owned(), self.uid.clone());
        }
        labels
    }

    /// Metadata of what is made for it.
    pub(crate) fn metadata(&self, name: &str, cleanup: bool) -> kube::api::ObjectMeta {
        kube::api::ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some(self.namespace.clone()),
            labels: Some(self.labels(cleanup)),
            owner_references: Some(vec![self.reference.clone()]),
            ..Default::default()
        }
    }
}
