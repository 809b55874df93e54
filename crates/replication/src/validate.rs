//! A manifest and what it refers to → `Replication`, or every reason it cannot be one.
//!
//! Nothing here relies on an API server having checked the manifest before.

use jiff::tz::TimeZone;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use volsync_api::v1alpha1::{
    self as api, CustomCa, DestinationVolumeOptions, MoverConfig, ReplicationDestination,
    ReplicationSource, SourceVolumeOptions, SshMoverConfig,
};
use volsync_contract::{Direction, paths::keys};
use volsync_volume::{AccessMode, CopyMethod, VolumeMode, VolumeOptions};

use crate::{
    CaBundle, External, Method, ObjectStore, Peer, Problem, Reference, ReferenceKind, Replication,
    Rsync, RsyncTls, Schedule, Syncthing, Trigger, Volume,
};

mod restic;

/// What a manifest without a method is told.
pub const NO_METHOD: &str = "a replication method must be specified - enabled movers: [rclone restic rsync rsync-tls syncthing]";
/// What a manifest with more than one method is told.
pub const TWO_METHODS: &str = "only one replication method can be supplied";

/// A ReplicationSource as a [`Replication`], or everything that is wrong with it. Schedules that name
/// no time zone are in `zone`.
pub fn validate_source(
    source: &ReplicationSource,
    zone: &TimeZone,
) -> Result<Replication, Vec<Problem>> {
    let mut check = Check::new(zone);
    let spec = &source.spec;
    let trigger = check.trigger(spec.trigger.as_ref());
    let external = spec.external.as_ref().map(External::from_api);
    let claim = spec.source_pvc.clone().filter(|claim| !claim.is_empty());
    if external.is_none() || claim.is_some() {
        match &claim {
            Some(claim) => check.refer(ReferenceKind::Pvc, claim, &[], "spec.sourcePVC"),
            None => check.problem("spec.sourcePVC", "sourcePVC must be provided"),
        }
    }
    let claim = claim.unwrap_or_default();
    let mut found: Vec<(Method, Volume, MoverConfig)> = Vec::new();
    if let Some(rsync) = &spec.rsync {
        let volume = check.source_volume("spec.rsync", &rsync.volume, &claim);
        let pod = check.ssh_mover("spec.rsync", &rsync.mover);
        found.push((check.rsync_source(rsync), volume, pod));
    }
    if let Some(tls) = &spec.rsync_tls {
        let volume = check.source_volume("spec.rsyncTLS", &tls.volume, &claim);
        let pod = check.mover("spec.rsyncTLS", &tls.mover);
        found.push((check.rsync_tls_source(tls), volume, pod));
    }
    if let Some(rclone) = &spec.rclone {
        let volume = check.source_volume("spec.rclone", &rclone.volume, &claim);
        let pod = check.mover("spec.rclone", &rclone.mover);
        check.custom_ca("spec.rclone", rclone.custom_ca.as_ref());
        let method = check.rclone(
            &rclone.rclone_config,
            &rclone.rclone_config_section,
            &rclone.rclone_dest_path,
        );
        found.push((method, volume, pod));
    }
    if let Some(restic) = &spec.restic {
        let volume = check.source_volume("spec.restic", &restic.volume, &claim);
        let pod = check.mover("spec.restic", &restic.mover);
        found.push((check.restic_source(restic), volume, pod));
    }
    if let Some(syncthing) = &spec.syncthing {
        let pod = check.mover("spec.syncthing", &syncthing.mover);
        let options = VolumeOptions::new(CopyMethod::Direct);
        let volume = Volume::Source { claim: claim.clone(), options };
        found.push((check.syncthing(syncthing), volume, pod));
    }
    if let Some(external) = external {
        found.push((Method::External(external), Volume::External, MoverConfig::default()));
    }
    check.finish(&source.metadata, Direction::Source, trigger, spec.paused, found)
}

/// A ReplicationDestination as a [`Replication`], or everything that is wrong with it. Schedules that
/// name no time zone are in `zone`.
pub fn validate_destination(
    destination: &ReplicationDestination,
    zone: &TimeZone,
) -> Result<Replication, Vec<Problem>> {
    let mut check = Check::new(zone);
    let spec = &destination.spec;
    let trigger = check.trigger(spec.trigger.as_ref());
    let mut found: Vec<(Method, Volume, MoverConfig)> = Vec::new();
    if let Some(rsync) = &spec.rsync {
        let volume =
            check.destination_volume("spec.rsync", &rsync.volume, rsync.volume_mode.as_deref());
        let pod = check.ssh_mover("spec.rsync", &rsync.mover);
        found.push((check.rsync_destination(rsync), volume, pod));
    }
    if let Some(tls) = &spec.rsync_tls {
        let volume =
            check.destination_volume("spec.rsyncTLS", &tls.volume, tls.volume_mode.as_deref());
        let pod = check.mover("spec.rsyncTLS", &tls.mover);
        found.push((check.rsync_tls_destination(tls), volume, pod));
    }
    if let Some(rclone) = &spec.rclone {
        let volume = check.destination_volume("spec.rclone", &rclone.volume, None);
        let pod = check.mover("spec.rclone", &rclone.mover);
        check.custom_ca("spec.rclone", rclone.custom_ca.as_ref());
        let method = check.rclone(
            &rclone.rclone_config,
            &rclone.rclone_config_section,
            &rclone.rclone_dest_path,
        );
        found.push((method, volume, pod));
    }
    if let Some(restic) = &spec.restic {
        let volume = check.destination_volume("spec.restic", &restic.volume, None);
        let pod = check.mover("spec.restic", &restic.mover);
        found.push((check.restic_destination(restic), volume, pod));
    }
    if let Some(external) = &spec.external {
        let method = Method::External(External::from_api(external));
        found.push((method, Volume::External, MoverConfig::default()));
    }
    check.finish(&destination.metadata, Direction::Destination, trigger, spec.paused, found)
}

impl External {
    fn from_api(external: &api::External) -> Self {
        Self {
            provider: external.provider.clone().unwrap_or_default(),
            parameters: external.parameters.clone().unwrap_or_default(),
        }
    }
}

/// What was found so far.
struct Check<'a> {
    zone: &'a TimeZone,
    problems: Vec<Problem>,
    references: Vec<Reference>,
}

impl<'a> Check<'a> {
    const fn new(zone: &'a TimeZone) -> Self {
        Self { zone, problems: Vec::new(), references: Vec::new() }
    }

    fn problem(&mut self, path: impl Into<String>, message: impl ToString) {
        self.problems.push(Problem::new(path, message.to_string()));
    }

    fn refer(&mut self, kind: ReferenceKind, name: &str, keys: &[&str], path: impl Into<String>) {
        let keys = keys.iter().map(|&key| key.to_owned()).collect();
        self.references.push(Reference { kind, name: name.to_owned(), keys, path: path.into() });
    }

    fn finish(
        mut self,
        metadata: &ObjectMeta,
        direction: Direction,
        trigger: Trigger,
        paused: Option<bool>,
        mut found: Vec<(Method, Volume, MoverConfig)>,
    ) -> Result<Replication, Vec<Problem>> {
        let name = metadata.name.clone().filter(|name| !name.is_empty());
        if name.is_none() {
            self.problem("metadata.name", "a name must be provided");
        }
        match found.len() {
            0 => self.problem("spec", NO_METHOD),
            1 => {}
            _ => {
                let sections: Vec<&str> =
                    found.iter().map(|(method, ..)| method.section()).collect();
                self.problem("spec", format!("{TWO_METHODS} (found {})", sections.join(", ")));
            }
        }
        match (found.pop(), name) {
            (Some((method, volume, pod)), Some(name)) if self.problems.is_empty() => {
                Ok(Replication {
                    namespace: metadata
                        .namespace
                        .clone()
                        .filter(|namespace| !namespace.is_empty())
                        .unwrap_or_else(|| "default".to_owned()),
                    name,
                    created: metadata.creation_timestamp.as_ref().map(|time| time.0),
                    direction,
                    trigger,
                    paused: paused.unwrap_or(false),
                    volume,
                    method,
                    pod,
                    mover_log_bytes: None,
                    references: self.references,
                })
            }
            (_, _) => Err(self.problems),
        }
    }

    fn trigger(&mut self, trigger: Option<&api::Trigger>) -> Trigger {
        let given = |text: Option<&String>| text.filter(|text| !text.is_empty()).cloned();
        if let Some(tag) = given(trigger.and_then(|trigger| trigger.manual.as_ref())) {
            return Trigger::Manual(tag);
        }
        let Some(text) = given(trigger.and_then(|trigger| trigger.schedule.as_ref())) else {
            return Trigger::Continuous;
        };
        match Schedule::parse(&text, self.zone) {
            Ok(schedule) => Trigger::Schedule(schedule),
            Err(error) => {
                self.problem("spec.trigger.schedule", error);
                Trigger::Continuous
            }
        }
    }

    fn options(
        &mut self,
        path: &str,
        copy_method: CopyMethod,
        capacity: Option<&Quantity>,
        access_modes: Option<&[String]>,
        classes: (&Option<String>, &Option<String>),
    ) -> VolumeOptions {
        let (storage_class, snapshot_class) = classes;
        VolumeOptions {
            copy_method,
            capacity: self.capacity(&format!("{path}.capacity"), capacity),
            storage_class: storage_class.clone(),
            access_modes: self.access_modes(&format!("{path}.accessModes"), access_modes, 1),
            snapshot_class: snapshot_class.clone(),
        }
    }

    fn capacity(
        &mut self,
        path: &str,
        capacity: Option<&Quantity>,
    ) -> Option<volsync_volume::Quantity> {
        let Quantity(text) = capacity?;
        match text.parse::<volsync_volume::Quantity>() {
            Ok(quantity) if quantity.is_positive() => return Some(quantity),
            Ok(_) => self.problem(path, volsync_volume::Error::NoCapacity { text: text.clone() }),
            Err(error) => self.problem(path, error),
        }
        None
    }

    fn access_modes(
        &mut self,
        path: &str,
        modes: Option<&[String]>,
        least: usize,
    ) -> Vec<AccessMode> {
        let Some(modes) = modes else { return Vec::new() };
        if modes.len() < least {
            self.problem(path, "must have at least one access mode, or be left out");
        }
        let mut parsed = Vec::new();
        for (index, mode) in modes.iter().enumerate() {
            match mode.parse() {
                Ok(mode) => parsed.push(mode),
                Err(error) => self.problem(format!("{path}[{index}]"), error),
            }
        }
        parsed
    }

    fn source_volume(&mut self, path: &str, volume: &SourceVolumeOptions, claim: &str) -> Volume {
        let copy_method = match volume.copy_method {
            Some(api::CopyMethod::Direct | api::CopyMethod::None) => CopyMethod::Direct,
            Some(api::CopyMethod::Clone) => CopyMethod::Clone,
            Some(api::CopyMethod::Snapshot) => CopyMethod::Snapshot,
            None => {
                let error = volsync_volume::Error::CopyMethod { value: String::new() };
                self.problem(format!("{path}.copyMethod"), error);
                CopyMethod::Direct
            }
        };
        let classes = (&volume.storage_class_name, &volume.volume_snapshot_class_name);
        let options = self.options(
            path,
            copy_method,
            volume.capacity.as_ref(),
            volume.access_modes.as_deref(),
            classes,
        );
        Volume::Source { claim: claim.to_owned(), options }
    }

    fn destination_volume(
        &mut self,
        path: &str,
        volume: &DestinationVolumeOptions,
        mode: Option<&str>,
    ) -> Volume {
        let unsupported = |value: &str| {
            format!("unsupported copyMethod: {value} -- must be Direct, None, or Snapshot")
        };
        let copy_method = match volume.copy_method {
            Some(api::CopyMethod::Direct | api::CopyMethod::None) => CopyMethod::Direct,
            Some(api::CopyMethod::Snapshot) => CopyMethod::Snapshot,
            Some(api::CopyMethod::Clone) => {
                self.problem(format!("{path}.copyMethod"), unsupported("Clone"));
                CopyMethod::Direct
            }
            None => {
                self.problem(format!("{path}.copyMethod"), unsupported(""));
                CopyMethod::Direct
            }
        };
        let before = self.problems.len();
        let classes = (&volume.storage_class_name, &volume.volume_snapshot_class_name);
        let options = self.options(
            path,
            copy_method,
            volume.capacity.as_ref(),
            volume.access_modes.as_deref(),
            classes,
        );
        let sound = self.problems.len() == before;
        let claim = volume.destination_pvc.clone().filter(|claim| !claim.is_empty());
        match &claim {
            Some(claim) => {
                self.refer(ReferenceKind::Pvc, claim, &[], format!("{path}.destinationPVC"))
            }
            None => {
                if options.access_modes.is_empty() && sound {
                    self.problem(
                        format!("{path}.accessModes"),
                        volsync_volume::Error::AccessModesMissing,
                    );
                }
                if volume.capacity.is_none() {
                    self.problem(
                        format!("{path}.capacity"),
                        volsync_volume::Error::CapacityMissing,
                    );
                }
            }
        }
        let mode = match mode.filter(|mode| !mode.is_empty()).map(str::parse::<VolumeMode>) {
            None => VolumeMode::Filesystem,
            Some(Ok(mode)) => mode,
            Some(Err(error)) => {
                self.problem(format!("{path}.volumeMode"), error);
                VolumeMode::Filesystem
            }
        };
        Volume::Destination {
            claim,
            options,
            mode,
            cleanup: volume.cleanup_temp_pvc.unwrap_or(false),
        }
    }

    fn service_account(&mut self, path: &str, account: Option<&String>) {
        if let Some(account) = account.filter(|account| !account.is_empty()) {
            self.refer(
                ReferenceKind::ServiceAccount,
                account,
                &[],
                format!("{path}.moverServiceAccount"),
            );
        }
    }

    fn ssh_mover(&mut self, path: &str, mover: &SshMoverConfig) -> MoverConfig {
        let SshMoverConfig { mover_service_account, mover_pod_labels, mover_resources } = mover;
        let pod = MoverConfig {
            mover_service_account: mover_service_account.clone(),
            mover_pod_labels: mover_pod_labels.clone(),
            mover_resources: mover_resources.clone(),
            ..MoverConfig::default()
        };
        self.mover(path, &pod)
    }

    fn mover(&mut self, path: &str, mover: &MoverConfig) -> MoverConfig {
        self.service_account(path, mover.mover_service_account.as_ref());
        for (index, volume) in mover.mover_volumes.iter().flatten().enumerate() {
            let path = format!("{path}.moverVolumes[{index}]");
            let source = &volume.volume_source;
            if volume.mount_path.is_empty() {
                self.problem(format!("{path}.mountPath"), "must not be empty");
            } else if volume.mount_path.split('/').any(|part| part == "..") {
                self.problem(format!("{path}.mountPath"), "must not contain \"..\"");
            }
            let given = [
                source.secret.is_some(),
                source.persistent_volume_claim.is_some(),
                source.nfs.is_some(),
            ];
            if given.iter().filter(|&&given| given).count() != 1 {
                self.problem(
                    format!("{path}.volumeSource"),
                    "must be exactly one of secret, persistentVolumeClaim and nfs",
                );
            }
            if let Some(name) =
                source.secret.as_ref().and_then(|secret| secret.secret_name.as_ref())
            {
                self.refer(
                    ReferenceKind::Secret,
                    name,
                    &[],
                    format!("{path}.volumeSource.secret.secretName"),
                );
            }
            if let Some(claim) = &source.persistent_volume_claim {
                let path = format!("{path}.volumeSource.persistentVolumeClaim.claimName");
                self.refer(ReferenceKind::Pvc, &claim.claim_name, &[], path);
            }
        }
        let mover_service_account =
            mover.mover_service_account.clone().filter(|account| !account.is_empty());
        MoverConfig { mover_service_account, ..mover.clone() }
    }

    fn custom_ca(&mut self, path: &str, ca: Option<&CustomCa>) -> Option<CaBundle> {
        let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        let ca = ca?;
        let key = given(&ca.key)?;
        if let Some(name) = given(&ca.secret_name) {
            let path = format!("{path}.customCA.secretName");
            self.refer(ReferenceKind::Secret, &name, &[&key], path);
            Some(CaBundle::Secret { name, key })
        } else {
            let name = given(&ca.config_map_name)?;
            let path = format!("{path}.customCA.configMapName");
            self.refer(ReferenceKind::ConfigMap, &name, &[&key], path);
            Some(CaBundle::ConfigMap { name, key })
        }
    }

    fn port(&mut self, path: &str, port: Option<i32>) -> Option<u16> {
        let port = port?;
        let parsed = u16::try_from(port).ok();
        if parsed.is_none() {
            self.problem(path, format!("{port} is not a port from 0 to 65535"));
        }
        // Zero is how an absent port has always been written by some clients.
        parsed.filter(|&port| port != 0)
    }

    fn rsync_source(&mut self, rsync: &api::RsyncSource) -> Method {
        let ssh_keys = rsync.ssh_keys.clone().filter(|name| !name.is_empty());
        if let Some(name) = &ssh_keys {
            let wanted = [keys::SOURCE, keys::SOURCE_PUB, keys::DESTINATION_PUB];
            self.refer(ReferenceKind::Secret, name, &wanted, "spec.rsync.sshKeys");
        }
        Method::Rsync(Rsync {
            ssh_keys,
            address: rsync.address.clone().filter(|address| !address.is_empty()),
            port: self.port("spec.rsync.port", rsync.port),
            service_type: rsync.service_type.clone(),
            service_annotations: None,
        })
    }

    fn rsync_destination(&mut self, rsync: &api::RsyncDestination) -> Method {
        let ssh_keys = rsync.ssh_keys.clone().filter(|name| !name.is_empty());
        if let Some(name) = &ssh_keys {
            let wanted = [keys::DESTINATION, keys::DESTINATION_PUB, keys::SOURCE_PUB];
            self.refer(ReferenceKind::Secret, name, &wanted, "spec.rsync.sshKeys");
        }
        Method::Rsync(Rsync {
            ssh_keys,
            address: rsync.address.clone().filter(|address| !address.is_empty()),
            port: self.port("spec.rsync.port", rsync.port),
            service_type: rsync.service_type.clone(),
            service_annotations: rsync.service_annotations.clone(),
        })
    }

    fn psk(&mut self, name: &Option<String>) -> Option<String> {
        let name = name.clone().filter(|name| !name.is_empty());
        if let Some(name) = &name {
            self.refer(ReferenceKind::Secret, name, &["psk.txt"], "spec.rsyncTLS.keySecret");
        }
        name
    }

    fn rsync_tls_source(&mut self, tls: &api::RsyncTlsSource) -> Method {
        Method::RsyncTls(RsyncTls {
            key_secret: self.psk(&tls.key_secret),
            address: tls.address.clone().filter(|address| !address.is_empty()),
            port: self.port("spec.rsyncTLS.port", tls.port),
            ..RsyncTls::default()
        })
    }

    fn rsync_tls_destination(&mut self, tls: &api::RsyncTlsDestination) -> Method {
        Method::RsyncTls(RsyncTls {
            key_secret: self.psk(&tls.key_secret),
            service_type: tls.service_type.clone(),
            service_annotations: tls.service_annotations.clone(),
            ..RsyncTls::default()
        })
    }

    fn mandatory(&mut self, path: &str, text: &Option<String>, message: &str) -> String {
        let text = text.clone().unwrap_or_default();
        if text.is_empty() {
            self.problem(path, message);
        }
        text
    }

    fn rclone(
        &mut self,
        secret: &Option<String>,
        section: &Option<String>,
        path: &Option<String>,
    ) -> Method {
        let config_secret = self.mandatory(
            "spec.rclone.rcloneConfig",
            secret,
            "unable to get Rclone config secret name",
        );
        let section = self.mandatory(
            "spec.rclone.rcloneConfigSection",
            section,
            "unable to get Rclone config section name",
        );
        let path = self.mandatory(
            "spec.rclone.rcloneDestPath",
            path,
            "unable to get Rclone destination name",
        );
        if !config_secret.is_empty() {
            self.refer(
                ReferenceKind::Secret,
                &config_secret,
                &["rclone.conf"],
                "spec.rclone.rcloneConfig",
            );
        }
        Method::ObjectStore(ObjectStore { config_secret, section, path })
    }

    fn syncthing(&mut self, syncthing: &api::SyncthingSource) -> Method {
        self.capacity("spec.syncthing.configCapacity", syncthing.config_capacity.as_ref());
        self.access_modes(
            "spec.syncthing.configAccessModes",
            syncthing.config_access_modes.as_deref(),
            0,
        );
        let peers = syncthing.peers.iter().flatten();
        let peers = peers.map(|peer| Peer {
            id: peer.id.clone(),
            address: peer.address.clone(),
            introducer: peer.introducer,
        });
        Method::Syncthing(Syncthing { peers: peers.collect() })
    }
}
