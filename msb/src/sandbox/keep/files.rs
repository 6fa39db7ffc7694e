//! `/etc/hosts`, `/etc/hostname` and `/etc/resolv.conf`, written into the root before it is the machine's: no directory of the
//! host needs to be shared for them. Where an image has no `/etc`, it gets none.

use std::{io, path::Path};

use crate::{network::Attached, sandbox::beneath::Beneath};

/// Writes them for a sandbox with that network.
pub(super) fn write(root: &Beneath, name: &str, network: Option<&Attached>) -> io::Result<()> {
    let etc = Path::new("etc");
    let mut hosts = String::from(
        "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n\
         ff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n",
    );
    hosts.push_str(&format!("127.0.1.1\t{name}\n"));
    root.replace(etc, "hosts", hosts.as_bytes())?;
    root.replace(etc, "hostname", format!("{name}\n").as_bytes())?;
    let resolver = network.map(|network| format!("nameserver {}\n", network.resolver()));
    root.replace(etc, "resolv.conf", resolver.unwrap_or_default().as_bytes())
}
