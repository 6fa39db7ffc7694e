//! Everything that `cargo dev` makes before it can run something, each made once for the same inputs.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::Project;
use super::cache::Inputs;
use super::packages;
use crate::host::{Fixture, Item, Setup, VirtualHost, base, debian, fixture, image};
use crate::kernel;

/// Set, `msb` is what its own tests are built with, which costs nothing more.
const AS_TESTED_VARIABLE: &str = "MSB_AS_TESTED";

/// Whether a program needs the C library of the system that it runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Link {
    Static,
    Dynamic,
}

/// What is installed on a machine that runs our containers, and what it is called there.
#[derive(Clone, Debug)]
pub struct Build {
    /// `msb-runtime`.
    pub runtime: PathBuf,
    /// The guest kernel.
    pub kernel: PathBuf,
    /// The guest's first file system, with the agent in it.
    pub initramfs: PathBuf,
}

impl Build {
    /// Tells `msb-runtime` where the other parts are when they are not installed.
    pub fn variables(&self) -> [(&'static str, &Path); 2] {
        [("MSB_KERNEL", &self.kernel), ("MSB_INITRAMFS", &self.initramfs)]
    }

    /// Where each part goes on a host.
    pub fn payload(&self) -> Vec<Item> {
        let item = |source: &Path, target: &str, mode| Item {
            source: source.to_owned(),
            target: target.into(),
            mode,
        };
        vec![
            item(&self.runtime, "/usr/local/bin/msb-runtime", 0o755),
            item(&self.initramfs, "/usr/lib/msb/initramfs", 0o644),
            item(&self.kernel, "/usr/lib/msb/vmlinux", 0o644),
        ]
    }
}

impl Project {
    /// The saved state of `fixture`, made if need be.
    pub fn host(&self, fixture: Fixture) -> Result<Setup> {
        packages::require(&packages::HOST)?;
        let inputs = image::inputs().into_iter().fold(Inputs::default(), Inputs::text);
        let version = inputs.clone();
        let image = self.cache.product("host-image", inputs, |folder, step| {
            step.phase("Debian's packages, about a minute");
            Ok(image::build(folder)?)
        })?;
        // The agent counts by its source: a new compiler or dependency is no reason to boot Debian again.
        let inputs = fixture::inputs().into_iter().fold(version, Inputs::text);
        let inputs = self.host_agent_sources().iter().try_fold(inputs, |inputs, path| inputs.tree(path))?;
        let state =
            self.cache.product(&format!("host-state-{}", fixture.name()), inputs, |folder, step| {
                step.phase("building its agent");
                let agent = self.host_agent()?;
                Ok(fixture::build(fixture, &image, &agent, folder, &|phase| step.phase(phase))?)
            })?;
        Ok(Setup { state, emulator: image.join(image::EMULATOR), failures: self.target.join("failures") })
    }

    /// A clean host with the current build and `extra` files in it: what an end-to-end test begins with.
    pub fn clean_host(&self, fixture: Fixture, extra: &[Item]) -> Result<VirtualHost> {
        let payload = [self.payload()?.as_slice(), extra].concat();
        Ok(VirtualHost::start(fixture, &self.host(fixture)?, &payload)?)
    }

    /// The programs under test, built from this checkout.
    pub fn build(&self) -> Result<Build> {
        let runtime = self.program("msb-runtime", &["src"], &["--release", "--package", "msb-runtime"])?;
        let agent = self.program("msb-agent", &[], &["--profile=guest", "--package", "msb-agent"])?;
        let initramfs = self.initramfs("initramfs", &agent)?;
        Ok(Build { runtime, kernel: self.guest_kernel()?, initramfs })
    }

    /// Where the build goes on a host, and containerd's shim, which not everybody who runs a container has to wait for.
    pub fn payload(&self) -> Result<Vec<Item>> {
        let name = "containerd-shim-msb-v2";
        let source = self.program(name, &["src", "shim"], &["--release", "--package", name])?;
        // Last what waits for the kernel, which somebody else may be making all this time.
        let mut payload = self.build()?.payload();
        payload.push(Item { source, target: format!("/usr/local/bin/{name}"), mode: 0o755 });
        Ok(payload)
    }

    /// All of it, and the product's own command, which few tests have to wait for.
    pub fn shipped(&self) -> Result<Vec<Item>> {
        let source = self.msb()?;
        let mut payload = self.payload()?;
        payload.push(Item { source, target: "/usr/local/bin/msb".into(), mode: 0o755 });
        Ok(payload)
    }

    /// The product's command line. It asks the system for names, which a static program can't.
    pub fn msb(&self) -> Result<PathBuf> {
        let arguments: &[&str] = if std::env::var_os(AS_TESTED_VARIABLE).is_some() {
            // The packages, targets and so features that `cargo dev test` has: nothing is compiled for this alone.
            &["--profile=dev", "--workspace", "--exclude", "integration", "--tests", "--bin", "msb"]
        } else {
            &["--profile=product", "--package", "msb"]
        };
        let inputs = self.sources(&["src", "msb/Cargo.toml", "msb/src"])?.text("dynamic");
        let inputs = arguments.iter().fold(inputs, Inputs::text);
        self.cargo("msb", inputs, arguments, Link::Dynamic).map(|folder| folder.join("msb"))
    }

    /// The guest kernel; some minutes the first time.
    pub fn guest_kernel(&self) -> Result<PathBuf> {
        self.kernel_for(kernel::Arch::host())
    }

    /// The guest kernel of machines with that processor.
    pub fn kernel_for(&self, arch: kernel::Arch) -> Result<PathBuf> {
        packages::require_installed(kernel::PACKAGES)?;
        let name =
            if arch == kernel::Arch::host() { "kernel".into() } else { format!("kernel-{}", arch.name()) };
        let folder = self.cache.product(&name, kernel_inputs(arch)?, |folder, step| {
            let built = kernel::build(arch, folder, &|phase| step.phase(phase))?;
            Ok(fs::rename(built, folder.join("kernel"))?)
        })?;
        Ok(folder.join("kernel"))
    }

    /// Sees to it that the kernel's source takes every setting on the processors that this machine has not, as
    /// [`Self::guest_kernel`] does on its own; some seconds for each the first time.
    pub fn kernel_settings(&self) -> Result<()> {
        packages::require_installed(kernel::PACKAGES)?;
        for arch in kernel::Arch::ALL.into_iter().filter(|arch| *arch != kernel::Arch::host()) {
            let name = format!("kernel-settings-{}", arch.name());
            self.cache.product(&name, kernel_inputs(arch)?, |folder, step| {
                Ok(kernel::check(arch, folder, &|phase| step.phase(phase))?)
            })?;
        }
        Ok(())
    }

    /// Debian as the product's image is built on it, in an archive.
    pub fn debian(&self) -> Result<PathBuf> {
        packages::require(&packages::HOST)?;
        let inputs = Inputs::default().text(debian::SUITE).text(base::PACKAGES);
        let folder = self.cache.product("debian-base", inputs, |folder, step| {
            step.phase("Debian's packages");
            Ok(base::build(folder)?)
        })?;
        Ok(folder.join(base::ARCHIVE))
    }

    /// An image with Node, in an archive.
    pub fn node_image(&self) -> Result<PathBuf> {
        packages::require(&packages::HOST)?;
        let inputs = Inputs::default().text(debian::SUITE).text(base::NODE_PACKAGES).text(base::NODE_LINKS);
        let folder = self.cache.product("node-image", inputs, |folder, step| {
            step.phase("Debian's packages");
            Ok(base::build_node(folder)?)
        })?;
        Ok(folder.join(base::NODE_ARCHIVE))
    }

    /// The original's published client for Python, as it is, with all that it needs, for the virtual host's Python: the folder
    /// `site` of packages, and `client.tar`, the same in an archive.
    pub fn python_client(&self, version: &str) -> Result<PathBuf> {
        let client = format!("microsandbox=={version}");
        let inputs = Inputs::default().text(&client);
        self.cache.product(&format!("python-client-{version}"), inputs, |folder, step| {
            step.phase("from PyPI");
            let pip = Command::new("python3").args(["-m", "pip", "--version"]).output();
            if !pip.is_ok_and(|output| output.status.success()) {
                packages::require_installed(&["python3-pip"])?;
            }
            let site = folder.join("site");
            let mut command = Command::new("python3");
            command.args([
                "-m",
                "pip",
                "install",
                "--quiet",
                "--disable-pip-version-check",
                "--only-binary=:all:",
            ]);
            // Debian 13's, whatever runs here.
            command.args(["--python-version", "3.13", "--implementation", "cp"]);
            for platform in ["manylinux2014", "manylinux_2_17", "manylinux_2_28"] {
                command.arg("--platform").arg(format!("{platform}_{}", std::env::consts::ARCH));
            }
            command.arg("--target").arg(&site).arg(&client);
            let output = command.stdin(Stdio::null()).output().context("Cannot run python3")?;
            if !output.status.success() {
                bail!("pip failed: {}", String::from_utf8_lossy(&output.stderr));
            }
            let mut tar = Command::new("tar");
            tar.arg("-C").arg(&site).arg("-cf").arg(folder.join("client.tar")).arg(".");
            if !tar.status().context("Cannot run tar")?.success() {
                bail!("tar failed");
            }
            Ok(())
        })
    }

    /// A program of this package for use in the virtual host.
    pub fn host_program(&self, name: &str) -> Result<PathBuf> {
        let inputs = self.tools()?.tree(&self.root.join("integration/src"))?;
        let arguments = ["--package", "integration", "--bin", name];
        Ok(self.cargo(name, inputs, &arguments, Link::Dynamic)?.join(name))
    }

    /// Our machine alone, for measurements: `examples/boot.rs`.
    pub fn machine_program(&self) -> Result<PathBuf> {
        self.program(
            "boot",
            &["src", "examples"],
            &["--release", "--package", "msb-runtime", "--example", "boot"],
        )
    }

    /// `msb-rootfs`, for measurements.
    pub fn rootfs_program(&self) -> Result<PathBuf> {
        self.program("msb-rootfs", &[], &["--release", "--package", "rootfs-builder"])
    }

    /// What asks a file system for what POSIX promises.
    pub fn guest_posix(&self) -> Result<PathBuf> {
        self.guest("guest-posix")
    }

    /// The first file system of a guest that only measures its disks, and the same program for files.
    pub fn guest_io(&self) -> Result<(PathBuf, PathBuf)> {
        let program = self.guest("guest-io")?;
        Ok((self.initramfs("guest-io-initramfs", &program)?, program))
    }

    /// The first file system of a guest that only measures its network, and the same program for beside it.
    pub fn guest_net(&self) -> Result<(PathBuf, PathBuf)> {
        let program = self.guest("guest-net")?;
        Ok((self.initramfs("guest-net-initramfs", &program)?, program))
    }

    /// The kernel of a guest that wants out.
    pub fn guest_hostile(&self) -> Result<PathBuf> {
        let name = "guest-hostile";
        let inputs = self.tools()?.tree(&self.root.join("integration/guests/hostile"))?;
        let arguments = ["--profile=guest", "--package", name, "--bin", name, "--features", "kernel"];
        Ok(self.cargo(name, inputs, &arguments, Link::Static)?.join(name))
    }

    /// The first file system of a guest whose agent lies.
    pub fn guest_liar(&self) -> Result<PathBuf> {
        let program = self.guest("guest-liar")?;
        self.initramfs("guest-liar-initramfs", &program)
    }

    /// A program that needs nothing else in a guest.
    fn guest(&self, name: &str) -> Result<PathBuf> {
        let inputs = ["integration/guests/Cargo.toml", "integration/guests/src", "guest/agent"]
            .iter()
            .try_fold(self.tools()?, |inputs, path| inputs.tree(&self.root.join(path)))?;
        let arguments = ["--profile=guest", "--package", "guests", "--bin", name];
        Ok(self.cargo(name, inputs, &arguments, Link::Static)?.join(name))
    }

    pub(super) fn host_agent_sources(&self) -> [PathBuf; 3] {
        let folder = self.root.join("integration/src");
        ["host/agent.rs", "host/protocol.rs", "bin/host-agent.rs"].map(|name| folder.join(name))
    }

    /// The agent of the virtual host: built as `cargo dev` itself is, so that nothing is compiled twice for it. Not
    /// static, but Debian 12 and 13 link it so that Debian 13 runs it.
    fn host_agent(&self) -> Result<PathBuf> {
        let inputs =
            self.host_agent_sources().iter().try_fold(self.tools()?, |inputs, path| inputs.tree(path))?;
        let arguments = ["--package", "integration", "--bin", "host-agent"];
        Ok(self.cargo("host-agent", inputs.text("dynamic"), &arguments, Link::Dynamic)?.join("host-agent"))
    }

    /// A guest's first file system whose `/init` is `program`; the product is called `name`.
    pub(super) fn initramfs(&self, name: &str, program: &Path) -> Result<PathBuf> {
        let inputs =
            Inputs::default().tree(program)?.tree(&self.root.join("rootfs-builder/src/initramfs.rs"))?;
        let folder = self.cache.product(name, inputs, |folder, _| {
            Ok(rootfs_builder::initramfs::write(program, &folder.join("initramfs"))?)
        })?;
        Ok(folder.join("initramfs"))
    }

    /// A program that runs on our machine or in it, of the folders `also` and those that all of them are built from. Static:
    /// the agent has no libraries in its guest, and the runtime is executed twice for each container, of which the
    /// loading and linking of libraries would be a noticeable part.
    fn program(&self, name: &str, also: &[&str], arguments: &[&str]) -> Result<PathBuf> {
        let inputs = self.sources(also)?.text("static");
        Ok(self.cargo(name, inputs, arguments, Link::Static)?.join(name))
    }

    /// The folders `also` and those that all of our programs are built from.
    pub(super) fn sources(&self, also: &[&str]) -> Result<Inputs> {
        let common = ["Cargo.toml", "guest/agent", "rootfs-builder/Cargo.toml", "rootfs-builder/src"];
        let all = common.iter().chain(also);
        all.map(|folder| self.root.join(folder)).try_fold(self.tools()?, |inputs, path| inputs.tree(&path))
    }

    /// Compiler, the flags and profile that the environment gives it, and every dependency.
    pub(super) fn tools(&self) -> Result<Inputs> {
        let version = Command::new("rustc").arg("-vV").output().context("Cannot run rustc")?;
        let flags = std::env::vars_os()
            .filter(|(name, _)| name == "RUSTFLAGS" || name.to_string_lossy().starts_with("CARGO_PROFILE_"))
            .collect::<BTreeMap<_, _>>();
        let inputs =
            flags.into_iter().fold(Inputs::default().text(version.stdout), |inputs, (name, value)| {
                inputs.text(name.into_encoded_bytes()).text(value.into_encoded_bytes())
            });
        inputs.tree(&self.root.join("Cargo.lock"))
    }

    /// Runs `cargo build` and keeps the program `name`.
    fn cargo(&self, name: &str, inputs: Inputs, arguments: &[&str], link: Link) -> Result<PathBuf> {
        self.cache.product(name, inputs, |folder, step| {
            step.phase("cargo build");
            let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
            command.args(["build", "--quiet", "--locked"]).args(arguments).current_dir(&self.root);
            let mut built = self.target.clone();
            if link == Link::Static {
                let triple = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
                built.push("static");
                command.arg("--target-dir").arg(&built).args(["--target", &triple]);
                // With an explicit target these reach the program but not its build scripts. What runs in a guest is the same
                // wherever it is built (`cargo dev reproduce`).
                let flags = if arguments.contains(&"--profile=guest") {
                    static_flags(&self.root, &built)
                } else {
                    STATIC.to_owned()
                };
                command.env("RUSTFLAGS", flags);
                built.push(triple);
            } else {
                command.arg("--target-dir").arg(&built);
            }
            let profile = arguments.iter().find_map(|argument| argument.strip_prefix("--profile="));
            built.push(match profile {
                None if arguments.contains(&"--release") => "release",
                None | Some("dev") => "debug",
                Some(other) => other,
            });
            forget_cargo(&mut command);
            let status = command.stdin(Stdio::null()).status().context("Cannot run cargo")?;
            if !status.success() {
                bail!("cargo build of {name} failed");
            }
            let from = built.join(if arguments.contains(&"--example") { "examples" } else { "" }).join(name);
            fs::copy(&from, folder.join(name)).with_context(|| format!("Cannot copy {}", from.display()))?;
            Ok(())
        })
    }
}

/// rustc's flags for a static program.
pub(super) const STATIC: &str = "-C target-feature=+crt-static";

/// The same for one in which no path of this machine is: where it is built is not to be seen.
pub(super) fn static_flags(sources: &Path, target: &Path) -> String {
    let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
    let cargo = std::env::var_os("CARGO_HOME").map_or_else(|| home.join(".cargo"), PathBuf::from);
    // The last that fits counts: what is built in the checkout is no source of it.
    let paths = [(sources, "/src"), (target, "/target"), (&cargo, "/cargo")];
    // Flags are separated by blanks: a path with one stays as it is.
    let plain = paths.into_iter().filter(|(path, _)| !path.to_string_lossy().contains(' '));
    plain.fold(STATIC.to_owned(), |flags, (path, name)| {
        format!("{flags} --remap-path-prefix={}={name}", path.display())
    })
}

/// What a kernel for `arch` depends on.
fn kernel_inputs(arch: kernel::Arch) -> Result<Inputs> {
    let inputs = kernel::inputs(arch)?;
    Ok(inputs.into_iter().fold(Inputs::default(), |all, (name, content)| all.text(name).text(content)))
}

/// `cargo dev` runs under cargo, whose variables for our own package would only make another cargo build more again.
pub fn forget_cargo(command: &mut Command) {
    let ours =
        |name: &OsString| name.to_string_lossy().starts_with("CARGO_PKG_") || name == "CARGO_MANIFEST_DIR";
    for (name, _) in std::env::vars_os().filter(|(name, _)| ours(name)) {
        command.env_remove(name);
    }
}
