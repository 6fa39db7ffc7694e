//! The MP table: processors and interrupt routing for a guest without ACPI.
//!
//! Source: Intel MultiProcessor Specification 1.4, chapter 4.

use crate::machine::layout;

/// `spec_rev` of version 1.4.
const REVISION: u8 = 4;
/// Version register of KVM's local APIC.
const LOCAL_APIC_VERSION: u8 = 0x14;
/// Version register of KVM's I/O APIC.
const IO_APIC_VERSION: u8 = 0x11;
/// The only bus.
const BUS: u8 = 0;
/// Processor entry flags: usable, and the one that boots (section 4.3.1).
const CPU_ENABLED: u8 = 1;
/// See [`CPU_ENABLED`].
const CPU_BOOT: u8 = 2;
/// Destination "all local APICs" (section 4.3.5).
const ALL_LOCAL_APICS: u8 = 0xff;

/// Interrupt types (section 4.3.4, table 4-11).
#[derive(Clone, Copy)]
enum Kind {
    Vectored = 0,
    Nmi = 1,
    External = 3,
}

/// The floating pointer and, behind it, the configuration table, for [`layout::MP_TABLE`].
pub(super) fn build(processors: u8) -> Vec<u8> {
    let io_apic = processors;
    let mut entries = Vec::new();
    let mut count = 0_u16;
    let mut entry = |bytes: &[u8]| {
        entries.extend_from_slice(bytes);
        count += 1;
    };
    for id in 0..processors {
        let flags = CPU_ENABLED | if id == 0 { CPU_BOOT } else { 0 };
        // Signature and features are what CPUID says anyway; Linux only prints these.
        let mut cpu = [0; 20];
        cpu[..4].copy_from_slice(&[0, id, LOCAL_APIC_VERSION, flags]);
        entry(&cpu);
    }
    entry(b"\x01\x00ISA   ");
    let mut controller = [2, io_apic, IO_APIC_VERSION, 1, 0, 0, 0, 0];
    controller[4..].copy_from_slice(&layout::IO_APIC.to_le_bytes());
    entry(&controller);
    for pin in 0..=u8::try_from(layout::LAST_IRQ).expect("an I/O APIC has at most 240 pins") {
        // Flags 0: polarity and trigger mode conform to the bus: ISA is active high, by edge.
        entry(&[3, Kind::Vectored as u8, 0, 0, BUS, pin, io_apic, pin]);
    }
    entry(&[4, Kind::External as u8, 0, 0, BUS, 0, 0, 0]);
    entry(&[4, Kind::Nmi as u8, 0, 0, BUS, 0, ALL_LOCAL_APICS, 1]);

    let length = u16::try_from(HEADER + entries.len()).expect("at most 32 processors: 908 bytes");
    let mut table = Vec::with_capacity(FLOATING + usize::from(length));
    let address = u32::try_from(layout::MP_TABLE).expect("below 1 MiB") + 16;
    table.extend_from_slice(b"_MP_");
    table.extend_from_slice(&address.to_le_bytes());
    table.extend_from_slice(&[1, REVISION, 0, 0, 0, 0, 0, 0]);
    seal(&mut table, 0..FLOATING, 10);

    table.extend_from_slice(b"PCMP");
    table.extend_from_slice(&length.to_le_bytes());
    table.extend_from_slice(&[REVISION, 0]);
    table.extend_from_slice(b"MSB     MICROVM     ");
    table.extend_from_slice(&[0; 6]);
    table.extend_from_slice(&count.to_le_bytes());
    table.extend_from_slice(&layout::LOCAL_APIC.to_le_bytes());
    table.extend_from_slice(&[0; 4]);
    table.extend_from_slice(&entries);
    let all = FLOATING..table.len();
    seal(&mut table, all, FLOATING + 7);
    table
}

/// Size of the floating pointer structure.
const FLOATING: usize = 16;
/// Size of the configuration table's header.
const HEADER: usize = 44;

/// Sets the checksum byte at `at` so that the bytes of the range add up to 0.
fn seal(table: &mut [u8], range: std::ops::Range<usize>, at: usize) {
    let sum = table[range].iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
    table[at] = sum.wrapping_neg();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_fits_and_adds_up_for_all_sizes() {
        for processors in 1..=32 {
            let table = build(processors);
            assert!(table.len() <= usize::try_from(layout::MP_TABLE_END - layout::MP_TABLE).unwrap());
            let sum = |bytes: &[u8]| bytes.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
            assert_eq!((sum(&table[..16]), sum(&table[16..])), (0, 0));
            assert_eq!(usize::from(u16::from_le_bytes([table[20], table[21]])), table.len() - 16);
            assert_eq!(u16::from_le_bytes([table[50], table[51]]), u16::from(processors) + 28);
        }
    }
}
