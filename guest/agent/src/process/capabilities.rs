//! `process.capabilities`: the bounding set before the user changes, the other four after it (capabilities(7)).

use std::str::FromStr;

use caps::{CapSet, Capability, CapsHashSet};
use msb_agent::protocol::{Capabilities, Failure};

use crate::container::{at, plain};
use crate::sys;

/// Takes everything out of the bounding set that isn't asked for. Needs `CAP_SETPCAP`.
///
/// # Errors
/// [`Failure::Setup`].
pub fn bound(asked: Option<&Capabilities>) -> Result<(), Failure> {
    let keep = asked.map(|sets| named(&sets.bounding)).unwrap_or_default();
    for capability in caps::all() {
        // Asking costs less than dropping, and fails for what this kernel does not know.
        if !keep.contains(&capability) && caps::has_cap(None, CapSet::Bounding, capability).unwrap_or(false) {
            caps::drop(None, CapSet::Bounding, capability)
                .map_err(at(|| format!("drop {capability} from the bounding set")))?;
        }
    }
    Ok(())
}

/// Sets the other four sets, after the user was changed with its capabilities kept. With `admin`, `CAP_SYS_ADMIN` stays
/// permitted until [`be_admin`] and [`finish`].
///
/// # Errors
/// [`Failure::Setup`] with the set's name.
pub fn apply(asked: Option<&Capabilities>, admin: bool) -> Result<(), Failure> {
    let none = Capabilities::default();
    let sets = asked.unwrap_or(&none);
    let mut permitted = known(&sets.permitted);
    if admin {
        permitted.insert(Capability::CAP_SYS_ADMIN);
    }
    // Inheritable first, while everything is still permitted; permitted last, because it only shrinks.
    for (set, capabilities) in [
        (CapSet::Inheritable, known(&sets.inheritable)),
        (CapSet::Effective, known(&sets.effective)),
        (CapSet::Permitted, permitted),
    ] {
        caps::set(None, set, &capabilities).map_err(at(|| format!("set the {set:?} capabilities")))?;
    }
    caps::clear(None, CapSet::Ambient).map_err(at(|| "clear the ambient capabilities".into()))?;
    for capability in known(&sets.ambient) {
        // What is not permitted and inheritable can't be ambient: runc only warns.
        let _ = caps::raise(None, CapSet::Ambient, capability);
    }
    Ok(())
}

/// Makes `CAP_SYS_ADMIN` effective, which [`apply`] has kept. All that is left to do after is in what it returns.
///
/// # Errors
/// [`Failure::Setup`].
pub fn be_admin(asked: Option<&Capabilities>) -> Result<Finish, Failure> {
    let step = || "keep CAP_SYS_ADMIN for the seccomp filter".to_owned();
    let set = |set| caps::read(None, set).map_err(at(step));
    let (effective, inheritable) = (set(CapSet::Effective)?, set(CapSet::Inheritable)?);
    let mut permitted = set(CapSet::Permitted)?;
    let admin = Capability::CAP_SYS_ADMIN;
    if !asked.is_some_and(|sets| named(&sets.permitted).contains(&admin)) {
        permitted.remove(&admin);
    }
    caps::raise(None, CapSet::Effective, admin).map_err(at(step))?;
    Ok(Finish { effective: bits(&effective), permitted: bits(&permitted), inheritable: bits(&inheritable) })
}

/// The final sets.
#[derive(Debug)]
pub struct Finish {
    effective: u64,
    permitted: u64,
    inheritable: u64,
}

impl Finish {
    /// Sets them by a single capset(2): the filter must let that call through, as runc's use needs it too.
    ///
    /// # Errors
    /// [`Failure::Setup`].
    pub fn finish(&self) -> Result<(), Failure> {
        sys::set_capabilities(self.effective, self.permitted, self.inheritable)
            .map_err(plain)
            .map_err(at(|| "set the capabilities beneath the seccomp filter, which must allow capset".into()))
    }
}

fn bits(capabilities: &CapsHashSet) -> u64 {
    capabilities.iter().fold(0, |bits, capability| bits | capability.bitmask())
}

/// Names of a newer kernel or a typing error are no reason to refuse a container: runc ignores them too.
fn named(names: &[String]) -> CapsHashSet {
    names.iter().filter_map(|name| Capability::from_str(name).ok()).collect()
}

/// As [`named`], without those that this kernel lacks or that the bounding set has lost.
fn known(names: &[String]) -> CapsHashSet {
    named(names)
        .into_iter()
        .filter(|capability| caps::has_cap(None, CapSet::Permitted, *capability).unwrap_or(false))
        .collect()
}
