//! Whom a machine can reach: a filter at its tap, in front of the redirection, that drops what may not go out.
//!
//! A packet filter of the classic kind in a `bpf` classifier: it needs no program of bpf(2) and no firewall, is asked for every
//! packet, and knows nothing of connections, which it need not: what is dropped is whatever goes to a forbidden address.
//! `public` is the Internet: no address that a registry keeps for other uses (RFC 6890 and its successors), so neither the
//! host and its networks nor what a cloud tells of its machines (169.254.169.254, fd00:ec2::254). IPv6 is let through only to
//! global unicast addresses that hold no IPv4 address, and to its neighbours for finding them.

use std::net::Ipv4Addr;

use netlink_packet_core::{DefaultNla, NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::{
    RouteNetlinkMessage as Message,
    tc::{TcAttribute, TcBpfFlags, TcFilterBpf, TcFilterBpfOption, TcOption},
};

use super::{
    Netlink, NetlinkError,
    redirect::{EVERY_PROTOCOL, filter},
};

/// Before all that forwards a packet.
const PRIORITY: u32 = 1;
/// `TCA_BPF_OPS_LEN` and `TCA_BPF_OPS` of linux/pkt_cls.h.
const OPS_LEN: u16 = 4;
const OPS: u16 = 5;

/// Of linux/filter.h and linux/bpf_common.h.
const LOAD_WORD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
const LOAD_HALF: u16 = 0x28; // BPF_LD | BPF_H | BPF_ABS
const LOAD_BYTE: u16 = 0x30; // BPF_LD | BPF_B | BPF_ABS
const AND: u16 = 0x54; // BPF_ALU | BPF_AND | BPF_K
const JUMP: u16 = 0x05; // BPF_JMP | BPF_JA
const EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
const GREATER: u16 = 0x25; // BPF_JMP | BPF_JGT | BPF_K
const AT_LEAST: u16 = 0x35; // BPF_JMP | BPF_JGE | BPF_K
const RETURN: u16 = 0x06; // BPF_RET | BPF_K
/// `SKF_AD_OFF` with `SKF_AD_PROTOCOL` and `SKF_AD_VLAN_TAG_PRESENT`: what the kernel knows of a packet.
const PROTOCOL: u32 = 0xffff_f000;
const TAGGED: u32 = 0xffff_f000 + 48;
/// `SKF_NET_OFF`: from the network's header on.
const NETWORK: u32 = 0xfff0_0000;
/// `TC_ACT_UNSPEC` and `TC_ACT_SHOT` of linux/pkt_cls.h: the next filter decides; the packet is dropped.
const PASS: u32 = u32::MAX;
const DROP: u32 = 2;

/// `ETH_P_*`
const IPV4: u32 = 0x0800;
const ARP: u32 = 0x0806;
const IPV6: u32 = 0x86dd;
/// Protocol numbers, and the port of name servers.
const TCP: u32 = 6;
const UDP: u32 = 17;
const ICMPV6: u32 = 58;
const DOMAIN: u32 = 53;

/// First and last of what is not public of IPv4 (RFC 6890; 224/4 and 240/4 as one).
const NOT_PUBLIC: [([u8; 4], [u8; 4]); 12] = [
    ([0, 0, 0, 0], [0, 255, 255, 255]),
    ([10, 0, 0, 0], [10, 255, 255, 255]),
    ([100, 64, 0, 0], [100, 127, 255, 255]),
    ([127, 0, 0, 0], [127, 255, 255, 255]),
    ([169, 254, 0, 0], [169, 254, 255, 255]),
    ([172, 16, 0, 0], [172, 31, 255, 255]),
    ([192, 0, 0, 0], [192, 0, 0, 255]),
    ([192, 88, 99, 0], [192, 88, 99, 255]),
    ([192, 168, 0, 0], [192, 168, 255, 255]),
    ([198, 18, 0, 0], [198, 19, 255, 255]),
    ([224, 0, 0, 0], [255, 255, 255, 254]),
    ([255, 255, 255, 255], [255, 255, 255, 255]),
];
/// First 32 bits of IPv6 addresses. Those of Teredo (RFC 4380) and 6to4 (RFC 3056) hold an IPv4 address.
const TEREDO: (u32, u32) = (0x2001_0000, 0x2001_0000);
const SIX_TO_FOUR: (u32, u32) = (0x2002_0000, 0x2002_ffff);
const GLOBAL: (u32, u32) = (0x2000_0000, 0x3fff_ffff);
const LINK: (u32, u32) = (0xfe80_0000, 0xfebf_ffff);
const LINK_MULTICAST: (u32, u32) = (0xff02_0000, 0xff02_ffff);

/// `struct sock_filter`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Instruction {
    code: u16,
    yes: u8,
    no: u8,
    value: u32,
}

/// Lets what comes in by that tap go to public addresses alone, and to the name server `resolver`.
///
/// # Errors
/// [`NetlinkError`]
pub fn public_only(netlink: &mut Netlink, tap: u32, resolver: Option<Ipv4Addr>) -> Result<(), NetlinkError> {
    let program = program(resolver);
    let count = u16::try_from(program.len()).unwrap_or(u16::MAX);
    let bytes = program.into_iter().flat_map(Instruction::bytes).collect();
    let options = vec![
        TcOption::Bpf(TcFilterBpfOption::Other(DefaultNla::new(OPS_LEN, count.to_ne_bytes().to_vec()))),
        TcOption::Bpf(TcFilterBpfOption::Other(DefaultNla::new(OPS, bytes))),
        TcOption::Bpf(TcFilterBpfOption::Flags(TcBpfFlags::DirectAction)),
    ];
    let attributes = vec![TcAttribute::Kind(TcFilterBpf::KIND.into()), TcAttribute::Options(options)];
    let message = filter(tap, PRIORITY, EVERY_PROTOCOL, attributes);
    netlink.order("filter a tap", NLM_F_CREATE | NLM_F_EXCL, Message::NewTrafficFilter(message))
}

/// Its ends are where they are needed: jumps are short and forward.
fn program(resolver: Option<Ipv4Addr>) -> Vec<Instruction> {
    let mut all = vec![load(LOAD_WORD, TAGGED), jump(EQUAL, 0, 1, 0), end(DROP), load(LOAD_WORD, PROTOCOL)];
    all.extend([jump(EQUAL, ARP, 0, 1), end(PASS)]);
    let four = ipv4(resolver);
    all.extend([jump(EQUAL, IPV4, 1, 0), go(four.len())]);
    all.extend(four);
    let six = ipv6();
    all.extend([jump(EQUAL, IPV6, 1, 0), go(six.len())]);
    all.extend(six);
    all.push(end(DROP));
    all
}

fn ipv4(resolver: Option<Ipv4Addr>) -> Vec<Instruction> {
    let destination = load(LOAD_WORD, NETWORK + 16);
    let mut all = Vec::new();
    if let Some(address) = resolver {
        // A header without options (RFC 791, 3.1), TCP or UDP, no later fragment, and the port.
        all.extend([destination, jump(EQUAL, address.to_bits(), 0, 11)]);
        all.extend([load(LOAD_BYTE, NETWORK), jump(EQUAL, 0x45, 0, 9)]);
        all.extend([load(LOAD_BYTE, NETWORK + 9), jump(EQUAL, TCP, 1, 0), jump(EQUAL, UDP, 0, 6)]);
        all.extend([load(LOAD_HALF, NETWORK + 6), Instruction { code: AND, yes: 0, no: 0, value: 0x1fff }]);
        all.extend([
            jump(EQUAL, 0, 0, 3),
            load(LOAD_HALF, NETWORK + 22),
            jump(EQUAL, DOMAIN, 0, 1),
            end(PASS),
        ]);
    }
    all.push(destination);
    for (first, last) in NOT_PUBLIC {
        all.extend(if_within((u32::from_be_bytes(first), u32::from_be_bytes(last)), DROP));
    }
    all.push(end(PASS));
    all
}

fn ipv6() -> Vec<Instruction> {
    let destination = load(LOAD_WORD, NETWORK + 24);
    let neighbours: Vec<_> = [destination]
        .into_iter()
        .chain(if_within(LINK, PASS))
        .chain(if_within(LINK_MULTICAST, PASS))
        .collect();
    let mut all = vec![load(LOAD_BYTE, NETWORK + 6), jump(EQUAL, ICMPV6, 1, 0), go(neighbours.len())];
    all.extend(neighbours);
    all.push(destination);
    for (range, verdict) in [(TEREDO, DROP), (SIX_TO_FOUR, DROP), (GLOBAL, PASS)] {
        all.extend(if_within(range, verdict));
    }
    all.push(end(DROP));
    all
}

fn if_within((first, last): (u32, u32), verdict: u32) -> [Instruction; 3] {
    [jump(AT_LEAST, first, 0, 2), jump(GREATER, last, 1, 0), end(verdict)]
}

fn load(code: u16, value: u32) -> Instruction {
    Instruction { code, yes: 0, no: 0, value }
}

fn jump(code: u16, value: u32, yes: u8, no: u8) -> Instruction {
    Instruction { code, yes, no, value }
}

fn go(distance: usize) -> Instruction {
    // Programs are shorter than 4096 instructions (BPF_MAXINSNS).
    Instruction { code: JUMP, yes: 0, no: 0, value: u32::try_from(distance).unwrap_or(u32::MAX) }
}

fn end(verdict: u32) -> Instruction {
    Instruction { code: RETURN, yes: 0, no: 0, value: verdict }
}

impl Instruction {
    fn bytes(self) -> [u8; 8] {
        let mut bytes = [0; 8];
        bytes[..2].copy_from_slice(&self.code.to_ne_bytes());
        (bytes[2], bytes[3]) = (self.yes, self.no);
        bytes[4..].copy_from_slice(&self.value.to_ne_bytes());
        bytes
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv6Addr};

    use proptest::prelude::*;

    use super::*;

    /// What the kernel does with a packet (Documentation/networking/filter.rst), for the instructions that are used.
    fn verdict(program: &[Instruction], protocol: u32, tagged: bool, packet: &[u8]) -> u32 {
        let (mut at, mut a) = (0, 0_u32);
        loop {
            let Instruction { code, yes, no, value } = program[at];
            at += 1;
            let bytes = |count: usize| -> Option<u32> {
                let from = value.checked_sub(NETWORK)? as usize;
                Some(packet.get(from..from + count)?.iter().fold(0, |all, byte| all << 8 | u32::from(*byte)))
            };
            let loaded = match (code, value) {
                (LOAD_WORD, TAGGED) => Some(u32::from(tagged)),
                (LOAD_WORD, PROTOCOL) => Some(protocol),
                (LOAD_WORD, _) => bytes(4),
                (LOAD_HALF, _) => bytes(2),
                (LOAD_BYTE, _) => bytes(1),
                (AND, _) => Some(a & value),
                (RETURN, _) => return value,
                (JUMP, _) => {
                    at += value as usize;
                    continue;
                }
                _ => {
                    let holds = match code {
                        EQUAL => a == value,
                        GREATER => a > value,
                        AT_LEAST => a >= value,
                        _ => panic!("an instruction that is not used: {code:#x}"),
                    };
                    at += usize::from(if holds { yes } else { no });
                    continue;
                }
            };
            // A packet that is too short ends the program, as if it had returned 0: it is passed to nobody.
            let Some(loaded) = loaded else { return 0 };
            a = loaded;
        }
    }

    fn packet(to: IpAddr, protocol: u8, port: u16) -> (u32, Vec<u8>) {
        match to {
            IpAddr::V4(to) => {
                let mut header = vec![0x45, 0, 0, 28, 0, 0, 0x40, 0, 64, protocol, 0, 0, 10, 0, 2, 15];
                header.extend(to.octets());
                header.extend([0x80, 0, port.to_be_bytes()[0], port.to_be_bytes()[1], 0, 8, 0, 0]);
                (IPV4, header)
            }
            IpAddr::V6(to) => {
                let mut header = vec![0x60, 0, 0, 0, 0, 8, protocol, 64];
                header.extend([0; 16]);
                header.extend(to.octets());
                header.extend([0; 8]);
                (IPV6, header)
            }
        }
    }

    fn sent(program: &[Instruction], to: &str, protocol: u8, port: u16) -> bool {
        let (kind, packet) = packet(to.parse().unwrap(), protocol, port);
        match verdict(program, kind, false, &packet) {
            PASS => true,
            DROP => false,
            other => panic!("{to}: {other}"),
        }
    }

    #[test]
    fn the_internet_and_nothing_else() {
        let program = program(None);
        for public in
            ["1.1.1.1", "9.255.255.255", "11.0.0.0", "172.15.0.1", "172.32.0.1", "192.167.1.1", "223.1.1.1"]
        {
            assert!(sent(&program, public, 6, 80), "{public}");
        }
        for private in [
            "0.1.2.3",
            "10.0.0.1",
            "100.64.0.1",
            "127.0.0.1",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "198.18.0.1",
            "224.0.0.1",
            "255.255.255.255",
        ] {
            assert!(!sent(&program, private, 17, 53), "{private}");
        }
        for public in ["2606:4700::1111", "2a00::1", "3fff::1"] {
            assert!(sent(&program, public, 6, 80), "{public}");
        }
        for private in [
            "::1",
            "fd00:ec2::254",
            "fe80::1",
            "64:ff9b::a00:1",
            "::ffff:10.0.0.1",
            "2002:a00:1::",
            "2001:0:a00:1::",
            "ff02::fb",
        ] {
            assert!(!sent(&program, private, 6, 80), "{private}");
        }
        // Neighbours are found.
        assert!(sent(&program, "ff02::1:ff00:1", 58, 0) && sent(&program, "fe80::1", 58, 0));
        assert!(!sent(&program, "fd00::1", 58, 0));
    }

    #[test]
    fn a_name_server_is_asked_for_names_alone() {
        let program = program(Some(Ipv4Addr::new(169, 254, 1, 1)));
        assert!(sent(&program, "169.254.1.1", 17, 53) && sent(&program, "169.254.1.1", 6, 53));
        for (address, protocol, port) in
            [("169.254.1.1", 6, 80), ("169.254.1.1", 1, 53), ("169.254.1.2", 17, 53)]
        {
            assert!(!sent(&program, address, protocol, port), "{address} {protocol} {port}");
        }
        assert!(sent(&program, "8.8.8.8", 6, 80));
        // Options would hide another port; a later fragment has none.
        let (kind, mut options) = packet("169.254.1.1".parse().unwrap(), 17, 53);
        options[0] = 0x46;
        assert_eq!(verdict(&program, kind, false, &options), DROP);
        let (kind, mut fragment) = packet("169.254.1.1".parse().unwrap(), 17, 53);
        fragment[7] = 1;
        assert_eq!(verdict(&program, kind, false, &fragment), DROP);
    }

    #[test]
    fn what_is_neither_is_dropped() {
        let program = program(None);
        let (_, packet) = packet("1.1.1.1".parse().unwrap(), 6, 80);
        assert_eq!(verdict(&program, ARP, false, &packet), PASS);
        assert_eq!(verdict(&program, IPV4, true, &packet), DROP);
        assert_eq!(verdict(&program, 0x88cc, false, &packet), DROP);
    }

    proptest! {
        #[test]
        fn as_the_standard_library_sees_addresses(bits: u32, six: u128, protocol: u8) {
            let program = program(Some(Ipv4Addr::new(169, 254, 1, 1)));
            let four = Ipv4Addr::from_bits(bits);
            let closed = four.is_private() || four.is_loopback() || four.is_link_local() || four.is_multicast()
                || four.is_broadcast() || four.is_unspecified();
            if closed {
                prop_assert!(four == Ipv4Addr::new(169, 254, 1, 1) || !sent(&program, &four.to_string(), protocol, 80));
            }
            let six = Ipv6Addr::from_bits(six);
            if six.is_unique_local() || six.is_loopback() || six.to_ipv4().is_some() {
                prop_assert!(!sent(&program, &six.to_string(), protocol, 80));
            }
        }

        #[test]
        fn any_bytes_end_the_program(bytes: Vec<u8>, kind in prop::sample::select(vec![IPV4, IPV6, ARP])) {
            verdict(&program(Some(Ipv4Addr::LOCALHOST)), kind, false, &bytes);
        }
    }
}
