//! Why a mover that has not begun has no volume: its claim is not bound, or its pod cannot mount it.

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;
use volsync_api::events;

use crate::apply::get;
use crate::context::Context;
use crate::error::{Blocked, Error};
use crate::no_pod::last_event;

/// After so many seconds a claim should be bound, and a pod should have its volumes.
const PATIENCE: i64 = 120;
/// What kubelet told earlier, which tells it every two minutes, is over.
const RECENT: i64 = 300;

/// What is said of the claim of this Job, or of its pod, if that has waited for its volume for too long.
pub(crate) async fn why(
    ctx: &Context,
    job: &Job,
    pods: &[Pod],
    now: Timestamp,
) -> Result<Option<Blocked>, Error> {
    // A claim may have waited for its first consumer until there was a mover.
    if !is_older(job.creation_timestamp(), PATIENCE, now) {
        return Ok(None);
    }
    let namespace = job.namespace().unwrap_or_default();
    if let Some(name) = data_claim(job)
        && let Some(claim) = get(&ctx.api::<PersistentVolumeClaim>(&namespace), name).await?
        && is_late(&claim, now)
    {
        let event = last_event(ctx, &claim, "ProvisioningFailed").await?;
        let reason = event.and_then(|event| event.message);
        return Ok(Some(Blocked {
            reason: events::PERSISTENT_VOLUME_CLAIM_NOT_BOUND,
            message: message(&claim, reason.as_deref()),
        }));
    }
    for pod in pods.iter().filter(|pod| is_older(pod.creation_timestamp(), PATIENCE, now)) {
        for reason in ["FailedAttachVolume", "FailedMount"] {
            let event = last_event(ctx, pod, reason).await?;
            let recent = event.filter(|event| !is_older(event.last_timestamp.clone(), RECENT, now));
            if let Some(says) = recent.and_then(|event| event.message) {
                let message = format!("Pod/{} does not start: {reason}: {says}", pod.name_any());
                return Ok(Some(Blocked { reason: "TransferBlocked", message }));
            }
        }
    }
    Ok(None)
}

fn is_older(made: Option<Time>, seconds: i64, now: Timestamp) -> bool {
    made.is_some_and(|made| now.duration_since(made.0).as_secs() >= seconds)
}

fn is_late(claim: &PersistentVolumeClaim, now: Timestamp) -> bool {
    let phase = claim.status.as_ref().and_then(|status| status.phase.as_deref());
    phase != Some("Bound") && is_older(claim.creation_timestamp(), PATIENCE, now)
}

fn data_claim(job: &Job) -> Option<&str> {
    let volumes = job.spec.as_ref()?.template.spec.as_ref()?.volumes.as_ref()?;
    let data = volumes.iter().find(|volume| volume.name == "data")?;
    Some(data.persistent_volume_claim.as_ref()?.claim_name.as_str())
}

fn message(claim: &PersistentVolumeClaim, reason: Option<&str>) -> String {
    let source = claim.spec.as_ref().and_then(|spec| spec.data_source.as_ref());
    let check = match source {
        Some(source) if source.kind == "PersistentVolumeClaim" => {
            "check StorageClass name and ensure CSI driver supports volume cloning"
        }
        Some(_) | None => "check StorageClass name and CSI driver capabilities",
    };
    let name = claim.name_any();
    let waiting = format!("waiting for PersistentVolumeClaim/{name} to bind; {check}");
    match reason {
        Some(reason) => format!("{waiting}: {reason}"),
        None => waiting,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn claim(phase: &str, source: Value) -> PersistentVolumeClaim {
        serde_json::from_value(json!({
            "metadata": {"name": "photos", "creationTimestamp": "2024-01-01T00:00:00Z"},
            "spec": {"dataSource": source},
            "status": {"phase": phase},
        }))
        .unwrap()
    }

    #[test]
    fn a_claim_is_late_after_two_minutes_unless_it_is_bound() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let pending = claim("Pending", Value::Null);
        assert!(!is_late(&pending, at("2024-01-01T00:01:59Z")));
        assert!(is_late(&pending, at("2024-01-01T00:02:00Z")));
        assert!(!is_late(&claim("Bound", Value::Null), at("2024-01-02T00:00:00Z")));
    }

    #[test]
    fn what_to_check_depends_on_what_the_volume_is_made_of_and_the_reason_is_told() {
        let empty = message(&claim("Pending", Value::Null), Some("no such class"));
        assert_eq!(
            empty,
            "waiting for PersistentVolumeClaim/photos to bind; check StorageClass name and CSI driver capabilities: no such class"
        );
        let source = json!({"kind": "PersistentVolumeClaim", "name": "of"});
        assert!(message(&claim("Pending", source), None).ends_with("supports volume cloning"));
    }
}
