//! All that a sandbox may do with its machine, which is another process.

use std::{
    collections::BTreeMap,
    io,
    os::{
        fd::{AsFd, BorrowedFd},
        unix::net::UnixStream,
    },
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use nix::unistd::Pid;
use rustix::process::{Resource, Rlimit, prlimit};

use super::{
    lender::{Lender, Lent},
    wire::{Wire, WireError},
    words::{self, Answer, Order},
};
use crate::{
    config::DiskConfig,
    machine::{BuildError, Nic},
};

/// Longest text of one order.
const TEXT: usize = 4 << 10;

/// Why an order was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum HandleError {
    /// The machine has ended.
    #[error("The machine has ended")]
    Gone(#[from] WireError),
    /// A disk can't be opened.
    #[error(transparent)]
    Disk(#[from] BuildError),
    /// A disk that is larger than those that the machine began with.
    #[error("The VMM can't be allowed a disk of this size: that takes CAP_SYS_RESOURCE")]
    Room(#[source] io::Error),
    /// The machine says no.
    #[error("{reason}")]
    Refused {
        /// In its words.
        reason: String,
    },
}

/// The machine, from any thread. Clones are the same machine.
#[derive(Debug, Clone)]
pub(in crate::sandbox) struct Handle(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    orders: Mutex<Wire>,
    lender: Arc<Lender>,
    slots: AtomicUsize,
    paused: AtomicBool,
    /// An order got no answer: none gets one any more.
    lost: AtomicBool,
    /// The process, where it is held to files of so many bytes.
    room: Option<Mutex<(Pid, u64)>>,
    /// The composed disks that came later, by their device.
    lent: Mutex<BTreeMap<String, u32>>,
}

impl Handle {
    /// `room`: the process, and how long the files may be that it writes to, if that is bounded.
    pub(super) fn new(orders: Wire, lender: Arc<Lender>, room: Option<(Pid, u64)>) -> Self {
        // Without it an answer is waited for as long as the other process lives.
        let _ = orders.be_patient();
        let lent = Mutex::default();
        let (slots, paused, lost) = (AtomicUsize::new(0), AtomicBool::new(false), AtomicBool::new(false));
        let (orders, room) = (Mutex::new(orders), room.map(Mutex::new));
        Self(Arc::new(Inner { orders, lender, slots, paused, lost, room, lent }))
    }

    pub(super) fn has_slots(&self, count: usize) {
        self.0.slots.store(count, Ordering::Relaxed);
    }

    /// How many network interfaces the guest can have at the same time.
    pub(in crate::sandbox) fn slots(&self) -> usize {
        self.0.slots.load(Ordering::Relaxed)
    }

    /// Stops every processor; when it returns, none executes the guest's instructions.
    ///
    /// # Errors
    /// [`HandleError`]; the guest goes on then.
    pub(in crate::sandbox) fn pause(&self) -> Result<(), HandleError> {
        self.ask(&Order::Pause, &[])?;
        self.0.paused.store(true, Ordering::SeqCst);
        Ok(())
    }

    /// Lets the processors go on.
    pub(in crate::sandbox) fn resume(&self) {
        self.0.paused.store(false, Ordering::SeqCst);
        // One that has ended needs it no more.
        let _ = self.ask(&Order::Resume, &[]);
    }

    /// Whether it is paused.
    pub(in crate::sandbox) fn is_paused(&self) -> bool {
        self.0.paused.load(Ordering::SeqCst)
    }

    /// Joins `stream` with a vsock stream to that port of the guest; when nothing listens there it is closed.
    ///
    /// # Errors
    /// [`HandleError::Gone`].
    pub(in crate::sandbox) fn connect(&self, port: u32, stream: UnixStream) -> Result<(), HandleError> {
        // A machine that takes no orders is not waited for: others want this wire too.
        let sent = self.orders().send(&Order::Connect { port }, &[stream.as_fd()], false);
        drop(stream);
        Ok(sent?)
    }

    /// Puts an interface into an empty slot; the name of its platform device.
    ///
    /// # Errors
    /// [`HandleError`].
    pub(in crate::sandbox) fn plug(&self, slot: usize, nic: &Nic) -> Result<String, HandleError> {
        let Nic { tap, mac, mtu, vhost } = nic;
        let descriptors: Vec<BorrowedFd> =
            [tap.as_fd()].into_iter().chain(vhost.as_ref().map(AsFd::as_fd)).collect();
        self.name(&Order::Plug { slot, mac: *mac, mtu: *mtu }, &descriptors)
    }

    /// Takes a slot's interface away.
    pub(in crate::sandbox) fn unplug(&self, slot: usize) {
        let _ = self.ask(&Order::Unplug { slot }, &[]);
    }

    /// Puts a disk into an empty slot; the name of its platform device.
    ///
    /// # Errors
    /// [`HandleError`].
    pub(in crate::sandbox) fn attach(&self, disk: &DiskConfig) -> Result<String, HandleError> {
        let lent = self.0.lender.lend(disk)?;
        self.make_room(&lent)?;
        match lent {
            Lent::Raw { file, read_only } => self.name(&Order::AttachRaw { read_only }, &[file.as_fd()]),
            Lent::Composed { file, number } => {
                let name = self.name(&Order::AttachComposed { number }, &[file.as_fd()]);
                match &name {
                    Ok(device) => drop(self.lent().insert(device.clone(), number)),
                    Err(_) => self.0.lender.forget(number),
                }
                name
            }
        }
    }

    /// Lets the machine write to a file that is longer than those it has.
    fn make_room(&self, disk: &Lent) -> Result<(), HandleError> {
        let Some(room) = &self.0.room else { return Ok(()) };
        let wanted = disk.room().map_err(HandleError::Room)?;
        let mut room = room.lock().unwrap_or_else(PoisonError::into_inner);
        if wanted > room.1 {
            let limit = Rlimit { current: Some(wanted), maximum: Some(wanted) };
            let pid = rustix::process::Pid::from_raw(room.0.as_raw());
            prlimit(pid, Resource::Fsize, limit).map_err(|errno| HandleError::Room(errno.into()))?;
            room.1 = wanted;
        }
        Ok(())
    }

    /// Takes a disk away: what it has begun is done when this returns, and nothing more comes.
    pub(in crate::sandbox) fn detach(&self, device: &str) {
        let _ = self.ask(&Order::Detach { device: device.to_owned() }, &[]);
        if let Some(number) = self.lent().remove(device) {
            self.0.lender.forget(number);
        }
    }

    /// When the guest's first instruction was about to be executed: `CLOCK_MONOTONIC` in nanoseconds, 0 when it can't be told.
    pub(in crate::sandbox) fn entered_ns(&self) -> u64 {
        match self.ask(&Order::Entered, &[]) {
            Ok(Answer::Number(time)) => time,
            _ => 0,
        }
    }

    /// Puts a line of our own into the console's log. Not for what a guest can cause at will.
    pub(in crate::sandbox) fn note(&self, text: &str) {
        let text = words::end_of(text, TEXT).to_owned();
        let _ = self.orders().send(&Order::Note { text }, &[], false);
    }

    fn name(&self, order: &Order, descriptors: &[BorrowedFd]) -> Result<String, HandleError> {
        match self.ask(order, descriptors)? {
            Answer::Text(name) => Ok(name),
            _ => Err(WireError::Nonsense(postcard::Error::DeserializeBadEnum).into()),
        }
    }

    fn ask(&self, order: &Order, descriptors: &[BorrowedFd]) -> Result<Answer, HandleError> {
        let orders = self.orders();
        if self.0.lost.load(Ordering::SeqCst) {
            return Err(WireError::Closed.into());
        }
        if let Err(error) = orders.send(order, descriptors, true) {
            self.0.lost.store(true, Ordering::SeqCst);
            return Err(error.into());
        }
        match orders.receive() {
            Ok((Answer::Refused(reason), _)) => Err(HandleError::Refused { reason }),
            Ok((answer, _)) => Ok(answer),
            Err(error) => {
                // What comes later would be taken for the answer to something else.
                self.0.lost.store(true, Ordering::SeqCst);
                Err(error.into())
            }
        }
    }

    fn orders(&self) -> MutexGuard<'_, Wire> {
        self.0.orders.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lent(&self) -> MutexGuard<'_, BTreeMap<String, u32>> {
        self.0.lent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl From<HandleError> for io::Error {
    fn from(error: HandleError) -> Self {
        Self::other(error)
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Read, thread};

    use super::*;

    /// A handle, and a thread that answers as it is told.
    fn handle(answer: impl Fn(Order) -> Option<Answer> + Send + 'static) -> (Handle, thread::JoinHandle<()>) {
        let (orders, other) = Wire::pair().unwrap();
        let machine = thread::spawn(move || {
            while let Ok((order, _)) = other.receive::<Order>() {
                let Some(answer) = answer(order) else { return };
                other.send(&answer, &[], true).unwrap();
            }
        });
        (Handle::new(orders, Arc::default(), None), machine)
    }

    #[test]
    fn what_the_machine_says_is_told_and_a_pause_is_remembered() {
        let (machine, thread) = handle(|order| {
            Some(match order {
                Order::Pause | Order::Resume => Answer::Done,
                Order::Entered => Answer::Number(7),
                _ => Answer::Refused("no".into()),
            })
        });
        assert!(!machine.is_paused());
        machine.pause().unwrap();
        assert!(machine.is_paused());
        machine.resume();
        assert!(!machine.is_paused());
        assert_eq!(machine.entered_ns(), 7);
        let tap = tempfile::tempfile().unwrap().into();
        let nic = Nic { tap, mac: [2; 6], mtu: 1500, vhost: None };
        assert_eq!(machine.plug(0, &nic).unwrap_err().to_string(), "no");
        drop(machine);
        thread.join().unwrap();
    }

    #[test]
    fn a_machine_that_is_gone_answers_nothing_and_closes_streams() {
        let (machine, thread) = handle(|_| None);
        assert!(matches!(machine.pause(), Err(HandleError::Gone(_))));
        assert!(!machine.is_paused());
        assert!(matches!(machine.pause(), Err(HandleError::Gone(WireError::Closed))));
        thread.join().unwrap();
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        assert!(machine.connect(1, theirs).is_err());
        assert_eq!(ours.read(&mut [0]).unwrap(), 0);
        assert_eq!(machine.entered_ns(), 0);
    }
}
