//! Which destination of the same manifests an address means, and where a destination listens.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};

use volsync_contract::Direction;
use volsync_replication::{Rsync, names};

use crate::manifests::ObjectName;

/// What the address of a source means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Peer {
    /// A destination of the same manifests, wherever it listens.
    Here(ObjectName),
    /// Somewhere else.
    There { address: String, port: u16 },
}

/// What `address` means to a source in `namespace`, beside these destinations; why not, if nothing.
pub(crate) fn peer<'a>(
    address: &str,
    port: u16,
    namespace: &str,
    mut destinations: impl Iterator<Item = &'a ObjectName>,
) -> Result<Peer, String> {
    let service = service_name(address, namespace);
    let here = service.as_ref().and_then(|(service, namespace)| {
        destinations.find(|destination| {
            destination.namespace == *namespace
                && names::rsync_service(Direction::Destination, &destination.name) == *service
        })
    });
    if let Some(here) = here {
        return Ok(Peer::Here(here.clone()));
    }
    if let Some((service, namespace)) = service
        && service.starts_with(&names::rsync_service(Direction::Destination, ""))
    {
        return Err(format!(
            "{address} is the Service of a ReplicationDestination in namespace {namespace} that is not in the manifests"
        ));
    }
    let address =
        address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(address);
    Ok(Peer::There { address: address.to_owned(), port })
}

/// `NAME`, `NAME.NAMESPACE`, `NAME.NAMESPACE.svc` and `NAME.NAMESPACE.svc.cluster.local`.
fn service_name(address: &str, namespace: &str) -> Option<(String, String)> {
    let mut labels = address.trim_end_matches('.').split('.');
    let name = labels.next().filter(|name| !name.is_empty())?.to_owned();
    let namespace = labels.next().unwrap_or(namespace).to_owned();
    let rest: Vec<_> = labels.collect();
    matches!(rest.as_slice(), [] | ["svc"] | ["svc", "cluster", "local"])
        .then_some((name, namespace))
}

/// Where a destination listens: a free port of the loopback address, or every address at the port
/// the user gave or a Service of that type would have.
pub(crate) fn listen(rsync: &Rsync) -> SocketAddr {
    let outside = matches!(rsync.service_type.as_deref(), Some("NodePort" | "LoadBalancer"));
    if rsync.port.is_some() || outside {
        SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), rsync.port())
    } else {
        SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0)
    }
}

/// Whether one could listen there now; the reason if not.
pub(crate) fn can_listen(address: SocketAddr) -> Result<(), String> {
    match TcpListener::bind(address) {
        Ok(_) => Ok(()),
        Err(error) => {
            Err(format!("cannot listen on {address}: {}", crate::words::io_reason(&error)))
        }
    }
}

/// Where a source on this machine connects to reach what listens there.
pub(crate) fn reachable(listening: SocketAddr) -> SocketAddr {
    match listening.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => {
            SocketAddr::new(Ipv4Addr::LOCALHOST.into(), listening.port())
        }
        IpAddr::V6(ip) if ip.is_unspecified() => {
            SocketAddr::new(Ipv6Addr::LOCALHOST.into(), listening.port())
        }
        IpAddr::V4(_) | IpAddr::V6(_) => listening,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(address: &str) -> Result<Peer, String> {
        let mirror = ObjectName { namespace: "backup".into(), name: "mirror".into() };
        peer(address, 22, "backup", [&mirror].into_iter())
    }

    #[test]
    fn every_form_of_a_service_name_means_the_destination_of_the_same_manifests() {
        let here = Ok(Peer::Here(ObjectName { namespace: "backup".into(), name: "mirror".into() }));
        for suffix in [
            "",
            ".backup",
            ".backup.svc",
            ".backup.svc.cluster.local",
            ".backup.svc.cluster.local.",
        ] {
            assert_eq!(of(&format!("volsync-rsync-dst-mirror{suffix}")), here, "{suffix}");
        }
        assert!(
            of("volsync-rsync-dst-mirror.default.svc").unwrap_err().contains("namespace default")
        );
        assert!(of("volsync-rsync-dst-other").unwrap_err().contains("not in the manifests"));
    }

    #[test]
    fn everything_else_is_somewhere_else() {
        for (text, address) in
            [("10.0.0.7", "10.0.0.7"), ("[fe80::1]", "fe80::1"), ("nas.lan", "nas.lan")]
        {
            assert_eq!(of(text), Ok(Peer::There { address: address.into(), port: 22 }));
        }
    }

    #[test]
    fn a_destination_listens_beyond_this_machine_only_when_asked_to() {
        let rsync = |port, service_type: Option<&str>| {
            listen(&Rsync {
                port,
                service_type: service_type.map(str::to_owned),
                ..Rsync::default()
            })
            .to_string()
        };
        assert_eq!(rsync(None, None), "127.0.0.1:0");
        assert_eq!(rsync(None, Some("ClusterIP")), "127.0.0.1:0");
        assert_eq!(rsync(Some(2222), None), "[::]:2222");
        assert_eq!(rsync(None, Some("LoadBalancer")), "[::]:22");
        assert_eq!(reachable("[::]:2222".parse().unwrap()).to_string(), "[::1]:2222");
    }
}
