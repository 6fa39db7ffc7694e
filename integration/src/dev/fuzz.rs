//! `cargo dev fuzz`: what strangers send, made up by LLVM's fuzzer, with AddressSanitizer.
//!
//! Our own packages are built for it by a wrapper of rustc (`integration/fuzz/rustc.sh`) and all others as ever, so that this
//! costs a build of ours and no more. A target begins with the seeds that its own code makes, whole requests of each kind, and
//! with the corpus that the repository keeps, which is what was found beyond; from then on with its own in `target/fuzz`.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::thread;

use anyhow::{Context, Result, bail, ensure};

use super::Project;
use super::test::cargo;

/// A target, how long its inputs get, and how many edges it reaches at once, by what it begins with: one that reaches fewer has
/// gone blind. About seven tenths of what it was when that was last looked at.
struct Target {
    name: &'static str,
    length: u32,
    edges: u32,
}

/// The targets, in the order of `integration/fuzz/src/lib.rs`.
const TARGETS: [Target; 21] = [
    target("rng", 4096, 1_120),
    target("block", 4096, 1_600),
    target("block-read-only", 4096, 1_430),
    target("block-throttled", 4096, 1_600),
    target("net", 4096, 1_300),
    target("net-throttled", 4096, 1_440),
    target("vsock", 4096, 2_000),
    target("balloon", 4096, 1_340),
    target("fs", 4096, 1_500),
    target("cell", 4096, 980),
    target("agent-to-host", 4096, 1_030),
    target("host-to-agent", 8192, 2_070),
    target("config", 16_384, 7_000),
    target("root", 4096, 1_180),
    target("composition", 4096, 280),
    target("writeback", 4096, 1_400),
    target("layer", 8192, 2_900),
    target("archive", 16_384, 3_180),
    target("server", 4096, 7_000),
    target("server-agent", 4096, 5_000),
    target("terminal", 4096, 3_000),
];

const fn target(name: &'static str, length: u32, edges: u32) -> Target {
    Target { name, length, edges }
}

/// Names the target to the fuzzer.
const VARIABLE: &str = "MSB_FUZZ_TARGET";
/// Names the folder to which it is to write what it begins with.
const SEEDS: &str = "MSB_FUZZ_SEEDS";
/// Bytes that a kept corpus may have.
const KEPT: usize = 48 << 10;

/// What `fuzz` is told.
#[derive(Debug, clap::Args)]
pub struct Fuzz {
    /// Only these; without any, all
    targets: Vec<String>,
    /// How long each runs; two or more run at a time where there are processors
    #[arg(long, default_value_t = 60)]
    seconds: u32,
    /// How many run at a time; as many as there are processors unless given
    #[arg(long)]
    jobs: Option<usize>,
    /// Take the smallest of what was found into the corpora that the repository keeps
    #[arg(long)]
    keep: bool,
}

/// Runs them; 0 if nothing was found.
pub fn run(project: &Project, arguments: &Fuzz) -> Result<i32> {
    let unknown = arguments.targets.iter().find(|name| TARGETS.iter().all(|target| target.name != **name));
    if let Some(name) = unknown {
        bail!("There is no target {name}: give some of {}", TARGETS.map(|target| target.name).join(", "));
    }
    let chosen: Vec<&Target> = TARGETS
        .iter()
        .filter(|target| {
            arguments.targets.is_empty() || arguments.targets.iter().any(|name| name == target.name)
        })
        .collect();
    let fuzzer = Fuzzer { program: copied(project, &build(project)?)?, project, seconds: arguments.seconds };
    let processors = thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let next = Mutex::new(chosen.iter());
    let failures = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..arguments.jobs.unwrap_or(processors).clamp(1, chosen.len()) {
            scope.spawn(|| {
                while let Some(target) =
                    Some(&next).and_then(|next| next.lock().expect("nobody panics with it").next())
                {
                    let ran = fuzzer
                        .run(target)
                        .and_then(|()| if arguments.keep { fuzzer.keep(target) } else { Ok(()) });
                    if let Err(error) = ran {
                        println!("{}: {error:#}", target.name);
                        failures.lock().expect("nobody panics with it").push(target.name);
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().expect("nobody panicked with it");
    if failures.is_empty() {
        return Ok(0);
    }
    println!("failed: {}", failures.join(", "));
    Ok(1)
}

/// The fuzzer's program, which has all targets.
fn build(project: &Project) -> Result<PathBuf> {
    // The same packages as the tests have: with others, dependencies would have other features, and be built once more.
    let line =
        ["test", "--no-run", "--workspace", "--exclude", "integration", "--test", "engine", "--locked"];
    let output = cargo(project, &line)
        .args(["--features", "fuzz/engine", "--message-format", "json-render-diagnostics"])
        .env("RUSTC_WORKSPACE_WRAPPER", project.root.join("integration/fuzz/rustc.sh"))
        .env("CARGO_INCREMENTAL", "0")
        .stderr(Stdio::inherit())
        .output()
        .context("Cannot run cargo")?;
    ensure!(
        output.status.success(),
        "The fuzz targets can't be built: they need a C++ compiler (apt-get install g++)"
    );
    let made = |line: &[u8]| {
        let message: serde_json::Value = serde_json::from_slice(line).ok()?;
        message["executable"].as_str().map(PathBuf::from)
    };
    output.stdout.split(|byte| *byte == b'\n').find_map(made).context("cargo does not say what it has built")
}

/// What is built meanwhile does not change what runs for an hour.
fn copied(project: &Project, program: &Path) -> Result<PathBuf> {
    let folder = project.target.join("fuzz");
    fs::create_dir_all(&folder).with_context(|| format!("Cannot make {}", folder.display()))?;
    let copy = folder.join("engine");
    // One that still runs is not written to.
    let _ = fs::remove_file(&copy);
    fs::copy(program, &copy).context("Cannot copy the fuzzer")?;
    Ok(copy)
}

struct Fuzzer<'a> {
    program: PathBuf,
    project: &'a Project,
    seconds: u32,
}

impl Fuzzer<'_> {
    fn folder(&self, target: &str) -> PathBuf {
        self.project.target.join("fuzz").join(target)
    }

    fn kept(&self, target: &str) -> PathBuf {
        self.project.root.join("integration/fuzz/corpus").join(target)
    }

    /// Runs one target for its time, and says how far it came.
    fn run(&self, target: &Target) -> Result<()> {
        let name = target.name;
        let folder = self.folder(name);
        let corpus = folder.join("corpus");
        fs::create_dir_all(&corpus).with_context(|| format!("Cannot make {}", corpus.display()))?;
        self.write_seeds(name, &corpus)?;
        let packed = fs::read(self.kept(name)).unwrap_or_default();
        let inputs = unpack(&packed).context("The kept corpus is none")?;
        for (number, input) in inputs.iter().enumerate() {
            fs::write(corpus.join(format!("kept-{number}")), input).context("Cannot write the corpus")?;
        }
        let log = folder.join("log");
        let mut command = self.command(name, &log)?;
        command
            .arg(format!("-max_total_time={}", self.seconds))
            .arg(format!("-artifact_prefix={}/", folder.display()));
        command
            .args(["-timeout=60", "-rss_limit_mb=2048", "-len_control=0", "-close_fd_mask=1"])
            .arg(format!("-max_len={}", target.length))
            .arg(&corpus);
        let status = command.status().with_context(|| format!("Cannot run {}", self.program.display()))?;
        let text = fs::read(&log).context("Cannot read the fuzzer's log")?;
        let text = String::from_utf8_lossy(&text);
        if !status.success() {
            let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
            let last = lines[lines.len().saturating_sub(60)..].join("\n");
            bail!("{last}\nfailed after this; the whole is in {}", log.display());
        }
        let Outcome { runs, edges, inputs } =
            outcome(&text).context("The fuzzer says nothing of what it did")?;
        println!("{name}: {runs} runs, {edges} edges, {inputs} inputs");
        ensure!(edges >= target.edges, "It has gone blind: it is to reach {} edges at once", target.edges);
        Ok(())
    }

    fn write_seeds(&self, name: &str, folder: &Path) -> Result<()> {
        let log = folder.with_file_name("seeds-log");
        let status =
            self.command(name, &log)?.env(SEEDS, folder).status().context("Cannot run the fuzzer")?;
        ensure!(status.success(), "The seeds can't be made: see {}", log.display());
        Ok(())
    }

    /// The smallest inputs that together see all that was seen beyond the seeds, as far as there is room for them.
    fn keep(&self, target: &Target) -> Result<()> {
        let name = target.name;
        let folder = self.folder(name);
        let smallest = folder.join("smallest");
        if smallest.exists() {
            fs::remove_dir_all(&smallest).context("Cannot remove what was there")?;
        }
        fs::create_dir(&smallest).context("Cannot make a folder")?;
        // What is in the first folder counts as seen.
        self.write_seeds(name, &smallest)?;
        let mut command = self.command(name, &folder.join("merge-log"))?;
        command
            .args(["-merge=1", "-close_fd_mask=1", "-rss_limit_mb=2048"])
            .arg(format!("-max_len={}", target.length))
            .arg(&smallest)
            .arg(folder.join("corpus"));
        ensure!(
            command.status().context("Cannot run the fuzzer")?.success(),
            "The corpus can't be made smaller"
        );
        let mut inputs = Vec::new();
        for entry in fs::read_dir(&smallest).context("Cannot read the corpus")? {
            let path = entry.context("Cannot read the corpus")?.path();
            if path.file_name().is_none_or(|name| !name.as_encoded_bytes().starts_with(b"seed-")) {
                inputs.push(fs::read(path).context("Cannot read an input")?);
            }
        }
        inputs.sort_by_key(|input| (input.len(), input.clone()));
        let mut packed = Vec::new();
        for input in &inputs {
            if packed.len() + input.len() + 4 > KEPT {
                break;
            }
            packed.extend(u32::try_from(input.len()).context("An input is too long")?.to_le_bytes());
            packed.extend(input);
        }
        fs::write(self.kept(name), packed).context("Cannot write the corpus")
    }

    fn command(&self, target: &str, log: &Path) -> Result<Command> {
        let mut command = Command::new(&self.program);
        let log = File::create(log).with_context(|| format!("Cannot make {}", log.display()))?;
        command
            .env(VARIABLE, target)
            .env("RUST_BACKTRACE", "0")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        Ok(command)
    }
}

/// The inputs in a corpus that is kept: each behind its length.
fn unpack(mut packed: &[u8]) -> Option<Vec<&[u8]>> {
    let mut inputs = Vec::new();
    while !packed.is_empty() {
        let (length, rest) = packed.split_first_chunk()?;
        let (input, rest) = rest.split_at_checked(usize::try_from(u32::from_le_bytes(*length)).ok()?)?;
        inputs.push(input);
        packed = rest;
    }
    Some(inputs)
}

/// What a run came to.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    runs: u64,
    edges: u32,
    inputs: u32,
}

/// Of libFuzzer's last line of progress (`#123 DONE cov: 45 ft: 67 corp: 8/9b …`).
fn outcome(log: &str) -> Option<Outcome> {
    let line = log.lines().rfind(|line| line.starts_with('#') && line.contains(" cov: "))?;
    let mut words = line.split_whitespace();
    let runs = words.next()?.trim_start_matches('#').parse().ok()?;
    let rest: Vec<&str> = words.collect();
    let after = |word: &str| rest.iter().position(|other| *other == word).and_then(|at| rest.get(at + 1));
    let inputs = after("corp:")?.split('/').next()?.parse().ok()?;
    Some(Outcome { runs, edges: after("cov:")?.parse().ok()?, inputs })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_of_progress_is_read() {
        let log = "INFO: Seed: 1\n#2\tINITED cov: 5 ft: 6 corp: 1/1b exec/s: 0 rss: 50Mb\n#99\tDONE   cov: 450 ft: 67 corp: 8/90b lim: 4 exec/s: 33 rss: 50Mb\nDone 99 runs\n";
        assert_eq!(outcome(log), Some(Outcome { runs: 99, edges: 450, inputs: 8 }));
        assert_eq!(outcome("nothing"), None);
    }

    #[test]
    fn every_target_has_its_corpus() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
        for Target { name, .. } in TARGETS {
            let packed = fs::read(folder.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert!(!unpack(&packed).expect("a corpus").is_empty(), "{name}");
        }
        assert_eq!(fs::read_dir(folder).expect("the corpora").count(), TARGETS.len());
    }
}
