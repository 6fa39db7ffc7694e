//! Getting a processor out of the guest: a signal whose handler sets `immediate_exit`.
//!
//! The handler runs in the processor's thread, so that there is no moment at which a kick is lost: inside KVM_RUN the
//! signal ends it, before KVM_RUN the flag does (Documentation/virt/kvm/api.rst, section 5, `immediate_exit`).
#![allow(unsafe_code)] // a signal handler, and the page that is shared with KVM

use std::cell::Cell;
use std::marker::PhantomData;
use std::os::unix::thread::RawPthread;
use std::ptr;
use std::sync::atomic::{Ordering, compiler_fence};

use kvm_ioctls::VcpuFd;
use libc::{c_int, c_void, siginfo_t};
use vmm_sys_util::signal::{SIGRTMIN, register_signal_handler};

thread_local! {
    /// `immediate_exit` of this thread's processor. Constant initialisation and no destructor: a signal handler may
    /// read it.
    static EXIT_FLAG: Cell<*mut u8> = const { Cell::new(ptr::null_mut()) };
}

/// Registers the handler, for the whole process.
pub(super) fn install() -> Result<(), i32> {
    register_signal_handler(SIGRTMIN(), on_kick).map_err(|error| error.errno())
}

extern "C" fn on_kick(_: c_int, _: *mut siginfo_t, _: *mut c_void) {
    let flag = EXIT_FLAG.get();
    if !flag.is_null() {
        // SAFETY: `enter` set it to a byte of the mapped kvm_run page, and its guard clears it before that goes.
        // KVM reads the byte at any time; hence volatile.
        unsafe { flag.write_volatile(1) };
    }
}

/// While this lives, kicks of this thread end KVM_RUN of the processor.
pub(super) struct Kickable(PhantomData<*mut u8>);

/// Binds the calling thread to its processor. The guard must not outlive `processor`, and stays on this thread (it is
/// not `Send`).
pub(super) fn enter(processor: &mut VcpuFd) -> Kickable {
    EXIT_FLAG.set(&raw mut processor.get_kvm_run().immediate_exit);
    Kickable(PhantomData)
}

impl Kickable {
    /// Takes back earlier kicks. Call it before looking at what a kick may be about: whoever sets that before this kicks
    /// after it.
    pub(super) fn clear(&self) {
        let flag = EXIT_FLAG.get();
        if !flag.is_null() {
            // SAFETY: as in the handler.
            unsafe { flag.write_volatile(0) };
        }
        // The handler runs in this same thread.
        compiler_fence(Ordering::SeqCst);
    }
}

impl Drop for Kickable {
    fn drop(&mut self) {
        EXIT_FLAG.set(ptr::null_mut());
    }
}

/// The calling thread, to be kicked by others.
pub(super) fn own_thread() -> RawPthread {
    // SAFETY: it takes nothing and can't fail.
    unsafe { libc::pthread_self() }
}

/// Kicks the processor of that thread, which must not have been joined, nor ended where nobody joins it.
pub(super) fn kick(thread: RawPthread) {
    // SAFETY: the thread's id is valid as the caller says; the handler is installed.
    let _ = unsafe { libc::pthread_kill(thread, SIGRTMIN()) };
}
