//! The runtime as its callers use it: Docker, containerd, podman and a shell, in the virtual KVM host.
//!
//! Each test is one function, run with runc and with our runtime, each time in a clean host.

/// Makes a test of each function of `both` for each runtime (`module::runc::name`, `module::msb::name`), and of each of
/// `ours` for our runtime alone. What is `long` takes minutes, and tells nothing new with runc unless the test has changed:
/// with it, `cargo dev soak` runs it.
macro_rules! conformance {
    (long: [$($long:ident),*], ours: [$($ours:ident),*]) => {
        #[cfg(test)]
        mod runc {
            $(#[test]
            fn $long() {
                if std::env::var_os("MSB_SOAK").is_none() {
                    let test = concat!(module_path!(), "::", stringify!($long));
                    return integration::dev::test::skipped(test, "with runc `cargo dev soak` runs it");
                }
                integration::check::Lab::check(integration::check::Runtime::Runc, super::$long);
            })*
        }

        #[cfg(test)]
        mod msb {
            $(#[test]
            fn $long() {
                integration::check::Lab::check(integration::check::Runtime::Msb, super::$long);
            })*
            $(#[test]
            fn $ours() {
                integration::check::Lab::check(integration::check::Runtime::Msb, super::$ours);
            })*
        }
    };
    (both: [$($both:ident),*], ours: [$($ours:ident),*]) => {
        #[cfg(test)]
        mod runc {
            $(#[test]
            fn $both() {
                integration::check::Lab::check(integration::check::Runtime::Runc, super::$both);
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
mod clock;
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
mod shim;
mod shortages;
mod sizing;
mod soak;
mod states;
mod update;
mod volumes;
mod wall;
mod work;
