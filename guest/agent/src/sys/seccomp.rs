//! The filter of system calls.

use msb_agent::protocol::Seccomp;
use nix::errno::Errno;

/// seccomp(2), `SECCOMP_SET_MODE_FILTER`, for this thread and what becomes of it. Needs `CAP_SYS_ADMIN` or no_new_privs.
///
/// The kernel checks the program: each instruction, and that no jump leaves it.
pub fn install_filter(seccomp: &Seccomp) -> Result<(), Errno> {
    if seccomp.flags & !Seccomp::FLAGS != 0 || seccomp.program.len() > Seccomp::MAX_PROGRAM {
        return Err(Errno::EINVAL);
    }
    let mut filter: Vec<libc::sock_filter> = seccomp
        .program
        .iter()
        .map(|one| libc::sock_filter { code: one.code, jt: one.jump_true, jf: one.jump_false, k: one.k })
        .collect();
    let program = libc::sock_fprog {
        len: u16::try_from(filter.len()).map_err(|_| Errno::EINVAL)?,
        filter: filter.as_mut_ptr(),
    };
    // SAFETY: reads `len` instructions, which live until the call is over.
    Errno::result(unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, seccomp.flags, &raw const program)
    })
    .map(drop)
}
