//! The whole translation.

use std::path::Path;

use msb_agent::protocol::{Container, Root, RootSource};
use serde::{Deserialize, Serialize};

use super::{
    BindMount, Bytes, ConfigError, Elsewhere, HostConfig, ImageMount, MountPlan, Role, RootDisks, Settings,
    Size, Throttles, Wishes, device_rules, guest_limits, host, isolation, labels, mounts,
    namespaces::{self, Namespaces},
    pod, process, seccomp,
};
use crate::bundle::Spec;

/// What one configuration means, to the three that carry it out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Alone, or in a pod.
    pub role: Role,
    /// Namespaces of other containers of its pod.
    pub joined: Vec<Elsewhere>,
    /// For the machine.
    pub size: Size,
    /// Of the disk for what the container writes; none when its root is shared live.
    pub disk: Option<Bytes>,
    /// How much the machine's devices may do.
    pub throttles: Throttles,
    /// Words for the guest's kernel.
    pub kernel_args: Vec<String>,
    /// For the host.
    pub host: HostConfig,
    /// For the guest, as soon as its root is known.
    pub plan: Plan,
}

/// An image that is mounted, and where it stands among all mounts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlacedImage {
    /// Its index once all before it are in their places.
    pub index: usize,
    /// What is mounted.
    pub image: ImageMount,
}

/// A bind mount, and where it stands among all mounts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlacedBind {
    /// Its index once all before it are in their places.
    pub index: usize,
    /// What is bound.
    pub bind: BindMount,
}

/// A container that lacks only its root and its bind mounts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Complete but for where its root is, and its mounts, of which it has none here.
    container: Container,
    mounts: Vec<MountPlan>,
    in_pod: bool,
}

impl Config {
    /// Translates a checked configuration on a host with `settings`. `stdin`: whether the first process gets one;
    /// `sharing`: the id of the container whose machine has the network namespace at a path, if one has.
    ///
    /// # Errors
    /// What can't be had in a machine of its own.
    pub fn new(
        spec: &Spec,
        settings: &Settings,
        stdin: bool,
        sharing: impl Fn(&Path) -> Option<String>,
    ) -> Result<Self, ConfigError> {
        let linux = spec.linux();
        let annotations = spec.annotations();
        let wishes = Wishes::of(&annotations, settings)?;
        let role = pod::role(&annotations, linux, &wishes, settings, sharing)?;
        wishes.fit(&role, pod::is_member_of_kubernetes(&annotations))?;
        let seccomp = linux.seccomp().as_ref().map(seccomp::filter).transpose()?;
        labels::check_mounts(linux)?;
        let Namespaces { made: namespaces, joined, network } = namespaces::namespaces(linux, &role)?;
        isolation::host_only(linux)?;
        isolation::names(linux, &[("hostname", spec.hostname()), ("domainname", spec.domainname())])?;
        let devices = device_rules::devices(linux)?;
        let container = Container {
            root: Root {
                source: RootSource::Disks { layers: Vec::new(), scratch: String::new() },
                readonly: spec.root_readonly(),
            },
            hostname: spec.hostname().map(str::to_owned),
            domainname: spec.domainname().map(str::to_owned),
            namespaces,
            joined: Vec::new(),
            user_map: isolation::user_map(linux)?,
            time_offsets: isolation::time_offsets(linux)?,
            propagation: isolation::propagation(linux)?,
            personality: isolation::personality(linux)?,
            mounts: Vec::new(),
            devices: devices.nodes,
            all_devices: devices.all,
            device_rules: devices.rules,
            sysctls: isolation::sysctls(linux)?,
            masked_paths: linux.masked_paths().clone().unwrap_or_default(),
            readonly_paths: linux.readonly_paths().clone().unwrap_or_default(),
            limits: linux.resources().as_ref().map(guest_limits).transpose()?.unwrap_or_default(),
            start_hooks: host::start_hooks(spec),
            init: process::process(spec.process(), stdin, seccomp)?,
        };
        let resources = match role {
            Role::Alone | Role::Member(_) => linux.resources().clone(),
            Role::Sandbox => Some(pod::resources(&annotations, linux.resources().as_ref())),
        };
        let size = Size::of(resources.as_ref(), &settings.machine, &wishes)?;
        let in_pod = role.is_in_pod();
        let host = host::host(
            spec,
            &role,
            size,
            settings.machine.overhead,
            network,
            wishes.reach.unwrap_or_default(),
        )?;
        Ok(Self {
            role,
            joined,
            size,
            disk: (!wishes.shared_root).then(|| wishes.disk.unwrap_or(settings.disk.size)),
            throttles: Throttles {
                disks: wishes.disk_rate.unwrap_or(settings.disk.rate),
                networks: wishes.network_rate.unwrap_or(settings.network.rate),
            },
            kernel_args: wishes.kernel_args,
            host,
            plan: Plan { container, mounts: mounts::mounts(spec.mounts())?, in_pod },
        })
    }
}

impl Plan {
    /// Whether the guest runs hooks before the container's own program.
    #[must_use]
    pub fn has_start_hooks(&self) -> bool {
        !self.container.start_hooks.hooks.is_empty()
    }

    /// The container whose root is on these disks, or else is one more share of the host, which is numbered with the
    /// bind mounts; and the mounts of the host that it lacks, in order. `shm_size` tells how large a `/dev/shm` of the
    /// host is, in bytes.
    #[must_use]
    pub fn complete(
        mut self,
        disks: Option<&RootDisks>,
        shm_size: impl Fn(&Path) -> Option<u64>,
    ) -> (Container, Vec<PlacedBind>, Vec<PlacedImage>) {
        if let Some(disks) = disks {
            self.container.root.source =
                RootSource::Disks { layers: disks.guest_layers(), scratch: disks.guest_scratch() };
            self.container.root.readonly |= disks.read_only;
        }
        let (mut binds, mut images) = (Vec::new(), Vec::new());
        for (index, mount) in self.mounts.into_iter().enumerate() {
            match mount {
                MountPlan::Ready(mount) => self.container.mounts.push(mount),
                MountPlan::SharedMemory { destination, source } => {
                    let size = source.as_deref().and_then(&shm_size);
                    let mut mount = mounts::shared_memory(destination, size);
                    if let (true, Some(source)) = (self.in_pod, &source) {
                        mount.source = mounts::of_pod(source);
                    }
                    self.container.mounts.push(mount);
                }
                MountPlan::Bind(bind) => binds.push(PlacedBind { index, bind }),
                MountPlan::Image(image) => images.push(PlacedImage { index, image }),
            }
        }
        (self.container, binds, images)
    }
}
