//! What is said of a restic repository.

use std::num::NonZeroU64;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use volsync_api::v1alpha1 as api;
use volsync_contract::paths;
use volsync_volume::CacheOptions;

use super::Check;
use crate::{Method, ReferenceKind, Restic, Retain, VerifySchedule};

/// Whoever limits a bandwidth to less than so many bytes a second has forgotten the unit.
const LEAST_BANDWIDTH: u64 = 1 << 10;

impl Check<'_> {
    fn repository(&mut self, repository: &Option<String>) -> String {
        let repository = self.mandatory(
            "spec.restic.repository",
            repository,
            "the name of the repository Secret must be provided",
        );
        if !repository.is_empty() {
            let wanted = ["RESTIC_REPOSITORY", "RESTIC_PASSWORD"];
            self.refer(ReferenceKind::Secret, &repository, &wanted, "spec.restic.repository");
        }
        repository
    }

    fn cache(
        &mut self,
        capacity: Option<&Quantity>,
        storage_class: Option<&String>,
        modes: Option<&[String]>,
    ) -> CacheOptions {
        CacheOptions {
            capacity: self.capacity("spec.restic.cacheCapacity", capacity),
            storage_class: storage_class.cloned(),
            access_modes: self.access_modes("spec.restic.cacheAccessModes", modes, 0),
        }
    }

    /// Bytes a second.
    fn bandwidth(&mut self, limit: Option<&Quantity>) -> Option<NonZeroU64> {
        let path = "spec.restic.bandwidthLimit";
        let Quantity(text) = limit?;
        match text.parse::<volsync_volume::Quantity>() {
            Ok(quantity) if quantity.bytes() >= LEAST_BANDWIDTH => {
                return NonZeroU64::new(quantity.bytes());
            }
            Ok(_) => {
                self.problem(path, format!("must be at least 1Ki (bytes a second), and is {text}"));
            }
            Err(error) => self.problem(path, error),
        }
        None
    }

    /// What snapshots are recorded under.
    fn recorded(
        &mut self,
        host: Option<&String>,
        path: Option<&String>,
    ) -> (Option<String>, String) {
        let host = host.filter(|host| !host.is_empty()).cloned();
        if host
            .as_ref()
            .is_some_and(|host| host.chars().any(|c| c.is_whitespace() || c.is_control()))
        {
            self.problem("spec.restic.host", "must not have spaces in it");
        }
        let path = path.filter(|path| !path.is_empty()).cloned();
        let path = path.unwrap_or_else(|| paths::DATA.to_owned());
        if !path.starts_with('/') || path.contains(char::is_control) {
            self.problem("spec.restic.path", "must begin with a slash");
        } else if path != "/" && path.split('/').skip(1).any(|name| matches!(name, "" | "." | ".."))
        {
            // restic writes paths without these, and one path in two forms would be two histories.
            self.problem(
                "spec.restic.path",
                "must not end with a slash, nor have //, /. or /.. in it",
            );
        }
        (host, path)
    }

    fn lines(&mut self, field: &str, given: Option<&[String]>, no_comma: bool) -> Vec<String> {
        for (index, text) in given.iter().copied().flatten().enumerate() {
            let path = format!("spec.restic.{field}[{index}]");
            if text.trim().is_empty() {
                self.problem(path, "must not be empty");
            } else if text.contains(char::is_control) {
                self.problem(path, "must be one line");
            } else if field == "exclude" && text.starts_with('#') {
                self.problem(
                    path,
                    "is a comment to gitignore; a name that begins so is written \\#",
                );
            } else if no_comma && text.contains(',') {
                self.problem(path, "must not have a comma in it");
            }
        }
        given.unwrap_or_default().to_vec()
    }

    fn verify(&mut self, verify: &api::ResticVerify) -> VerifySchedule {
        let mut schedule = VerifySchedule::default();
        match verify.interval_days.map(u32::try_from) {
            None => {}
            Some(Ok(days)) => schedule.interval_days = days,
            Some(Err(_)) => {
                self.problem("spec.restic.verify.intervalDays", "must not be below 0");
            }
        }
        match verify.read_data_percent.map(u8::try_from) {
            None => {}
            Some(Ok(percent @ 0..=100)) => schedule.percent = percent,
            Some(_) => {
                self.problem("spec.restic.verify.readDataPercent", "must be from 0 to 100");
            }
        }
        schedule
    }

    fn snapshot(&mut self, restic: &api::ResticDestination) -> Option<String> {
        let id = restic.snapshot.clone().filter(|id| !id.is_empty())?;
        if !(4..=64).contains(&id.len()) || !id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            let message = format!(
                "{id:?} is not the ID of a snapshot: 4 to 64 hexadecimal digits, as `restic snapshots` lists it"
            );
            self.problem("spec.restic.snapshot", message);
        }
        let selects = [
            ("previous", restic.previous.is_some_and(|previous| previous != 0)),
            ("restoreAsOf", restic.restore_as_of.as_ref().is_some_and(|at| !at.is_empty())),
            ("host", restic.host.as_ref().is_some_and(|host| !host.is_empty())),
            ("path", restic.path.as_ref().is_some_and(|path| !path.is_empty())),
        ];
        for (field, _) in selects.into_iter().filter(|(_, given)| *given) {
            let message = "selects among snapshots, and spec.restic.snapshot names one; leave one of them out";
            self.problem(format!("spec.restic.{field}"), message);
        }
        Some(id)
    }

    fn retain(&mut self, retain: &api::ResticRetainPolicy) {
        let api::ResticRetainPolicy { hourly, daily, weekly, monthly, yearly, within, last } =
            retain;
        let counts = [hourly, daily, weekly, monthly, yearly];
        let fields = ["hourly", "daily", "weekly", "monthly", "yearly"];
        for (field, count) in fields.into_iter().zip(counts) {
            if count.is_some_and(|count| count < -1) {
                self.problem(format!("spec.restic.retain.{field}"), "must not be below -1 (all)");
            }
        }
        let is_number = |text: &String| text.parse().is_ok_and(|count: i64| count >= -1);
        if let Some(text) = last.as_ref().filter(|text| !text.is_empty() && !is_number(text)) {
            self.problem(
                "spec.restic.retain.last",
                format!("{text:?} is not a number from -1 (all)"),
            );
        }
        let is_duration = |text: &String| {
            let mut parts = text.split_inclusive(|letter: char| !letter.is_ascii_digit());
            parts.all(|part| {
                let number = part.strip_suffix(['y', 'm', 'd', 'h']);
                number.is_some_and(|number| number.parse::<i32>().is_ok())
            })
        };
        if let Some(text) = within.as_ref().filter(|text| !is_duration(text)) {
            let path = "spec.restic.retain.within";
            self.problem(path, format!("{text:?} is not a duration such as 1y5m7d2h"));
        }
    }

    pub(super) fn restic_source(&mut self, restic: &api::ResticSource) -> Method {
        let days = match restic.prune_interval_days.map(u32::try_from) {
            None => Restic::DEFAULT_PRUNE_INTERVAL_DAYS,
            Some(Ok(days)) => days,
            Some(Err(_)) => {
                self.problem("spec.restic.pruneIntervalDays", "must not be below 0");
                0
            }
        };
        let retain = restic.retain.clone().unwrap_or_default();
        self.retain(&retain);
        let (host, path) = self.recorded(restic.host.as_ref(), restic.path.as_ref());
        Method::Restic(Restic {
            repository: self.repository(&restic.repository),
            prune_interval_days: days,
            unlock: restic.unlock.clone().unwrap_or_default(),
            retain: Retain {
                hourly: retain.hourly,
                daily: retain.daily,
                weekly: retain.weekly,
                monthly: retain.monthly,
                yearly: retain.yearly,
                within: retain.within,
                last: retain.last,
            },
            host,
            path,
            tags: self.lines("tags", restic.tags.as_deref(), true),
            exclude: self.lines("exclude", restic.exclude.as_deref(), false),
            exclude_caches: restic.exclude_caches.unwrap_or(false),
            verify: restic.verify.as_ref().map(|verify| self.verify(verify)),
            previous: 0,
            restore_as_of: None,
            snapshot: None,
            require_snapshot: false,
            enable_file_deletion: false,
            custom_ca: self.custom_ca("spec.restic", restic.custom_ca.as_ref()),
            bandwidth: self.bandwidth(restic.bandwidth_limit.as_ref()),
            cache: self.cache(
                restic.cache_capacity.as_ref(),
                restic.cache_storage_class_name.as_ref(),
                restic.cache_access_modes.as_deref(),
            ),
            cleanup_cache: false,
        })
    }

    pub(super) fn restic_destination(&mut self, restic: &api::ResticDestination) -> Method {
        let previous = match restic.previous.map(u32::try_from) {
            None => 0,
            Some(Ok(previous)) => previous,
            Some(Err(_)) => {
                self.problem("spec.restic.previous", "must not be below 0");
                0
            }
        };
        let restore_as_of = match restic.restore_as_of.as_deref().filter(|text| !text.is_empty()) {
            None => None,
            Some(text) => match text.parse::<Timestamp>() {
                Ok(time) => Some(time),
                Err(_) => {
                    let message = format!("{text:?} is not a time such as 2024-05-06T07:08:09Z");
                    self.problem("spec.restic.restoreAsOf", message);
                    None
                }
            },
        };
        let (host, path) = self.recorded(restic.host.as_ref(), restic.path.as_ref());
        Method::Restic(Restic {
            repository: self.repository(&restic.repository),
            prune_interval_days: Restic::DEFAULT_PRUNE_INTERVAL_DAYS,
            unlock: String::new(),
            retain: Retain::default(),
            host,
            path,
            tags: Vec::new(),
            exclude: Vec::new(),
            exclude_caches: false,
            verify: None,
            previous,
            restore_as_of,
            snapshot: self.snapshot(restic),
            require_snapshot: restic.require_snapshot.unwrap_or(false),
            enable_file_deletion: restic.enable_file_deletion.unwrap_or(false),
            custom_ca: self.custom_ca("spec.restic", restic.custom_ca.as_ref()),
            bandwidth: self.bandwidth(restic.bandwidth_limit.as_ref()),
            cache: self.cache(
                restic.cache_capacity.as_ref(),
                restic.cache_storage_class_name.as_ref(),
                restic.cache_access_modes.as_deref(),
            ),
            cleanup_cache: restic.cleanup_cache_pvc.unwrap_or(false),
        })
    }
}
