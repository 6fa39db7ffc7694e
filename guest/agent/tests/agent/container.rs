//! What a container's process finds around it.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};

use msb_agent::protocol::{
    Clock, CommandProblem, Container, Device, DeviceAccess, DeviceKind, DeviceRule, ExitStatus, Failure,
    IdRange, Mount, MountSource, Namespace, Personality, Request, Rlimit, Stream, Sysctl, TimeOffset,
    UserMap,
};

use crate::harness::{Sandbox, kernel, missing, sandbox};

fn script(sandbox: &mut Sandbox, script: &str, change: impl FnOnce(&mut Container)) -> String {
    let mut container = sandbox.container(&["sh", "-c", script]);
    change(&mut container);
    let outcome = sandbox.run(container);
    assert_eq!(outcome.status, ExitStatus::Code(0), "{outcome:?}");
    outcome.stdout
}

fn file(destination: &str, content: &str, options: &[&str]) -> Mount {
    Mount {
        destination: destination.into(),
        source: MountSource::File { content: content.into(), mode: 0o644, uid: 3, gid: 4 },
        options: options.iter().map(ToString::to_string).collect(),
    }
}

#[test]
fn it_is_pid_1_with_three_descriptors_and_its_own_name() {
    let mut sandbox = sandbox!();
    let seen = script(
        &mut sandbox,
        "echo $$; hostname; set -- /proc/self/fd/*; ls /proc/1/fd | head -3; umask; env",
        |_| {},
    );
    assert!(seen.starts_with("1\ninside\n0\n1\n2\n0022\n"), "{seen}");
    assert!(seen.contains("\nHOME=/root\n"), "{seen}");
}

#[test]
fn no_descriptor_of_the_agent_leaks() {
    let mut sandbox = sandbox!();
    let container = sandbox.container(&["ls", "/proc/self/fd"]);
    // 3 is the directory that ls reads.
    assert_eq!(sandbox.run(container).stdout, "0\n1\n2\n3\n");
}

#[test]
fn user_groups_rights_and_limits() {
    let mut sandbox = sandbox!();
    let text = "id; pwd; grep -E '^(Cap|NoNewPrivs|Groups)' /proc/self/status; ulimit -n; cat /proc/self/oom_score_adj";
    let seen = script(&mut sandbox, text, |container| {
        let init = &mut container.init;
        init.user.uid = 33;
        init.user.gid = 34;
        init.user.additional_gids = vec![7, 8];
        init.cwd = "/made/on/the/way".into();
        init.rlimits = vec![Rlimit { kind: "RLIMIT_NOFILE".into(), soft: 77, hard: 99 }];
        init.oom_score_adj = Some(123);
        let sets = init.capabilities.as_mut().unwrap();
        sets.inheritable = vec!["CAP_KILL".into(), "CAP_OF_THE_FUTURE".into()];
        sets.ambient = vec!["CAP_KILL".into()];
    });
    let lines: Vec<_> = seen.lines().collect();
    assert!(lines[0].starts_with("uid=33(web) gid=34 groups=7,8"), "{seen}");
    assert_eq!(lines[1], "/made/on/the/way");
    for line in [
        "Groups:\t7 8 ",
        "CapInh:\t0000000000000020",
        "CapPrm:\t0000000000000020",
        "CapEff:\t0000000000000020",
        "CapBnd:\t00000000000004e1",
        "CapAmb:\t0000000000000020",
        "NoNewPrivs:\t1",
        "77",
        "123",
    ] {
        assert!(lines.contains(&line), "{line:?} in {seen}");
    }
}

#[test]
fn no_capabilities_at_all() {
    let mut sandbox = sandbox!();
    let seen =
        script(&mut sandbox, "grep ^Cap /proc/self/status", |container| container.init.capabilities = None);
    assert!(
        seen.lines().count() == 5 && seen.lines().all(|line| line.ends_with("0000000000000000")),
        "{seen}"
    );
}

#[test]
fn mounts_devices_masks_and_sysctls() {
    let mut sandbox = sandbox!();
    let text = "cat /proc/self/mounts; cat /proc/sys/net/ipv4/ip_unprivileged_port_start; \
                wc -c </proc/keys; echo x 2>/dev/null >/proc/sys/kernel/domainname || echo refused; \
                stat -c '%F %a %t:%T' /dev/null /dev/tty /dev/own; for n in fd stdout ptmx; do readlink /dev/$n; done; \
                echo y 2>/dev/null >/late/x || echo late; ls /late; ls -d /sys/fs/cgroup/cgroup.procs; cat /proc/self/cgroup";
    let seen = script(&mut sandbox, text, |container| {
        container.sysctls =
            vec![Sysctl { key: "net.ipv4.ip_unprivileged_port_start".into(), value: "0".into() }];
        container.devices = vec![Device {
            path: "/dev/own".into(),
            kind: DeviceKind::Char,
            major: 1,
            minor: 3,
            mode: 0o600,
            uid: 0,
            gid: 0,
        }];
        container.mounts.push(kernel("/late", "tmpfs", &["ro", "nosuid"]));
        container.mounts.push(file("/late/within", "x", &[]));
    });
    for line in [
        "0",
        "refused",
        "late",
        "within",
        "character special file 666 1:3",
        "character special file 600 1:3",
        "/proc/self/fd",
        "/proc/self/fd/1",
        "pts/ptmx",
        "/sys/fs/cgroup/cgroup.procs",
        "0::/",
    ] {
        assert!(seen.lines().any(|seen| seen == line), "{line:?} in {seen}");
    }
    let first = seen.lines().next().unwrap();
    assert!(first.starts_with("overlay / overlay rw"), "{first}");
    assert!(seen.contains("sysfs /sys sysfs ro,nosuid,nodev,noexec"), "{seen}");
    assert!(seen.contains("tmpfs /late tmpfs ro,nosuid"), "{seen}");
    assert!(seen.contains("proc /proc/sys proc ro,nosuid,nodev,noexec"), "{seen}");
    // The first line names the layers.
    assert!(!seen.lines().skip(1).any(|line| line.contains("/run/")), "{seen}");
}

#[test]
fn files_of_the_host_are_bound() {
    let mut sandbox = sandbox!();
    let text = "cat /etc/hosts /new/place; stat -c '%a %u %g' /etc/hosts; echo more >>/etc/hosts || echo ro; echo more >>/new/place; cat /new/place";
    let seen = script(&mut sandbox, text, |container| {
        container.mounts.push(file("/etc/hosts", "hosts\n", &["rbind", "rprivate", "ro"]));
        container.mounts.push(file("/new/place", "place\n", &["rbind", "rprivate"]));
        // The files belong to another user.
        let sets = container.init.capabilities.as_mut().unwrap();
        for set in [&mut sets.bounding, &mut sets.effective, &mut sets.permitted] {
            set.push("CAP_DAC_OVERRIDE".into());
        }
    });
    assert_eq!(seen, "hosts\nplace\n644 3 4\nro\nplace\nmore\n");
}

#[test]
fn links_of_the_image_lead_nowhere_else() {
    if let Some(reason) = missing() {
        return test_skips::skip(reason);
    }
    let outside = tempfile::tempdir().unwrap();
    let mut sandbox = Sandbox::with(|image| {
        symlink(outside.path(), image.join("escape")).unwrap();
        symlink("../../../../../../run", image.join("up")).unwrap();
        fs::remove_dir(image.join("proc")).unwrap();
        symlink("/elsewhere", image.join("proc")).unwrap();
    });
    let seen = script(&mut sandbox, "cat /escape/a /up/b /run/b", |container| {
        container.mounts.push(file("/escape/a", "a\n", &[]));
        container.mounts.push(file("/up/b", "b\n", &["ro"]));
    });
    assert_eq!(seen, "a\nb\nb\n");
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
}

#[test]
fn a_read_only_root() {
    let mut sandbox = sandbox!();
    let seen =
        script(&mut sandbox, "touch /x 2>/dev/null || echo ro; touch /dev/shm/x && echo rw", |container| {
            container.root.readonly = true;
        });
    assert_eq!(seen, "ro\nrw\n");
}

#[test]
fn a_tmpfs_that_starts_with_the_images_files() {
    let mut sandbox = sandbox!();
    let seen = script(
        &mut sandbox,
        "cat /etc/plain; touch /etc/new && grep -c ' /etc tmpfs ' /proc/self/mounts",
        |container| {
            container.mounts.push(kernel("/etc", "tmpfs", &["rw", "tmpcopyup"]));
        },
    );
    assert_eq!(seen, "no program1\n");
}

#[test]
fn commands_that_cannot_be_run_are_told_at_create() {
    for (command, problem) in [
        ("nosuchcmd", CommandProblem::NotInPath),
        ("/nonexistent", CommandProblem::NotFound),
        ("/etc/plain", CommandProblem::PermissionDenied),
        ("/etc", CommandProblem::IsDirectory),
    ] {
        let mut sandbox = sandbox!();
        let container = sandbox.container(&[command]);
        let refused = sandbox.boot.call(Request::Create(Box::new(container)));
        assert_eq!(refused, Err(Failure::Command { command: command.into(), problem }));
    }
}

#[test]
fn a_bad_format_is_told_at_start() {
    if let Some(reason) = missing() {
        return test_skips::skip(reason);
    }
    let mut sandbox = Sandbox::with(|image| {
        fs::write(image.join("bin/text"), "no shebang").unwrap();
        fs::set_permissions(image.join("bin/text"), fs::Permissions::from_mode(0o755)).unwrap();
    });
    let container = sandbox.container(&["text"]);
    let init = sandbox.boot.created(Request::Create(Box::new(container)));
    drop((sandbox.collect(init, Stream::Stdout), sandbox.collect(init, Stream::Stderr)));
    let problem = CommandProblem::Format;
    assert_eq!(sandbox.boot.call(Request::Start), Err(Failure::Command { command: "text".into(), problem }));
    assert_eq!(sandbox.boot.exited(init), ExitStatus::Code(127));
}

#[test]
fn steps_that_fail_say_which() {
    let mut sandbox = sandbox!();
    let mut container = sandbox.container(&["true"]);
    container.mounts.push(kernel("/x", "nosuchfs", &[]));
    let Err(Failure::Setup { step, reason }) = sandbox.boot.call(Request::Create(Box::new(container))) else {
        panic!()
    };
    assert_eq!(step, "mount nosuchfs at /x");
    assert!(reason.starts_with("No such device"), "{reason}");
}

/// Users and groups of the container from 100000 and 200000 on.
fn shifted(container: &mut Container) {
    container.namespaces.push(Namespace::User);
    let range = |outside| vec![IdRange { inside: 0, outside, count: 65536 }];
    container.user_map = UserMap { uids: range(100_000), gids: range(200_000) };
}

#[test]
fn a_user_namespace() {
    if let Some(reason) = missing() {
        return test_skips::skip(reason);
    }
    // As callers with such a namespace hand over a root: shifted.
    let mut sandbox = Sandbox::with(|image| {
        for path in ["", "etc", "tmp", "etc/passwd"] {
            chown(image.join(path), Some(100_000), Some(200_000)).unwrap();
        }
    });
    let text = "id -u; id -G; cat /proc/self/uid_map /proc/self/gid_map; touch /etc/new /dev/shm/x /dev/y /here/z && \
                stat -c '%n %u:%g' / /etc/new /dev /dev/null /dev/y /dev/shm/x /here; \
                echo x >/dev/null && echo written; cat /proc/1/comm; mkdir /m && mount -t tmpfs none /m && echo mounted; \
                hostname new && hostname; umount /proc/keys 2>/dev/null || echo locked; \
                echo x 2>/dev/null >/proc/sys/vm/swappiness || echo host; echo out >/dev/stdout; \
                stat -c '%n %u:%g' /sys/fs/cgroup; cat /etc/hosts";
    let seen = script(&mut sandbox, text, |container| {
        shifted(container);
        container.mounts.push(kernel("/here", "tmpfs", &["mode=755"]));
        container.mounts.push(file("/etc/hosts", "hosts\n", &[]));
        for set in {
            let sets = container.init.capabilities.as_mut().unwrap();
            [&mut sets.bounding, &mut sets.effective, &mut sets.permitted]
        } {
            set.push("CAP_SYS_ADMIN".into());
        }
        container.init.no_new_privileges = false;
    });
    let lines: Vec<_> = seen.lines().collect();
    assert_eq!(lines[..2], ["0", "0"], "{seen}");
    for (line, outside) in [(2, "100000"), (3, "200000")] {
        assert_eq!(lines[line].split_whitespace().collect::<Vec<_>>(), ["0", outside, "65536"], "{seen}");
    }
    for line in [
        "/ 0:0",
        "/etc/new 0:0",
        "/dev 0:0",
        "/dev/null 0:0",
        "/dev/y 0:0",
        "/dev/shm/x 0:0",
        "/here 0:0",
        "written",
        "sh",
        "mounted",
        "new",
        "locked",
        "host",
        "out",
        "/sys/fs/cgroup 0:0",
        "hosts",
    ] {
        assert!(lines.contains(&line), "{line:?} in {seen}");
    }
}

#[test]
fn clocks_personality_and_propagation() {
    let mut sandbox = sandbox!();
    let text = "cat /proc/self/timens_offsets; cut -d. -f1 /proc/uptime; uname -m; grep ' / / ' /proc/self/mountinfo";
    let seen = script(&mut sandbox, text, |container| {
        container.namespaces.push(Namespace::Time);
        container.time_offsets = vec![
            TimeOffset { clock: Clock::Monotonic, seconds: 1000, nanoseconds: 7 },
            TimeOffset { clock: Clock::Boottime, seconds: 100_000_000, nanoseconds: 0 },
        ];
        container.personality = Some(Personality::Linux32);
        container.propagation = Some("rshared".into());
    });
    let lines: Vec<_> = seen.lines().collect();
    assert!(lines[0].split_whitespace().eq(["monotonic", "1000", "7"]), "{seen}");
    assert!(lines[1].split_whitespace().eq(["boottime", "100000000", "0"]), "{seen}");
    assert!(lines[2].parse::<u64>().unwrap() >= 100_000_000, "{seen}");
    assert!(cfg!(not(target_arch = "x86_64")) || lines[3] == "i686", "{seen}");
    assert!(lines[4].contains(" shared:"), "{seen}");
}

#[test]
fn devices_that_may_not_be_used() {
    let mut sandbox = sandbox!();
    let text = "for d in null zero own; do dd if=/dev/$d of=/dev/null bs=1 count=1 2>/dev/null && echo $d; done; \
                echo x 2>/dev/null >/dev/own && echo own written; mknod /dev/block b 7 0 && echo made; \
                dd if=/dev/block of=/dev/null count=1 2>&1 | grep -o 'not permitted'";
    let rule = |allow, kind, major, minor, access| DeviceRule { allow, kind, major, minor, access };
    let (all, char) = (DeviceAccess::ALL, Some(DeviceKind::Char));
    let seen = script(&mut sandbox, text, |container| {
        container.device_rules = vec![
            rule(true, None, None, None, all),
            rule(false, None, None, None, all),
            rule(true, None, None, None, DeviceAccess::MAKE),
            rule(true, char, Some(1), None, all),
            rule(true, char, Some(5), None, all),
            rule(true, char, Some(136), None, all),
            rule(false, char, Some(1), Some(7), DeviceAccess::WRITE),
        ];
        container.devices = vec![Device {
            path: "/dev/own".into(),
            kind: DeviceKind::Char,
            major: 1,
            minor: 7,
            mode: 0o666,
            uid: 0,
            gid: 0,
        }];
        let sets = container.init.capabilities.as_mut().unwrap();
        for set in [&mut sets.bounding, &mut sets.effective, &mut sets.permitted] {
            set.push("CAP_MKNOD".into());
        }
    });
    assert_eq!(seen, "null\nzero\nown\nmade\nnot permitted\n");
}

#[test]
fn a_device_that_the_guest_does_not_have_is_told() {
    let mut sandbox = sandbox!();
    let mut container = sandbox.container(&["true"]);
    container.devices = vec![Device {
        path: "/dev/none".into(),
        kind: DeviceKind::Char,
        major: 222,
        minor: 222,
        mode: 0o666,
        uid: 0,
        gid: 0,
    }];
    let Err(Failure::Setup { step, reason }) = sandbox.boot.call(Request::Create(Box::new(container))) else {
        panic!()
    };
    assert_eq!(
        (step.as_str(), reason.as_str()),
        ("make the device /dev/none", "the machine has no device 222:222")
    );
}

#[test]
fn all_devices_of_the_guest() {
    let mut sandbox = sandbox!();
    let seen = script(
        &mut sandbox,
        "stat -c %t:%T /dev/loop-control; ls /dev/shm; test -c /dev/tty && echo tty",
        |container| {
            container.all_devices = true;
        },
    );
    assert_eq!(seen, "a:ed\ntty\n");
}
