//! The Service by which a source reaches a destination.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use volsync_api::keys;
use volsync_replication::{Rsync, names};

use crate::kind::Owner;

/// The port on which a mover listens for SSH.
pub(crate) const SSH_PORT: u16 = 8022;

/// Labels of a mover's pods, by which its Service finds them.
pub(crate) fn mover_labels(owner: &Owner, component: &str) -> BTreeMap<String, String> {
    let side = match owner.direction {
        volsync_contract::Direction::Source => "src",
        volsync_contract::Direction::Destination => "dst",
    };
    let name = format!("{side}-{}", owner.name);
    // A label's value has at most 63 characters.
    let name = if name.len() > 63 { format!("{side}-{}", names::hash(&owner.name)) } else { name };
    BTreeMap::from([
        (keys::NAME.to_owned(), name),
        (keys::COMPONENT.to_owned(), component.to_owned()),
        (keys::PART_OF.to_owned(), keys::CREATED_BY_VOLSYNC.to_owned()),
    ])
}

/// The Service of a destination of rsync over SSH.
pub(crate) fn rsync(owner: &Owner, rsync: &Rsync) -> Service {
    let mut metadata = owner.metadata(&names::rsync_service(owner.direction, &owner.name), false);
    let annotations = rsync.service_annotations.clone().unwrap_or_else(|| {
        BTreeMap::from([(
            keys::AWS_LOAD_BALANCER_TYPE.to_owned(),
            keys::AWS_LOAD_BALANCER_TYPE_NLB.to_owned(),
        )])
    });
    metadata.annotations = Some(annotations).filter(|annotations| !annotations.is_empty());
    Service {
        metadata,
        spec: Some(ServiceSpec {
            type_: Some(rsync.service_type.clone().unwrap_or_else(|| "ClusterIP".to_owned())),
            selector: Some(mover_labels(owner, keys::COMPONENT_RSYNC)),
            ports: Some(vec![ServicePort {
                name: Some("ssh".to_owned()),
                port: i32::from(rsync.port()),
                protocol: Some("TCP".to_owned()),
                target_port: Some(IntOrString::Int(i32::from(SSH_PORT))),
                ..ServicePort::default()
            }]),
            ..ServiceSpec::default()
        }),
        status: None,
    }
}

/// Where a Service can be reached, once that is known: the load balancer's name or address, or the
/// address inside the cluster.
pub(crate) fn address(service: &Service) -> Option<String> {
    let spec = service.spec.as_ref()?;
    let inside = || spec.cluster_ip.clone().filter(|ip| !ip.is_empty() && ip != "None");
    if spec.type_.as_deref() != Some("LoadBalancer") {
        return inside();
    }
    let status = service.status.as_ref()?.load_balancer.as_ref()?;
    let ingress = status.ingress.as_ref()?.first()?;
    let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    given(&ingress.hostname).or_else(|| given(&ingress.ip)).or_else(inside)
}
