//! Why the claim of a mover that has not begun has no volume.

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::ResourceExt;
use volsync_api::events;

use crate::apply::get;
use crate::context::Context;
use crate::error::{Blocked, Error};
use crate::no_pod::last_event;

/// After so many seconds a claim should be bound.
const PATIENCE: i64 = 120;

/// What is said of the claim of this Job, if that has waited for its volume for too long.
pub(crate) async fn why(
    ctx: &Context,
    job: &Job,
    now: Timestamp,
) -> Result<Option<Blocked>, Error> {
    // A claim may have waited for its first consumer until there was a mover.
    let (Some(name), true) = (data_claim(job), is_older(job.creation_timestamp(), now)) else {
        return Ok(None);
    };
    let namespace = job.namespace().unwrap_or_default();
    let claim = get(&ctx.api::<PersistentVolumeClaim>(&namespace), name).await?;
    let Some(claim) = claim.filter(|claim| is_late(claim, now)) else { return Ok(None) };
    let reason = last_event(ctx, &claim, "ProvisioningFailed").await?;
    Ok(Some(Blocked {
        reason: events::PERSISTENT_VOLUME_CLAIM_NOT_BOUND,
        message: message(&claim, reason.as_deref()),
    }))
}

fn is_older(
    made: Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::Time>,
    now: Timestamp,
) -> bool {
    made.is_some_and(|made| now.duration_since(made.0).as_secs() >= PATIENCE)
}

fn is_late(claim: &PersistentVolumeClaim, now: Timestamp) -> bool {
    let phase = claim.status.as_ref().and_then(|status| status.phase.as_deref());
    phase != Some("Bound") && is_older(claim.creation_timestamp(), now)
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
