//! The guest's console: a 16550 serial port that only speaks, kept bounded.
//!
//! Enters: bytes of the guest, as many as it likes. Leaves: the first 64 KiB in the console log, the last 32 KiB in
//! memory and, when the machine ends, behind them in the log. Nothing that the guest writes can fill the disk, the
//! memory or this process's time (it pays for each byte with an exit of its own).

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use vm_superio::{Serial, Trigger};
use vmm_sys_util::eventfd::EventFd;

use super::bus::BusDevice;
use crate::plain;

/// So much of the console goes to the log as it comes.
const HEAD_BYTES: usize = 64 << 10;
/// So much of its end is kept.
const TAIL_BYTES: usize = 32 << 10;
/// What Linux prints at the level that `quiet` does not silence (kernel/panic.c).
const PANIC: &str = "Kernel panic - not syncing";

/// What the guest said.
#[derive(Debug)]
pub struct Console(Mutex<State>);

#[derive(Debug)]
struct State {
    log: File,
    /// Not yet in the log: the current line.
    line: Vec<u8>,
    /// Bytes in the log.
    logged: usize,
    /// The last bytes, all of them while the guest has said little.
    tail: VecDeque<u8>,
    /// Bytes of the tail's end that are not in the log; beyond its length: bytes that are lost.
    unlogged: usize,
}

impl Console {
    /// A console that is kept in `log`.
    pub fn new(log: File) -> Self {
        let state = State { log, line: Vec::new(), logged: 0, tail: VecDeque::new(), unlogged: 0 };
        Self(Mutex::new(state))
    }

    /// The last bytes as text; what is not UTF-8, or would steer a terminal, is replaced.
    pub fn tail(&self) -> String {
        let mut state = self.lock();
        plain::lines(&String::from_utf8_lossy(state.tail.make_contiguous()))
    }

    /// Whether the kernel's last words are there. A program in the guest that may write to the console can say them
    /// too; all it gains is another word for the end of its own machine.
    pub fn saw_panic(&self) -> bool {
        self.tail().contains(PANIC)
    }

    /// A line of the VMM about the guest, in the same bounds.
    pub fn note(&self, text: &str) {
        let mut state = self.lock();
        for byte in format!("\n[msb] {text}\n").bytes() {
            state.put(byte);
        }
    }

    /// Writes what is left. Errors are dropped: the log is for people, and a full disk must not end the guest.
    pub fn finish(&self) {
        let mut state = self.lock();
        let _ = state.flush();
        let left = state.unlogged.min(state.tail.len());
        let lost = state.unlogged - left;
        if state.unlogged > 0 {
            let from = state.tail.len() - left;
            let text = state.tail.make_contiguous()[from..].to_vec();
            if lost > 0 {
                let _ = write!(state.log, "\n[msb] {lost} bytes of console output left out\n");
            }
            let _ = state.log.write_all(&text);
            state.unlogged = 0;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Plain bytes: whatever a panicking thread left is still a console.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn put(&mut self, byte: u8) {
        if self.tail.len() == TAIL_BYTES {
            self.tail.pop_front();
        }
        self.tail.push_back(byte);
        if self.logged + self.line.len() < HEAD_BYTES {
            self.line.push(byte);
            if byte == b'\n' || self.logged + self.line.len() == HEAD_BYTES {
                // See `finish`.
                let _ = self.flush();
            }
        } else {
            self.unlogged = self.unlogged.saturating_add(1);
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.logged += self.line.len();
        let result = self.log.write_all(&self.line);
        self.line.clear();
        result
    }
}

/// The port's interrupt.
#[derive(Debug)]
struct Line(EventFd);

impl Trigger for Line {
    type E = io::Error;

    fn trigger(&self) -> io::Result<()> {
        self.0.write(1)
    }
}

/// Where the port's bytes go.
#[derive(Debug)]
struct Sink(Arc<Console>);

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut state = self.0.lock();
        for byte in bytes {
            state.put(*byte);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The serial port, as the guest sees it.
#[derive(Debug)]
pub struct SerialPort(Mutex<Serial<Line, vm_superio::serial::NoEvents, Sink>>);

impl SerialPort {
    /// Registers of a 16550 (8 of them).
    pub const REGISTERS: u64 = 8;

    /// A port that raises its interrupt by `irqfd` and speaks to `console`.
    pub fn new(irqfd: EventFd, console: Arc<Console>) -> Self {
        Self(Mutex::new(Serial::new(Line(irqfd), Sink(console))))
    }
}

impl BusDevice for SerialPort {
    fn read(&self, offset: u64, data: &mut [u8]) {
        match (data, u8::try_from(offset)) {
            ([byte], Ok(register)) => {
                *byte = self.0.lock().unwrap_or_else(PoisonError::into_inner).read(register)
            }
            (data, _) => data.fill(0xff),
        }
    }

    fn write(&self, offset: u64, data: &[u8]) {
        if let ([byte], Ok(register)) = (data, u8::try_from(offset)) {
            // The only failure is an interrupt counter that is full, and then one is pending.
            let _ = self.0.lock().unwrap_or_else(PoisonError::into_inner).write(register, *byte);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Seek};

    use super::*;

    fn read_back(mut log: &File) -> String {
        let mut text = String::new();
        log.rewind().unwrap();
        log.read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn what_the_guest_says_is_in_the_log_and_in_the_tail() {
        let log = tempfile::tempfile().unwrap();
        let console = Arc::new(Console::new(log.try_clone().unwrap()));
        let port = SerialPort::new(EventFd::new(0).unwrap(), console.clone());
        for byte in b"hello\nKernel panic - not syncing: no init" {
            port.write(0, &[*byte]);
        }
        assert_eq!(read_back(&log), "hello\n");
        assert!(console.saw_panic());
        console.finish();
        assert_eq!(read_back(&log), "hello\nKernel panic - not syncing: no init");
        assert_eq!(console.tail(), read_back(&log));
    }

    #[test]
    fn the_tail_steers_no_terminal() {
        let console = Arc::new(Console::new(tempfile::tempfile().unwrap()));
        let mut sink = Sink(console.clone());
        sink.write_all(b"booting\r\n\x1b[2J\x1b]0;title\x07 \xff\n").unwrap();
        assert_eq!(console.tail(), "booting\n?[2J?]0;title? \u{fffd}\n");
    }

    #[test]
    fn a_flood_is_bounded_and_its_end_kept() {
        let log = tempfile::tempfile().unwrap();
        let console = Arc::new(Console::new(log.try_clone().unwrap()));
        let mut sink = Sink(console.clone());
        sink.write_all(&vec![b'a'; 1 << 20]).unwrap();
        console.note("device gave up");
        console.finish();
        let text = read_back(&log);
        assert!(text.len() < HEAD_BYTES + TAIL_BYTES + 100, "{}", text.len());
        assert!(text.ends_with("[msb] device gave up\n"));
        assert!(text.contains("bytes of console output left out"));
        assert_eq!(console.tail().len(), TAIL_BYTES);
    }

    /// Registers of the 16550A: with bit 4 of the modem's control (4) what is written is received; bit 0 of the line's status (5)
    /// says that there is something.
    #[test]
    fn what_the_guest_sends_to_itself_is_bounded() {
        let console = Arc::new(Console::new(tempfile::tempfile().unwrap()));
        let port = SerialPort::new(EventFd::new(0).unwrap(), console.clone());
        port.write(4, &[0x10]);
        for _ in 0..1 << 20 {
            port.write(0, b"a");
        }
        let read = |register| {
            let mut data = [0];
            port.read(register, &mut data);
            data[0]
        };
        let mut received = 0;
        while read(5) & 1 != 0 {
            assert_eq!(read(0), b'a');
            received += 1;
        }
        assert!((1..=64).contains(&received), "{received}");
        assert_eq!(console.tail(), "");
    }

    #[test]
    fn a_register_access_of_another_width_is_ignored() {
        let console = Arc::new(Console::new(tempfile::tempfile().unwrap()));
        let port = SerialPort::new(EventFd::new(0).unwrap(), console.clone());
        port.write(0, b"ab");
        port.write(1 << 40, b"a");
        let mut data = [0; 2];
        port.read(5, &mut data);
        assert_eq!((data, console.tail().as_str()), ([0xff; 2], ""));
    }
}
