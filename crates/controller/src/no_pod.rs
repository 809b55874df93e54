//! Why a Job has no pod: the Job controller says so in events only.

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Event;
use kube::ResourceExt;
use kube::api::ListParams;

use crate::apply::{Object, named};
use crate::context::Context;
use crate::error::{Asked, Error};

/// What the Job controller was told when it tried to make a pod, such as that a quota is used up.
pub(crate) async fn why(ctx: &Context, job: &Job) -> Result<Option<String>, Error> {
    let event = last_event(ctx, job, "FailedCreate").await?;
    Ok(event.and_then(|event| event.message).map(|text| reason(&text)))
}

/// The last event of an object with this reason.
pub(crate) async fn last_event<T: Object>(
    ctx: &Context,
    of: &T,
    reason: &str,
) -> Result<Option<Event>, Error> {
    let fields = format!("involvedObject.uid={},reason={reason}", of.uid().unwrap_or_default());
    let params = ListParams::default().fields(&fields);
    let found = ctx.api::<Event>(&of.namespace().unwrap_or_default()).list(&params).await;
    let found = found.asked(|| format!("list the events of {}", named(of)))?;
    Ok(found.items.into_iter().next_back())
}

/// The reason without the name of the pod, which is another one each time.
fn reason(text: &str) -> String {
    match text.split_once(" is forbidden: ") {
        Some((_, reason)) => reason.to_owned(),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_the_same_for_every_pod() {
        let told = |pod| {
            reason(&format!("Error creating: pods \"{pod}\" is forbidden: exceeded quota: few"))
        };
        assert_eq!(told("a-x"), "exceeded quota: few");
        assert_eq!(told("a-x"), told("a-y"));
        assert_eq!(reason("no answer"), "no answer");
    }
}
