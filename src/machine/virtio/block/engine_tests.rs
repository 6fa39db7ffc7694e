//! The engine against a model, in each of its ways; and what happens to what is under way.

use std::fs::File;
use std::io::Write;
use std::sync::Arc;

use proptest::prelude::*;
use virtio_bindings::virtio_blk::{VIRTIO_BLK_S_IOERR, VIRTIO_BLK_S_OK, VIRTIO_BLK_S_UNSUPP};
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap};

use super::super::disk::{Place, RawFile};
use super::super::job::{DISCARD, Transfer, ZERO, ZERO_AND_UNMAP, status};
use super::*;

const SECTORS: usize = 64;

fn memory() -> GuestMemoryMmap {
    GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 1 << 20)]).unwrap()
}

/// A transfer of the sectors from `sector` on, in two buffers that do not touch.
fn transfer(memory: &GuestMemoryMmap, direction: Direction, sector: usize, sectors: usize) -> Job {
    let slice = |at: u64, length| memory.get_slice(GuestAddress(at), length).unwrap();
    let length = sectors * 512;
    let buffers = [slice(0, 100), slice(1 << 17, length - 100)];
    let offset = u64::try_from(sector * 512).unwrap();
    job(Work::Transfer(Transfer::new(direction, offset, &buffers)))
}

fn job(work: Work) -> Job {
    Job { head: 0, status: GuestAddress(0), writable: 1, work }
}

fn flush() -> Job {
    job(Work::Flush { done: false })
}

/// Does it and waits for it.
fn perform(engine: &mut Engine, job: Job) -> io::Result<()> {
    let mut finished = engine.begin(job);
    while finished.is_none() {
        assert!(engine.submit().unwrap());
        std::thread::yield_now();
        finished = engine.next();
    }
    finished.unwrap().1
}

#[derive(Debug, Clone)]
enum Step {
    Read(usize, usize),
    Write(usize, usize, u8),
    Discard(usize, usize),
    Zero(usize, usize, bool),
    Flush,
}

fn step() -> impl Strategy<Value = Step> {
    let range = (0..SECTORS, 1..SECTORS).prop_map(|(at, count)| (at, count.min(SECTORS - at)));
    prop_oneof![
        3 => range.clone().prop_map(|(at, count)| Step::Read(at, count)),
        3 => (range.clone(), 1_u8..).prop_map(|((at, count), byte)| Step::Write(at, count, byte)),
        1 => range.clone().prop_map(|(at, count)| Step::Discard(at, count)),
        1 => (range, any::<bool>()).prop_map(|((at, count), unmap)| Step::Zero(at, count, unmap)),
        1 => Just(Step::Flush),
    ]
}

/// Zeroing that keeps the place is not there on every file system; all else is.
fn follow(steps: &[Step], mut engine: Engine) {
    let memory = memory();
    let mut model = vec![0_u8; SECTORS * 512];
    for step in steps {
        let range = |at: &usize, count: &usize| at * 512..(at + count) * 512;
        let bytes = |value: &usize| u64::try_from(value * 512).unwrap();
        match step {
            Step::Read(at, count) => {
                memory.write_slice(&vec![0xee; 1 << 18], GuestAddress(0)).unwrap();
                perform(&mut engine, transfer(&memory, Direction::Read, *at, *count)).unwrap();
                let mut got = vec![0; count * 512];
                memory.read_slice(&mut got[..100], GuestAddress(0)).unwrap();
                memory.read_slice(&mut got[100..], GuestAddress(1 << 17)).unwrap();
                assert_eq!(got, model[range(at, count)]);
            }
            Step::Write(at, count, byte) => {
                memory.write_slice(&vec![*byte; 1 << 18], GuestAddress(0)).unwrap();
                perform(&mut engine, transfer(&memory, Direction::Write, *at, *count)).unwrap();
                model[range(at, count)].fill(*byte);
            }
            Step::Discard(at, count) => {
                let (offset, length) = (bytes(at), bytes(count));
                perform(&mut engine, job(Work::Allocate { modes: DISCARD, offset, length, done: false }))
                    .unwrap();
                model[range(at, count)].fill(0);
            }
            Step::Zero(at, count, unmap) => {
                let modes = if *unmap { ZERO_AND_UNMAP } else { ZERO };
                let (offset, length) = (bytes(at), bytes(count));
                let result = perform(&mut engine, job(Work::Allocate { modes, offset, length, done: false }));
                match status(&result) {
                    VIRTIO_BLK_S_OK => model[range(at, count)].fill(0),
                    VIRTIO_BLK_S_UNSUPP if !unmap => {}
                    _ => panic!("{step:?}: {result:?}"),
                }
            }
            Step::Flush => perform(&mut engine, flush()).unwrap(),
        }
    }
    assert!(engine.reset());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Whether the page cache answers, a blocking call, or the ring: the bytes are those of a disk.
    #[test]
    fn each_way_is_a_disk(steps in prop::collection::vec(step(), 1..24)) {
        for (ring, tells, cautious) in [(false, true, 0), (true, true, 0), (true, false, 0), (true, false, u32::MAX)] {
            let file = tempfile::NamedTempFile::new().unwrap();
            file.as_file().set_len(u64::try_from(SECTORS * 512).unwrap()).unwrap();
            let disk = RawFile::open(file.path(), false).unwrap();
            let engine = Engine { tells: [tells; 2], cautious, ..Engine::new(Box::new(disk), ring.then(Ring::new).flatten()) };
            follow(&steps, engine);
        }
    }
}

/// A disk on whatever file.
#[derive(Debug)]
struct On(Arc<File>);

impl Disk for On {
    fn sectors(&self) -> u64 {
        64
    }

    fn locate(&mut self, offset: u64, length: usize) -> io::Result<Place> {
        Ok(Place::File { file: Arc::clone(&self.0), offset, length, unchanged: None })
    }

    fn written(&self) -> Option<&Arc<File>> {
        Some(&self.0)
    }
}

fn on(file: File, ring: bool) -> Engine {
    // Not asked beforehand: straight to the ring.
    Engine {
        tells: [false; 2],
        cautious: u32::MAX,
        ..Engine::new(Box::new(On(Arc::new(file))), ring.then(Ring::new).flatten())
    }
}

#[test]
fn a_full_disk_is_an_io_error_and_the_next_request_works() {
    for ring in [false, true] {
        let memory = memory();
        let full = File::options().read(true).write(true).open("/dev/full").unwrap();
        let mut engine = on(full, ring);
        let result = perform(&mut engine, transfer(&memory, Direction::Write, 0, 8));
        assert_eq!(result.as_ref().unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert_eq!(status(&result), VIRTIO_BLK_S_IOERR);
        perform(&mut engine, transfer(&memory, Direction::Read, 0, 8)).unwrap();
    }
}

#[test]
fn an_image_that_was_cut_is_an_error_not_a_loop() {
    for ring in [false, true] {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(700).unwrap();
        let mut engine = on(file.reopen().unwrap(), ring);
        let result = perform(&mut engine, transfer(&memory(), Direction::Read, 0, 8));
        assert_eq!(result.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}

#[test]
fn a_reset_waits_for_what_may_still_write_into_guest_memory() {
    let memory = memory();
    let (reader, writer) = nix::unistd::pipe().unwrap();
    let mut engine = on(File::from(reader), true);
    if engine.ring().is_none() {
        // Without a ring nothing is ever under way.
        assert!(engine.reset());
        return;
    }
    assert!(engine.begin(transfer(&memory, Direction::Read, 0, 1)).is_none());
    assert!(engine.submit().unwrap());
    assert!(engine.next().is_none());
    let late = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(100));
        File::from(writer).write_all(&[7; 512]).unwrap();
    });
    assert!(engine.reset());
    assert_eq!(engine.ring().unwrap().busy(), 0);
    assert_eq!(memory.read_obj::<u8>(GuestAddress(99)).unwrap(), 7);
    assert!(engine.next().is_none(), "what was under way is forgotten");
    late.join().unwrap();
}

#[test]
fn a_flush_is_not_answered_before_another_that_it_relies_on() {
    let file = tempfile::tempfile().unwrap();
    file.set_len(1 << 16).unwrap();
    let mut engine = on(file, true);
    let memory = memory();
    perform(&mut engine, transfer(&memory, Direction::Write, 0, 8)).unwrap();
    let waits = engine.ring().is_some();
    assert_eq!(engine.begin(flush()).is_none(), waits);
    assert_eq!(engine.begin(flush()).is_none(), waits, "nothing new was written, but the first is under way");
    assert!(engine.submit().unwrap());
    let mut left = if waits { 2 } else { 0 };
    while left > 0 {
        left -= usize::from(engine.next().is_some());
        std::thread::yield_now();
    }
    assert!(engine.begin(flush()).is_some(), "all is durable");
    perform(&mut engine, transfer(&memory, Direction::Write, 0, 8)).unwrap();
    assert_eq!(engine.begin(flush()).is_none(), waits);
    assert!(engine.reset());
}

/// As after an operation of the ring that did not come to pass.
#[test]
fn what_the_kernel_has_no_thread_for_is_done_at_once() {
    let file = tempfile::tempfile().unwrap();
    file.set_len(1 << 16).unwrap();
    let mut engine = on(file.try_clone().unwrap(), true);
    let memory = memory();
    memory.write_slice(&[7; 512], GuestAddress(0)).unwrap();
    let length = 512;
    let mut now = |mut job: Job| {
        let result = engine.do_now(&mut job);
        job.completed(result)
    };
    for job in [
        transfer(&memory, Direction::Write, 3, 1),
        flush(),
        job(Work::Allocate { modes: DISCARD, offset: 0, length, done: false }),
    ] {
        now(job).unwrap();
    }
    let mut first = [0; 100];
    std::os::unix::fs::FileExt::read_exact_at(&file, &mut first, 3 * length).unwrap();
    assert_eq!(first, [7; 100]);
    let beyond = now(transfer(&memory, Direction::Read, 1 << 20, 1));
    assert_eq!(beyond.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    assert!(engine.reset());
}
