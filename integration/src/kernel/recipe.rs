//! The recipe: unpack, configure, compile, pack, put in place. Each step leaves what the next one reads in the build
//! directory, which is removed at the end; only the finished kernel and the log of the compiler stay.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use thiserror::Error;

use super::{Arch, ElfError, PACKAGES, SIZE_LIMIT, SOURCE_ARCHIVE, SOURCE_PACKAGE, config, elf};

/// How many files our configuration compiles: what the progress is measured against.
const FILES: u32 = 1550;
/// Nobody waits longer than this for a sign of life.
const SIGN_OF_LIFE: Duration = Duration::from_secs(5);
/// What the kernel says of its own making, fixed so that the same inputs give the same bytes.
const REPRODUCIBLE: [(&str, &str); 4] = [
    ("KBUILD_BUILD_TIMESTAMP", "1970-01-01"),
    ("KBUILD_BUILD_USER", "msb"),
    ("KBUILD_BUILD_HOST", "msb"),
    ("KBUILD_BUILD_VERSION", "1"),
];
/// First bytes of an `Image` for aarch64 that matter: the magic at 56 (`Documentation/arch/arm64/booting.rst`).
const ARM64_IMAGE_MAGIC: &[u8] = b"ARM\x64";

/// Why there is no kernel.
#[derive(Debug, Error)]
pub enum KernelError {
    /// The source package is not installed.
    #[error("Kernel source {} is missing; install what a kernel needs: apt-get install {}", SOURCE_ARCHIVE, PACKAGES.join(" "))]
    NoSource,
    /// A program could not be started.
    #[error("Cannot start {program}; install what a kernel needs: apt-get install {}", PACKAGES.join(" "))]
    Start {
        /// Its name.
        program: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A program failed.
    #[error("{step} failed; its last lines (all of them in {}):\n{tail}", log.display())]
    Failed {
        /// What was being done.
        step: &'static str,
        /// The end of its output.
        tail: String,
        /// Where its output is.
        log: PathBuf,
    },
    /// The configuration that came out is not the one that went in.
    #[error("The kernel source does not take these settings of guest/kernel: {}", symbols.join("; "))]
    SymbolsLost {
        /// Each with what was asked and what came out.
        symbols: Vec<String>,
    },
    /// An edit of the source finds its place no more.
    #[error("{file} of the kernel source is not as expected; see EDITS in integration/src/kernel/config.rs")]
    EditLost {
        /// The file.
        file: &'static str,
    },
    /// The linker's output is not a kernel that the VMM can boot.
    #[error("The kernel that was built cannot be booted")]
    Unbootable(#[source] ElfError),
    /// No `Image` for aarch64.
    #[error("The kernel that was built is not an aarch64 image")]
    NotImage,
    /// Too much for copying at every start.
    #[error("The kernel has {bytes} bytes, more than {SIZE_LIMIT}; take something out of guest/kernel")]
    TooLarge {
        /// Its size.
        bytes: u64,
    },
    /// A file could not be read or written.
    #[error("Cannot {what} {}", path.display())]
    File {
        /// What was to be done.
        what: &'static str,
        /// With which file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

/// All that decides what [`build`] gives, as name and content: the fragments, this recipe, the version of the source and
/// that of the compiler. The same inputs need no second build.
///
/// # Errors
/// [`KernelError::NoSource`] or [`KernelError::Start`] if a package is missing.
pub fn inputs(arch: Arch) -> Result<Vec<(String, Vec<u8>)>, KernelError> {
    let mut inputs: Vec<(String, Vec<u8>)> = config::fragments(arch)
        .iter()
        .map(|fragment| (fragment.name.to_owned(), fragment.text.as_bytes().to_vec()))
        .collect();
    inputs.push(("config.rs".to_owned(), include_bytes!("config.rs").to_vec()));
    inputs.push(("recipe.rs".to_owned(), include_bytes!("recipe.rs").to_vec()));
    inputs.push(("elf.rs".to_owned(), include_bytes!("elf.rs").to_vec()));
    inputs.push((SOURCE_PACKAGE.to_owned(), package_version()?));
    inputs.push(("gcc".to_owned(), answer("gcc", &["--version"])?.stdout));
    Ok(inputs)
}

/// Builds the kernel for `arch` into `out`: `out/vmlinux` (x86-64) or `out/Image` (aarch64), which is
/// complete once it is there. Takes some minutes and 2 GiB below `out`; the compiler's output stays in `out/kernel.log`.
///
/// # Errors
/// [`KernelError`], which says what to do.
pub fn build(arch: Arch, out: &Path, progress: &dyn Fn(&str)) -> Result<PathBuf, KernelError> {
    let tree = Tree::unpack(out, progress)?;
    tree.configure(arch)?;
    let (target, result) = arch.target();
    tree.compile(arch, target, progress)?;
    let built = read(&tree.objects().join(result))?;
    let kernel = match arch {
        Arch::X86_64 => elf::pack(&built).map_err(KernelError::Unbootable)?,
        Arch::Aarch64 if built.get(56..60) == Some(ARM64_IMAGE_MAGIC) => built,
        Arch::Aarch64 => return Err(KernelError::NotImage),
    };
    let bytes = u64::try_from(kernel.len()).expect("usize has at most 64 bits");
    if bytes >= SIZE_LIMIT {
        return Err(KernelError::TooLarge { bytes });
    }
    place(&out.join(target), &kernel)
}

/// Checks that the source takes every setting of the fragments for `arch`, without compiling; works for the other
/// processor as well and needs no cross compiler.
///
/// # Errors
/// [`KernelError::SymbolsLost`] names the settings that do not hold.
pub fn check(arch: Arch, scratch: &Path, progress: &dyn Fn(&str)) -> Result<(), KernelError> {
    Tree::unpack(scratch, progress)?.configure(arch)
}

/// The source and the objects, in a directory that goes away with it.
struct Tree {
    directory: tempfile::TempDir,
    log: PathBuf,
}

impl Tree {
    fn unpack(out: &Path, progress: &dyn Fn(&str)) -> Result<Self, KernelError> {
        if !Path::new(SOURCE_ARCHIVE).exists() {
            return Err(KernelError::NoSource);
        }
        progress("unpacking the kernel source");
        fs::create_dir_all(out).map_err(file_error("create", out))?;
        let directory = tempfile::Builder::new()
            .prefix(".kernel-")
            .tempdir_in(out)
            .map_err(file_error("create a directory in", out))?;
        let tree = Self { directory, log: out.join("kernel.log") };
        write(&tree.log, b"")?;
        fs::create_dir(tree.source()).map_err(file_error("create", &tree.source()))?;
        let mut tar = Command::new("tar");
        tar.args(["--extract", "--xz", "--strip-components=1", "--file", SOURCE_ARCHIVE, "--directory"])
            .arg(tree.source());
        // Two thirds of the source is drivers that are never configured; their Kconfig files are still read.
        tar.args([
            "--exclude=*/Documentation/*.rst",
            "--exclude=*/drivers/gpu/drm/*.[ch]",
            "--exclude=*/tools/testing/*",
        ]);
        tree.run("tar", "Unpacking the kernel source", &mut tar, &mut |_| ())?;
        for edit in config::EDITS {
            let path = tree.source().join(edit.file);
            let text = fs::read_to_string(&path).map_err(file_error("read", &path))?;
            let text = edit.apply(&text).ok_or(KernelError::EditLost { file: edit.file })?;
            write(&path, text.as_bytes())?;
        }
        Ok(tree)
    }

    fn source(&self) -> PathBuf {
        self.directory.path().join("source")
    }

    fn objects(&self) -> PathBuf {
        self.directory.path().join("objects")
    }

    fn make(&self, arch: Arch) -> Command {
        let mut make = Command::new("make");
        make.arg("-C")
            .arg(self.source())
            .arg(format!("O={}", self.objects().display()))
            .arg(format!("ARCH={}", arch.make_name()));
        if arch != Arch::host() {
            make.arg(format!("CROSS_COMPILE={}", arch.tools()));
        }
        make.envs(REPRODUCIBLE).env("LC_ALL", "C").env_remove("MAKEFLAGS");
        make
    }

    /// Everything off, then what the fragments ask for and what that selects.
    fn configure(&self, arch: Arch) -> Result<(), KernelError> {
        let asked = config::joined(arch);
        fs::create_dir_all(self.objects()).map_err(file_error("create", &self.objects()))?;
        let path = self.directory.path().join("asked.config");
        write(&path, asked.as_bytes())?;
        let mut make = self.make(arch);
        make.arg(format!("KCONFIG_ALLCONFIG={}", path.display())).arg("allnoconfig");
        self.run("make", "Configuring the kernel", &mut make, &mut |_| ())?;
        let path = self.objects().join(".config");
        let result = fs::read_to_string(&path).map_err(file_error("read", &path))?;
        let symbols = config::lost_symbols(&asked, &result);
        if symbols.is_empty() { Ok(()) } else { Err(KernelError::SymbolsLost { symbols }) }
    }

    fn compile(&self, arch: Arch, target: &str, progress: &dyn Fn(&str)) -> Result<(), KernelError> {
        let jobs = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let mut make = self.make(arch);
        make.arg(format!("-j{jobs}")).arg(target);
        let mut files = 0_u32;
        let mut said = Instant::now();
        progress("compiling the kernel");
        self.run("make", "Compiling the kernel", &mut make, &mut |line| {
            files += u32::from(line.trim_start().starts_with("CC "));
            if said.elapsed() >= SIGN_OF_LIFE {
                said = Instant::now();
                progress(&format!("compiling the kernel: {} %", (files * 100 / FILES).min(99)));
            }
        })
    }

    /// Runs a program to its end; its output goes to the log, and line by line to `each`.
    fn run(
        &self,
        program: &'static str,
        step: &'static str,
        command: &mut Command,
        each: &mut dyn FnMut(&str),
    ) -> Result<(), KernelError> {
        let mut log = File::options().append(true).open(&self.log).map_err(file_error("open", &self.log))?;
        let errors = log.try_clone().map_err(file_error("open", &self.log))?;
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(errors);
        let mut child = command.spawn().map_err(|source| KernelError::Start { program, source })?;
        let output = child.stdout.take().expect("stdout is a pipe");
        for line in BufReader::new(output).split(b'\n') {
            let Ok(line) = line else { break };
            each(&String::from_utf8_lossy(&line));
            log.write_all(&[&line, b"\n".as_slice()].concat()).map_err(file_error("write", &self.log))?;
        }
        if child.wait().is_ok_and(|status| status.success()) {
            return Ok(());
        }
        let all = read(&self.log)?;
        let lines: Vec<String> =
            all.split(|byte| *byte == b'\n').map(|line| String::from_utf8_lossy(line).into_owned()).collect();
        Err(KernelError::Failed {
            step,
            tail: lines[lines.len().saturating_sub(20)..].join("\n"),
            log: self.log.clone(),
        })
    }
}

/// Which source is installed.
fn package_version() -> Result<Vec<u8>, KernelError> {
    let output = answer("dpkg-query", &["--show", "--showformat=${Version}", SOURCE_PACKAGE])?;
    if !output.status.success() || output.stdout.is_empty() {
        return Err(KernelError::NoSource);
    }
    Ok(output.stdout)
}

fn answer(program: &'static str, arguments: &[&str]) -> Result<std::process::Output, KernelError> {
    Command::new(program)
        .args(arguments)
        .env("LC_ALL", "C")
        .output()
        .map_err(|source| KernelError::Start { program, source })
}

/// Writes `path` so that it is there as a whole or not at all.
fn place(path: &Path, content: &[u8]) -> Result<PathBuf, KernelError> {
    let directory = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new()
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))
        .tempfile_in(directory)
        .map_err(file_error("create a file in", directory))?;
    file.write_all(content).and_then(|()| file.as_file().sync_all()).map_err(file_error("write", path))?;
    file.persist(path).map_err(|error| file_error("put in place", path)(error.error))?;
    Ok(path.to_owned())
}

fn read(path: &Path) -> Result<Vec<u8>, KernelError> {
    fs::read(path).map_err(file_error("read", path))
}

fn write(path: &Path, content: &[u8]) -> Result<(), KernelError> {
    fs::write(path, content).map_err(file_error("write", path))
}

fn file_error(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> KernelError {
    let path = path.to_owned();
    move |source| KernelError::File { what, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_is_put_in_place_whole() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("vmlinux");
        place(&path, b"old").unwrap();
        place(&path, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "no temporary file is left");
    }

    #[test]
    fn a_failed_step_says_its_last_lines() {
        let directory = tempfile::tempdir().unwrap();
        let tree = Tree { log: directory.path().join("kernel.log"), directory };
        write(&tree.log, b"").unwrap();
        let mut seen = Vec::new();
        let error = tree
            .run("sh", "Trying", Command::new("sh").args(["-c", "echo one; echo two; exit 3"]), &mut |line| {
                seen.push(line.to_owned())
            })
            .unwrap_err();
        assert_eq!(seen, ["one", "two"]);
        assert!(
            error.to_string().contains("Trying failed") && error.to_string().contains("one\ntwo"),
            "{error}"
        );
    }
}
