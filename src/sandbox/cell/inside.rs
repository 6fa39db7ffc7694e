//! The VMM's process: builds the machine with what it was handed, closes the walls behind itself, and takes orders.

use std::{
    fs::File,
    io,
    os::{fd::AsFd, fd::OwnedFd, unix::net::UnixStream},
    sync::{Arc, Mutex, mpsc},
    thread,
};

use nix::{sys::prctl, unistd::dup2_stderr};

use super::{
    lender::{Asking, Lent},
    wire::{Wire, stream},
    words::{self, Answer, Event, Order},
};
use crate::{
    config::{Confinement, MachineConfig},
    host::walls::{self, WallError},
    machine::{
        BuildError, Called, Ended, Filters, Kind, Machine, MachineHandle, Nic, OpenDisk, RunError,
        SeccompError, Verdict, one_heap,
    },
};

/// Of a console, so much is told in bytes.
const TAIL: usize = 16 << 10;
/// What `ps -o comm` shows.
const NAME: &std::ffi::CStr = c"msb-vmm";

/// Why the machine is not there.
#[derive(Debug, thiserror::Error)]
enum InsideError {
    #[error(transparent)]
    Walls(#[from] WallError),
    #[error(transparent)]
    Build(#[from] BuildError),
    #[error("The machine's disks can't be used")]
    Disk(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error(transparent)]
    Seccomp(#[from] SeccompError),
    #[error("The machine's descriptors can't be taken over")]
    Descriptors(#[source] io::Error),
    #[error("The machine's thread can't be started")]
    Thread(#[source] io::Error),
}

/// Is the VMM's process until its end. `room` is that of [`walls::enter`].
pub(super) fn run(
    config: &MachineConfig,
    disks: &[Lent],
    console: &OwnedFd,
    wires: [&Wire; 3],
    confinement: Confinement,
    room: u64,
) -> ! {
    let [orders, events, files] = wires;
    let built = walls::close_all_but(&kept(disks, console, wires))
        .map_err(InsideError::from)
        .and_then(|()| build(config, disks, console, [events, files], confinement, room));
    match built {
        Ok((handle, files)) => Machinist { handle, files }.obey(orders),
        Err(error) => {
            let file_system = matches!(error, InsideError::Build(BuildError::Fs(_)));
            let reason = words::end_of(&super::super::chain(&error), TAIL).to_owned();
            let _ = events.send(&Event::Failed { reason, file_system }, &[], true);
        }
    }
    end()
}

/// Ends this process without looking back: nothing of its parent's, of which it has a copy, is to be done twice.
#[allow(clippy::exit, reason = "a forked process ends here")]
pub(super) fn end() -> ! {
    std::process::exit(0)
}

fn kept<'a>(
    disks: &'a [Lent],
    console: &'a OwnedFd,
    wires: [&'a Wire; 3],
) -> Vec<std::os::fd::BorrowedFd<'a>> {
    let disks = disks.iter().map(|disk| match disk {
        Lent::Raw { file, .. } | Lent::Composed { file, .. } => file.as_fd(),
    });
    wires.into_iter().map(AsFd::as_fd).chain([console.as_fd()]).chain(disks).collect()
}

fn build(
    config: &MachineConfig,
    disks: &[Lent],
    console: &OwnedFd,
    [events, files]: [&Wire; 2],
    confinement: Confinement,
    room: u64,
) -> Result<(MachineHandle, Arc<Mutex<Wire>>), InsideError> {
    let _ = prctl::set_name(NAME);
    one_heap();
    let own = |wire: &Wire| wire.try_clone().map_err(InsideError::Descriptors);
    let (events, files) = (Arc::new(own(events)?), Arc::new(Mutex::new(own(files)?)));
    let disks = disks.iter().map(|disk| open(disk, &files)).collect::<Result<Vec<_>, _>>()?;
    let telling = Arc::clone(&events);
    let called = move |port, stream: UnixStream| {
        telling.send(&Event::Stream { port }, &[stream.as_fd()], false).is_ok()
    };
    // What a thread says when it panics.
    let _ = dup2_stderr(console);
    let console = console.try_clone().map_err(InsideError::Descriptors)?.into();
    let machine = Machine::build(config, disks, console, &(Arc::new(called) as Called))?;
    let filters = match confinement {
        Confinement::Enforced => Some(Verdict::Kill),
        Confinement::Logged => Some(Verdict::Log),
        Confinement::Off => None,
    };
    let filters = filters.map(|verdict| Arc::new(Filters::new(verdict)));
    if confinement != Confinement::Off {
        walls::enter(room)?;
    }
    let handle = machine.handle();
    let _ = events.send(&Event::Built { slots: handle.slots() }, &[], true);
    let (running, held) = (handle.clone(), filters.clone());
    let (begin, begins) = mpsc::channel();
    let machine = move || {
        // The guest runs when the thread that takes orders is held too.
        let Ok(()) = begins.recv() else { end() };
        let ended = machine.run(held.as_ref());
        let _ = events.send(&farewell(ended, &running), &[], true);
        end()
    };
    thread::Builder::new().name("machine".into()).spawn(machine).map_err(InsideError::Thread)?;
    if let Some(filters) = filters {
        filters.hold(Kind::Main)?;
    }
    // It waits for nothing else.
    let _ = begin.send(());
    Ok((handle, files))
}

fn open(disk: &Lent, files: &Arc<Mutex<Wire>>) -> Result<OpenDisk, InsideError> {
    let own = |file: &File| file.try_clone().map_err(InsideError::Descriptors);
    match disk {
        Lent::Raw { file, read_only } => OpenDisk::raw(own(file)?, *read_only).map_err(disk_error),
        Lent::Composed { file, number } => {
            let asking = Asking { wire: Arc::clone(files), disk: *number };
            OpenDisk::composed(own(file)?, Box::new(asking)).map_err(disk_error)
        }
    }
}

fn disk_error<E: std::error::Error + Send + Sync + 'static>(error: E) -> InsideError {
    InsideError::Disk(Box::new(error))
}

fn farewell(ended: Result<Ended, RunError>, machine: &MachineHandle) -> Event {
    match ended {
        Ok(how) => Event::Ended { how, tail: words::end_of(&machine.console_tail(), TAIL).to_owned() },
        Err(error) => Event::Failed { reason: super::super::chain(&error), file_system: false },
    }
}

/// Who carries out orders.
struct Machinist {
    handle: MachineHandle,
    /// By which the layers' files of later disks are asked for.
    files: Arc<Mutex<Wire>>,
}

impl Machinist {
    /// Until there is nobody who gives them.
    fn obey(&self, orders: &Wire) {
        while let Ok((order, descriptors)) = orders.receive() {
            if let Some(answer) = self.carry_out(order, descriptors.into_iter())
                && orders.send(&answer, &[], true).is_err()
            {
                return;
            }
        }
    }

    fn carry_out(&self, order: Order, mut descriptors: impl Iterator<Item = OwnedFd>) -> Option<Answer> {
        let machine = &self.handle;
        Some(match order {
            Order::Connect { port } => {
                // Closed where it can't be joined.
                let _ = descriptors.next().and_then(stream).map(|stream| machine.connect(port, stream));
                return None;
            }
            Order::Note { text } => {
                machine.note(&text);
                return None;
            }
            Order::Pause => done(machine.pause()),
            Order::Resume => {
                machine.resume();
                Answer::Done
            }
            Order::Plug { slot, mac, mtu } => match descriptors.next() {
                Some(tap) => named(machine.plug(slot, Nic { tap, mac, mtu, vhost: descriptors.next() })),
                None => missing(),
            },
            Order::Unplug { slot } => {
                machine.unplug(slot);
                Answer::Done
            }
            Order::AttachRaw { read_only } => {
                self.attach(descriptors.next().map(|file| Lent::Raw { file: file.into(), read_only }))
            }
            Order::AttachComposed { number } => {
                self.attach(descriptors.next().map(|file| Lent::Composed { file: file.into(), number }))
            }
            Order::Detach { device } => {
                machine.detach(&device);
                Answer::Done
            }
            Order::Entered => Answer::Number(machine.entered_ns()),
        })
    }

    fn attach(&self, disk: Option<Lent>) -> Answer {
        match disk.map(|disk| open(&disk, &self.files)) {
            Some(Ok(disk)) => named(self.handle.attach(disk)),
            Some(Err(error)) => refused(&error),
            None => missing(),
        }
    }
}

fn missing() -> Answer {
    Answer::Refused("The order came without its descriptor".into())
}

fn refused(error: &dyn std::error::Error) -> Answer {
    Answer::Refused(super::super::chain(error))
}

fn done<E: std::error::Error>(result: Result<(), E>) -> Answer {
    result.map_or_else(|error| refused(&error), |()| Answer::Done)
}

fn named<E: std::error::Error>(result: Result<&str, E>) -> Answer {
    result.map_or_else(|error| refused(&error), |name| Answer::Text(name.to_owned()))
}
