//! What both ends of rsync over SSH need before a mover: keys and an address.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::{Resource, ResourceExt};
use volsync_api::events;
use volsync_api::v1alpha1::RsyncStatus;
use volsync_contract::{Direction, paths::keys};
use volsync_replication::{Rsync, names};

use crate::apply::{apply, create, get, is_owned_by, named};
use crate::build::{job::rsync::Ssh, secret, service};
use crate::error::{Error, Stop};
use crate::events::Notice;
use crate::kind::Kind;
use crate::volume::Making;

/// After so long a Service should have an address.
const ADDRESS_PATIENCE: i64 = 15;

/// What the other end is told, and what this end's mover is given unless something is missing.
pub(crate) async fn reach<K: Kind>(
    making: &Making<'_, K>,
    rsync: &Rsync,
    published: &mut RsyncStatus,
) -> Result<Ssh, Stop> {
    let keys = keys_of_this_end(making, rsync, published).await?;
    let owner = making.owner;
    match (owner.direction, &rsync.address) {
        (Direction::Source, Some(address)) => {
            Ok(Ssh { keys, address: address.clone(), port: rsync.port() })
        }
        (Direction::Source, None) => Err(Stop::blocked(
            "spec.rsync.address: is required: it says where the destination listens",
        )),
        (Direction::Destination, Some(_)) => {
            (published.address, published.port) = (None, None);
            Ok(Ssh { keys, address: String::new(), port: rsync.port() })
        }
        (Direction::Destination, None) => {
            let address = listen(making, rsync, published).await?;
            Ok(Ssh { keys, address, port: rsync.port() })
        }
    }
}

/// The Service of a destination, and the address it has.
async fn listen<K: Kind>(
    making: &Making<'_, K>,
    rsync: &Rsync,
    published: &mut RsyncStatus,
) -> Result<String, Stop> {
    let wanted = service::rsync(making.owner, rsync);
    let service = apply(&making.ctx.api(&making.owner.namespace), &wanted).await?;
    let address = service::address(&service);
    if let Some(address) = &address
        && published.address.as_ref() != Some(address)
    {
        let message = format!("listening on address {address} for incoming connections");
        let reason = events::SERVICE_ADDRESS_ASSIGNED;
        let related = Some(service.object_ref(&()));
        let notice = Notice::normal(reason, "CreateService", message, related);
        making.ctx.events.publish(making.object, notice).await;
    }
    published.port = address.as_ref().map(|_| i32::from(rsync.port()));
    published.address = address.clone();
    address.ok_or_else(|| {
        let age = service.creation_timestamp().map_or(0, |made| making.now.duration_since(made.0).as_secs());
        if age < ADDRESS_PATIENCE {
            return Stop::Wait;
        }
        let name = service.name_any();
        Stop::blocked_by(
            events::NO_SERVICE_ADDRESS_ASSIGNED,
            format!("waiting for an address to be assigned to Service/{name}; ensure the proper serviceType was specified"),
        )
    })
}

/// The Secret with the keys of this end: the user's, or one of three that are generated.
async fn keys_of_this_end<K: Kind>(
    making: &Making<'_, K>,
    rsync: &Rsync,
    published: &mut RsyncStatus,
) -> Result<String, Stop> {
    if let Some(given) = &rsync.ssh_keys {
        published.ssh_keys = None;
        return Ok(given.clone());
    }
    let (direction, name) = (making.owner.direction, making.owner.name.as_str());
    let for_source = names::rsync_source_secret(direction, name);
    let for_destination = names::rsync_destination_secret(direction, name);
    let ends = [
        (Direction::Source, for_source.clone()),
        (Direction::Destination, for_destination.clone()),
    ];
    let mut missing = Vec::new();
    let mut there = None;
    for (end, secret_name) in &ends {
        match find(making, secret_name, &needed(*end)).await? {
            Some(_) => there = Some(secret_name.as_str()),
            None => missing.push((*end, secret_name)),
        }
    }
    if !missing.is_empty() {
        let all = main_keys(making, there).await?;
        for (end, secret_name) in missing {
            let chosen = needed(end)
                .into_iter()
                .filter_map(|key| Some((key.to_owned(), all.get(key)?.clone())))
                .collect();
            let wanted = secret::secret(making.owner, secret_name, chosen);
            create(&making.ctx.api::<Secret>(&making.owner.namespace), &wanted).await?;
        }
    }
    let (own, others) = match direction {
        Direction::Source => (for_source, for_destination),
        Direction::Destination => (for_destination, for_source),
    };
    published.ssh_keys = Some(others);
    Ok(own)
}

/// The generated keys of both ends; generated now if there are none, unless `there` is a Secret that was
/// made from others.
async fn main_keys<K: Kind>(
    making: &Making<'_, K>,
    there: Option<&str>,
) -> Result<BTreeMap<String, ByteString>, Stop> {
    let name = names::rsync_main_secret(making.owner.direction, &making.owner.name);
    let all = [keys::SOURCE, keys::SOURCE_PUB, keys::DESTINATION, keys::DESTINATION_PUB];
    if let Some(found) = find(making, &name, &all).await? {
        return Ok(found);
    }
    if let Some(there) = there {
        return Err(Stop::blocked(format!(
            "Secret {name} is gone, from which Secret {there} was made; delete that too to have new keys made, then give the other end its new Secret"
        )));
    }
    // Seconds of computing, which must not keep others waiting.
    let generated = tokio::task::spawn_blocking(|| {
        Ok::<_, Error>((volsync_keys::generate()?, volsync_keys::generate()?))
    });
    let (source, destination) = match generated.await {
        Ok(generated) => generated.map_err(Stop::Broken)?,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    };
    let data = BTreeMap::from([
        (keys::SOURCE.to_owned(), ByteString(source.private)),
        (keys::SOURCE_PUB.to_owned(), ByteString(source.public)),
        (keys::DESTINATION.to_owned(), ByteString(destination.private)),
        (keys::DESTINATION_PUB.to_owned(), ByteString(destination.public)),
    ]);
    let wanted = secret::secret(making.owner, &name, data.clone());
    create(&making.ctx.api::<Secret>(&making.owner.namespace), &wanted).await?;
    Ok(data)
}

/// What is in a generated Secret, if it is there. One that lacks a key, or is somebody else's, is not
/// touched: keys in use cannot be guessed.
async fn find<K: Kind>(
    making: &Making<'_, K>,
    name: &str,
    needed: &[&str],
) -> Result<Option<BTreeMap<String, ByteString>>, Stop> {
    let api = making.ctx.api::<Secret>(&making.owner.namespace);
    let Some(secret) = get(&api, name).await? else { return Ok(None) };
    if !is_owned_by(&secret, &making.owner.uid) {
        let what = named(&secret);
        return Err(Stop::blocked(format!(
            "{what} exists and was not made for this {}; rename or remove it, or name it in spec.rsync.sshKeys",
            K::kind(&())
        )));
    }
    let data = secret.data.clone().unwrap_or_default();
    let lacks: Vec<&str> = needed.iter().copied().filter(|key| !data.contains_key(*key)).collect();
    if !lacks.is_empty() {
        return Err(Stop::blocked(format!(
            "{} lacks {}; delete it to have it made again",
            named(&secret),
            lacks.join(", ")
        )));
    }
    Ok(Some(data))
}

/// The keys a Secret must have for this end.
const fn needed(end: Direction) -> [&'static str; 3] {
    match end {
        Direction::Source => [keys::SOURCE, keys::SOURCE_PUB, keys::DESTINATION_PUB],
        Direction::Destination => [keys::DESTINATION, keys::DESTINATION_PUB, keys::SOURCE_PUB],
    }
}
