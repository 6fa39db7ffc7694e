//! The attack as a guest's kernel: entered by the Linux 64-bit boot protocol, one processor, no interrupts.
//!
//! Enters: `boot_params`, with the command line. Leaves: a line for each device on the serial port, `guest-hostile: done` if all
//! was tried, and the end of the machine.

#![no_std]
#![no_main]
#![allow(unsafe_code, reason = "a kernel: memory and ports are numbers")]

use core::arch::{asm, global_asm};
use core::fmt::{self, Write};
use core::panic::PanicInfo;

use guest_hostile::random::Random;
use guest_hostile::registers::{DEVICE_ID, WINDOW};
use guest_hostile::{Memory, ask, attack, devices};

/// How often each device is set up.
const ROUNDS: u32 = 40;
/// Free memory: a page for a table, and behind it what is lent to devices.
const TABLE: u64 = 0x180_0000;
/// See [`TABLE`].
const ARENA: u64 = 0x200_0000;
/// Begin of the GiB in which the devices are: what the boot's page tables do not have.
const DEVICES: u64 = 0xc000_0000;
/// `cmd_line_ptr` of `boot_params` (Documentation/arch/x86/zero-page.rst).
const COMMAND_LINE: u64 = 0x228;
/// First serial port.
const SERIAL: u16 = 0x3f8;
/// Reset control register, and its bit.
const RESET: (u16, u8) = (0xcf9, 6);

global_asm!(
    ".section .text.entry, \"ax\"",
    ".global _start",
    "_start:",
    "cli",
    // OSFXSR and OSXMMEXCPT: the compiler uses SSE.
    "mov rax, cr4",
    "or rax, 0x600",
    "mov cr4, rax",
    "lea rsp, [rip + stack_end]",
    "mov rdi, rsi",
    "call begin",
    "ud2",
    ".section .bss.stack, \"aw\", @nobits",
    ".balign 4096",
    ".skip 65536",
    "stack_end:",
);

/// All of it.
#[unsafe(no_mangle)]
extern "C" fn begin(boot_params: u64) -> ! {
    let mut machine = Machine;
    map_devices(&mut machine);
    let line = machine.read(boot_params + COMMAND_LINE, 4);
    let mut text = [0; 2048];
    for (at, byte) in (line..).zip(&mut text) {
        *byte = u8::try_from(machine.read(at, 1)).unwrap_or(0);
    }
    let end = text.iter().position(|byte| *byte == 0).unwrap_or(text.len());
    let mut random = Random::of(0x6d73_625f_686f_7374);
    let mut serial = Serial;
    for base in devices::of(&text[..end]) {
        let kind = machine.read(base + DEVICE_ID, 4);
        if kind == 0 {
            continue;
        }
        let seen = attack::device(&mut machine, base, ARENA, &mut random, ROUNDS);
        outside(&mut machine, base + WINDOW * 64, &mut random);
        // What is told is not what the attack has left of the port's settings.
        serial.set_up();
        let answer = ask::device(&mut machine, base, ARENA);
        let _ = writeln!(
            serial,
            "\ndevice {kind}: {} rounds, {} needed a reset, {} chains used, {answer:?}",
            seen.rounds, seen.needed_reset, seen.used
        );
    }
    let _ = writeln!(serial, "guest-hostile: done");
    shut_down()
}

/// Where there is no device: behind the registers, and at ports.
fn outside(machine: &mut Machine, behind: u64, random: &mut Random) {
    for _ in 0..20 {
        let width = random.one_of(&[1, 2, 4, 8]);
        let at = behind + random.below(1 << 20);
        machine.read(at, width);
        machine.write(at, width, random.any());
        let port = u16::try_from(random.below(1 << 16)).unwrap_or(0);
        // The interrupt controllers are KVM's own; the reset would end it here.
        if port > 0xff && !(RESET.0 - 3..=RESET.0 + 3).contains(&port) {
            out(port, random.any().to_le_bytes()[0]);
        }
        let register = SERIAL + u16::try_from(random.below(8)).unwrap_or(0);
        out(register, random.any().to_le_bytes()[0]);
    }
}

/// Maps the GiB of the devices one to one, by pages of 2 MiB, in the boot's page tables.
fn map_devices(machine: &mut Machine) {
    for page in 0..512 {
        machine.write(TABLE + page * 8, 8, (DEVICES + (page << 21)) | 0x83);
    }
    let top: u64;
    // SAFETY: reads a register.
    unsafe { asm!("mov {}, cr3", out(reg) top, options(nomem, nostack)) };
    let second = machine.read(top & !0xfff, 8) & !0xfff;
    machine.write(second + 3 * 8, 8, TABLE | 3);
    // SAFETY: the same tables again, which forgets what was known of them; what was mapped is mapped.
    unsafe { asm!("mov cr3, {}", in(reg) top, options(nostack)) };
}

/// The processor's view: all memory and all registers, one to one.
struct Machine;

impl Memory for Machine {
    #[expect(clippy::multiple_unsafe_ops_per_block, reason = "one of four widths")]
    fn read(&mut self, address: u64, width: u8) -> u64 {
        let value: u64;
        // SAFETY: the address is mapped, or this kernel ends by a fault, which is its own; nothing of Rust's is there but the
        // stack and the program, which the attack's addresses spare.
        unsafe {
            match width {
                1 => asm!("movzx {0:e}, byte ptr [{1}]", out(reg) value, in(reg) address, options(nostack)),
                2 => asm!("movzx {0:e}, word ptr [{1}]", out(reg) value, in(reg) address, options(nostack)),
                4 => asm!("mov {0:e}, [{1}]", out(reg) value, in(reg) address, options(nostack)),
                _ => asm!("mov {0}, [{1}]", out(reg) value, in(reg) address, options(nostack)),
            }
        }
        value
    }

    #[expect(clippy::multiple_unsafe_ops_per_block, reason = "one of four widths")]
    fn write(&mut self, address: u64, width: u8, value: u64) {
        // SAFETY: as for reading.
        unsafe {
            match width {
                1 => {
                    asm!("mov [{0}], {1}", in(reg) address, in(reg_byte) value.to_le_bytes()[0], options(nostack))
                }
                2 => asm!("mov [{0}], {1:x}", in(reg) address, in(reg) value, options(nostack)),
                4 => asm!("mov [{0}], {1:e}", in(reg) address, in(reg) value, options(nostack)),
                _ => asm!("mov [{0}], {1}", in(reg) address, in(reg) value, options(nostack)),
            }
        }
    }
}

/// Writes a byte to a port.
fn out(port: u16, value: u8) {
    // SAFETY: what a port does is the machine's business.
    unsafe { asm!("out dx, al", in("dx") port, in("al") value, options(nomem, nostack)) };
}

/// The first serial port, whose transmitter is always ready: it is a file's.
struct Serial;

impl Serial {
    /// No interrupts, 8 bits, no divisor latch, no loop.
    fn set_up(&mut self) {
        for (register, value) in [(3, 3), (1, 0), (4, 3)] {
            out(SERIAL + register, value);
        }
    }
}

impl Write for Serial {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.bytes().for_each(|byte| out(SERIAL, byte));
        Ok(())
    }
}

/// Ends the machine.
fn shut_down() -> ! {
    loop {
        out(RESET.0, RESET.1);
        // SAFETY: waits, for ever if nobody ends it.
        unsafe { asm!("hlt", options(nomem, nostack)) };
    }
}

#[panic_handler]
fn panicked(info: &PanicInfo<'_>) -> ! {
    let _ = writeln!(Serial, "guest-hostile: {info}");
    shut_down()
}

/// What the compiler takes for granted.
#[unsafe(no_mangle)]
extern "C" fn memset(to: *mut u8, value: i32, length: usize) -> *mut u8 {
    // SAFETY: the caller's promise is memset's.
    unsafe {
        asm!("rep stosb", inout("rcx") length => _, inout("rdi") to => _, in("al") value.to_le_bytes()[0], options(nostack))
    };
    to
}

/// See [`memset`].
#[unsafe(no_mangle)]
extern "C" fn memcpy(to: *mut u8, from: *const u8, length: usize) -> *mut u8 {
    // SAFETY: the caller's promise is memcpy's.
    unsafe {
        asm!("rep movsb", inout("rcx") length => _, inout("rdi") to => _, inout("rsi") from => _, options(nostack))
    };
    to
}

/// See [`memset`]; only whether they differ is asked.
#[unsafe(no_mangle)]
extern "C" fn bcmp(one: *const u8, other: *const u8, length: usize) -> i32 {
    let differs: u8;
    // SAFETY: the caller's promise is bcmp's. Nothing compared is nothing different: the flag is set before.
    unsafe {
        asm!("cmp eax, eax", "repe cmpsb", "setne al", inout("rcx") length => _, inout("rdi") other => _,
            inout("rsi") one => _, out("al") differs, options(nostack))
    };
    i32::from(differs)
}

/// What the core library's code names for unwinding, which nothing here does.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}
