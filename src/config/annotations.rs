//! What a user may ask for beyond the specification: annotations whose names begin with `dev.msb.`.
//!
//! | annotation | meaning |
//! |---|---|
//! | `dev.msb.vcpus` | processors of the machine, whatever the limits say |
//! | `dev.msb.memory` | memory of the machine, the guest's own part included, whatever the limits say |
//! | `dev.msb.disk-size` | size of the disk for what the container writes |
//! | `dev.msb.root` | `shared`: the root is the host's own directory, live ([`crate::image`]); `disks` is the default |
//! | `dev.msb.pod` | `true`: containers that join this one's network come into its machine ([`super::pod`]) |
//! | `dev.msb.network` | `public`: the machine can reach the Internet alone ([`Reach`]); `open` is the default |
//! | `dev.msb.disk-rate` | how much each disk of the machine may do in a second ([`Throttle`]) |
//! | `dev.msb.network-rate` | the same of each network interface, in each direction |
//! | `dev.msb.kernel-args` | words at the end of the guest kernel's command line |
//!
//! One that isn't in this table, or that the owner of the host does not allow ([`Settings::annotations`]), is refused:
//! a wish that is silently not granted is worse than an error.

use std::collections::BTreeMap;

use super::{
    Bytes, ConfigError, Reach, Role, Settings, Throttle,
    settings::{Annotation, MAX_DISK, MIN_DISK, MIN_MEMORY},
};

/// All names of ours begin with it.
const PREFIX: &str = "dev.msb.";

/// As `dev.msb.root`.
const SHARED: &str = "shared";

/// What was asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wishes {
    /// Processors.
    pub vcpus: Option<u8>,
    /// Of the machine.
    pub memory: Option<Bytes>,
    /// Of the disk for what the container writes.
    pub disk: Option<Bytes>,
    /// No disks: the root is shared live.
    pub shared_root: bool,
    /// Others may come into the machine.
    pub pod: Option<bool>,
    /// Whom it can reach.
    pub reach: Option<Reach>,
    /// How much each disk may do.
    pub disk_rate: Option<Throttle>,
    /// How much each interface may do.
    pub network_rate: Option<Throttle>,
    /// For the guest's kernel.
    pub kernel_args: Vec<String>,
}

impl Wishes {
    /// From all annotations of a container, as far as `settings` allow.
    ///
    /// # Errors
    /// [`ConfigError::UnknownAnnotation`], [`ConfigError::ForbiddenAnnotation`], [`ConfigError::AnnotationValue`].
    pub fn of(annotations: &BTreeMap<String, String>, settings: &Settings) -> Result<Self, ConfigError> {
        let mut wishes = Self::default();
        for (name, value) in annotations {
            let Some(short) = name.strip_prefix(PREFIX) else { continue };
            let known = known(short).ok_or_else(|| ConfigError::UnknownAnnotation { name: name.clone() })?;
            if !settings.annotations.contains(&known) {
                return Err(ConfigError::ForbiddenAnnotation { name: name.clone(), short: short.into() });
            }
            let wrong = |expected: String| ConfigError::AnnotationValue {
                name: name.clone(),
                text: value.clone(),
                expected,
            };
            let size = |least: Bytes, most: Bytes| {
                let size = value.parse().ok().filter(|size| (least..=most).contains(size));
                size.ok_or_else(|| wrong(format!("a size from {least} to {most}, like 20G")))
            };
            let rate = || value.parse::<Throttle>().map_err(|_| wrong(Throttle::EXPECTED.into()));
            let most = &settings.machine;
            match known {
                Annotation::Vcpus => {
                    let count = value.parse().ok().filter(|count| (1..=most.max_vcpus).contains(count));
                    wishes.vcpus =
                        Some(count.ok_or_else(|| wrong(format!("a number from 1 to {}", most.max_vcpus)))?);
                }
                Annotation::Memory => wishes.memory = Some(size(MIN_MEMORY, most.max_memory)?),
                Annotation::DiskSize => wishes.disk = Some(size(MIN_DISK, MAX_DISK)?),
                Annotation::Root => {
                    wishes.shared_root = match value.as_str() {
                        SHARED => true,
                        "disks" => false,
                        _ => return Err(wrong("`shared` or `disks`".into())),
                    };
                }
                Annotation::Pod => {
                    wishes.pod = Some(value.parse().map_err(|_| wrong("`true` or `false`".into()))?);
                }
                Annotation::Network => {
                    wishes.reach = Some(value.parse().map_err(|()| wrong(Reach::EXPECTED.into()))?);
                }
                Annotation::DiskRate => wishes.disk_rate = Some(rate()?),
                Annotation::NetworkRate => wishes.network_rate = Some(rate()?),
                Annotation::KernelArgs => {
                    wishes.kernel_args = value.split_ascii_whitespace().map(str::to_owned).collect();
                }
            }
        }
        match wishes {
            Self { shared_root: true, disk: Some(size), .. } => Err(no_disk("disk-size", size.to_string())),
            Self { shared_root: true, disk_rate: Some(rate), .. } => {
                Err(no_disk("disk-rate", rate.to_string()))
            }
            wishes => Ok(wishes),
        }
    }

    /// Whether these ask for a root that is shared live, for who has to know before all else is read.
    #[must_use]
    pub fn share_root(annotations: &BTreeMap<String, String>) -> bool {
        annotations.get("dev.msb.root").is_some_and(|value| value == SHARED)
    }

    /// Whether they can be had by a container in that role. Kubernetes' callers give each container its pod's (`pods`) as well:
    /// what is for a machine was the sandbox's already then.
    ///
    /// # Errors
    /// [`ConfigError::OfMachine`], [`ConfigError::SharedInPod`].
    pub(super) fn fit(&self, role: &Role, pods: bool) -> Result<(), ConfigError> {
        if self.shared_root && role.is_in_pod() {
            return Err(ConfigError::SharedInPod);
        }
        let of_machine = [
            ("dev.msb.vcpus", self.vcpus.is_some()),
            ("dev.msb.memory", self.memory.is_some()),
            ("dev.msb.network", self.reach.is_some()),
            ("dev.msb.disk-rate", self.disk_rate.is_some()),
            ("dev.msb.network-rate", self.network_rate.is_some()),
            ("dev.msb.kernel-args", !self.kernel_args.is_empty()),
        ];
        match of_machine.into_iter().find(|(_, wished)| *wished) {
            Some((name, _)) if matches!(role, Role::Member(_)) && !pods => {
                Err(ConfigError::OfMachine { name })
            }
            _ => Ok(()),
        }
    }
}

/// A wish for a disk that a shared root does without.
fn no_disk(short: &str, text: String) -> ConfigError {
    let expected = "left out: with dev.msb.root=shared there is no such disk".into();
    ConfigError::AnnotationValue { name: format!("{PREFIX}{short}"), text, expected }
}

fn known(short: &str) -> Option<Annotation> {
    match short {
        "vcpus" => Some(Annotation::Vcpus),
        "memory" => Some(Annotation::Memory),
        "disk-size" => Some(Annotation::DiskSize),
        "root" => Some(Annotation::Root),
        "pod" => Some(Annotation::Pod),
        "network" => Some(Annotation::Network),
        "disk-rate" => Some(Annotation::DiskRate),
        "network-rate" => Some(Annotation::NetworkRate),
        "kernel-args" => Some(Annotation::KernelArgs),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Flow;

    fn asked(name: &str, value: &str) -> Result<Wishes, ConfigError> {
        let annotations = BTreeMap::from([(name.into(), value.into()), ("org.other".into(), "x".into())]);
        Wishes::of(&annotations, &Settings::default())
    }

    #[test]
    fn what_is_asked_for_is_granted() {
        assert_eq!(asked("dev.msb.vcpus", "4").unwrap().vcpus, Some(4));
        assert_eq!(asked("dev.msb.memory", "2g").unwrap().memory, Some(Bytes(2 << 30)));
        assert_eq!(asked("dev.msb.disk-size", "64M").unwrap().disk, Some(MIN_DISK));
        let rate = asked("dev.msb.network-rate", "bytes=20M,bytes-burst=1G").unwrap().network_rate;
        assert_eq!(rate.unwrap().bytes, Some(Flow { per_second: 20 << 20, burst: 1 << 30 }));
        assert!(asked("dev.msb.root", "shared").unwrap().shared_root);
        assert!(!asked("dev.msb.root", "disks").unwrap().shared_root);
        assert_eq!(asked("dev.msb.pod", "true").unwrap().pod, Some(true));
        assert_eq!(Wishes::of(&BTreeMap::new(), &Settings::default()).unwrap(), Wishes::default());
    }

    #[test]
    fn what_can_not_be_had_is_refused() {
        for (name, value) in [
            ("vcpus", "0"),
            ("vcpus", "33"),
            ("vcpus", "two"),
            ("memory", "1M"),
            ("memory", "2T"),
            ("disk-size", "63M"),
            ("disk-size", "16T"),
            ("disk-size", "big"),
            ("root", "live"),
            ("pod", "yes"),
            ("disk-rate", "20M"),
            ("network-rate", "operations=many"),
        ] {
            let error = asked(&format!("dev.msb.{name}"), value).unwrap_err();
            assert!(matches!(error, ConfigError::AnnotationValue { .. }), "{name} {value}: {error}");
        }
        let both = [("dev.msb.root", "shared"), ("dev.msb.disk-size", "1G")];
        let both = both.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let error = Wishes::of(&both, &Settings::default()).unwrap_err();
        assert!(matches!(error, ConfigError::AnnotationValue { .. }), "{error}");
        let both = [("dev.msb.root", "shared"), ("dev.msb.disk-rate", "bytes=1G")];
        let both = both.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        Wishes::of(&both, &Settings::default()).unwrap_err();
        assert!(matches!(asked("dev.msb.disksize", "1G"), Err(ConfigError::UnknownAnnotation { .. })));
    }

    #[test]
    fn a_machine_is_the_sandboxs_matter() {
        let (sandbox, member) = (Role::Sandbox, Role::Member("a".into()));
        let larger = asked("dev.msb.memory", "2g").unwrap();
        assert_eq!(larger.fit(&sandbox, false), Ok(()));
        assert_eq!(larger.fit(&member, false), Err(ConfigError::OfMachine { name: "dev.msb.memory" }));
        assert_eq!(larger.fit(&member, true), Ok(()), "the pod's");
        assert_eq!(asked("dev.msb.disk-size", "2g").unwrap().fit(&member, false), Ok(()));
        let shared = asked("dev.msb.root", "shared").unwrap();
        assert_eq!(shared.fit(&sandbox, false), Err(ConfigError::SharedInPod));
        assert_eq!(shared.fit(&member, true), Err(ConfigError::SharedInPod));
        assert_eq!(shared.fit(&Role::Alone, false), Ok(()));
    }

    #[test]
    fn the_owner_of_the_host_decides() {
        let error = asked("dev.msb.kernel-args", "debug").unwrap_err();
        assert!(matches!(error, ConfigError::ForbiddenAnnotation { .. }), "{error}");
        let settings = Settings { annotations: vec![Annotation::KernelArgs], ..Settings::default() };
        let annotations = BTreeMap::from([("dev.msb.kernel-args".into(), " debug  a=b ".into())]);
        assert_eq!(Wishes::of(&annotations, &settings).unwrap().kernel_args, ["debug", "a=b"]);
    }
}
