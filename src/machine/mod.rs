//! One virtual machine: memory, virtual processors and devices on top of KVM.
//!
//! Enters: a [`MachineConfig`], complete. Leaves: a running guest, byte streams to it, and how it ended.
//! Must never know: OCI, bundles, images, the agent or what the streams carry.
//!
//! [`Machine::build`] is the recipe, top to bottom; everything that opens a file is done when it returns, so that
//! privileges can be dropped between it and [`Machine::run`]. Threads: the caller's serves the devices, and each
//! processor has its own.
//!
//! The end: whoever sees it sets [`End`]; the device thread leaves its loop, kicks the processors out of the guest,
//! closes the devices (streams end for their readers), completes the console log, and `run` returns. KVM's objects are
//! *not* destroyed then: that waits some 30 ms for the host's RCU, and the caller has something to report first. The
//! process's exit does it.

pub mod bus;
mod disks;
pub mod events;
pub mod handle;
pub mod irq;
pub mod kvm;
pub mod memory;
mod seccomp;
pub mod serial;
pub mod vcpu;
pub mod virtio;

#[cfg_attr(target_arch = "x86_64", path = "board_x86_64.rs")]
#[cfg_attr(target_arch = "aarch64", path = "board_aarch64.rs")]
mod board;
pub mod boot;
#[cfg_attr(target_arch = "x86_64", path = "layout_x86_64.rs")]
#[cfg_attr(target_arch = "aarch64", path = "layout_aarch64.rs")]
pub mod layout;

use std::fs::{File, OpenOptions};
use std::io;
use std::mem::ManuallyDrop;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kvm_ioctls::{IoEventAddress, VmFd};
use thiserror::Error;
use vm_memory::{GuestAddress, GuestMemoryMmap, MmapRegion};
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use self::boot::Boot;
use self::events::EventLoop;
pub use self::handle::{ConnectError, Ended, MachineHandle, SlotError, monotonic_ns};
use self::handle::{End, Slot};
use self::memory::Backing;
use self::serial::{Console, SerialPort};
pub use self::vcpu::Stuck;
use self::vcpu::gate::Gate;
use self::vcpu::{Buses, Processor};
use self::virtio::balloon::{Balloon, BalloonError};
use self::virtio::block::composed::ComposedError;
pub use self::virtio::block::disk::{DiskError, RawFile};
use self::virtio::block::{self, Block, Rings};
use self::virtio::fs::{Fs, FsError};
use self::virtio::mmio::{INTERRUPT_ACK, QUEUE_NOTIFY, Transport};
use self::virtio::net;
pub use self::virtio::net::{HEADER as NIC_HEADER, Nic, open_vhost};
use self::virtio::rng::Rng;
use self::virtio::vsock::{Listeners, Vsock, VsockError};
use self::virtio::window::Window;
use self::virtio::{ACKNOWLEDGED, Interrupt, VirtioDevice};
use crate::config::MachineConfig;
pub use disks::{Files, Layers, OpenDisk};
pub use seccomp::{Filters, Kind, SeccompError, Verdict, one_heap};

/// The most processors: what the MP table has room for.
pub const MAX_VCPUS: u8 = 32;

/// Interrupts that the slots for disks have together, if so many are left: a pod's few disks then have one each.
const SHARED_LINES: usize = 8;

/// Rings for the disks that come later to a machine that may make none; further ones have none.
const SPARE_RINGS: usize = 8;

/// Takes a stream that the guest opened to one of the configured host ports; false refuses it.
pub type Called = Arc<dyn Fn(u32, UnixStream) -> bool + Send + Sync>;

/// Why a machine cannot be built.
#[derive(Debug, Error)]
pub enum BuildError {
    /// Too many processors, or none.
    #[error("A machine can have 1 to {MAX_VCPUS} virtual processors, not {count}")]
    Vcpus {
        /// As configured.
        count: u8,
    },
    /// No usable KVM.
    #[error(transparent)]
    Kvm(#[from] kvm::KvmProblem),
    /// No guest memory.
    #[error(transparent)]
    Memory(#[from] memory::MemoryError),
    /// No kernel.
    #[error(transparent)]
    Kernel(#[from] boot::kernel::KernelError),
    /// No initramfs.
    #[error(transparent)]
    Initramfs(#[from] boot::initramfs::InitramfsError),
    /// No command line.
    #[error(transparent)]
    CommandLine(#[from] boot::cmdline::CommandLineError),
    /// The boot tables do not fit.
    #[error("Cannot write the boot tables into guest memory")]
    Tables(#[source] boot::arch::WriteError),
    /// No disk.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// No composed disk.
    #[error(transparent)]
    Composed(#[from] ComposedError),
    /// No file system device.
    #[error(transparent)]
    Fs(#[from] FsError),
    /// No socket device.
    #[error(transparent)]
    Vsock(#[from] VsockError),
    /// No balloon.
    #[error(transparent)]
    Balloon(#[from] BalloonError),
    /// No interrupt.
    #[error(transparent)]
    Irq(#[from] irq::IrqError),
    /// A mistake in the layout.
    #[error(transparent)]
    Bus(#[from] bus::Overlap),
    /// The console log.
    #[error("Cannot create the console log {}", path.display())]
    Console {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        problem: boot::FileProblem,
    },
    /// Descriptors ran out.
    #[error("Cannot create an event descriptor; check `ulimit -n`")]
    Events(#[source] io::Error),
}

/// Why a machine did not run to its end.
#[derive(Debug, Error)]
pub enum RunError {
    /// A processor.
    #[error("The virtual machine failed")]
    Vcpu(#[source] vcpu::VcpuError),
    /// No signal handler.
    #[error(transparent)]
    Kvm(#[from] kvm::KvmProblem),
    /// No thread for a processor.
    #[error(
        "Cannot start the thread of a virtual processor; check `ulimit -u` and the pids limit of the cgroup"
    )]
    Thread(#[source] io::Error),
    /// The event loop.
    #[error("Cannot wait for events")]
    Wait(#[source] io::Error),
    /// No filter for system calls.
    #[error(transparent)]
    Seccomp(#[from] SeccompError),
}

/// A machine that is ready to run.
#[derive(Debug)]
pub struct Machine {
    /// Never dropped: see the module's documentation.
    vm: ManuallyDrop<VmFd>,
    processors: Vec<Processor>,
    buses: Arc<Buses>,
    events: EventLoop,
    handle: MachineHandle,
}

impl Machine {
    /// Builds the machine up to the moment before its first instruction, with these disks and this console log instead of the
    /// configuration's, which name the same. `called` is given the streams that the guest opens.
    pub fn build(
        config: &MachineConfig,
        disks: Vec<OpenDisk>,
        console: File,
        called: &Called,
    ) -> Result<Self, BuildError> {
        let count = config.vcpus;
        if !(1..=MAX_VCPUS).contains(&count) {
            return Err(BuildError::Vcpus { count });
        }
        let kvm = kvm::open()?;
        let backing = if config.shared_memory { Backing::Shared } else { Backing::Anonymous };
        let memory = memory::reserve(config.memory_mib, backing)?;
        let kernel = boot::kernel::load(&memory, &config.kernel)?;
        let initramfs = boot::initramfs::load(&memory, &config.initramfs, kernel.end)?;

        let vm = vcpu::setup::machine(&kvm)?;
        memory::register(&vm, &memory)?;
        // Before the devices: an interrupt controller of Arm's wants to know its processors, and who raises interrupts it.
        let processors = vcpu::setup::processors(&kvm, &vm, count)?;

        let end = Arc::new(End::new().map_err(BuildError::Events)?);
        let console = Arc::new(Console::new(console));
        let mut listeners = Listeners::default();
        for port in config.host_ports.iter().copied() {
            let called = Arc::clone(called);
            listeners.insert(port, Arc::new(move |stream| called(port, stream)));
        }
        let (vsock, vsock_handle) = Vsock::new(listeners)?;
        let mut devices: Vec<(String, Box<dyn VirtioDevice>)> = Vec::new();
        for (index, OpenDisk { disk, read_only }) in disks.into_iter().enumerate() {
            let name = format!("disk{index}");
            let block = Block::new(disk, read_only, &name)
                .limited(config.throttles.disks)
                .map_err(BuildError::Events)?;
            devices.push((name, Box::new(block)));
        }
        if let Some(file_system) = &config.file_system {
            devices.push(("fs".into(), Box::new(Fs::connect(file_system)?)));
        }
        devices.push(("vsock".into(), Box::new(vsock)));
        devices.push(("rng".into(), Box::new(Rng::default())));
        let (balloon, balloon_handle) = Balloon::new(config.memory_mib)?;
        devices.push(("balloon".into(), Box::new(balloon)));

        let mut buses = Buses::default();
        let serial = SerialPort::new(irq::bind(&vm, layout::SERIAL_IRQ)?, Arc::clone(&console));
        board::attach(&mut buses, Arc::new(serial), &end)?;
        let mut events = EventLoop::new(Arc::clone(&end)).map_err(BuildError::Events)?;
        let plan = devices.into_iter().map(|(name, device)| (name, Plan::Device(device)));
        let plan = plan
            .chain((0..config.nics).map(|number| (format!("nic{number}"), Plan::Nic)))
            .chain((0..config.spare_disks).map(|number| (format!("spare{number}"), Plan::Disk)))
            .collect();
        let Attached { windows, slots, disks } =
            attach(plan, &vm, &memory, &console, &mut buses, &mut events)?;

        let line = boot::cmdline::build(&windows, &config.kernel_args)?;
        let boot = Boot { kernel, initramfs, command_line: &line, processors: count, devices: &windows };
        let mut start = Some(boot::arch::prepare(&memory, &boot).map_err(BuildError::Tables)?);
        let processors = (0..).zip(processors).map(|(id, fd)| Processor::new(fd, id, start.take())).collect();

        let handle = MachineHandle {
            end,
            gate: Arc::new(Gate::closed()),
            console,
            vsock: vsock_handle,
            balloon: balloon_handle,
            slots,
            disks,
            rings: Arc::new(Rings::new(SPARE_RINGS.min(config.spare_disks.into()))),
            throttles: config.throttles,
        };
        let (vm, buses) = (ManuallyDrop::new(vm), Arc::new(buses));
        Ok(Self { vm, processors, buses, events, handle })
    }

    /// The machine, for other threads.
    pub fn handle(&self) -> MachineHandle {
        self.handle.clone()
    }

    /// Runs the machine to its end. The calling thread serves the devices. With filters, it and the processors' threads are
    /// held to what they may call, before the guest's first instruction and for good.
    pub fn run(self, filters: Option<&Arc<Filters>>) -> Result<Ended, RunError> {
        let Self { vm: _vm, processors, buses, events, handle } = self;
        vcpu::prepare()?;
        let mut running = Vec::new();
        let mut result = Ok(());
        for processor in processors {
            match processor.spawn(&buses, &handle.end, &handle.gate, filters.cloned()) {
                Ok(thread) => running.push(thread),
                Err(error) => {
                    result = Err(RunError::Thread(error));
                    break;
                }
            }
        }
        if let (Ok(()), Some(filters)) = (&result, filters) {
            result = filters.hold(Kind::Device).map_err(RunError::Seccomp);
        }
        // Closed until all are held.
        handle.gate.open();
        if result.is_ok() {
            result = events.run().map_err(RunError::Wait);
        }
        // Without effect when the end is what got us here.
        handle.stop();
        // Who waits there looks at the end then.
        handle.resume();
        vcpu::leave(running);
        events.close();
        handle.console.finish();
        result?;
        match handle.end.take() {
            // The panic's reset looks like any other, and a panic in the reset path like a triple fault.
            Some(Ok(Ended::ShutDown | Ended::TripleFault)) if handle.console.saw_panic() => {
                Ok(Ended::GuestPanic)
            }
            Some(Ok(ended)) => Ok(ended),
            Some(Err(error)) => Err(RunError::Vcpu(error)),
            None => Ok(Ended::Stopped),
        }
    }
}

/// Creates a console log, for its owner only: the guest's secrets may be on the console.
///
/// # Errors
/// [`BuildError::Console`].
pub fn console_log(path: &Path) -> Result<File, BuildError> {
    let log = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
    log.map_err(|error| BuildError::Console { path: path.to_owned(), problem: error.into() })
}

/// What is attached.
enum Plan {
    /// A device.
    Device(Box<dyn VirtioDevice>),
    /// A slot for a network interface.
    Nic,
    /// A slot for a disk.
    Disk,
}

/// What [`attach`] has to tell.
struct Attached {
    /// (address, interrupt) of each, for the kernel's command line or device tree.
    windows: Vec<(u64, u32)>,
    /// For network interfaces.
    slots: Arc<[Slot]>,
    /// For disks.
    disks: Arc<[Slot]>,
}

/// Gives each device, or slot for one, its registers, interrupt, kicks and place in the event loop. The slots for disks come
/// last, and have the interrupts together that are left.
fn attach(
    plan: Vec<(String, Plan)>,
    vm: &VmFd,
    memory: &GuestMemoryMmap,
    console: &Arc<Console>,
    buses: &mut Buses,
    events: &mut EventLoop,
) -> Result<Attached, BuildError> {
    let mut lines = irq::Lines::new();
    let mut shared: Vec<irq::Shared> = Vec::new();
    let (mut windows, mut slots, mut disks) = (Vec::new(), Vec::new(), Vec::new());
    let mut address = layout::VIRTIO_START;
    let registers = registers(vm, memory, plan.len())?;
    // Nobody reads it.
    let acknowledged = EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC).map_err(BuildError::Events)?;
    for (number, (name, plan)) in plan.into_iter().enumerate() {
        let (line, event) = if matches!(plan, Plan::Disk) {
            if shared.is_empty() {
                shared = lines.share(vm, SHARED_LINES)?;
            }
            let line = &shared[disks.len() % shared.len()];
            (line.irq, line.event()?)
        } else {
            let line = lines.take()?;
            (line, irq::bind(vm, line)?)
        };
        let window = match &registers {
            Some(registers) => Window::new(registers, number).expect("there is room for all"),
            None => Window::apart().map_err(BuildError::Events)?,
        };
        let interrupt = Interrupt::new(event, window);
        let (memory, watcher, console) = (memory.clone(), events.watcher(), Arc::clone(console));
        let (transport, place) = match plan {
            Plan::Device(device) => (Transport::new(name, device, memory, interrupt, watcher, console), None),
            Plan::Nic => {
                let transport = Transport::slot(name, net::QUEUE_SIZES, memory, interrupt, watcher, console);
                (transport, Some(&mut slots))
            }
            Plan::Disk => {
                let sizes = block::QUEUE_SIZES;
                (Transport::slot(name, sizes, memory, interrupt, watcher, console), Some(&mut disks))
            }
        };
        let transport = Arc::new(transport.map_err(BuildError::Events)?);
        for (index, kick) in (0_u32..).zip(transport.kicks()) {
            vm.register_ioevent(kick, &IoEventAddress::Mmio(address + QUEUE_NOTIFY), index)
                .map_err(kvm::KvmProblem::refused("bind a queue to an event"))?;
        }
        vm.register_ioevent(&acknowledged, &IoEventAddress::Mmio(address + INTERRUPT_ACK), ACKNOWLEDGED)
            .map_err(kvm::KvmProblem::refused("bind an interrupt's end to an event"))?;
        buses.mmio.insert(
            address,
            u64::from(layout::VIRTIO_WINDOW),
            Arc::clone(&transport) as Arc<dyn bus::BusDevice>,
        )?;
        if let Some(place) = place {
            let device = boot::cmdline::device_name(windows.len(), address);
            place.push(Slot { device, transport: Arc::clone(&transport) });
        }
        events.add(transport);
        windows.push((address, line));
        address += u64::from(layout::VIRTIO_WINDOW);
    }
    Ok(Attached { windows, slots: slots.into(), disks: disks.into() })
}

/// The memory of so many devices' registers, where the guest has it.
fn registers(
    vm: &VmFd,
    memory: &GuestMemoryMmap,
    count: usize,
) -> Result<Option<Arc<MmapRegion>>, BuildError> {
    if !layout::REGISTERS_IN_MEMORY || count == 0 {
        return Ok(None);
    }
    let bytes = count * layout::VIRTIO_WINDOW as usize;
    Ok(Some(memory::register_read_only(vm, memory, GuestAddress(layout::VIRTIO_START), bytes)?))
}
