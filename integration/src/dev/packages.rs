//! Debian packages that the work needs: found, installed as root, or asked for with the exact command.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, bail, ensure};

/// A package, and a program of it whose presence means that it is installed.
pub type Package = (&'static str, &'static str);

/// For the virtual host's disk; its emulator comes with it.
pub const HOST: [Package; 2] = [("mmdebstrap", "mmdebstrap"), ("e2fsprogs", "mkfs.ext4")];

/// For the Arm host: its disk, its emulator, and the compiler of its guests' kernel.
pub const ARM: [Package; 7] = [
    ("cpio", "cpio"),
    ("e2fsprogs", "mkfs.ext4"),
    ("gcc-aarch64-linux-gnu", "aarch64-linux-gnu-gcc"),
    ("kmod", "depmod"),
    ("mmdebstrap", "mmdebstrap"),
    ("qemu-system-arm", "qemu-system-aarch64"),
    ("xz-utils", "xz"),
];

/// Sees to it that all of `packages` are installed.
pub fn require(packages: &[Package]) -> Result<()> {
    let missing: Vec<&str> =
        packages.iter().filter(|(_, program)| !installed(program)).map(|(package, _)| *package).collect();
    install(&missing)
}

/// Sees to it that packages without a program to tell them by are installed.
pub fn require_installed(packages: &[&str]) -> Result<()> {
    let format = "-f=${db:Status-Status} ${Package}\n";
    let known = Command::new("dpkg-query").args(["-W", format]).args(packages).output();
    let known = String::from_utf8_lossy(&known.context("Cannot run dpkg-query; is this Debian?")?.stdout)
        .into_owned();
    let there = |package: &&str| known.lines().any(|line| line.strip_prefix("installed ") == Some(*package));
    install(&packages.iter().copied().filter(|package| !there(package)).collect::<Vec<_>>())
}

/// Debian's package manager serves one at a time, and several products are made at once.
static APT: Mutex<()> = Mutex::new(());
/// The same among processes: each test is one.
const LOCK: &str = "msb-dev-apt.lock";

fn install(missing: &[&str]) -> Result<()> {
    if missing.is_empty() {
        return Ok(());
    }
    let mut arguments = vec!["install", "--yes", "--no-install-recommends"];
    arguments.extend(missing);
    if !nix::unistd::geteuid().is_root() {
        bail!("Missing Debian packages. Install them with:\n    sudo apt-get {}", arguments.join(" "));
    }
    let _turn = APT.lock().unwrap_or_else(PoisonError::into_inner);
    let lock = fs::File::create(std::env::temp_dir().join(LOCK)).context("Cannot make a lock for apt-get")?;
    lock.lock().context("Cannot wait for another apt-get of ours")?;
    eprintln!("Installing Debian packages: {}", missing.join(" "));
    // Lists may be old or, on a fresh machine, not there at all.
    apt(&["update"])?;
    let replaced = replaced(&arguments)?;
    if !replaced.is_empty() {
        eprintln!(
            "Bringing to this release's own version, so that nothing is removed: {}",
            replaced.join(" ")
        );
        arguments.push("--allow-downgrades");
        arguments.extend(replaced.iter().map(String::as_str));
    }
    apt(&arguments)
}

fn installed(program: &str) -> bool {
    let path = std::env::var("PATH").unwrap_or_default();
    path.split(':').chain(["/usr/sbin", "/sbin"]).any(|folder| Path::new(folder).join(program).is_file())
}

/// What the installation would remove, as `PACKAGE/RELEASE`: packages of a newer release (backports) that fit no longer.
fn replaced(arguments: &[&str]) -> Result<Vec<String>> {
    let plan =
        Command::new("apt-get").arg("--simulate").args(arguments).output().context("Cannot run apt-get")?;
    let plan = String::from_utf8_lossy(&plan.stdout).into_owned();
    let release = fs::read_to_string("/etc/os-release").context("Cannot read /etc/os-release")?;
    let codename =
        release.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME=")).unwrap_or("stable");
    let removed = plan.lines().filter_map(|line| line.strip_prefix("Remv ")?.split_whitespace().next());
    Ok(removed.map(|package| format!("{package}/{codename}")).collect())
}

fn apt(arguments: &[&str]) -> Result<()> {
    let mut command = Command::new("apt-get");
    command.arg("--quiet=2").args(arguments).env("DEBIAN_FRONTEND", "noninteractive");
    // Its output belongs with ours, on standard error.
    let output = command.stdin(Stdio::null()).output().context("Cannot run apt-get; is this Debian?")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "apt-get {} failed:\n{}", arguments.join(" "), said.trim());
    Ok(())
}
