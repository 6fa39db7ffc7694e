//! A Rust compiler that knows aarch64, on a machine whose own may not: Debian's, in a tree of its own.
//!
//! Enters: an empty folder; then a [`Workshop`], and what cargo is to be told. Leaves: the tree, and a command that runs cargo
//! in it. Crates come from a folder, as cargo's `vendor` leaves them: nothing in the tree reaches a network.
//! Must never know what is compiled.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::host::debian::{self, DebianError, SUITE, file};

/// What is compiled for.
pub const TARGET: &str = "aarch64-unknown-linux-gnu";
/// What is unpacked, one package a line: Debian's newest compiler, the library for both processors, and a linker for each.
pub const PACKAGES: &str = include_str!("files/toolchain.txt");
/// The compiler for Arm, which its library needs as little as we do.
const WITHOUT: [&str; 2] = ["./dev", "./usr/lib/aarch64-linux-gnu/lib*"];
/// Where the machine's folders are in the tree.
const PLACES: [&str; 5] = ["dev", "proc", "src", "crates", "target"];
/// Binds the folders after the tree's to [`PLACES`], and runs the rest in the tree. A user namespace: nobody needs be root.
const ENTER: &str = r#"
tree=$1; shift
for place in dev proc src crates target; do mount --rbind "$1" "$tree/$place"; shift; done
exec unshare --root "$tree" --wd /src "$@"
"#;

/// What decides which tree comes out.
pub fn inputs() -> Vec<&'static str> {
    [PACKAGES, SUITE].into_iter().chain(WITHOUT).chain(PLACES).collect()
}

/// Makes the tree in `folder`; some minutes and 1.2 GB.
pub fn build(folder: &Path) -> Result<(), DebianError> {
    let (archive, tree) = (folder.join("tree.tar"), tree(folder));
    debian::bootstrap(folder, PACKAGES, &archive, super::unpacked("amd64,arm64"))?;
    fs::create_dir(&tree).map_err(file(&tree))?;
    // By us, for whom the owners of files are of no account.
    let mut tar = Command::new("tar");
    tar.args(WITHOUT.map(|path| format!("--exclude={path}")));
    tar.args(["--no-same-owner", "-C"]).arg(&tree).arg("-xf").arg(&archive);
    let status = tar.status().map_err(file(Path::new("tar")))?;
    if !status.success() {
        let source = std::io::Error::other(format!("tar: {status}"));
        return Err(DebianError::File { path: archive, source });
    }
    fs::remove_file(&archive).map_err(file(&archive))?;
    for place in PLACES {
        let place = tree.join(place);
        fs::create_dir_all(&place).map_err(file(&place))?;
    }
    Ok(())
}

fn tree(folder: &Path) -> PathBuf {
    folder.join("tree")
}

/// Where cargo finds what it works with.
#[derive(Debug)]
pub struct Workshop<'a> {
    /// The folder that [`build`] filled.
    pub toolchain: &'a Path,
    /// The workspace.
    pub sources: &'a Path,
    /// All crates that its lock file names.
    pub crates: &'a Path,
    /// Cargo's output, which stays.
    pub target: &'a Path,
    /// rustc's flags.
    pub flags: &'a str,
}

impl Workshop<'_> {
    /// Cargo's `verb` for [`TARGET`].
    pub fn cargo(&self, verb: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new("unshare");
        // Nothing of the machine's own toolchain is meant for this one, but for how it is to compile.
        command.env_clear();
        command.envs(std::env::vars_os().filter(|(name, _)| is_profile(name)));
        command.env("PATH", "/usr/bin:/bin").env("CARGO_HOME", "/target/home");
        command.env("CARGO_TARGET_DIR", "/target").env("RUSTFLAGS", self.flags);
        command.env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER", "aarch64-linux-gnu-gcc");
        command.env("CC_aarch64_unknown_linux_gnu", "aarch64-linux-gnu-gcc");
        // What the packages' scripts would have set up is not there: not even `cc`.
        command.env("CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_LINKER", "x86_64-linux-gnu-gcc");
        command.env("CC_x86_64_unknown_linux_gnu", "x86_64-linux-gnu-gcc");
        command.args(["--user", "--map-root-user", "--mount", "sh", "-euc", ENTER, "-"]);
        command.arg(tree(self.toolchain)).args([Path::new("/dev"), Path::new("/proc")]);
        command.args([self.sources, self.crates, self.target]);
        command.args(["/usr/bin/cargo", "--offline"]);
        command.args(["--config", "source.crates-io.replace-with=\"vendored\""]);
        command.args(["--config", "source.vendored.directory=\"/crates\""]);
        command.args([verb, "--quiet", "--locked", "--target", TARGET]).args(arguments);
        command
    }
}

fn is_profile(name: &OsString) -> bool {
    name.to_string_lossy().starts_with("CARGO_PROFILE_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cargo_sees_folders_by_their_names_in_the_tree() {
        let [toolchain, sources, crates, target] = ["/a", "/b", "/c", "/d"].map(Path::new);
        let workshop = Workshop { toolchain, sources, crates, target, flags: "-C link-arg=x" };
        let command = workshop.cargo("build", &["--release"]);
        let line: Vec<_> = command.get_args().map(|part| part.to_string_lossy()).collect();
        let line = line.join(" ");
        assert!(line.contains("- /a/tree /dev /proc /b /c /d /usr/bin/cargo --offline"), "{line}");
        assert!(
            line.ends_with("build --quiet --locked --target aarch64-unknown-linux-gnu --release"),
            "{line}"
        );
        let bound = ENTER.lines().find_map(|line| line.strip_prefix("for place in "));
        assert!(bound.is_some_and(|rest| rest.starts_with(&format!("{};", PLACES.join(" ")))));
    }
}
