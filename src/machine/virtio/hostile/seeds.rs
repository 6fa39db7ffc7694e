//! Drivers that keep to the protocol, or nearly: what a fuzzer begins with. Each kind of request of each device is in one of
//! them, whole, and so is each thing that a driver does with a device. They are written as the bytes that `steps.rs` reads.

use super::steps::{DATA, MEMORY, NO_EVENT_INDEX, Part, Step};

/// Places in memory for buffers: each on a page of its own.
fn buffer(number: u64, length: u32, writable: bool) -> Part {
    Part { address: DATA + 0x1800 * number, length, writable }
}

fn chain(queue: u8, parts: &[Part], bytes: &[u8]) -> [Step; 2] {
    let (parts, bytes) = (parts.to_vec(), bytes.to_vec());
    [Step::Chain { queue, parts, indirect: false, seed: 0, bytes }, Step::Kick { queue }]
}

/// The same with tables of their own.
fn indirect(steps: &[Step]) -> Vec<Step> {
    let mut steps = steps.to_vec();
    for step in &mut steps {
        if let Step::Chain { indirect, .. } = step {
            *indirect = true;
        }
    }
    steps
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// What a driver of that device does, in some pieces.
pub(super) fn of(device: &str) -> Vec<Vec<Step>> {
    let requests = match device {
        "rng" => rng(),
        "block" | "block-read-only" | "block-throttled" => block(),
        "net" | "net-throttled" => net(),
        "vsock" => vsock(),
        "balloon" => balloon(),
        _ => fs(),
    };
    let mut all = Vec::new();
    for steps in &requests {
        let starts = [
            Step::Start { sizes: [4; 3], features: NO_EVENT_INDEX },
            Step::Start { sizes: [8, 8, 5], features: 0 },
            Step::Start { sizes: [1; 3], features: u32::MAX },
        ];
        all.push(steps.clone());
        all.push(indirect(steps));
        all.extend(starts.map(|start| [vec![start], steps.clone()].concat()));
        // The device goes while it works, and another one comes.
        all.push([steps.clone(), vec![Step::Unplug, Step::Plug]].concat());
        let start = Step::Start { sizes: [4; 3], features: u32::MAX };
        all.push([vec![Step::Unplug, Step::Plug, start], steps.clone()].concat());
    }
    all.push(registers());
    all.push(wrong_rings());
    all
}

fn rng() -> Vec<Vec<Step>> {
    vec![
        chain(0, &[buffer(0, 64, true)], &[]).to_vec(),
        chain(0, &[buffer(0, 4096, true), buffer(1, 100_000, true)], &[]).to_vec(),
        chain(0, &[buffer(0, 16, false), buffer(1, 16, true)], &[7; 16]).to_vec(),
    ]
}

fn block() -> Vec<Vec<Step>> {
    let (status, header) = (buffer(0, 1, true), buffer(1, 16, false));
    let request = |kind: u32, sector: u32, parts: &[Part], range: &[u32]| {
        let bytes = [words(&[kind, 0, sector, 0]), words(range)].concat();
        let parts = [&[header][..], parts, &[status]].concat();
        chain(0, &parts, &bytes).to_vec()
    };
    let (to_read, to_write) = (buffer(2, 512, true), buffer(2, 512, false));
    let more = [buffer(2, 1024, true), buffer(4, 4096, true), buffer(5, 512, true)];
    let range = buffer(2, 16, false);
    let mut all = vec![
        request(0, 0, &[to_read], &[]),
        request(0, 8, &more, &[]),
        request(0, 2047, &[to_read], &[]),
        // Beyond the end, and by the half of a sector.
        request(0, 2048, &[to_read], &[]),
        request(0, 0, &[buffer(2, 300, true)], &[]),
        request(1, 3, &[to_write], &[1, 2, 3]),
        request(1, 16, &more.map(|part| Part { writable: false, ..part }), &[1]),
        request(4, 0, &[], &[]),
        request(8, 0, &[buffer(2, 20, true)], &[]),
        request(8, 0, &[buffer(2, 5, true), buffer(3, 15, true)], &[]),
        request(99, 0, &[], &[]),
        // Sector (64 bits), number of sectors, flags.
        request(11, 0, &[range], &[8, 0, 8, 0]),
        request(11, 0, &[range], &[2040, 0, 16, 0]),
        request(11, 0, &[range], &[8, 0, 8, 1]),
        request(13, 0, &[range], &[8, 0, 8, 0]),
        request(13, 0, &[range], &[8, 0, 8, 1]),
        // A header in pieces, and one with its data behind it.
        chain(0, &[buffer(1, 8, false), buffer(2, 8, false), buffer(3, 512, true), status], &[0; 16])
            .to_vec(),
        chain(0, &[buffer(1, 528, false), status], &words(&[1, 0, 5, 0])).to_vec(),
        chain(0, &[header, buffer(2, 513, true)], &[0; 16]).to_vec(),
    ];
    all.push(all.concat());
    all
}

fn net() -> Vec<Vec<Step>> {
    // A header of 12 bytes, then a frame to everybody.
    let frame = [&[0; 12][..], &[0xff; 6], &[2, 0, 0, 0, 0, 1, 8, 0], &[0x45; 40]].concat();
    let send = |parts: &[Part]| chain(1, parts, &frame).to_vec();
    let receive = |parts: &[Part], seed: u8| {
        let mut steps = chain(0, parts, &[]).to_vec();
        steps.extend([Step::Host { seed }, Step::Host { seed: 1 }]);
        steps
    };
    let mut all = vec![
        send(&[buffer(0, 12, false), buffer(1, 54, false)]),
        send(&[buffer(0, 66, false)]),
        send(&[buffer(0, 6, false), buffer(1, 6, false), buffer(2, 1500, false)]),
        // As large as segments may be, and larger.
        send(&[buffer(0, 12, false), buffer(1, 65_550, false)]),
        send(&[buffer(0, 12, false), buffer(1, 65_550, false), buffer(20, 65_550, false)]),
        receive(&[buffer(0, 1526, true)], 1),
        receive(&[buffer(0, 12, true), buffer(1, 1514, true)], 30),
        // Longer than its buffer.
        receive(&[buffer(0, 64, true)], 200),
    ];
    // A frame in several chains (merged buffers), and one that waits for them.
    let few: Vec<Step> = (0..6).flat_map(|number| chain(0, &[buffer(number, 512, true)], &[])).collect();
    all.push([few.clone(), vec![Step::Host { seed: 40 }, Step::Kick { queue: 0 }]].concat());
    all.push([vec![Step::Host { seed: 40 }], few].concat());
    all.push((0..6).flat_map(|number| all[number % 3].clone()).collect());
    all
}

fn vsock() -> Vec<Vec<Step>> {
    // Section 5.10.6: operations of streams.
    const REQUEST: u32 = 1;
    const RESPONSE: u32 = 2;
    const RST: u32 = 3;
    const SHUTDOWN: u32 = 4;
    const RW: u32 = 5;
    const CREDIT_UPDATE: u32 = 6;
    const CREDIT_REQUEST: u32 = 7;
    let packet = |ports: [u32; 2], operation: u32, length: u32, flags: u32| {
        let bytes =
            words(&[3, 0, 2, 0, ports[0], ports[1], length, 1 | operation << 16, flags, 1 << 16, 0, 7, 7, 7]);
        let parts = [buffer(40, 44, false), buffer(41, length, false)];
        chain(1, &parts[..if length == 0 { 1 } else { 2 }], &bytes).to_vec()
    };
    let buffers: Vec<Step> =
        (0..6).flat_map(|number| chain(0, &[buffer(number, 44 + 4096, true)], &[])).collect();
    let ports = [5000, 1024];
    let open = [buffers.clone(), packet(ports, REQUEST, 0, 0)].concat();
    let host = |seed| vec![Step::Host { seed }];
    let after = |steps: Vec<Vec<Step>>| [open.clone(), steps.concat()].concat();
    let mut all = vec![
        open.clone(),
        // Nobody listens there, somebody does already, and to another machine.
        [buffers.clone(), packet([5000, 1025], REQUEST, 0, 0)].concat(),
        after(vec![packet(ports, REQUEST, 0, 0)]),
        after(vec![packet(ports, RW, 100, 0), host(2), packet(ports, CREDIT_UPDATE, 0, 0)]),
        after(vec![packet(ports, CREDIT_REQUEST, 0, 0), packet(ports, SHUTDOWN, 0, 1), host(3)]),
        after(vec![host(2), packet(ports, SHUTDOWN, 0, 3), packet(ports, RST, 0, 0)]),
        after(vec![host(2), host(1), packet(ports, RW, 16, 0), packet(ports, RST, 0, 0)]),
        after(vec![packet(ports, RW, 4096, 0), packet(ports, RW, 65_536, 0), packet(ports, RW, 65_536, 0)]),
        // Of a stream that there is not.
        [buffers.clone(), packet(ports, RW, 8, 0), packet([9, 9], RST, 0, 0)].concat(),
        [buffers.clone(), packet(ports, 99, 0, 0)].concat(),
        // Without a place for the answer, until there is one.
        [packet(ports, REQUEST, 0, 0), packet(ports, RW, 8, 0), buffers.clone()].concat(),
        chain(2, &[buffer(0, 4, true)], &[]).to_vec(),
    ];
    // The host connects (its ports are counted from the first that is free), and the guest takes it or does not.
    for port in [1 << 30, 1] {
        let ports = [4, port];
        let taken = [packet(ports, RESPONSE, 0, 0), host(2), packet(ports, RW, 20, 0), host(2)];
        all.push([buffers.clone(), host(4), taken.concat()].concat());
        all.push([buffers.clone(), host(4), packet(ports, RST, 0, 0)].concat());
    }
    all
}

fn balloon() -> Vec<Vec<Step>> {
    let pages = |queue, numbers: &[u32]| {
        let length = u32::try_from(4 * numbers.len()).unwrap();
        chain(queue, &[buffer(0, length, false)], &words(numbers)).to_vec()
    };
    let want = |seed| vec![Step::Host { seed }];
    vec![
        [want(3), pages(0, &[128, 129, 130])].concat(),
        [want(3), pages(0, &[200, 190, 255, 256, u32::MAX]), want(0), pages(1, &[200, 190])].concat(),
        pages(0, &[140, 140, 141]),
        chain(2, &[buffer(0, 4096, true)], &[]).to_vec(),
        chain(
            2,
            &[Part { address: MEMORY - 0x8000, length: 0x8000, writable: true }, buffer(0, 8192, true)],
            &[],
        )
        .to_vec(),
        chain(2, &[Part { address: MEMORY - 0x1000, length: 0x2000, writable: true }], &[]).to_vec(),
        chain(0, &[buffer(0, 3, false)], &[1, 2, 3]).to_vec(),
    ]
}

fn fs() -> Vec<Vec<Step>> {
    // Section 5.11.6: FUSE's init and a lookup, which its daemon reads.
    let parts = [buffer(0, 48, false), buffer(1, 512, true)];
    vec![
        chain(1, &parts, &words(&[56, 26, 1, 0, 1, 0, 0, 0, 0, 0])).to_vec(),
        chain(0, &parts, &words(&[40, 1, 2, 0, 1, 0, 0, 0, 0, 0])).to_vec(),
        vec![
            Step::Kick { queue: 0 },
            Step::Kick { queue: 1 },
            Step::Host { seed: 0 },
            Step::Kick { queue: 1 },
        ],
        vec![Step::Host { seed: 4 }, Step::Start { sizes: [4; 3], features: u32::MAX }],
    ]
}

/// Every register, in each width, and those of the queues out of their order.
fn registers() -> Vec<Step> {
    let words = (0..0x3c_u16).map(|word| Step::Register { offset: word * 4, value: 1, width: 4 });
    let others =
        [0x100, 0x101, 0x104, 0x138, 0x200].map(|offset| Step::Register { offset, value: 0, width: 1 });
    words.chain(others).collect()
}

/// Indices that run ahead, heads that there are not, and a device's own index that somebody else writes.
fn wrong_rings() -> Vec<Step> {
    let parts = vec![buffer(0, 64, true)];
    (0..3)
        .flat_map(|queue| {
            [
                Step::Chain { queue, parts: parts.clone(), indirect: false, seed: 0, bytes: Vec::new() },
                Step::Used { queue, index: 9 },
                Step::Kick { queue },
                Step::Entry { queue, at: 1, head: 300 },
                Step::Available { queue, more: 1 },
                Step::Kick { queue },
                Step::Start { sizes: [2; 3], features: u32::MAX },
                Step::Descriptor { queue, at: 0, address: DATA, length: 16, flags: 1, next: 0 },
                Step::Available { queue, more: 1 },
                Step::Kick { queue },
                Step::Start { sizes: [2; 3], features: u32::MAX },
                Step::Available { queue, more: 900 },
                Step::Kick { queue },
            ]
        })
        .collect()
}
