//! `cargo dev bench`: in the virtual host, start-up counted in instructions, memory and size, and then, in another whose
//! clock is the wall's, volumes against runc's, and the guest's disks and network against QEMU's.
//!
//! Leaves a table on standard output and the same as JSON in `target/bench.json`.

use std::fs;
use std::thread;

use anyhow::{Context, Result};
use clap::ValueEnum;

use super::Project;
use super::products::Build;
use super::progress::Step;
use crate::bench::{callers, cases, disks, network, product, report::Report, roots, shim, volumes, walls};
use crate::host::{Fixture, HostError, Item, VirtualHost};

/// What `bench` is told.
#[derive(Debug, clap::Args)]
pub struct Bench {
    /// Only these; all without
    #[arg(value_enum)]
    parts: Vec<Part>,
    /// Each case once or twice, the small root alone, and no instruction counted: that all of it runs, not what it takes
    #[arg(long)]
    brief: bool,
}

/// What can be measured by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// A start, its moments, and what an idle sandbox takes
    Start,
    /// Containers with a volume
    Volumes,
    /// Docker's commands, exec and streams
    Callers,
    /// containerd's shims
    Shim,
    /// The product's server, and many sandboxes at once
    Product,
    /// Compositions and scratch disks against mkfs.erofs and mke2fs
    Roots,
    /// The guest's disks against QEMU's
    Disks,
    /// The guest's network against QEMU's
    Network,
}

impl Bench {
    fn has(&self, part: Part) -> bool {
        self.parts.is_empty() || self.parts.contains(&part)
    }
}

/// How many hosts may stand still before that is an error: their emulation has a fault that [`crate::bench::turns`] tells of.
const STANDSTILLS: u32 = 2;

/// Makes all that the benchmarks need, and runs them.
pub fn run(project: &Project, bench: &Bench) -> Result<i32> {
    let build = project.build()?;
    let instructions = [Part::Start, Part::Callers, Part::Shim, Part::Product, Part::Roots]
        .iter()
        .any(|part| bench.has(*part));
    let wall = [Part::Volumes, Part::Product, Part::Disks, Part::Network].iter().any(|part| bench.has(*part));
    let count = |report: &mut Report| -> Result<Option<Outcome>> {
        let measure = |report: &mut Report| by_instructions(project, &build, bench, report);
        instructions.then(|| again(report, measure)).transpose()
    };
    let time = |report: &mut Report| -> Result<Option<Outcome>> {
        let measure = |report: &mut Report| by_the_wall(project, &build, bench, report);
        wall.then(|| again(report, measure)).transpose()
    };
    let mut report = Report { brief: bench.brief, ..Report::default() };
    let mut timed = report.clone();
    let outcomes = if bench.brief {
        // Nobody asks what it takes: each has a processor to itself, and that is enough.
        thread::scope(|scope| {
            let counted = scope.spawn(|| count(&mut report));
            let timed = time(&mut timed);
            [counted.join().expect("the measuring thread does not panic"), timed]
        })
    } else {
        [count(&mut report), time(&mut timed)]
    };
    report.join(timed);
    for outcome in outcomes {
        if let Some((host, Err(error))) = outcome? {
            println!("{report}");
            return Err(error.context(format!("The host's logs are kept in {}", host.keep()?.display())));
        }
    }
    for (name, path) in
        [("kernel", &build.kernel), ("initramfs", &build.initramfs), ("msb-runtime", &build.runtime)]
    {
        let metadata = path.metadata().with_context(|| format!("Cannot read {}", path.display()))?;
        report.sizes.insert(name.to_owned(), metadata.len());
    }
    let file = project.target.join("bench.json");
    fs::write(&file, serde_json::to_string_pretty(&report)?)
        .with_context(|| format!("Cannot write {}", file.display()))?;
    println!("{report}\nAs JSON: {}", file.display());
    // Briefly, it is not instructions that are counted.
    if bench.has(Part::Start) && !bench.brief {
        walls::Cost::of(&report)?.judge()?;
    }
    Ok(0)
}

/// A host, and whether all was measured there.
type Outcome = (VirtualHost, Result<()>);

/// Measures a part, and all of it anew where its host stood still.
fn again(report: &mut Report, measure: impl Fn(&mut Report) -> Result<Outcome>) -> Result<Outcome> {
    let before = report.clone();
    let mut standstills = before.standstills;
    loop {
        *report = Report { standstills, ..before.clone() };
        let outcome = measure(report)?;
        match &outcome.1 {
            Err(error) if standstills < STANDSTILLS && stood_still(error) => {
                eprintln!("The host stood still ({error:#}): once more in another.");
            }
            _ => return Ok(outcome),
        }
        standstills += 1;
    }
}

fn stood_still(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| cause.downcast_ref::<HostError>().is_some_and(HostError::is_timeout))
}

/// What is counted in instructions.
fn by_instructions(project: &Project, build: &Build, bench: &Bench, report: &mut Report) -> Result<Outcome> {
    let product = bench.has(Part::Callers) || bench.has(Part::Product);
    let mut payload = match (product, bench.has(Part::Shim)) {
        (true, _) => project.shipped()?,
        (false, true) => project.payload()?,
        (false, false) => build.payload(),
    };
    for (program, name) in
        [(project.rootfs_program()?, "msb-rootfs"), (project.host_program("host-measure")?, "host-measure")]
    {
        payload.push(Item { source: program, target: format!("/usr/local/bin/{name}"), mode: 0o755 });
    }
    // Nobody asks what it takes: the host that all tests have is there, and does not stand still.
    let fixture = if bench.brief { Fixture::Plain } else { Fixture::Icount };
    let host = VirtualHost::start(fixture, &project.host(fixture)?, &payload)?;
    let host = host.named("bench");
    let step = Step::begin("bench");
    let progress = |case: &str| step.phase(case);
    let mut measure = || {
        cases::prepare(&host)?;
        if bench.has(Part::Start) {
            cases::measure(&host, report, &progress)?;
        }
        if bench.has(Part::Callers) {
            callers::measure(&host, report, &progress)?;
        }
        if bench.has(Part::Shim) {
            shim::measure(&host, report, &progress)?;
        }
        if bench.has(Part::Product) {
            product::measure(&host, report, &progress)?;
        }
        if bench.has(Part::Roots) {
            roots::measure(&host, report, &progress)?;
        }
        Ok(())
    };
    let measured = measure();
    Ok((host, measured))
}

/// Volumes, many sandboxes at once, the guest's disks and its network, in a host whose clock is the wall's.
fn by_the_wall(project: &Project, build: &Build, bench: &Bench, report: &mut Report) -> Result<Outcome> {
    let item = |source, target: &str, mode| Item { source, target: target.into(), mode };
    let (guest_net, net) = project.guest_net()?;
    let (guest_io, io) = project.guest_io()?;
    let mut payload = if bench.has(Part::Product) { project.shipped()? } else { build.payload() };
    payload.extend([
        item(project.host_program("host-measure")?, "/usr/local/bin/host-measure", 0o755),
        item(project.machine_program()?, "/usr/local/bin/boot", 0o755),
        item(guest_io, "/usr/lib/msb/guest-io", 0o644),
        item(io, "/usr/local/bin/guest-io", 0o755),
        item(guest_net, "/usr/lib/msb/guest-net", 0o644),
        item(net, "/usr/local/bin/guest-net", 0o755),
    ]);
    let host = VirtualHost::start(Fixture::Plain, &project.host(Fixture::Plain)?, &payload)?
        .named("bench-by-the-wall");
    let step = Step::begin("bench by the wall's clock");
    let progress = |case: &str| step.phase(case);
    let mut measure = || {
        if bench.has(Part::Volumes) {
            volumes::measure(&host, report, &progress)?;
        }
        if bench.has(Part::Product) {
            product::many(&host, report, &progress)?;
        }
        if bench.has(Part::Disks) {
            disks::measure(&host, report, &progress)?;
        }
        if bench.has(Part::Network) {
            network::measure(&host, report, &progress)?;
        }
        Ok(())
    };
    let measured = measure();
    Ok((host, measured))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::channel::ChannelError;

    #[test]
    fn only_a_command_without_end_is_a_standstill() {
        let late: Result<()> = Err(HostError::from(ChannelError::Timeout { seconds: 7 }).into());
        assert!(late.context("of a case").is_err_and(|error| stood_still(&error)));
        assert!(!stood_still(&anyhow::anyhow!("The command was still running after 7 s")));
    }
}
