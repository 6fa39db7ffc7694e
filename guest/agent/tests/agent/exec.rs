//! More processes, signals and ends.

use std::thread;
use std::time::Duration;

use msb_agent::protocol::{
    Clock, ExitStatus, Failure, GuestLimits, IdRange, Namespace, Personality, ProcessId, Reply, Request,
    Stream, TerminalSize, TimeOffset, UserMap,
};

use crate::harness::{Channel, Outcome, Sandbox, process, sandbox, text};

fn exec(sandbox: &Sandbox, channel: &mut Channel, args: &[&str]) -> Outcome {
    let id = channel.created(Request::Exec(Box::new(process(args))));
    let (stdout, stderr) = (sandbox.collect(id, Stream::Stdout), sandbox.collect(id, Stream::Stderr));
    assert_eq!(channel.call(Request::Release), Ok(Reply::Done));
    let status = channel.exited(id);
    Outcome { status, stdout: text(stdout), stderr: text(stderr) }
}

fn signal(process: ProcessId, signal: i32, all: bool) -> Request {
    Request::Signal { process, signal, all }
}

#[test]
fn an_exec_lives_in_the_container() {
    let mut sandbox = sandbox!();
    sandbox.idle();
    let mut channel = sandbox.channel();
    let script = "hostname; cat /proc/1/cmdline | head -c 5; echo; ls /proc/self/fd | wc -l; \
                  for n in pid mnt ipc uts cgroup; do readlink /proc/1/ns/$n; readlink /proc/self/ns/$n; done; exit 9";
    let outcome = exec(&sandbox, &mut channel, &["sh", "-c", script]);
    assert_eq!(outcome.status, ExitStatus::Code(9), "{outcome:?}");
    let lines: Vec<_> = outcome.stdout.lines().collect();
    assert_eq!(lines[..3], ["inside", "sleep", "4"]);
    assert!(lines.len() == 13 || lines.len() == 8, "{outcome:?}");
    for pair in lines[3..].chunks(2).filter(|pair| pair.len() == 2 && lines.len() == 13) {
        assert_eq!(pair[0], pair[1]);
    }
    // The same channel can run another one.
    assert_eq!(exec(&sandbox, &mut channel, &["true"]).status, ExitStatus::Code(0));
}

#[test]
fn an_exec_with_a_terminal() {
    let mut sandbox = sandbox!();
    sandbox.idle();
    let mut channel = sandbox.channel();
    let mut asked = process(&["sh", "-c", "tty; stty size"]);
    asked.terminal = Some(TerminalSize { rows: 5, columns: 50 });
    let id = channel.created(Request::Exec(Box::new(asked)));
    let output = sandbox.collect(id, Stream::Terminal);
    channel.call(Request::Release).unwrap();
    assert_eq!(channel.exited(id), ExitStatus::Code(0));
    assert_eq!(text(output), "/dev/pts/0\r\n5 50\r\n");
}

#[test]
fn children_that_keep_the_pipe_do_not_keep_the_exit() {
    let mut sandbox = sandbox!();
    sandbox.idle();
    let mut channel = sandbox.channel();
    let outcome = exec(&sandbox, &mut channel, &["sh", "-c", "sleep 900 & echo left"]);
    assert_eq!((outcome.status, outcome.stdout.as_str()), (ExitStatus::Code(0), "left\n"));
}

#[test]
fn a_closed_channel_kills_its_exec() {
    let mut sandbox = sandbox!();
    sandbox.idle();
    let mut channel = sandbox.channel();
    let id = channel.created(Request::Exec(Box::new(process(&["sleep", "900"]))));
    let output = sandbox.collect(id, Stream::Stdout);
    drop(sandbox.collect(id, Stream::Stderr));
    channel.call(Request::Release).unwrap();
    let Ok(Reply::Processes(before)) = sandbox.boot.call(Request::Processes) else { panic!() };
    assert_eq!(before.len(), 2);
    drop(channel);
    output.join().unwrap();
    let mut left = 2;
    for _ in 0..1000 {
        let Ok(Reply::Processes(now)) = sandbox.boot.call(Request::Processes) else { panic!() };
        left = now.len();
        if left == 1 {
            assert_eq!(now[0].pid, before[0].pid);
            break;
        }
        thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(left, 1);
}

#[test]
fn the_end_of_the_first_process_ends_all() {
    let mut sandbox = sandbox!();
    let init = sandbox.idle();
    let mut channel = sandbox.channel();
    let id = channel.created(Request::Exec(Box::new(process(&["sleep", "900"]))));
    drop((sandbox.collect(id, Stream::Stdout), sandbox.collect(id, Stream::Stderr)));
    channel.call(Request::Release).unwrap();
    assert_eq!(sandbox.boot.call(signal(init, 9, false)), Ok(Reply::Done));
    assert_eq!(sandbox.boot.exited(init), ExitStatus::Signal(9));
    assert_eq!(channel.exited(id), ExitStatus::Signal(9));
    assert_eq!(sandbox.boot.call(signal(init, 9, false)), Err(Failure::NoSuchProcess));
    assert_eq!(channel.call(Request::Exec(Box::new(process(&["true"])))), Err(Failure::NoSuchProcess));
    assert_eq!(sandbox.boot.call(Request::Sync), Ok(Reply::Done));
}

#[test]
fn signals_reach_a_handler_and_all_processes() {
    let mut sandbox = sandbox!();
    let script = "trap 'exit 5' USR1; sleep 900 & echo ready; while :; do wait; done";
    let container = sandbox.container(&["sh", "-c", script]);
    let init = sandbox.boot.created(Request::Create(Box::new(container)));
    let mut stdout = sandbox.stream(init, Stream::Stdout);
    drop(sandbox.collect(init, Stream::Stderr));
    sandbox.boot.call(Request::Start).unwrap();
    std::io::Read::read_exact(&mut stdout, &mut [0; 6]).unwrap();
    let mut channel = sandbox.channel();
    let id = channel.created(Request::Exec(Box::new(process(&["sleep", "900"]))));
    drop((sandbox.collect(id, Stream::Stdout), sandbox.collect(id, Stream::Stderr)));
    channel.call(Request::Release).unwrap();
    assert!(matches!(sandbox.boot.call(signal(init, 99, false)), Err(Failure::Setup { .. })));
    // TERM: ignored by pid 1 of a pid namespace, but not by the others.
    sandbox.boot.call(signal(init, 15, true)).unwrap();
    assert_eq!(channel.exited(id), ExitStatus::Signal(15));
    sandbox.boot.call(signal(init, 10, false)).unwrap();
    assert_eq!(sandbox.boot.exited(init), ExitStatus::Code(5));
}

#[test]
fn a_process_is_killed_with_all_that_came_of_it() {
    let mut sandbox = sandbox!();
    sandbox.idle();
    let mut channel = sandbox.channel();
    let mut begin = |script: &str| {
        let id = channel.created(Request::Exec(Box::new(process(&["sh", "-c", script]))));
        let mut stdout = sandbox.stream(id, Stream::Stdout);
        drop(sandbox.collect(id, Stream::Stderr));
        channel.call(Request::Release).unwrap();
        std::io::Read::read_exact(&mut stdout, &mut [0; 6]).unwrap();
        id
    };
    let other = begin("echo other; sleep 900");
    let family =
        begin("sleep 901 & (sleep 902 & sleep 903) & (sleep 904 & exit) & sleep 0.3; echo ready; sleep 905");
    let Ok(Reply::Processes(before)) = sandbox.boot.call(Request::Processes) else { panic!() };
    assert_eq!(before.len(), 7, "{before:?}");
    assert_eq!(sandbox.boot.call(signal(family, 9, true)), Ok(Reply::Done));
    assert_eq!(channel.exited(family), ExitStatus::Signal(9));
    let Ok(Reply::Processes(left)) = sandbox.boot.call(Request::Processes) else { panic!() };
    let names: Vec<_> = left.iter().filter(|one| one.state != 'Z').map(|one| one.args.join(" ")).collect();
    assert!(names.iter().all(|name| !name.contains(" 90") || name.contains("900")), "{names:?}");
    assert_eq!(sandbox.boot.call(signal(other, 0x0f, false)), Ok(Reply::Done));
    assert_eq!(channel.exited(other), ExitStatus::Signal(15));
}

#[test]
fn a_container_that_was_not_started_dies_of_term_and_kill() {
    for (number, code) in [(15, 143), (9, 137)] {
        let mut sandbox = sandbox!();
        let container = sandbox.container(&["sleep", "900"]);
        let init = sandbox.boot.created(Request::Create(Box::new(container)));
        sandbox.boot.call(signal(init, number, false)).unwrap();
        assert_eq!(sandbox.boot.exited(init).exit_code(), code);
    }
}

#[test]
fn what_comes_too_early_or_twice_is_refused() {
    let mut sandbox = sandbox!();
    let wrong = |result| assert!(matches!(result, Err(Failure::WrongState { .. })), "{result:?}");
    wrong(sandbox.boot.call(Request::Start));
    wrong(sandbox.boot.call(Request::Processes));
    wrong(sandbox.boot.call(Request::Release));
    wrong(sandbox.boot.call(Request::Exec(Box::new(process(&["true"])))));
    let container = sandbox.container(&["sleep", "900"]);
    let init = sandbox.boot.created(Request::Create(Box::new(container.clone())));
    wrong(sandbox.boot.call(Request::Exec(Box::new(process(&["true"])))));
    wrong(sandbox.boot.call(Request::Create(Box::new(container))));
    drop((sandbox.collect(init, Stream::Stdout), sandbox.collect(init, Stream::Stderr)));
    sandbox.boot.call(Request::Start).unwrap();
    wrong(sandbox.boot.call(Request::Start));
    let mut channel = sandbox.channel();
    channel.created(Request::Exec(Box::new(process(&["true"]))));
    wrong(channel.call(Request::Exec(Box::new(process(&["true"])))));
}

#[test]
fn processes_are_told_with_what_ps_shows() {
    let mut sandbox = sandbox!();
    sandbox.idle();
    let mut channel = sandbox.channel();
    let mut job =
        process(&["sh", "-c", "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done; sleep 900", "a b"]);
    job.user.uid = 33;
    let id = channel.created(Request::Exec(Box::new(job)));
    drop((sandbox.collect(id, Stream::Stdout), sandbox.collect(id, Stream::Stderr)));
    channel.call(Request::Release).unwrap();
    let Ok(Reply::Processes(found)) = sandbox.boot.call(Request::Processes) else { panic!() };
    assert_eq!(
        (found[0].name.as_str(), &found[0].args[..]),
        ("sleep", &["sleep".to_owned(), "1000".into()][..])
    );
    let shell = found.iter().find(|process| process.uid == 33).expect("the shell is there");
    assert_eq!((shell.args[0].as_str(), shell.args[3].as_str()), ("sh", "a b"));
    assert!(found[0].resident > 0 && found[0].started > 1_000_000_000, "{found:?}");
    // None is a child of another: both are the agent's.
    assert_eq!(shell.parent, found[0].parent);
    let Ok(Reply::Statistics(statistics)) = sandbox.boot.call(Request::Statistics) else { panic!() };
    assert!(statistics.cpu.usage > 0, "{statistics:?}");
}

#[test]
fn a_limit_that_is_refused_says_which() {
    let mut sandbox = sandbox!();
    sandbox.idle();
    let none = GuestLimits::default();
    assert_eq!(sandbox.boot.call(Request::Update(Box::new(none.clone()))), Ok(Reply::Done));
    let wrong = GuestLimits { unified: vec![("memory.nonsense".into(), "1".into())], ..none };
    let Err(Failure::Setup { step, reason }) = sandbox.boot.call(Request::Update(Box::new(wrong))) else {
        panic!()
    };
    assert_eq!(
        (step.as_str(), reason.as_str()),
        ("set memory.nonsense to \"1\"", "the guest's kernel has no such limit")
    );
}

#[test]
fn an_exec_lives_in_the_same_users_and_by_the_same_clocks() {
    let mut sandbox = sandbox!();
    let mut container = sandbox.container(&["sleep", "1000"]);
    container.namespaces.extend([Namespace::User, Namespace::Time]);
    let range = |outside| vec![IdRange { inside: 0, outside, count: 65536 }];
    container.user_map = UserMap { uids: range(100_000), gids: range(200_000) };
    container.time_offsets =
        vec![TimeOffset { clock: Clock::Boottime, seconds: 100_000_000, nanoseconds: 0 }];
    container.personality = Some(Personality::Linux32);
    let init = sandbox.boot.created(Request::Create(Box::new(container)));
    drop((sandbox.collect(init, Stream::Stdout), sandbox.collect(init, Stream::Stderr)));
    assert_eq!(sandbox.boot.call(Request::Start), Ok(Reply::Done));
    let mut channel = sandbox.channel();
    let script = "for n in user time mnt uts cgroup ipc; do a=$(readlink /proc/self/ns/$n); \
                  b=$(readlink /proc/1/ns/$n); [ \"$a\" = \"$b\" ] && echo $n; done; id -u; \
                  echo out >/dev/stdout; test $(cut -d. -f1 /proc/uptime) -ge 100000000 && echo late; uname -m";
    let mut job = process(&["sh", "-c", script]);
    job.user.uid = 33;
    // To read another process's links.
    let sets = job.capabilities.as_mut().unwrap();
    for set in [
        &mut sets.bounding,
        &mut sets.effective,
        &mut sets.permitted,
        &mut sets.inheritable,
        &mut sets.ambient,
    ] {
        set.push("CAP_SYS_PTRACE".into());
    }
    let id = channel.created(Request::Exec(Box::new(job)));
    let (output, errors) = (sandbox.collect(id, Stream::Stdout), sandbox.collect(id, Stream::Stderr));
    channel.call(Request::Release).unwrap();
    let machine = if cfg!(target_arch = "x86_64") { "i686" } else { std::env::consts::ARCH };
    assert_eq!(
        text(output),
        format!("user\ntime\nmnt\nuts\ncgroup\nipc\n33\nout\nlate\n{machine}\n"),
        "{}",
        text(errors)
    );
}
