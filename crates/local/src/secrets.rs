//! The SSH keys of a replication: the user's Secret, or generated ones kept in the state directory.

use std::collections::BTreeMap;
use std::path::Path;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use volsync_contract::Direction;
use volsync_contract::paths::keys;
use volsync_replication::names;

use crate::error::Error;
use crate::manifests::{ObjectName, SecretData};
use crate::state_directory::{self, StateDirectory};

/// Where the keys of one end come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum KeySource {
    /// A Secret of the manifests.
    Given(SecretData),
    /// Generated for a replication; for this end of it.
    Generated { owner: Owner, end: Direction },
}

/// The replication for which keys are generated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) direction: Direction,
    pub(crate) name: ObjectName,
}

impl Owner {
    /// The Secret that the other end needs, which is published.
    pub(crate) fn published(&self) -> String {
        match self.direction {
            Direction::Source => names::rsync_destination_secret(self.direction, &self.name.name),
            Direction::Destination => names::rsync_source_secret(self.direction, &self.name.name),
        }
    }

    fn secret(&self, name: String) -> ObjectName {
        ObjectName { namespace: self.name.namespace.clone(), name }
    }
}

/// The keys a Secret must have for this end.
pub(crate) const fn needed(end: Direction) -> [&'static str; 3] {
    match end {
        Direction::Source => [keys::SOURCE, keys::SOURCE_PUB, keys::DESTINATION_PUB],
        Direction::Destination => [keys::DESTINATION, keys::DESTINATION_PUB, keys::SOURCE_PUB],
    }
}

/// The keys of one end; generated and kept if need be.
pub(crate) fn resolve(state: &StateDirectory, source: &KeySource) -> Result<SecretData, Error> {
    let (owner, end) = match source {
        KeySource::Given(data) => return Ok(data.clone()),
        KeySource::Generated { owner, end } => (owner, *end),
    };
    let main = main_secret(state, owner)?;
    for (end, name) in [
        (Direction::Source, names::rsync_source_secret(owner.direction, &owner.name.name)),
        (
            Direction::Destination,
            names::rsync_destination_secret(owner.direction, &owner.name.name),
        ),
    ] {
        let wanted = select(&main, end);
        let name = owner.secret(name);
        if load(state, &name)?.as_ref() != Some(&wanted) {
            store(state, &name, &wanted)?;
        }
    }
    Ok(select(&main, end))
}

/// The Secret with all keys. One that lacks a key is made anew.
fn main_secret(state: &StateDirectory, owner: &Owner) -> Result<SecretData, Error> {
    let name = owner.secret(names::rsync_main_secret(owner.direction, &owner.name.name));
    let all = [keys::SOURCE, keys::SOURCE_PUB, keys::DESTINATION, keys::DESTINATION_PUB];
    if let Some(main) = load(state, &name)?
        && all.iter().all(|&key| main.0.contains_key(key))
    {
        return Ok(main);
    }
    let (source, destination) = (volsync_keys::generate()?, volsync_keys::generate()?);
    let main = SecretData(BTreeMap::from([
        (keys::SOURCE.to_owned(), source.private),
        (keys::SOURCE_PUB.to_owned(), source.public),
        (keys::DESTINATION.to_owned(), destination.private),
        (keys::DESTINATION_PUB.to_owned(), destination.public),
    ]));
    store(state, &name, &main)?;
    Ok(main)
}

fn select(main: &SecretData, end: Direction) -> SecretData {
    let wanted = needed(end);
    let chosen = main.0.iter().filter(|(key, _)| wanted.contains(&key.as_str()));
    SecretData(chosen.map(|(key, value)| (key.clone(), value.clone())).collect())
}

fn load(state: &StateDirectory, name: &ObjectName) -> Result<Option<SecretData>, Error> {
    let path = state.secret(name);
    let Some(text) = state_directory::read(&path)? else { return Ok(None) };
    // The parser's own words could show what is inside.
    let secret: Secret = serde_saphyr::from_str(&text)
        .map_err(|_| Error::ParseFile { path: path.clone(), why: "it is no Secret".to_owned() })?;
    let data = secret.data.unwrap_or_default();
    Ok(Some(SecretData(data.into_iter().map(|(key, value)| (key, value.0)).collect())))
}

fn store(state: &StateDirectory, name: &ObjectName, data: &SecretData) -> Result<(), Error> {
    let path = state.secret(name);
    let data = data.0.iter().map(|(key, value)| (key.clone(), ByteString(value.clone()))).collect();
    let mut secret = Secret { data: Some(data), ..Secret::default() };
    secret.metadata.namespace = Some(name.namespace.clone());
    secret.metadata.name = Some(name.name.clone());
    let text = serde_saphyr::to_string(&secret)
        .map_err(|error| Error::ParseFile { path: path.clone(), why: error.to_string() })?;
    state_directory::write(&path, text.as_bytes())
}

/// Writes keys as files into a directory of their own, as a mounted Secret would look.
pub(crate) fn mount(data: &SecretData, directory: &Path) -> Result<(), Error> {
    state_directory::remove(directory)?;
    state_directory::make_directory(directory)?;
    data.0.iter().try_for_each(|(key, value)| state_directory::write(&directory.join(key), value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_keys_are_kept_and_each_end_gets_only_its_own() {
        let directory = tempfile::tempdir().unwrap();
        let state = StateDirectory::new(directory.path().to_owned());
        let name = ObjectName { namespace: "default".into(), name: "mirror".into() };
        let owner = Owner { direction: Direction::Destination, name: name.clone() };
        assert_eq!(owner.published(), "volsync-rsync-dst-src-mirror");
        let of =
            |end| resolve(&state, &KeySource::Generated { owner: owner.clone(), end }).unwrap();
        let (source, destination) = (of(Direction::Source), of(Direction::Destination));
        assert_eq!(source, of(Direction::Source), "kept");
        assert_eq!(
            source.0.keys().collect::<Vec<_>>(),
            ["destination.pub", "source", "source.pub"]
        );
        assert_eq!(
            destination.0.keys().collect::<Vec<_>>(),
            ["destination", "destination.pub", "source.pub"]
        );
        assert_eq!(source.0["destination.pub"], destination.0["destination.pub"]);
        let published = ObjectName { name: "volsync-rsync-dst-src-mirror".into(), ..name };
        assert_eq!(load(&state, &published).unwrap(), Some(source));
    }

    #[test]
    fn debug_shows_no_key() {
        let data = SecretData(BTreeMap::from([("source".to_owned(), b"sesame".to_vec())]));
        assert_eq!(format!("{data:?}"), r#"{"source"}"#);
    }
}
