//! Manifests and what they refer to → `Resolved` replications, or every reason they cannot be.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use jiff::tz::TimeZone;
use serde_json::Value;
use volsync_contract::Direction;
use volsync_replication::{
    Method, Problem, Replication, Restic, Rsync, Volume, names, validate_destination,
    validate_source,
};
use volsync_volume::{CopyMethod, VolumeMode};

use crate::address::{self, Peer};
use crate::args::{Only, OnlyKind, Work};
use crate::claims;
use crate::error::{Error, Origin, Problems};
use crate::manifests::{self, Manifests, ObjectName};
use crate::overlap;
use crate::point_in_time;
use crate::repository::Repository;
use crate::secrets::{KeySource, Owner, needed};
use crate::state_directory::StateDirectory;
use crate::unsupported::{self, Verdict};

/// One replication with everything it refers to.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Resolved {
    pub(crate) name: ObjectName,
    pub(crate) replication: Replication,
    /// What the user wrote.
    pub(crate) written: Value,
    /// The claim, and the directory it stands for.
    pub(crate) claim: String,
    pub(crate) directory: PathBuf,
    /// Whether the directory is ours, below the state directory.
    pub(crate) provisioned: bool,
    pub(crate) copy_method: CopyMethod,
    pub(crate) end: End,
}

/// What is particular to each end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum End {
    /// It sends to a destination; where that is.
    Source { peer: Peer, keys: KeySource },
    /// It receives: where it listens, and the source of the same manifests that connects to it.
    Destination { listen: SocketAddr, source: Option<ObjectName>, keys: KeySource },
    /// It backs up to a repository, or restores from it.
    Repository(Repository),
}

impl Resolved {
    pub(crate) const fn direction(&self) -> Direction {
        self.replication.direction
    }

    /// The keys of its end of rsync over SSH.
    pub(crate) const fn keys(&self) -> Option<&KeySource> {
        match &self.end {
            End::Source { keys, .. } | End::Destination { keys, .. } => Some(keys),
            End::Repository(_) => None,
        }
    }

    /// `ReplicationSource` or `ReplicationDestination`.
    pub(crate) const fn kind(&self) -> &'static str {
        self.replication.kind()
    }
}

/// Everything to be done, destinations first.
#[derive(Debug)]
pub(crate) struct Everything {
    pub(crate) replications: Vec<Resolved>,
    /// What is not carried out, once each.
    pub(crate) notes: Vec<String>,
}

/// Reads the manifests and everything they refer to.
pub(crate) fn dereference(
    work: &Work,
    state: &StateDirectory,
    zone: &TimeZone,
) -> Result<Everything, Error> {
    let (manifests, problems) = manifests::load(&work.manifests);
    let mut resolving =
        Resolving { zone, manifests: &manifests, work, state, problems, used: Vec::new() };
    let mut notes = resolving.notes();
    let replications = resolving.replications();
    for flag in claims::unused(&work.volumes, &resolving.used) {
        notes.push(format!(
            "--volume {}={}: no replication uses this volume",
            flag.claim,
            flag.directory.display()
        ));
    }
    for source in replications.iter().filter(|one| one.direction() == Direction::Source) {
        if overlap::is_in(state.path(), &source.directory) {
            notes.push(format!(
                "the state directory {}, with private keys, is inside volume {} and is copied with it",
                state.path().display(),
                source.claim
            ));
        }
    }
    let replications = resolving.problems.or(replications)?;
    if replications.is_empty() {
        let paths: Vec<_> = work.manifests.iter().map(|path| path.display().to_string()).collect();
        return Err(Error::NothingToReplicate(paths.join(", ")));
    }
    Ok(Everything { replications, notes })
}

/// Keeps what `--only` names, and what that is connected with.
pub(crate) fn select(everything: &mut Everything, only: &Only) -> Result<(), Error> {
    let wanted = match only.kind {
        OnlyKind::Source => Direction::Source,
        OnlyKind::Destination => Direction::Destination,
    };
    let named = |resolved: &Resolved| {
        let name = only.name == resolved.name.name || only.name == resolved.name.to_string();
        resolved.direction() == wanted && name
    };
    let chosen: Vec<_> =
        everything.replications.iter().filter(|resolved| named(resolved)).cloned().collect();
    if chosen.is_empty() {
        let have =
            everything.replications.iter().map(|one| format!("{}/{}", one.kind(), one.name.name));
        return Err(Error::OnlyNothing {
            wanted: only.to_string(),
            have: have.collect::<Vec<_>>().join(", "),
        });
    }
    let connected = |one: &Resolved| {
        chosen.iter().any(|chosen| match &chosen.end {
            End::Source { peer: Peer::Here(peer), .. } => {
                one.direction() == Direction::Destination && one.name == *peer
            }
            End::Source { peer: Peer::There { .. }, .. } | End::Repository(_) => false,
            End::Destination { source, .. } => {
                one.direction() == Direction::Source && source.as_ref() == Some(&one.name)
            }
        })
    };
    everything.replications.retain(|one| named(one) || connected(one));
    Ok(())
}

struct Resolving<'a> {
    manifests: &'a Manifests,
    work: &'a Work,
    zone: &'a TimeZone,
    state: &'a StateDirectory,
    problems: Problems,
    used: Vec<ObjectName>,
}

impl Resolving<'_> {
    /// Refuses fields that cannot be honoured, and says which have no meaning.
    fn notes(&mut self) -> Vec<String> {
        let mut meaningless = BTreeMap::new();
        let sources = self.manifests.sources.values().map(|found| (&found.origin, &found.written));
        let destinations =
            self.manifests.destinations.values().map(|found| (&found.origin, &found.written));
        for (origin, written) in sources.chain(destinations) {
            for (path, verdict) in unsupported::verdicts(written) {
                match verdict {
                    Verdict::Honoured => {}
                    Verdict::Meaningless(why) => {
                        meaningless.insert(path, why);
                    }
                    Verdict::Refused(why) => self.problems.add(origin, path, why),
                }
            }
        }
        let fields = meaningless
            .iter()
            .map(|(path, why)| format!("{path} has no meaning on this machine: {why}"));
        let kinds = self
            .manifests
            .ignored
            .keys()
            .map(|kind| format!("{kind} has no meaning on this machine"));
        fields.chain(kinds).collect()
    }

    fn replications(&mut self) -> Vec<Resolved> {
        let mut replications = Vec::new();
        for (name, found) in &self.manifests.destinations {
            let validated = validate_destination(&found.object, self.zone);
            replications.extend(self.one(name, &found.origin, &found.written, validated));
        }
        let mut connected: BTreeMap<ObjectName, ObjectName> = BTreeMap::new();
        for (name, found) in &self.manifests.sources {
            let validated = validate_source(&found.object, self.zone);
            let Some(resolved) = self.one(name, &found.origin, &found.written, validated) else {
                continue;
            };
            if let End::Source { peer: Peer::Here(destination), keys } = &resolved.end {
                match connected.get(destination) {
                    Some(other) => {
                        let message = format!(
                            "ReplicationSource {other} sends to {destination} already; a destination has one source"
                        );
                        self.problems.add(&found.origin, "spec.rsync.address", message);
                    }
                    None => {
                        connected.insert(destination.clone(), name.clone());
                        self.matching_keys(&found.origin, keys, destination, &replications);
                    }
                }
            }
            replications.push(resolved);
        }
        for resolved in &mut replications {
            if let End::Destination { source, .. } = &mut resolved.end {
                *source = connected.get(&resolved.name).cloned();
            }
        }
        self.overlaps(&replications);
        self.repositories_in_volumes(&replications);
        replications
    }

    /// Refuses destinations that would write over other volumes or over the state directory.
    fn overlaps(&mut self, replications: &[Resolved]) {
        for (index, destination) in replications.iter().enumerate() {
            let Some(found) = self.manifests.destinations.get(&destination.name) else { continue };
            let path = format!("spec.{}.destinationPVC", destination.replication.method.section());
            if destination.direction() == Direction::Source {
                continue;
            }
            for (at, other) in replications.iter().enumerate() {
                // Two destinations of one directory are told once.
                let told = other.direction() == Direction::Destination
                    && at < index
                    && overlap::is_in(&other.directory, &destination.directory)
                    && overlap::is_in(&destination.directory, &other.directory);
                if at == index || told {
                    continue;
                }
                if let Some(why) = overlap::conflict(destination, other) {
                    self.problems.add(&found.origin, &path, why);
                }
            }
            if overlap::is_in(self.state.path(), &destination.directory) {
                let why = format!(
                    "the state directory {} is inside {}, where it would be deleted; choose another with --state-dir",
                    self.state.path().display(),
                    destination.directory.display()
                );
                self.problems.add(&found.origin, &path, why);
            }
        }
    }

    /// Refuses repositories that would be deleted by a restore, or backed up into themselves.
    fn repositories_in_volumes(&mut self, replications: &[Resolved]) {
        for one in replications {
            let origin = match one.direction() {
                Direction::Source => self.manifests.sources.get(&one.name).map(|own| &own.origin),
                Direction::Destination => {
                    self.manifests.destinations.get(&one.name).map(|own| &own.origin)
                }
            };
            let (End::Repository(repository), Some(origin)) = (&one.end, origin) else { continue };
            let Some(path) = repository.path() else { continue };
            for other in replications.iter().filter(|at| overlap::is_in(&path, &at.directory)) {
                let volume = format!("volume {} of {} {}", other.claim, other.kind(), other.name);
                let (path, directory) = (path.display(), other.directory.display());
                let why = match other.direction() {
                    Direction::Destination => format!(
                        "the repository {path} is inside {directory}, {volume}, where it would be deleted or overwritten"
                    ),
                    Direction::Source if other.name == one.name => format!(
                        "the repository {path} is inside {directory}, {volume}, and would be backed up into itself"
                    ),
                    // Backups may be passed on.
                    Direction::Source => continue,
                };
                self.problems.add(origin, "spec.restic.repository", why);
            }
        }
    }

    fn one(
        &mut self,
        name: &ObjectName,
        origin: &Origin,
        written: &Value,
        validated: Result<Replication, Vec<Problem>>,
    ) -> Option<Resolved> {
        let replication = match validated {
            Ok(replication) => replication,
            Err(problems) => {
                for Problem { path, message } in problems {
                    if !self.problems.has(origin, &path) {
                        self.problems.add(origin, path, message);
                    }
                }
                return None;
            }
        };
        let volume = self.volume(name, origin, &replication);
        let end = match &replication.method {
            Method::Rsync(rsync) => self.end(name, origin, rsync, replication.direction),
            Method::Restic(restic) => self.repository(origin, &replication, restic),
            // The table of fields has refused it already.
            Method::RsyncTls(_)
            | Method::ObjectStore(_)
            | Method::Syncthing(_)
            | Method::External(_) => return None,
        };
        let (claim, directory, provisioned, copy_method) = volume?;
        let (end, written) = (end?, written.clone());
        Some(Resolved {
            name: name.clone(),
            replication,
            written,
            claim,
            directory,
            provisioned,
            copy_method,
            end,
        })
    }

    fn volume(
        &mut self,
        name: &ObjectName,
        origin: &Origin,
        replication: &Replication,
    ) -> Option<(String, PathBuf, bool, CopyMethod)> {
        let section = replication.method.section();
        let (claim, path, copy_method) = match &replication.volume {
            Volume::Source { claim, options } => {
                (Some(claim), "spec.sourcePVC".to_owned(), options.copy_method)
            }
            Volume::Destination { claim, options, mode, cleanup: _ } => {
                if *mode == VolumeMode::Block {
                    let why = "Block volumes are not part of this release; Filesystem is";
                    self.problems.add(origin, "spec.rsync.volumeMode", why);
                }
                (claim.as_ref(), format!("spec.{section}.destinationPVC"), options.copy_method)
            }
            Volume::External => return None,
        };
        let (claim, directory, provisioned) = match claim {
            Some(claim) => {
                let full = ObjectName { namespace: name.namespace.clone(), name: claim.clone() };
                let found = claims::directory(&full, &self.work.volumes, self.manifests);
                self.used.push(full);
                match found {
                    Ok(directory) => (claim.clone(), directory, false),
                    Err(why) => {
                        self.problems.add(origin, path, why);
                        return None;
                    }
                }
            }
            None => {
                let claim = names::destination_claim(&replication.method, &name.name);
                let full = ObjectName { namespace: name.namespace.clone(), name: claim.clone() };
                // A directory given for it is used in its stead.
                let given = claims::directory(&full, &self.work.volumes, self.manifests);
                let directory = self.state.volume(&full);
                self.used.push(full);
                match given {
                    Ok(given) => (claim, given, false),
                    Err(_) => (claim, directory, true),
                }
            }
        };
        match copy_method {
            CopyMethod::Direct => {}
            CopyMethod::Clone | CopyMethod::Snapshot => {
                let images = self.state.images(&name.namespace);
                let from = if provisioned { self.state.path() } else { &directory };
                if let Err(why) = point_in_time::possible(from, &images) {
                    let message = format!(
                        "no point-in-time copy can be made: {why}; Direct works everywhere"
                    );
                    self.problems.add(origin, format!("spec.{section}.copyMethod"), message);
                    return None;
                }
            }
        }
        Some((claim, directory, provisioned, copy_method))
    }

    fn keys(
        &mut self,
        name: &ObjectName,
        origin: &Origin,
        rsync: &Rsync,
        end: Direction,
    ) -> Option<KeySource> {
        let Some(wanted) = &rsync.ssh_keys else {
            let owner = Owner { direction: end, name: name.clone() };
            return Some(KeySource::Generated { owner, end });
        };
        const PATH: &str = "spec.rsync.sshKeys";
        let full = ObjectName { namespace: name.namespace.clone(), name: wanted.clone() };
        if let Some(found) = self.manifests.secrets.get(&full) {
            let missing: Vec<_> =
                needed(end).into_iter().filter(|key| !found.object.0.contains_key(*key)).collect();
            if !missing.is_empty() {
                self.problems.add(
                    origin,
                    PATH,
                    format!("Secret {full} lacks {}", missing.join(", ")),
                );
                return None;
            }
            return Some(KeySource::Given(found.object.clone()));
        }
        // The Secret a replication publishes is for the other end.
        let (publishers, direction): (Vec<_>, _) = match end {
            Direction::Source => {
                (self.manifests.destinations.keys().collect(), Direction::Destination)
            }
            Direction::Destination => (self.manifests.sources.keys().collect(), Direction::Source),
        };
        let owner = publishers
            .into_iter()
            .filter(|publisher| publisher.namespace == name.namespace)
            .map(|publisher| Owner { direction, name: publisher.clone() })
            .find(|owner| owner.published() == *wanted);
        if owner.is_none() {
            self.problems.add(origin, PATH, format!("Secret {full} is not in the manifests"));
        }
        Some(KeySource::Generated { owner: owner?, end })
    }

    fn end(
        &mut self,
        name: &ObjectName,
        origin: &Origin,
        rsync: &Rsync,
        end: Direction,
    ) -> Option<End> {
        let keys = self.keys(name, origin, rsync, end);
        match end {
            Direction::Source => {
                let Some(address) = rsync.address.as_deref().filter(|address| !address.is_empty())
                else {
                    let message = "is required: it says where the destination listens";
                    self.problems.add(origin, "spec.rsync.address", message);
                    return None;
                };
                let destinations = self.manifests.destinations.keys();
                match address::peer(address, rsync.port(), &name.namespace, destinations) {
                    Ok(peer) => Some(End::Source { peer, keys: keys? }),
                    Err(why) => {
                        self.problems.add(origin, "spec.rsync.address", why);
                        None
                    }
                }
            }
            Direction::Destination => {
                let listen = address::listen(rsync);
                Some(End::Destination { listen, source: None, keys: keys? })
            }
        }
    }

    fn repository(
        &mut self,
        origin: &Origin,
        replication: &Replication,
        restic: &Restic,
    ) -> Option<End> {
        let (manifests, flags) = (self.manifests, &self.work.volumes);
        match Repository::new(replication, restic, manifests, flags, &mut self.used) {
            Ok(repository) => Some(End::Repository(repository)),
            Err(wrong) => {
                for (path, message) in wrong {
                    self.problems.add(origin, path, message);
                }
                None
            }
        }
    }

    /// Two ends of the same manifests with generated keys must have them from one place.
    fn matching_keys(
        &mut self,
        origin: &Origin,
        keys: &KeySource,
        destination: &ObjectName,
        replications: &[Resolved],
    ) {
        let others = replications.iter().filter(|one| one.name == *destination);
        let other = others.filter_map(|one| one.keys()).next();
        let (
            Some(KeySource::Generated { owner: two, .. }),
            KeySource::Generated { owner: one, .. },
        ) = (other, keys)
        else {
            return;
        };
        if one != two {
            let published =
                Owner { direction: Direction::Destination, name: destination.clone() }.published();
            let message = format!(
                "the destination would not let this source in; set it to {published}, the Secret that ReplicationDestination {destination} publishes"
            );
            self.problems.add(origin, "spec.rsync.sshKeys", message);
        }
    }
}
