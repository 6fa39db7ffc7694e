//! `cargo dev bench`: in the virtual host, start-up counted in instructions, memory and size, and then, in another whose
//! clock is the wall's, the guest's disks and network against QEMU's.
//!
//! Leaves a table on standard output and the same as JSON in `target/bench.json`.

use std::fs;

use anyhow::{Context, Result};

use super::Project;
use super::progress::Step;
use crate::bench::{cases, disks, network, report::Report};
use crate::host::{Fixture, Item, VirtualHost};

/// Makes all that the benchmarks need, and runs them.
pub fn run(project: &Project) -> Result<i32> {
    let build = project.build()?;
    let watch = project.host_program("host-measure")?;
    let mut payload = build.payload();
    payload.push(Item { source: watch, target: "/usr/local/bin/host-measure".into(), mode: 0o755 });
    let host = VirtualHost::start(Fixture::Icount, &project.host(Fixture::Icount)?, &payload)?;
    let host = host.named("bench");
    let step = Step::begin("bench");
    let mut report = Report::default();
    let measured = cases::measure(&host, &mut report, &|case| step.phase(case));
    drop(step);
    let (host, measured) = match measured {
        Ok(()) => disks(project, &mut report)?,
        failed => (host, failed),
    };
    if let Err(error) = measured {
        println!("{report}");
        return Err(error.context(format!("The host's logs are kept in {}", host.keep()?.display())));
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
    Ok(0)
}

/// The guest's disks and its network, in a host whose clock is the wall's.
fn disks(project: &Project, report: &mut Report) -> Result<(VirtualHost, Result<()>)> {
    let item = |source, target: &str, mode| Item { source, target: target.into(), mode };
    let (guest_net, net) = project.guest_net()?;
    let payload = [
        item(project.machine_program()?, "/usr/local/bin/boot", 0o755),
        item(project.guest_kernel()?, "/usr/lib/msb/vmlinux", 0o644),
        item(project.guest_io()?, "/usr/lib/msb/guest-io", 0o644),
        item(guest_net, "/usr/lib/msb/guest-net", 0o644),
        item(net, "/usr/local/bin/guest-net", 0o755),
    ];
    let host =
        VirtualHost::start(Fixture::Plain, &project.host(Fixture::Plain)?, &payload)?.named("bench-disks");
    let step = Step::begin("bench of disks and network");
    let measured = disks::measure(&host, report, &|case| step.phase(case))
        .and_then(|()| network::measure(&host, report, &|case| step.phase(case)));
    Ok((host, measured))
}
