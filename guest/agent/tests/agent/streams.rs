//! What goes in and comes out.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::thread;

use msb_agent::protocol::{ExitStatus, Failure, Reply, Request, Stream, TerminalSize};

use crate::harness::{sandbox, text};

#[test]
fn stdout_and_stderr_are_kept_apart_and_the_code_comes_back() {
    let mut sandbox = sandbox!();
    let container = sandbox.container(&["sh", "-c", "echo out; echo err >&2; exit 7"]);
    let outcome = sandbox.run(container);
    assert_eq!(outcome.stdout, "out\n", "{outcome:?}");
    assert_eq!(outcome.stderr, "err\n");
    assert_eq!(outcome.status, ExitStatus::Code(7));
}

#[test]
fn megabytes_go_both_ways_unchanged() {
    let mut sandbox = sandbox!();
    let mut container = sandbox.container(&["cat"]);
    container.init.stdin = true;
    let process = sandbox.boot.created(Request::Create(Box::new(container)));
    let mut stdin = sandbox.stream(process, Stream::Stdin);
    let (stdout, stderr) =
        (sandbox.collect(process, Stream::Stdout), sandbox.collect(process, Stream::Stderr));
    sandbox.boot.call(Request::Start).unwrap();
    let sent: Vec<u8> =
        (0..16_u32 << 20).map(|number| number.to_le_bytes()[usize::from(number % 3 == 0)]).collect();
    let copy = sent.clone();
    let feeding = thread::spawn(move || {
        stdin.write_all(&copy).unwrap();
        stdin.shutdown(Shutdown::Write).unwrap();
    });
    assert!(stdout.join().unwrap() == sent, "the bytes differ");
    feeding.join().unwrap();
    assert_eq!(text(stderr), "");
    assert_eq!(sandbox.boot.exited(process), ExitStatus::Code(0));
}

#[test]
fn all_output_arrives_before_the_exit() {
    let mut sandbox = sandbox!();
    let container =
        sandbox.container(&["sh", "-c", "dd if=/dev/zero bs=1000 count=5000 2>/dev/null; echo end >&2"]);
    let outcome = sandbox.run(container);
    assert_eq!(outcome.stdout.len(), 5_000_000);
    assert_eq!(outcome.stderr, "end\n");
}

#[test]
fn a_process_that_closes_its_stdin_lives_on() {
    let mut sandbox = sandbox!();
    let mut container = sandbox.container(&["sh", "-c", "exec 0<&-; echo closed; sleep 1; echo alive"]);
    container.init.stdin = true;
    let process = sandbox.boot.created(Request::Create(Box::new(container)));
    let mut stdin = sandbox.stream(process, Stream::Stdin);
    let (stdout, _stderr) =
        (sandbox.collect(process, Stream::Stdout), sandbox.collect(process, Stream::Stderr));
    sandbox.boot.call(Request::Start).unwrap();
    // More than all buffers on the way hold; the end of the process ends it.
    let _ = stdin.write_all(&vec![7; 4 << 20]);
    assert_eq!(text(stdout), "closed\nalive\n");
    assert_eq!(sandbox.boot.exited(process), ExitStatus::Code(0));
}

#[test]
fn without_stdin_there_is_end_of_file() {
    let mut sandbox = sandbox!();
    let container = sandbox.container(&["sh", "-c", "wc -c; readlink /proc/self/fd/0"]);
    assert_eq!(sandbox.run(container).stdout, "0\n/dev/null\n");
}

#[test]
fn a_terminal_has_its_size_and_gets_another() {
    let mut sandbox = sandbox!();
    let script = "tty; stty size; echo $$; read x; stty size; exit 3";
    let mut container = sandbox.container(&["sh", "-c", script]);
    container.init.terminal = Some(TerminalSize { rows: 33, columns: 111 });
    let process = sandbox.boot.created(Request::Create(Box::new(container)));
    let mut terminal = sandbox.stream(process, Stream::Terminal);
    sandbox.boot.call(Request::Start).unwrap();
    let mut seen = String::new();
    let mut buffer = [0; 512];
    while !seen.contains("111") {
        let count = terminal.read(&mut buffer).unwrap();
        assert!(count > 0, "{seen}");
        seen.push_str(std::str::from_utf8(&buffer[..count]).unwrap());
    }
    assert!(seen.starts_with("/dev/pts/0\r\n33 111\r\n"), "{seen:?}");
    let size = TerminalSize { rows: 40, columns: 100 };
    assert_eq!(sandbox.boot.call(Request::Resize { process, size }), Ok(Reply::Done));
    terminal.write_all(b"go\n").unwrap();
    let mut rest = Vec::new();
    terminal.read_to_end(&mut rest).unwrap();
    assert!(String::from_utf8(rest).unwrap().contains("40 100\r\n"));
    assert_eq!(sandbox.boot.exited(process), ExitStatus::Code(3));
}

#[test]
fn a_process_without_a_terminal_has_no_size() {
    let mut sandbox = sandbox!();
    let process = sandbox.idle();
    let size = TerminalSize { rows: 1, columns: 1 };
    let refused = sandbox.boot.call(Request::Resize { process, size });
    assert!(matches!(refused, Err(Failure::WrongState { .. })));
}
