//! Registers and states of a device, and the layout of a queue (Virtual I/O Device 1.3, sections 4.2.2, 2.1 and 2.7).

/// `MagicValue`.
pub const MAGIC_VALUE: u64 = 0x000;
/// What it reads as: "virt".
pub const MAGIC: u64 = 0x7472_6976;
/// `DeviceID`; 0 where there is no device.
pub const DEVICE_ID: u64 = 0x008;
/// `DeviceFeatures`.
pub const DEVICE_FEATURES: u64 = 0x010;
/// `DeviceFeaturesSel`.
pub const DEVICE_FEATURES_SEL: u64 = 0x014;
/// `DriverFeatures`.
pub const DRIVER_FEATURES: u64 = 0x020;
/// `DriverFeaturesSel`.
pub const DRIVER_FEATURES_SEL: u64 = 0x024;
/// `QueueSel`.
pub const QUEUE_SEL: u64 = 0x030;
/// `QueueNumMax`.
pub const QUEUE_NUM_MAX: u64 = 0x034;
/// `QueueNum`.
pub const QUEUE_NUM: u64 = 0x038;
/// `QueueReady`.
pub const QUEUE_READY: u64 = 0x044;
/// `QueueNotify`.
pub const QUEUE_NOTIFY: u64 = 0x050;
/// `InterruptACK`.
pub const INTERRUPT_ACK: u64 = 0x064;
/// `Status`.
pub const STATUS: u64 = 0x070;
/// `QueueDescLow`; the upper half is behind it.
pub const QUEUE_DESC: u64 = 0x080;
/// `QueueDriverLow`: the available ring.
pub const QUEUE_DRIVER: u64 = 0x090;
/// `QueueDeviceLow`: the used ring.
pub const QUEUE_DEVICE: u64 = 0x0a0;
/// Config.
pub const CONFIG: u64 = 0x100;
/// Bytes of a device's registers.
pub const WINDOW: u64 = 0x200;

/// `ACKNOWLEDGE`, `DRIVER`, `DRIVER_OK`, `FEATURES_OK`.
pub const ACKNOWLEDGE: u64 = 1;
/// See [`ACKNOWLEDGE`].
pub const DRIVER: u64 = 2;
/// See [`ACKNOWLEDGE`].
pub const DRIVER_OK: u64 = 4;
/// See [`ACKNOWLEDGE`].
pub const FEATURES_OK: u64 = 8;
/// `DEVICE_NEEDS_RESET`.
pub const NEEDS_RESET: u64 = 64;

/// `VIRTIO_F_VERSION_1` in the second word of features.
pub const VERSION_1: u64 = 1;
/// `VIRTQ_DESC_F_NEXT`.
pub const NEXT: u64 = 1;
/// `VIRTQ_DESC_F_WRITE`.
pub const WRITE: u64 = 2;

/// A network card's number.
pub const NET: u64 = 1;
/// A disk's.
pub const BLOCK: u64 = 2;
/// That of the source of random bytes.
pub const ENTROPY: u64 = 4;
/// That of sockets.
pub const VSOCK: u64 = 19;
/// That of a file system.
pub const FS: u64 = 26;
