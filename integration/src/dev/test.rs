//! `cargo dev test`: what must hold before anything lands.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::{self, ScopedJoinHandle};

use anyhow::{Context, Result, bail};

use test_skips::AGAIN;
pub use test_skips::skipped;

use super::advisories::{self, Advisories};
use super::products::forget_cargo;
use super::{Project, deny, packages};
use crate::check::ALL_VARIABLE;
use crate::host::Fixture;
use crate::kernel::{
    self,
    known::{self, Key, Known, Verdict},
};

/// What unit tests compare with, or are made of: without these they skip, which the summary shows.
const TOOLS: [packages::Package; 4] = [
    ("busybox-static", "busybox"),
    ("cpio", "cpio"),
    ("e2fsprogs", "mkfs.ext4"),
    ("erofs-utils", "mkfs.erofs"),
];

/// What `test` is told.
#[derive(Debug, clap::Args)]
pub struct Test {
    /// Only tests whose name contains this, and no checks of format, lints and licences
    filter: Option<String>,
    /// With runc, also those tests that it has passed as they are; what passes is written down for the next time
    #[arg(long)]
    with_runc: bool,
}

#[derive(Debug, Default, PartialEq, Eq, Clone, Copy)]
struct Totals {
    passed: u64,
    failed: u64,
    skipped: u64,
}

impl Totals {
    fn add(&mut self, more: Self) {
        self.passed += more.passed;
        self.failed += more.failed;
        self.skipped += more.skipped;
    }

    /// What has passed for its runner and did not run, a test once for all its reasons; and steps, which no runner counts.
    fn without(self, reasons: &str, steps: &[String]) -> Self {
        let reasons = reasons.lines().filter(|line| !line.starts_with(AGAIN));
        let tests: BTreeSet<&str> =
            reasons.map(|line| line.split_once(": ").map_or(line, |(test, _)| test)).collect();
        let skipped = u64::try_from(tests.len()).unwrap_or(u64::MAX);
        let steps = u64::try_from(steps.len()).unwrap_or(u64::MAX);
        Self {
            passed: self.passed.saturating_sub(skipped),
            failed: self.failed,
            skipped: self.skipped + skipped + steps,
        }
    }
}

/// Runs all; 0 if all is well.
pub fn run(project: &Project, arguments: &Test) -> Result<i32> {
    thread::scope(|scope| {
        // Much of their making keeps one processor busy, or none: the checks and unit tests fill the rest.
        let products: [(&str, ScopedJoinHandle<'_, Result<()>>); 3] = [
            ("the guest kernel", scope.spawn(|| project.guest_kernel().map(drop))),
            ("the virtual KVM host", scope.spawn(|| project.host(Fixture::Plain).map(drop))),
            ("the programs under test", scope.spawn(|| project.shipped().map(drop))),
        ];
        let mut failures = Vec::new();
        // Steps that could not be taken, as tests say it of themselves.
        let mut steps = Vec::new();
        if arguments.filter.is_none() {
            failures.extend(checks(project, &mut steps)?);
        }
        let skips = tempfile::NamedTempFile::new().context("Cannot make a temporary file")?;
        let runner = Runner {
            project,
            filter: arguments.filter.as_deref(),
            skips: skips.path(),
            with_runc: arguments.with_runc,
        };
        eprintln!("== unit tests");
        if let Err(error) = packages::require(&TOOLS) {
            eprintln!("Some will be skipped: {error}");
        }
        let mut totals = Totals::default();
        for targets in [
            ["--workspace", "--exclude", "integration"].as_slice(),
            &["--package", "integration", "--lib", "--bins", "--test", "layering"],
        ] {
            totals.add(runner.tests(targets, &mut failures)?);
        }
        eprintln!(
            "== end-to-end tests, in the virtual KVM host: Docker and its friends are used there, not on this machine"
        );
        for (what, product) in products {
            let made = product.join().expect("the making thread does not panic");
            made.with_context(|| format!("Cannot make {what}"))?;
        }
        if arguments.filter.is_none() {
            eprintln!("== the guest kernel's bytes");
            failures.extend(kernel_bytes(project, &mut steps)?);
        }
        totals.add(runner.tests(&["--package", "integration", "--test", "e2e"], &mut failures)?);
        let skips = fs::read_to_string(skips.path()).unwrap_or_default();
        Ok(sum_up(totals, &skips, &steps, &failures))
    })
}

/// Format, lints, licences, advisories, and the settings of kernels that are not built here: what is not as it should be. Of
/// what could not be looked at, `skips` has why.
fn checks(project: &Project, skips: &mut Vec<String>) -> Result<Vec<&'static str>> {
    const HOSTILE_KERNEL: [&str; 10] = [
        "clippy",
        "--package=guest-hostile",
        "--bin=guest-hostile",
        "--features=kernel",
        "--profile=guest",
        "--locked",
        "--quiet",
        "--",
        "-D",
        "warnings",
    ];
    let mut failures = Vec::new();
    let lines: [(&str, &[&str]); 3] = [
        ("cargo fmt", &["fmt", "--all", "--check"]),
        ("cargo clippy", &["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"]),
        // A program without std, which can't be compiled where a panic unwinds.
        ("cargo clippy of the hostile kernel", &HOSTILE_KERNEL),
    ];
    for (name, line) in lines {
        eprintln!("== {name}");
        if !cargo(project, line).status().context("Cannot run cargo")?.success() {
            failures.push(name);
        }
    }
    eprintln!("== cargo deny");
    if !deny::check(project)? {
        failures.push("cargo deny");
    }
    eprintln!("== cargo dev advisories");
    match advisories::check(project, None)? {
        Advisories::Clean { newest } => eprintln!("none of what is known up to {newest} is about us"),
        Advisories::Found => failures.push("cargo dev advisories"),
        Advisories::Skipped { reason } => skips.push(format!("cargo dev advisories: {reason}")),
    }
    eprintln!("== settings of the guest kernel for other processors");
    if let Err(error) = project.kernel_settings() {
        eprintln!("{error:?}");
        failures.push("settings of the guest kernel");
    }
    Ok(failures)
}

/// Whether the kernel that is tested has the bytes that its source gave elsewhere; what is not as it should be.
fn kernel_bytes(project: &Project, skips: &mut Vec<String>) -> Result<Option<&'static str>> {
    let known = Known::read(&project.root)?;
    let kernel = project.guest_kernel()?;
    match known.compare(&Key::here(kernel::Arch::host())?, &known::hash(&kernel)?) {
        Verdict::Same => Ok(None),
        Verdict::Unknown => {
            skips.push(format!("the guest kernel's bytes: {}", known::UNKNOWN));
            Ok(None)
        }
        Verdict::Other { expected, found } => {
            eprintln!("{}: {found}, not {expected}. {}", kernel.display(), known::OTHER);
            Ok(Some("the guest kernel's bytes"))
        }
    }
}

/// Prints what came of it; the exit code. `reasons` has a line of each test that did not run, or not all of it.
fn sum_up(tests: Totals, reasons: &str, steps: &[String], failures: &[&str]) -> i32 {
    let totals = tests.without(reasons, steps);
    for reason in reasons.lines().chain(steps.iter().map(String::as_str)) {
        let kind = if reason.starts_with(AGAIN) { "" } else { "skipped: " };
        println!("{kind}{reason}");
    }
    for failure in failures {
        println!("failed: {failure}");
    }
    println!("{} passed, {} failed, {} skipped", totals.passed, totals.failed, totals.skipped);
    i32::from(!failures.is_empty() || totals.failed > 0)
}

/// Cargo, in this checkout and without what an outer cargo has set.
pub(super) fn cargo(project: &Project, arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments).current_dir(&project.root).stdin(Stdio::null());
    forget_cargo(&mut command);
    command
}

/// How tests are run.
#[derive(Debug)]
struct Runner<'a> {
    project: &'a Project,
    filter: Option<&'a str>,
    /// Where tests that cannot run say why.
    skips: &'a Path,
    /// All that can run with runc does.
    with_runc: bool,
}

impl Runner<'_> {
    /// Runs the tests of some targets by nextest, or by cargo itself where there is no nextest.
    fn tests(&self, targets: &[&str], failures: &mut Vec<&str>) -> Result<Totals> {
        let nextest = cargo(self.project, &["nextest", "--version"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        let mut line: Vec<&str> = if nextest.is_ok_and(|status| status.success()) {
            vec!["nextest", "run", "--no-fail-fast", "--no-tests=pass"]
        } else {
            vec!["test", "--no-fail-fast"]
        };
        line.extend(targets.iter().chain(&["--locked"]).chain(self.filter.as_slice()));
        let mut child = cargo(self.project, &line)
            .envs(self.with_runc.then_some((ALL_VARIABLE, "1")))
            .env(test_skips::VARIABLE, self.skips)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("Cannot run cargo")?;
        let (Some(output), Some(errors)) = (child.stdout.take(), child.stderr.take()) else {
            bail!("cargo has no output");
        };
        let count = |from: Box<dyn Read + Send>| thread::spawn(move || echo(from));
        let threads = [count(Box::new(output)), count(Box::new(errors))];
        let mut totals = Totals::default();
        for thread in threads {
            let counted = thread.join().expect("the echoing thread does not panic");
            totals.add(counted);
        }
        if !child.wait().context("Cannot wait for cargo")?.success() && totals.failed == 0 {
            failures.push("cargo could not run the tests");
        }
        Ok(totals)
    }
}

/// Passes lines on as they come, and adds up the runners' summaries.
fn echo(from: Box<dyn Read + Send>) -> Totals {
    let mut totals = Totals::default();
    for line in BufReader::new(from).lines().map_while(Result::ok) {
        eprintln!("{line}");
        if let Some(counted) = summary(&line) {
            totals.add(counted);
        }
    }
    totals
}

/// The counts of a closing line of nextest (`Summary [ 1.2s] 5 tests run: 4 passed, 1 failed, 2 skipped`) or of cargo
/// test (`test result: ok. 4 passed; 0 failed; 1 ignored; …`). What a filter leaves out is not counted as skipped.
fn summary(line: &str) -> Option<Totals> {
    let nextest = line.trim_start().strip_prefix("Summary [").and_then(|rest| rest.split_once("run:"));
    let counts = match nextest {
        Some((_, counts)) => counts,
        None => line.strip_prefix("test result: ")?.split_once(". ")?.1,
    };
    let mut totals = Totals::default();
    for count in counts.split([',', ';']) {
        let mut words = count.split_whitespace();
        let (Some(number), Some(what)) =
            (words.next().and_then(|word| word.parse::<u64>().ok()), words.next())
        else {
            continue;
        };
        match what {
            "passed" => totals.passed += number,
            "failed" | "timed" => totals.failed += number,
            "ignored" => totals.skipped += number,
            _ => {}
        }
    }
    Some(totals)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_runners_are_counted() {
        let nextest =
            "     Summary [   0.05s] 7 tests run: 5 passed (1 slow), 1 failed, 1 timed out, 3 skipped";
        assert_eq!(summary(nextest), Some(Totals { passed: 5, failed: 2, skipped: 0 }));
        let cargo = "test result: FAILED. 4 passed; 1 failed; 2 ignored; 0 measured; 9 filtered out; finished in 0.04s";
        assert_eq!(summary(cargo), Some(Totals { passed: 4, failed: 1, skipped: 2 }));
        assert_eq!(summary("test a ... ok"), None);
    }

    #[test]
    fn what_did_not_run_has_not_passed() {
        let tests = Totals { passed: 5, failed: 1, skipped: 1 };
        let reasons =
            "a::b: no root\na::b: no cpio\nagain: d: by no fault of its own\nc: no KVM: none at all\n";
        let steps = ["cargo dev advisories: no network".to_owned()];
        assert_eq!(tests.without(reasons, &steps), Totals { passed: 3, failed: 1, skipped: 4 });
    }
}
