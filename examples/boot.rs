//! Boots a kernel and an initramfs in a virtual machine and prints the console: for benchmarks of the machine alone.
//!
//! `boot --kernel K --initramfs I [--vcpus N] [--memory MIB] [--shared-memory] [--disk IMAGE]… [--read-only-disk IMAGE]… [--nics N] [--network] [--vhost] [--stop-after MS] [-- WORD…]`

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Parser;
use msb_runtime::config::{DiskConfig, MachineConfig, Throttles};
use msb_runtime::host::network::{self, Netlink, Tap};
use msb_runtime::machine::{
    Called, Ended, Machine, MachineHandle, NIC_HEADER, Nic, OpenDisk, console_log, open_vhost,
};

#[derive(Parser)]
struct Args {
    #[arg(long)]
    kernel: PathBuf,
    #[arg(long)]
    initramfs: PathBuf,
    #[arg(long, default_value_t = 1)]
    vcpus: u8,
    /// Guest memory in MiB.
    #[arg(long, default_value_t = 128)]
    memory: u64,
    /// In a memfd, as for devices in another process.
    #[arg(long)]
    shared_memory: bool,
    /// Comes behind the read-only ones.
    #[arg(long)]
    disk: Vec<PathBuf>,
    #[arg(long)]
    read_only_disk: Vec<PathBuf>,
    /// Empty slots for network interfaces.
    #[arg(long, default_value_t = 0)]
    nics: u8,
    /// The links of this process's namespace are the guest's; it has to address them itself.
    #[arg(long)]
    network: bool,
    /// The host's kernel serves the network's queues, where it can.
    #[arg(long)]
    vhost: bool,
    /// The console, while it runs; printed at the end as well.
    #[arg(long, default_value = "/dev/null")]
    console: PathBuf,
    /// Milliseconds after which the machine is stopped from outside; prints how long that took.
    #[arg(long)]
    stop_after: Option<u64>,
    /// Words for the kernel's command line.
    #[arg(last = true)]
    kernel_args: Vec<String>,
}

fn main() -> anyhow::Result<ExitCode> {
    let args = Args::parse();
    let disks = |paths: Vec<PathBuf>, read_only| {
        paths.into_iter().map(move |path| DiskConfig::Raw { path, read_only }).collect::<Vec<_>>()
    };
    let config = MachineConfig {
        vcpus: args.vcpus,
        memory_mib: args.memory,
        file_system: None,
        shared_memory: args.shared_memory,
        kernel: args.kernel,
        initramfs: args.initramfs,
        kernel_args: args.kernel_args,
        disks: [disks(args.read_only_disk, true), disks(args.disk, false)].concat(),
        nics: args.nics.max(u8::from(args.network)),
        spare_disks: 0,
        throttles: Throttles::default(),
        host_ports: Vec::new(),
        console_log: args.console,
    };
    let disks = config.disks.iter().map(OpenDisk::open).collect::<Result<_, _>>()?;
    let console = console_log(&config.console_log)?;
    let machine = Machine::build(&config, disks, console, &(Arc::new(|_, _| false) as Called))
        .context("Cannot build the machine")?;
    let handle = machine.handle();
    if args.network {
        plug(&handle, args.vhost).context("Cannot join the namespace's links with the machine")?;
    }
    let stopped = args.stop_after.map(|after| {
        let handle = handle.clone();
        std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(after));
            handle.stop();
            Instant::now()
        })
    });
    let ended = machine.run(None);
    let returned = Instant::now();
    print!("{}", handle.console_tail());
    let ended = ended?;
    println!("[{ended:?}]");
    if let (Ended::Stopped, Some(Ok(stopped))) = (ended, stopped.map(JoinHandle::join)) {
        println!("Stopped in {:?}", returned.duration_since(stopped));
    }
    Ok(if ended == Ended::ShutDown { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Before the guest boots, so that its driver finds them.
fn plug(machine: &MachineHandle, vhost: bool) -> anyhow::Result<()> {
    let mut netlink = Netlink::open()?;
    for (slot, link) in network::links(&mut netlink)?.0.iter().take(machine.slots()).enumerate() {
        let tap = Tap::new(NIC_HEADER)?;
        network::join(&mut netlink, link, tap.index)?;
        let vhost = if vhost { open_vhost() } else { None };
        machine.plug(slot, Nic { tap: tap.fd, mac: link.mac, mtu: u16::try_from(link.mtu)?, vhost })?;
    }
    Ok(())
}
