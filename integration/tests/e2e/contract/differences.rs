//! What is meant to differ from runc, and nothing else.

use super::Difference;

/// Ours: below runc's shim, by our own, and by each of them.
const MSB: &[&str] = &["msb"];
const SHIM: &[&str] = &["shim"];
const BOTH: &[&str] = &["msb", "shim"];

/// Each step, once.
pub const DIFFERENCES: &[Difference] = &[
    Difference {
        step: "the host's network",
        reason: "`--network host` is refused",
        lines: &[
            (
                MSB,
                "  runc 0
  runc start
  runc die
  ours 125
  ours docker: not created: The host's own network can't be given to a machine: use a network of its own and publish its ports (--network bridge -p …), or none (--network none): unknown.
",
            ),
            (
                SHIM,
                "  runc 0
  runc start
  runc die
  ours 125
  ours docker: not created: The host's own network can't be given to a machine: use a network of its own and publish its ports (--network bridge -p …), or none (--network none): invalid argument.
",
            ),
        ],
    },
    Difference {
        step: "hidden and read-only paths",
        reason: "`/proc` and `/sys` have what the guest's kernel has",
        lines: &[(
            BOTH,
            "  runc /proc/acpi:
  runc 
  runc sh: can't create /proc/sysrq-trigger: Read-only file system
  runc /proc/acpi ro
  runc /proc/kcore rw
  runc /proc/sysrq-trigger ro
  runc head: /proc/kcore: Permission denied
  ours sh: can't create /proc/sysrq-trigger: nonexistent directory
  ours head: /proc/kcore: No such file or directory
  ours ls: /proc/acpi: No such file or directory
",
        )],
    },
    Difference {
        step: "looked at",
        reason: "`docker top` shows the machine's one process",
        lines: &[(BOTH, "  runc 1\n  ours 0\n")],
    },
];
