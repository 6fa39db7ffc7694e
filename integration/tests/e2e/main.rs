//! The runtime as its callers use it: Docker, containerd, podman and a shell, in the virtual KVM host.
//!
//! Each test is one function, run with runc and with our runtime, each time in a clean host.

/// Makes a test of each function of `both` for each runtime (`module::runc::name`, `module::msb::name`), and of each of
/// `ours` for our runtime alone.
macro_rules! conformance {
    (both: [$($both:ident),*], ours: [$($ours:ident),*]) => {
        #[cfg(test)]
        mod runc {
            $(#[test]
            fn $both() {
                integration::check::prove(concat!(module_path!(), "::", stringify!($both)), super::$both);
            })*
        }

        #[cfg(test)]
        mod msb {
            $(#[test]
            fn $both() {
                integration::check::Lab::check(integration::check::Runtime::Msb, super::$both);
            })*
            $(#[test]
            fn $ours() {
                integration::check::Lab::check(integration::check::Runtime::Msb, super::$ours);
            })*
        }
    };
}

pub(crate) use conformance;

mod cgroups;
mod clients;
mod clock;
mod compose;
mod container;
mod containerd;
mod contract;
mod cri;
mod differential;
mod direct;
mod docker_exec;
mod docker_lifecycle;
mod docker_run;
mod docker_writes;
mod durability;
mod emulated;
mod faults;
mod hooks;
mod liar;
mod links;
mod many;
mod memory;
mod namespaces_host;
mod network;
mod newest;
mod oom;
mod pause;
mod podman;
mod pods;
mod posix;
mod process;
mod product;
mod refusals;
mod repl;
mod shim;
mod shortages;
mod sizing;
mod soak;
mod starved;
mod states;
mod update;
mod upset;
mod verbs;
mod volumes;
mod wall;
mod work;
