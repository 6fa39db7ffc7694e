//! The port by which the guest ends its machine: reboot and panic both write there (`reboot=p`).
//!
//! A triple fault, which other machines take for a reboot, is thereby always a fault.

use std::sync::Arc;

use super::bus::BusDevice;
use super::handle::{End, Ended};
use super::layout;

/// The Reset Control Register of PC chipsets (Intel ICH datasheet, `RST_CNT`).
#[derive(Debug)]
pub(super) struct ResetPort(Arc<End>);

impl ResetPort {
    pub(super) fn new(end: Arc<End>) -> Self {
        Self(end)
    }
}

impl BusDevice for ResetPort {
    fn read(&self, _: u64, data: &mut [u8]) {
        data.fill(0);
    }

    fn write(&self, _: u64, data: &[u8]) {
        if data.first().is_some_and(|byte| byte & layout::RESET_CPU != 0) {
            self.0.set(Ok(Ended::ShutDown));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_reset_bit_ends_the_machine() {
        let end = Arc::new(End::new().unwrap());
        let port = ResetPort::new(end.clone());
        port.write(0, &[2]);
        assert!(!end.is_set());
        port.write(0, &[6]);
        assert!(matches!(end.take(), Some(Ok(Ended::ShutDown))));
    }
}
