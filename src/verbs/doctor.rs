//! Whether this machine can run containers: one finding for each thing that they need, and what to do where it is missing.

use std::{fs::File, io::ErrorKind, os::unix::fs::FileExt, path::Path};

use nix::{
    sys::statfs::{CGROUP2_SUPER_MAGIC, statfs},
    unistd::geteuid,
};

use super::{settings, words};
use crate::{
    config::{Assets, Confinement},
    host::{
        network,
        volumes::daemon,
        walls::{DESCRIPTORS, NAMESPACES, Seen, THREADS},
    },
    machine::{
        boot::kernel,
        kvm,
        virtio::{block::Rings, net},
    },
    sandbox::cell::probe,
};

/// What was found, or what to do about it.
pub type Finding = Result<String, String>;

/// All of them, each with its name.
#[must_use]
pub fn findings() -> Vec<(&'static str, Finding)> {
    let settings = settings::load();
    // What is wrong with the file is one finding; the others go on as if it were not there.
    let found = settings.as_ref().cloned().unwrap_or_default();
    let assets = Assets::of(&found, |name| std::env::var_os(name));
    let settings = settings.map(|_| settings::path().display().to_string());
    vec![
        ("user", user()),
        ("kvm", kvm()),
        ("settings", settings.map_err(|error| words::chain(&error))),
        ("kernel", asset(&assets.kernel, kernel::MAGIC, Assets::KERNEL_VARIABLE)),
        ("initramfs", asset(&assets.initramfs, (0, b"070701"), Assets::INITRAMFS_VARIABLE)),
        ("walls", walls(found.machine.confinement)),
        ("io_uring", rings()),
        ("virtiofsd", virtiofsd(&found.virtiofsd)),
        ("network", network()),
        ("cgroup", cgroup()),
    ]
}

fn user() -> Finding {
    if geteuid().is_root() { Ok("root".into()) } else { Err("not root: run it with sudo".into()) }
}

/// Also runs a few instructions: some hosts only emulate what a processor should do.
fn kvm() -> Finding {
    kvm::probe().map(|()| "/dev/kvm runs a machine".into()).map_err(|problem| problem.to_string())
}

/// A file that has its magic where it must.
fn asset(path: &Path, (at, magic): (u16, &[u8]), variable: &str) -> Finding {
    let shown = path.display();
    let mut beginning = vec![0; magic.len()];
    let read = File::open(path).and_then(|file| file.read_exact_at(&mut beginning, at.into()));
    match read {
        Ok(()) if beginning == magic => Ok(shown.to_string()),
        Ok(()) => {
            Err(format!("{shown} is not of the right kind: build it again, or name another with {variable}"))
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            Err(format!("{shown} is not there: install it, or name another with {variable}"))
        }
        Err(error) => Err(format!("{shown} can't be read ({error}): install it again")),
    }
}

/// Tried with a process, which is looked at from outside.
fn walls(confinement: Confinement) -> Finding {
    match confinement {
        Confinement::Enforced => {}
        Confinement::Logged => {
            return Err("the settings say machine.confinement = \"logged\": a guest that breaks into its VMM may make any \
                        system call; leave it away for guests that you do not trust"
                .into());
        }
        Confinement::Off => {
            return Err("the settings say machine.confinement = \"off\": a guest that breaks into its VMM is root here; \
                        leave it away for guests that you do not trust"
                .into());
        }
    }
    in_force(&probe::probe().map_err(|problem| words::chain(&problem))?)
}

fn in_force(seen: &Seen) -> Finding {
    let Seen { uid, threads, namespaces, descriptors, processes, .. } = seen;
    let held = seen.powerless
        && seen.no_new_privs
        && (seen.filtered, seen.mounts, seen.core) == (*threads, 1, 0)
        && namespaces.as_ref().is_none_or(|others| others == &NAMESPACES)
        && *descriptors <= DESCRIPTORS
        && *processes <= THREADS;
    if !held {
        return Err(format!("a VMM is not held back as it should be: {seen:?}"));
    }
    let apart = namespaces.as_ref().map_or_else(
        || "namespaces of its own that can't be looked at without CAP_SYS_PTRACE".to_owned(),
        |others| format!("a {} namespace of its own", others.join(", ")),
    );
    Ok(format!(
        "a VMM is user {uid} without a capability or a way to one, sees an empty root, has {apart}, at most \
         {descriptors} descriptors, {processes} threads and no core, and each of its {threads} kinds of threads makes only \
         the system calls that it needs"
    ))
}

/// What a confined machine gives to the kernel to be done meanwhile.
fn rings() -> Finding {
    Ok(if Rings::new(1).take().is_some() {
        "io_uring, held to reading, writing, flushing and allocating, does a disk's work meanwhile".into()
    } else {
        "there is no io_uring for us here (kernel.io_uring_disabled?): a disk's slow requests keep other devices waiting"
            .into()
    })
}

/// Only containers with volumes need it, which most have sooner or later.
fn virtiofsd(path: &Path) -> Finding {
    daemon::probe(path)
        .map(|version| format!("{} is version {version}", path.display()))
        .map_err(|problem| problem.to_string())
}

/// Taps and their redirection; that the kernel serves a machine's queues itself is a gain and no need.
fn network() -> Finding {
    network::probe().map_err(|problem| words::chain(&problem))?;
    Ok(if net::open_vhost().is_some() {
        "/dev/net/tun gives a container its links, /dev/vhost-net carries their packets".into()
    } else {
        "/dev/net/tun gives a container its links; `modprobe vhost_net` would make them faster".into()
    })
}

fn cgroup() -> Finding {
    let mount = "/sys/fs/cgroup";
    match statfs(mount) {
        Ok(found) if found.filesystem_type() == CGROUP2_SUPER_MAGIC => Ok("version 2".into()),
        Ok(_) => Ok("version 1".into()),
        Err(_) => Err(format!("{mount} is not mounted: mount a cgroup2 file system there")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_holds_a_vmm_is_looked_at_and_told() {
        let seen = Seen {
            uid: 1_879_048_200,
            powerless: true,
            no_new_privs: true,
            threads: 3,
            filtered: 3,
            mounts: 1,
            namespaces: Some(NAMESPACES.to_vec()),
            descriptors: 8192,
            processes: 256,
            core: 0,
        };
        let told = in_force(&seen).unwrap();
        for part in ["user 1879048200", "mnt, pid, ipc, uts", "8192", "256", "3 kinds"] {
            assert!(told.contains(part), "{part}: {told}");
        }
        let told = in_force(&Seen { namespaces: None, ..seen.clone() }).unwrap();
        assert!(told.contains("CAP_SYS_PTRACE"), "{told}");
        for loose in [
            Seen { powerless: false, ..seen.clone() },
            Seen { no_new_privs: false, ..seen.clone() },
            Seen { filtered: 2, ..seen.clone() },
            Seen { mounts: 2, ..seen.clone() },
            Seen { namespaces: Some(vec!["mnt"]), ..seen.clone() },
            Seen { descriptors: 1 << 20, ..seen.clone() },
            Seen { processes: u64::MAX, ..seen.clone() },
            Seen { core: u64::MAX, ..seen },
        ] {
            assert!(in_force(&loose).is_err(), "{loose:?}");
        }
    }
}
