//! Programs are run here as the kernel runs them, next to the profile evaluated directly.

use msb_agent::protocol::Instruction;
use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompOperator};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{SeccompError, abi, filter};
use crate::bpf::simulated::{self, Data};

const ALLOW: u32 = 0x7fff_0000;
const KILL_THREAD: u32 = 0;
const EPERM: u32 = 0x5_0001;
#[cfg(target_arch = "x86_64")]
const ENOSYS: u32 = 0x5_0026;

/// The program as it comes to the kernel.
fn run(program: &[Instruction], data: Data) -> (u32, usize) {
    let program = program.iter().map(|instruction| {
        let Instruction { code, jump_true, jump_false, k } = *instruction;
        crate::bpf::Instruction { code, jump_true, jump_false, k }
    });
    simulated::run(&program.collect::<Vec<_>>(), data)
}

fn profile(value: Value) -> LinuxSeccomp {
    serde_json::from_value(value).unwrap()
}

/// What is returned for a call by name in the machine's own ABI.
fn returned(seccomp: &LinuxSeccomp, name: &str, arguments: [u64; 6]) -> u32 {
    let own = abi::NATIVE[0];
    let number = (own.number)(name).unwrap();
    run(&filter(seccomp).unwrap().program, Data { number, audit: own.audit, arguments }).0
}

/// The profile itself, as the module's documentation says, for a call by name.
fn expected(seccomp: &LinuxSeccomp, name: &str, arguments: [u64; 6], wide: bool) -> u32 {
    let cut = |value: u64| if wide { value } else { value & 0xffff_ffff };
    let returns = |action: oci_spec::runtime::LinuxSeccompAction, errno: Option<u32>| {
        action.as_u32(Some(errno.unwrap_or(1)))
    };
    let default = returns(seccomp.default_action(), seccomp.default_errno_ret());
    let mut found = None;
    for group in seccomp.syscalls().iter().flatten().filter(|group| group.names().iter().any(|n| n == name)) {
        let action = returns(group.action(), group.errno_ret());
        let args = group.args().clone().unwrap_or_default();
        if action == default {
            continue;
        }
        if args.is_empty() {
            return action;
        }
        let holds = |arg: &oci_spec::runtime::LinuxSeccompArg| {
            let (a, v) = (cut(arguments[arg.index()]), cut(arg.value()));
            match arg.op() {
                LinuxSeccompOperator::ScmpCmpEq => a == v,
                LinuxSeccompOperator::ScmpCmpNe => a != v,
                LinuxSeccompOperator::ScmpCmpLt => a < v,
                LinuxSeccompOperator::ScmpCmpLe => a <= v,
                LinuxSeccompOperator::ScmpCmpGe => a >= v,
                LinuxSeccompOperator::ScmpCmpGt => a > v,
                LinuxSeccompOperator::ScmpCmpMaskedEq => a & v == cut(arg.value_two().unwrap_or(0)) & v,
            }
        };
        let shared =
            args.iter().enumerate().any(|(at, arg)| args[..at].iter().any(|o| o.index() == arg.index()));
        if found.is_none() && if shared { args.iter().any(holds) } else { args.iter().all(holds) } {
            found = Some(action);
        }
    }
    found.unwrap_or(default)
}

#[cfg(target_arch = "x86_64")]
#[test]
fn dockers_default_lets_through_and_keeps_out() {
    let docker = profile(serde_json::from_str(include_str!("../fixtures/seccomp-docker.json")).unwrap());
    let program = filter(&docker).unwrap().program;
    assert!(program.len() < 400, "{}", program.len());
    let call = |name: &str, first: u64| returned(&docker, name, [first, 0, 0, 0, 0, 0]);
    for allowed in ["read", "write", "openat", "execve", "io_setup", "setuid", "futex", "capset"] {
        assert_eq!(call(allowed, 0), ALLOW, "{allowed}");
    }
    for kept_out in ["mount", "reboot", "init_module", "kexec_load", "bpf", "userfaultfd", "keyctl"] {
        assert_eq!(call(kept_out, 0), EPERM, "{kept_out}");
    }
    assert_eq!((call("personality", 8), call("personality", 1)), (ALLOW, EPERM));
    // No new namespaces by clone's flags, and clone3, whose flags can't be seen, is as if it were not there.
    assert_eq!((call("clone", 0x1200_0011), call("clone", 0x1000_0000)), (EPERM, EPERM));
    assert_eq!((call("clone", 0x0120_0011), call("clone3", 0)), (ALLOW, ENOSYS));
}

#[cfg(target_arch = "x86_64")]
#[test]
fn a_call_is_decided_in_few_instructions() {
    let docker = profile(serde_json::from_str(include_str!("../fixtures/seccomp-docker.json")).unwrap());
    let program = filter(&docker).unwrap().program;
    for abi in abi::NATIVE {
        for number in 0..600 {
            let (_, steps) = run(&program, Data { number, audit: abi.audit, arguments: [0; 6] });
            assert!(steps < 20, "{steps} for {number}");
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[test]
fn calls_by_other_ways_than_those_listed() {
    let listed = json!({ "defaultAction": "SCMP_ACT_ERRNO", "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86",
        "SCMP_ARCH_X32"], "syscalls": [{ "names": ["getpid", "mseal"], "action": "SCMP_ACT_ALLOW" }] });
    let alone = json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{ "names": ["read"], "action": "SCMP_ACT_ERRNO" }] });
    let of = |value: &Value, audit, number| {
        run(&filter(&profile(value.clone())).unwrap().program, Data { number, audit, arguments: [0; 6] }).0
    };
    const X86_64: u32 = 0xc000_003e;
    const I386: u32 = 0x4000_0003;
    assert_eq!(
        [of(&listed, X86_64, 39), of(&listed, I386, 20), of(&listed, I386, 39)],
        [ALLOW, ALLOW, EPERM]
    );
    // Newer than every call of the profile.
    assert_eq!(
        [of(&listed, X86_64, 463), of(&listed, I386, 463), of(&listed, X86_64, 461)],
        [ENOSYS, ENOSYS, EPERM]
    );
    assert_eq!([of(&listed, X86_64, 0x4000_0027), of(&listed, X86_64, u32::MAX)], [ENOSYS, ENOSYS]);
    assert_eq!(
        [of(&alone, X86_64, 0), of(&alone, X86_64, 9999), of(&alone, X86_64, u32::MAX)],
        [EPERM, ALLOW, ALLOW]
    );
    assert_eq!([of(&alone, X86_64, 0x4000_0027), of(&alone, I386, 20)], [KILL_THREAD, KILL_THREAD]);
    // Another machine's.
    assert_eq!([of(&listed, 0xc000_00b7, 1), of(&alone, 0xc000_00b7, 1)], [KILL_THREAD, KILL_THREAD]);
}

#[cfg(target_arch = "x86_64")]
#[test]
fn on_i386_a_socket_is_also_made_through_socketcall() {
    let no_sockets = profile(json!({ "defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86"],
        "syscalls": [{ "names": ["socket"], "action": "SCMP_ACT_ERRNO", "errnoRet": 97 },
                     { "names": ["shmget"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38 }] }));
    let program = filter(&no_sockets).unwrap().program;
    let call = |number, first| {
        run(&program, Data { number, audit: 0x4000_0003, arguments: [first, 0, 0, 0, 0, 0] }).0
    };
    assert_eq!([call(359, 1), call(102, 1), call(102, 2)], [0x5_0061, 0x5_0061, ALLOW]);
    assert_eq!([call(395, 1), call(117, 23), call(117, 22)], [0x5_0026, 0x5_0026, ALLOW]);
}

#[test]
fn every_action() {
    for (name, errno, value) in [
        ("SCMP_ACT_KILL", None, KILL_THREAD),
        ("SCMP_ACT_KILL_THREAD", None, KILL_THREAD),
        ("SCMP_ACT_KILL_PROCESS", Some(7), 0x8000_0000),
        ("SCMP_ACT_TRAP", None, 0x3_0000),
        ("SCMP_ACT_ERRNO", None, EPERM),
        ("SCMP_ACT_ERRNO", Some(0), 0x5_0000),
        ("SCMP_ACT_ERRNO", Some(0x1_0005), 0x5_0005),
        ("SCMP_ACT_TRACE", None, 0x7ff0_0001),
        ("SCMP_ACT_TRACE", Some(9), 0x7ff0_0009),
        ("SCMP_ACT_LOG", None, 0x7ffc_0000),
    ] {
        let rule = profile(json!({ "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{ "names": ["mkdirat", "no_such_call"], "action": name, "errnoRet": errno }] }));
        assert_eq!(returned(&rule, "mkdirat", [0; 6]), value, "{name}");
        assert_eq!(returned(&rule, "unlinkat", [0; 6]), ALLOW, "{name}");
        let default = profile(json!({ "defaultAction": name, "defaultErrnoRet": errno, "syscalls": [
            { "names": ["unlinkat"], "action": "SCMP_ACT_ALLOW" }] }));
        assert_eq!(returned(&default, "mkdirat", [0; 6]), value, "{name}");
        assert_eq!(returned(&default, "unlinkat", [0; 6]), ALLOW, "{name}");
    }
}

#[test]
fn flags() {
    let of = |flags: Value| {
        filter(&profile(json!({ "defaultAction": "SCMP_ACT_ALLOW", "flags": flags })))
            .map(|filter| filter.flags)
    };
    assert_eq!(of(Value::Null), Ok(4));
    assert_eq!(of(json!([])), Ok(0));
    assert_eq!(of(json!(["SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_LOG"])), Ok(2));
    assert_eq!(of(json!(["SECCOMP_FILTER_FLAG_SPEC_ALLOW", "SECCOMP_FILTER_FLAG_LOG"])), Ok(6));
}

#[test]
fn what_can_not_be_had_is_refused() {
    let of = |value: Value| filter(&profile(value)).unwrap_err();
    let notify = |what| SeccompError::Notify { what };
    assert_eq!(of(json!({ "defaultAction": "SCMP_ACT_NOTIFY" })), notify("SCMP_ACT_NOTIFY"));
    let rule = |rule: Value| of(json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule] }));
    assert_eq!(rule(json!({ "names": ["read"], "action": "SCMP_ACT_NOTIFY" })), notify("SCMP_ACT_NOTIFY"));
    let listener = of(json!({ "defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/run/x" }));
    assert_eq!(listener, notify("listenerPath"));
    let wait =
        of(json!({ "defaultAction": "SCMP_ACT_ALLOW", "flags": ["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"] }));
    assert!(matches!(wait, SeccompError::Notify { .. }));
    assert_eq!(rule(json!({ "names": [""], "action": "SCMP_ACT_KILL" })), SeccompError::EmptyName);
    let args = json!([{ "index": 6, "value": 0, "op": "SCMP_CMP_EQ" }]);
    let argument = rule(json!({ "names": ["read"], "action": "SCMP_ACT_KILL", "args": args }));
    assert_eq!(argument, SeccompError::Argument { name: "read".into(), index: 6 });
    let many: Vec<Value> = (0..3000)
        .map(|value| {
            json!({ "names": ["read"], "action": "SCMP_ACT_KILL",
            "args": [{ "index": 0, "value": value, "op": "SCMP_CMP_EQ" }] })
        })
        .collect();
    let long = of(json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": many }));
    assert!(matches!(long, SeccompError::TooLong { .. }));
}

/// Few names and values, so that rules meet.
const NAMES: [&str; 8] = ["read", "write", "openat", "socket", "clone", "mkdirat", "futex", "mseal"];
const VALUES: [u64; 9] =
    [0, 1, 2, 0x10, 0xffff_ffff, 0x1_0000_0000, 0x1_0000_0001, 0x7fff_ffff_ffff_ffff, u64::MAX];

fn any_profile() -> impl Strategy<Value = LinuxSeccomp> {
    let operators = ["NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ"];
    let value = || prop_oneof![3 => proptest::sample::select(&VALUES[..]), 1 => any::<u64>()];
    let arg = (0..6_usize, value(), value(), proptest::sample::select(operators.to_vec())).prop_map(
        |(index, value, second, op)| {
            json!({ "index": index, "value": value, "valueTwo": second, "op": format!("SCMP_CMP_{op}") })
        },
    );
    let action = || {
        let actions = ["ALLOW", "ERRNO", "KILL_PROCESS", "LOG", "TRAP", "TRACE"];
        (proptest::sample::select(actions.to_vec()), proptest::option::of(0..40_u32))
            .prop_map(|(action, errno)| (format!("SCMP_ACT_{action}"), errno))
    };
    let rule = (
        proptest::collection::vec(proptest::sample::select(NAMES.to_vec()), 1..4),
        action(),
        proptest::collection::vec(arg, 0..4),
    )
        .prop_map(|(names, (action, errno), args)| {
            json!({ "names": names, "action": action, "errnoRet": errno, "args": args })
        });
    (action(), proptest::collection::vec(rule, 0..40)).prop_map(|((default, errno), rules)| {
        profile(json!({ "defaultAction": default, "defaultErrnoRet": errno, "syscalls": rules,
            "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"] }))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]
    #[test]
    fn a_program_does_what_its_profile_says(
        seccomp in any_profile(),
        calls in proptest::collection::vec(
            (proptest::sample::select(NAMES.to_vec()), proptest::array::uniform6(
                prop_oneof![5 => proptest::sample::select(&VALUES[..]), 1 => any::<u64>()]
            )),
            20,
        ),
    ) {
        let program = match filter(&seccomp) {
            Ok(filter) => filter.program,
            Err(SeccompError::TooLong { .. }) => return Ok(()),
            Err(error) => panic!("{error}"),
        };
        // Every jump ends inside, and the end is a return.
        prop_assert_eq!(program.last().map(|last| last.code), Some(0x06));
        for abi in abi::NATIVE {
            for (name, arguments) in &calls {
                let arguments = if abi.wide { *arguments } else { arguments.map(|value| value & 0xffff_ffff) };
                let number = (abi.number)(name).unwrap();
                let named = seccomp.syscalls().iter().flatten().flat_map(oci_spec::runtime::LinuxSyscall::names);
                let last = named.filter_map(|name| (abi.number)(name)).max();
                if last.is_none_or(|last| number > last) {
                    // Newer than all named: decided by the profile as a whole.
                    continue;
                }
                let (found, _) = run(&program, Data { number, audit: abi.audit, arguments });
                prop_assert_eq!(found, expected(&seccomp, name, arguments, abi.wide), "{} {:?}", name, arguments);
            }
        }
    }
}
