//! Why a Job has no pod: the Job controller says so in events only.

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Event;
use kube::ResourceExt;
use kube::api::ListParams;

use crate::context::Context;
use crate::error::{Asked, Error};

/// What the Job controller was told when it tried to make a pod, such as that a quota is used up.
pub(crate) async fn why(ctx: &Context, job: &Job) -> Result<Option<String>, Error> {
    let uid = job.uid().unwrap_or_default();
    let fields = format!("involvedObject.uid={uid},reason=FailedCreate");
    let params = ListParams::default().fields(&fields);
    let namespace = job.namespace().unwrap_or_default();
    let found = ctx.api::<Event>(&namespace).list(&params).await;
    let found = found.asked(|| format!("list the events of Job {namespace}/{}", job.name_any()))?;
    Ok(found
        .items
        .into_iter()
        .filter_map(|event| event.message)
        .next_back()
        .map(|text| reason(&text)))
}

/// The reason without the name of the pod, which is another one each time.
fn reason(text: &str) -> String {
    match text.split_once(" is forbidden: ") {
        Some((_, reason)) => reason.to_owned(),
        None => text.to_owned(),
    }
}
