//! `process.capabilities`: the bounding set before the user changes, the other four after it (capabilities(7)).

use std::str::FromStr;

use caps::{CapSet, Capability, CapsHashSet};
use msb_agent::protocol::{Capabilities, Failure};

use crate::container::at;

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

/// Sets the other four sets, after the user was changed with its capabilities kept.
///
/// # Errors
/// [`Failure::Setup`] with the set's name.
pub fn apply(asked: Option<&Capabilities>) -> Result<(), Failure> {
    let none = Capabilities::default();
    let sets = asked.unwrap_or(&none);
    // Inheritable first, while everything is still permitted; permitted last, because it only shrinks.
    for (set, names) in [
        (CapSet::Inheritable, &sets.inheritable),
        (CapSet::Effective, &sets.effective),
        (CapSet::Permitted, &sets.permitted),
    ] {
        caps::set(None, set, &known(names)).map_err(at(|| format!("set the {set:?} capabilities")))?;
    }
    caps::clear(None, CapSet::Ambient).map_err(at(|| "clear the ambient capabilities".into()))?;
    for capability in known(&sets.ambient) {
        // What is not permitted and inheritable can't be ambient: runc only warns.
        let _ = caps::raise(None, CapSet::Ambient, capability);
    }
    Ok(())
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
