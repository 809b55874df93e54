//! `VolumePlan`: which volume to read or write, and what must be made first.

use crate::{AccessMode, CopyMethod, Error, Quantity, VolumeMode, VolumeOptions, is_read_only};

/// What is known of a claim that exists.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ClaimFacts {
    /// The size it was asked for, `spec.resources.requests.storage`.
    pub requested: Option<Quantity>,
    /// The size it has, `status.capacity.storage`.
    pub capacity: Option<Quantity>,
    /// Its storage class.
    pub storage_class: Option<String>,
    /// The access modes it was asked for, `spec.accessModes`.
    pub access_modes: Vec<AccessMode>,
    /// The access modes it has, `status.accessModes`; empty until it is bound.
    pub bound_access_modes: Vec<AccessMode>,
    /// Filesystem or block.
    pub mode: VolumeMode,
}

impl ClaimFacts {
    /// Whether it can only be read.
    pub fn is_read_only(&self) -> bool {
        let bound = &self.bound_access_modes;
        is_read_only(if bound.is_empty() { &self.access_modes } else { bound })
    }
}

/// Which volume a mover is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VolumePlan {
    /// A claim that exists.
    Existing {
        /// Its name.
        claim: String,
        /// Whether it can only be read.
        read_only: bool,
    },
    /// A claim that is made first, unless that was done already.
    Made(NewVolume),
}

/// A volume to make. All of it is fixed when it is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewVolume {
    /// Its name.
    pub name: String,
    /// What it is made from.
    pub origin: Origin,
    /// Its size.
    pub capacity: Quantity,
    /// Its storage class; `None`: the default.
    pub storage_class: Option<String>,
    /// Its access modes.
    pub access_modes: Vec<AccessMode>,
    /// Filesystem or block.
    pub mode: VolumeMode,
    /// Whether it can only be read.
    pub read_only: bool,
}

/// What a volume is made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Nothing: it is empty.
    Empty,
    /// A clone of a claim.
    Clone {
        /// The claim.
        of: String,
    },
    /// A snapshot, itself made first.
    Snapshot {
        /// The claim of which the snapshot is made.
        of: String,
        /// The snapshot, which bears the new volume's name.
        name: String,
        /// Its class; `None`: the default.
        class: Option<String>,
    },
}

/// What a source reads: its claim, or the point-in-time copy named `copy`. `restore_size` is the size
/// of the snapshot, once that is made and knows it.
pub fn plan_source(
    options: &VolumeOptions,
    claim: &str,
    facts: &ClaimFacts,
    copy: &str,
    restore_size: Option<&Quantity>,
) -> Result<VolumePlan, Error> {
    let (origin, restore_size) = match options.copy_method {
        CopyMethod::Direct => {
            return Ok(VolumePlan::Existing {
                claim: claim.to_owned(),
                read_only: facts.is_read_only(),
            });
        }
        CopyMethod::Clone => (Origin::Clone { of: claim.to_owned() }, None),
        CopyMethod::Snapshot => (
            Origin::Snapshot {
                of: claim.to_owned(),
                name: copy.to_owned(),
                class: options.snapshot_class.clone(),
            },
            restore_size.filter(|size| size.is_positive()),
        ),
    };
    let capacity = options
        .capacity
        .as_ref()
        .or(restore_size)
        .or(facts.capacity.as_ref())
        .or(facts.requested.as_ref())
        .cloned()
        .ok_or_else(|| Error::SizeNotKnown { claim: claim.to_owned() })?;
    let access_modes = if options.access_modes.is_empty() {
        facts.access_modes.clone()
    } else {
        options.access_modes.clone()
    };
    Ok(VolumePlan::Made(NewVolume {
        name: copy.to_owned(),
        origin,
        capacity,
        storage_class: options.storage_class.clone().or_else(|| facts.storage_class.clone()),
        read_only: is_read_only(&access_modes),
        access_modes,
        mode: facts.mode,
    }))
}

/// What a destination writes: the user's claim, or one named `provisioned`.
pub fn plan_destination(
    options: &VolumeOptions,
    claim: Option<&str>,
    provisioned: &str,
    mode: VolumeMode,
) -> Result<VolumePlan, Error> {
    if let Some(claim) = claim {
        return Ok(VolumePlan::Existing { claim: claim.to_owned(), read_only: false });
    }
    if options.access_modes.is_empty() {
        return Err(Error::AccessModesMissing);
    }
    Ok(VolumePlan::Made(NewVolume {
        name: provisioned.to_owned(),
        origin: Origin::Empty,
        capacity: options.capacity.clone().ok_or(Error::CapacityMissing)?,
        storage_class: options.storage_class.clone(),
        access_modes: options.access_modes.clone(),
        mode,
        read_only: false,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size(text: &str) -> Option<Quantity> {
        Some(text.parse().unwrap())
    }

    fn facts() -> ClaimFacts {
        ClaimFacts {
            requested: size("1Gi"),
            capacity: size("2Gi"),
            storage_class: Some("fast".into()),
            access_modes: vec![AccessMode::ReadWriteOnce],
            bound_access_modes: vec![],
            mode: VolumeMode::Filesystem,
        }
    }

    fn made(plan: VolumePlan) -> NewVolume {
        match plan {
            VolumePlan::Made(volume) => volume,
            VolumePlan::Existing { claim, .. } => panic!("{claim} is used as it is"),
        }
    }

    #[test]
    fn a_direct_source_is_read_as_it_is() {
        let options = VolumeOptions::new(CopyMethod::Direct);
        let mut facts = facts();
        let plan = |facts: &ClaimFacts| plan_source(&options, "data", facts, "copy", None);
        assert_eq!(
            plan(&facts),
            Ok(VolumePlan::Existing { claim: "data".into(), read_only: false })
        );
        facts.bound_access_modes = vec![AccessMode::ReadOnlyMany];
        assert_eq!(
            plan(&facts),
            Ok(VolumePlan::Existing { claim: "data".into(), read_only: true })
        );
    }

    #[test]
    fn a_copy_is_as_large_as_the_first_size_that_is_known() {
        let mut options = VolumeOptions::new(CopyMethod::Snapshot);
        let mut facts = facts();
        let restore = size("3Gi");
        let capacity = |options: &VolumeOptions, facts: &ClaimFacts, restore: Option<&Quantity>| {
            plan_source(options, "data", facts, "copy", restore)
                .map(|plan| made(plan).capacity.to_string())
        };
        assert_eq!(capacity(&options, &facts, restore.as_ref()).unwrap(), "3Gi");
        assert_eq!(capacity(&options, &facts, size("0").as_ref()).unwrap(), "2Gi");
        options.copy_method = CopyMethod::Clone;
        assert_eq!(capacity(&options, &facts, restore.as_ref()).unwrap(), "2Gi");
        facts.capacity = None;
        assert_eq!(capacity(&options, &facts, None).unwrap(), "1Gi");
        facts.requested = None;
        assert_eq!(
            capacity(&options, &facts, None),
            Err(Error::SizeNotKnown { claim: "data".into() })
        );
        options.capacity = size("5Gi");
        assert_eq!(capacity(&options, &facts, restore.as_ref()).unwrap(), "5Gi");
    }

    #[test]
    fn a_copy_takes_class_and_modes_of_its_source_unless_told_otherwise() {
        let mut options = VolumeOptions::new(CopyMethod::Clone);
        let volume = made(plan_source(&options, "data", &facts(), "copy", None).unwrap());
        assert_eq!(volume.storage_class.as_deref(), Some("fast"));
        assert_eq!(volume.access_modes, [AccessMode::ReadWriteOnce]);
        options.storage_class = Some("slow".into());
        options.access_modes = vec![AccessMode::ReadOnlyMany];
        let volume = made(plan_source(&options, "data", &facts(), "copy", None).unwrap());
        assert_eq!(volume.storage_class.as_deref(), Some("slow"));
        assert!(volume.read_only);
    }

    #[test]
    fn a_provisioned_destination_needs_access_modes_then_a_capacity() {
        let mut options = VolumeOptions::new(CopyMethod::Direct);
        let plan =
            |options: &VolumeOptions| plan_destination(options, None, "new", VolumeMode::Block);
        assert_eq!(plan(&options), Err(Error::AccessModesMissing));
        options.access_modes = vec![AccessMode::ReadWriteOnce];
        assert_eq!(plan(&options), Err(Error::CapacityMissing));
        options.capacity = size("1Gi");
        assert_eq!(made(plan(&options).unwrap()).mode, VolumeMode::Block);
    }
}
