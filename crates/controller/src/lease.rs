//! Leader election on a Lease: of several replicas, one works.
//!
//! As client-go does it (k8s.io/client-go/tools/leaderelection): whoever holds the Lease renews it;
//! others take it once it has not been renewed for its duration, measured by their own clock since
//! they last saw it change. Name and timings are upstream's, so that an installation of either kind
//! waits for the other.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use tokio::time::Instant;

use crate::error::{Asked, Error};

mod fence;

pub(crate) use fence::Fence;
use fence::Moment;

const NAME: &str = "b95b3104.backube";
const DURATION: Duration = Duration::from_secs(137);
/// A leader that could not renew for so long stops being one, well before others may take over.
const DEADLINE: Duration = Duration::from_secs(107);
const RETRY: Duration = Duration::from_secs(26);
/// How often a candidate looks whether the Lease was given up.
const CANDIDATE_RETRY: Duration = Duration::from_secs(5);

/// A candidate, and the leader once [`Leadership::acquire`] returned.
pub(crate) struct Leadership {
    api: Api<Lease>,
    identity: String,
    /// What was last seen of the Lease, and when that changed.
    seen: Option<(LeaseSpec, Instant)>,
    /// What the leader's requests pass, but for those about the Lease.
    fence: Fence,
}

impl Leadership {
    /// A candidate for the Lease in `namespace`.
    pub(crate) fn new(client: Client, namespace: &str, identity: String, fence: Fence) -> Self {
        Self { api: Api::namespaced(client, namespace), identity, seen: None, fence }
    }

    /// Waits until this process leads.
    pub(crate) async fn acquire(&mut self) {
        let mut told = false;
        loop {
            match self.try_hold().await {
                Ok(true) => {
                    tracing::info!(identity = self.identity, "leading");
                    return;
                }
                Ok(false) if told => {}
                Ok(false) => {
                    let holder =
                        self.seen.as_ref().and_then(|(spec, _)| spec.holder_identity.clone());
                    tracing::info!(holder, "another replica leads; waiting for its Lease");
                    told = true;
                }
                Err(error) => tracing::warn!("{error}; trying again"),
            }
            tokio::time::sleep(CANDIDATE_RETRY).await;
        }
    }

    /// Keeps the Lease; ends when it is lost.
    pub(crate) async fn keep(&mut self) {
        let mut renewed = Instant::now();
        loop {
            match tokio::time::timeout_at(renewed + DEADLINE, self.renew()).await {
                Ok(Some(asked)) => renewed = asked,
                Ok(None) => {
                    tracing::error!("another replica took the Lease");
                    return;
                }
                Err(_) => {
                    tracing::error!("the Lease could not be renewed for {} s", DEADLINE.as_secs());
                    return;
                }
            }
        }
    }

    /// Renews the Lease after a while, however often that takes; answers when that was asked for.
    /// `None`: somebody else has it.
    async fn renew(&mut self) -> Option<Instant> {
        loop {
            tokio::time::sleep(RETRY).await;
            let asked = Instant::now();
            match tokio::time::timeout(RETRY, self.try_hold()).await {
                Ok(Ok(true)) => return Some(asked),
                Ok(Ok(false)) => return None,
                Ok(Err(error)) => tracing::warn!("cannot renew the Lease: {error}"),
                Err(_) => tracing::warn!("cannot renew the Lease in time"),
            }
        }
    }

    /// Gives the Lease up, so that the next leader need not wait for its end.
    pub(crate) async fn release(&self) -> Result<(), Error> {
        let Some(mut lease) = self.read().await? else { return Ok(()) };
        let Some(spec) = lease.spec.as_mut().filter(|spec| self.is_ours(spec)) else {
            return Ok(());
        };
        spec.holder_identity = Some(String::new());
        spec.lease_duration_seconds = Some(1);
        spec.renew_time = Some(MicroTime(Timestamp::now()));
        self.write(&lease).await?;
        Ok(())
    }

    /// Takes or renews the Lease if it is ours or nobody's. `false`: somebody else has it.
    async fn try_hold(&mut self) -> Result<bool, Error> {
        let asked = Moment::now();
        let held = self.take_or_renew().await?;
        if held {
            self.fence.open(asked, DEADLINE);
        } else {
            self.fence.close();
        }
        Ok(held)
    }

    async fn take_or_renew(&mut self) -> Result<bool, Error> {
        let now = MicroTime(Timestamp::now());
        let Some(mut lease) = self.read().await? else {
            let created = self.api.create(&PostParams::default(), &self.first(now)).await;
            created.asked(|| format!("create Lease {NAME}"))?;
            return Ok(true);
        };
        let spec = lease.spec.clone().unwrap_or_default();
        if !self.is_ours(&spec) && !self.is_free(&spec) {
            return Ok(false);
        }
        let transitions = spec.lease_transitions.unwrap_or_default();
        lease.spec = Some(if self.is_ours(&spec) {
            let since = spec.acquire_time.clone().unwrap_or_else(|| now.clone());
            self.held(since, now, transitions)
        } else {
            self.held(now.clone(), now, transitions + 1)
        });
        // Where somebody was faster, the next look says whether it was for the Lease.
        self.write(&lease).await?;
        Ok(true)
    }

    fn is_ours(&self, spec: &LeaseSpec) -> bool {
        spec.holder_identity.as_deref() == Some(self.identity.as_str())
    }

    /// Whether nobody holds it, or its holder has not renewed it for its duration.
    fn is_free(&mut self, spec: &LeaseSpec) -> bool {
        if spec.holder_identity.as_deref().unwrap_or_default().is_empty() {
            return true;
        }
        match &self.seen {
            Some((seen, since)) if seen == spec => {
                let duration =
                    spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
                since.elapsed() > duration.map_or(DURATION, Duration::from_secs)
            }
            Some(_) | None => {
                self.seen = Some((spec.clone(), Instant::now()));
                false
            }
        }
    }

    /// The Lease where there was none.
    fn first(&self, now: MicroTime) -> Lease {
        Lease {
            metadata: ObjectMeta { name: Some(NAME.to_owned()), ..ObjectMeta::default() },
            spec: Some(self.held(now.clone(), now, 0)),
        }
    }

    fn held(&self, since: MicroTime, now: MicroTime, transitions: i32) -> LeaseSpec {
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            acquire_time: Some(since),
            renew_time: Some(now),
            lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
            lease_transitions: Some(transitions),
            ..LeaseSpec::default()
        }
    }

    async fn read(&self) -> Result<Option<Lease>, Error> {
        self.api.get_opt(NAME).await.asked(|| format!("read Lease {NAME}"))
    }

    async fn write(&self, lease: &Lease) -> Result<(), Error> {
        let written = self.api.replace(NAME, &PostParams::default(), lease).await;
        written.asked(|| format!("renew Lease {NAME}"))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
