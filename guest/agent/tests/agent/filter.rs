//! Filters of system calls: whose they are, and when they come.

use msb_agent::protocol::{Failure, Instruction, Request, Seccomp, Stream};

use crate::harness::{process, sandbox, text};

/// Refuses mkdir with an errno that nothing else gives, and lets all else through.
fn no_mkdir() -> Seccomp {
    let one = |code, jump_true, jump_false, k| Instruction { code, jump_true, jump_false, k };
    let mkdir = u32::try_from(libc::SYS_mkdir).unwrap();
    // BPF_LD | BPF_ABS of the number, BPF_JEQ, two BPF_RET: SECCOMP_RET_ERRNO with ENOSPC, SECCOMP_RET_ALLOW.
    let program =
        vec![one(0x20, 0, 0, 0), one(0x15, 0, 1, mkdir), one(6, 0, 0, 0x5_001c), one(6, 0, 0, 0x7fff_0000)];
    Seccomp { flags: 0, program }
}

#[test]
fn the_filter_is_the_containers_and_every_execs() {
    for (no_new_privileges, uid) in [(true, 0), (false, 0), (false, 33)] {
        let mut sandbox = sandbox!();
        let mut container = sandbox.container(&["sleep", "900"]);
        container.init.no_new_privileges = no_new_privileges;
        container.init.user.uid = uid;
        container.init.seccomp = Some(no_mkdir());
        let init = sandbox.boot.created(Request::Create(Box::new(container)));
        drop((sandbox.collect(init, Stream::Stdout), sandbox.collect(init, Stream::Stderr)));
        sandbox.boot.call(Request::Start).unwrap();
        let mut channel = sandbox.channel();
        let mut asked = process(&[
            "sh",
            "-c",
            "mkdir /tmp/x; grep -E '^(Seccomp|CapEff|CapPrm):' /proc/1/status /proc/self/status",
        ]);
        asked.no_new_privileges = no_new_privileges;
        asked.user.uid = uid;
        asked.capabilities = None;
        let id = channel.created(Request::Exec(Box::new(asked)));
        let (stdout, stderr) = (sandbox.collect(id, Stream::Stdout), sandbox.collect(id, Stream::Stderr));
        channel.call(Request::Release).unwrap();
        channel.exited(id);
        let (stdout, stderr) = (text(stdout), text(stderr));
        assert!(stderr.contains("No space left on device"), "{stderr}");
        assert_eq!(stdout.matches("Seccomp:\t2").count(), 2, "{stdout}");
        let effective = if uid == 0 { "CapEff:\t00000000000004e1" } else { "CapEff:\t0000000000000000" };
        assert_eq!(stdout.matches(effective).count(), 2, "{stdout}");
    }
}

#[test]
fn a_filter_that_is_none_is_a_failure_to_start() {
    let short = |program| Seccomp { flags: 0, program };
    let long =
        vec![Instruction { code: 6, jump_true: 0, jump_false: 0, k: 0x7fff_0000 }; Seccomp::MAX_PROGRAM + 1];
    for filter in [short(Vec::new()), short(long), Seccomp { flags: 1 << 3, ..no_mkdir() }] {
        let mut sandbox = sandbox!();
        let mut container = sandbox.container(&["true"]);
        container.init.seccomp = Some(filter);
        let init = sandbox.boot.created(Request::Create(Box::new(container)));
        drop((sandbox.collect(init, Stream::Stdout), sandbox.collect(init, Stream::Stderr)));
        let refused = sandbox.boot.call(Request::Start);
        assert!(
            matches!(&refused, Err(Failure::Setup { step, .. }) if step.contains("seccomp")),
            "{refused:?}"
        );
    }
}
