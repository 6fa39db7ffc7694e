//! The network of a sandbox: a namespace of its own, which leads to the host's network by way of passt's `pasta`.
//!
//! ```text
//!  guest ══ tap ══ eth0 (pasta's tap) ──▶ pasta ──▶ the host's own sockets
//! ```
//!
//! pasta opens on the host what a guest connects to, as any program there does: no bridge, no address of the host's networks,
//! no rule in anybody's firewall, and nothing that is left when it ends. The names of the host are answered at [`RESOLVER`],
//! whichever way the host finds them. Whom the guest may reach is decided by the VMM (`dev.msb.network`), before pasta.
//! Ports of the host that lead into a sandbox go another way (`sandbox::keep`).

mod namespace;

use std::{
    fs::DirBuilder,
    io,
    net::{IpAddr, Ipv4Addr},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use nix::unistd::geteuid;

use crate::sandbox::Network;

/// Where a guest asks for names: an address of the link, which nobody else has (RFC 3927).
pub const RESOLVER: IpAddr = IpAddr::V4(Ipv4Addr::new(169, 254, 1, 1));
/// What a guest has: the link is of two, and nobody else's. Addresses are the host's own as soon as a packet has left pasta.
const ADDRESS: &str = "192.168.127.2";
const GATEWAY: &str = "192.168.127.1";
const NETMASK: &str = "30";
/// What is called so in the namespace, and in the guest.
const INTERFACE: &str = "eth0";
/// The program, of Debian's package passt.
const PASTA: &str = "pasta";
/// Bytes of what it says that are told.
const SAID: usize = 400;

/// Why there is no network.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// No namespace.
    #[error("A network namespace can't be made at {}: this needs the capability SYS_ADMIN", path.display())]
    Namespace {
        /// Where.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// No program.
    #[error("{PASTA} can't be run: install passt (apt install passt), or give --network none")]
    Missing(#[source] io::Error),
    /// It ended.
    #[error("{PASTA} can't connect the sandbox: {said}")]
    Refused {
        /// What it said.
        said: String,
    },
}

/// A sandbox's network, for as long as it runs.
#[derive(Debug)]
pub struct Attached {
    path: PathBuf,
}

/// Where the namespace of a machine is while it runs. What confines pasta on Debian (AppArmor) lets it open namespaces here, as
/// rootless engines have them, and hardly anywhere else.
#[must_use]
pub fn path(machine: &str) -> PathBuf {
    PathBuf::from(format!("/run/user/{}/msb", geteuid())).join(machine)
}

/// Makes the namespace at `path`, and joins it with the host's network; none where a sandbox has none.
///
/// # Errors
/// [`NetworkError`]; then nothing is left.
pub fn attach(network: Network, path: &Path) -> Result<Option<Attached>, NetworkError> {
    if network == Network::None {
        return Ok(None);
    }
    forget(path);
    let directory = path.parent().unwrap_or(path);
    let made = DirBuilder::new().recursive(true).mode(0o700).create(directory);
    let made = made.and_then(|()| namespace::make(path));
    let attached = Attached { path: path.to_owned() };
    if let Err(source) = made {
        attached.detach();
        return Err(NetworkError::Namespace { path: path.to_owned(), source });
    }
    match connect(path) {
        Ok(()) => Ok(Some(attached)),
        Err(error) => {
            attached.detach();
            Err(error)
        }
    }
}

/// The version of the program.
///
/// # Errors
/// [`NetworkError::Missing`]
pub fn probe() -> Result<String, NetworkError> {
    let output =
        Command::new(PASTA).arg("--version").stdin(Stdio::null()).output().map_err(NetworkError::Missing)?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(said.lines().next().unwrap_or(PASTA).to_owned())
}

/// Returns when the namespace has its interface; the program stays until the namespace's file is gone.
fn connect(path: &Path) -> Result<(), NetworkError> {
    let resolver = RESOLVER.to_string();
    let mut pasta = Command::new(PASTA);
    pasta.arg("--netns").arg(path).args(["--config-net", "--quiet", "--ns-ifname", INTERFACE]);
    // As another user it could neither open nor enter the namespace. It gives up all other powers by itself.
    pasta.args(["--runas", "0:0"]);
    // Not the host's own addresses, by which a guest could not reach it, and not its routes, which may lead nowhere.
    pasta.args(["--address", ADDRESS, "--netmask", NETMASK, "--gateway", GATEWAY]);
    // The gateway is the gateway, and no way to what listens on the host's loopback.
    pasta.args(["--no-map-gw", "--dns-forward", &resolver]);
    // Nothing of the namespace is reached by it, and nothing of the host's loopback from there.
    pasta.args(["-t", "none", "-u", "none", "-T", "none", "-U", "none"]);
    let output = pasta.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).output();
    let output = output.map_err(NetworkError::Missing)?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(NetworkError::Refused { said: said.trim().chars().take(SAID).collect() })
}

impl Attached {
    /// Where names are answered.
    #[must_use]
    pub fn resolver(&self) -> IpAddr {
        RESOLVER
    }

    /// The sandbox has ended.
    pub fn detach(self) {
        forget(&self.path);
    }
}

/// Removes what an earlier life has left at `path`; pasta ends when its file is gone.
pub fn forget(path: &Path) {
    namespace::remove(path);
}
