//! A clean virtual host with one runtime under test.

use std::net::SocketAddr;
use std::panic::{self, AssertUnwindSafe};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use test_skips::again;

use super::{Runtime, Snapshot, Step};
use crate::dev::Project;
use crate::host::command::HostCommand;
use crate::host::{Fixture, VirtualHost};

/// Longest time of one step. A container under emulation takes seconds, several at once take longer. It ends before the runtime
/// gives a guest up, so that one that stands still can be looked at.
const LIMIT: Duration = Duration::from_secs(100);

/// After so many steps that took too long, nothing new is to be learned.
const MOST_TIMEOUTS: usize = 3;

/// `eventually CONDITION [SECONDS]`, for all scripts: the shell condition holds within three hundred looks at it, each so many
/// seconds (a tenth) after the last.
/// It leaves the variables of its caller alone.
///
/// `machine PID`: the process that runs a container, whose caller knows it by that one: with our runtime its child, with runc
/// itself.
const EVENTUALLY: &str = "machine() { pgrep -x msb-vmm -P $1 || echo $1; }\neventually() { local turn_=0; until eval \"$1\"; do turn_=$((turn_+1)); [ $turn_ -lt 300 ] || return 1; sleep ${2:-0.1}; done; }\n";

/// A host, a runtime, and what went wrong so far.
///
/// Scripts find in their environment: `D`, Docker's option for the runtime; `N`, its option for no network, which halves
/// the time of a container; `R`, the runtime's program; `P`, its whole path.
#[derive(Debug)]
pub struct Lab {
    host: VirtualHost,
    runtime: Runtime,
    prelude: String,
    failures: Vec<String>,
    timeouts: usize,
}

impl Lab {
    /// Runs `test` with `runtime` in a clean host. Panics when any step was not as it said.
    ///
    /// Where a guest stands still then by the emulator's fault (`host/still.rs`), the test is run once more, and the summary
    /// tells it.
    pub fn check(runtime: Runtime, test: fn(&mut Lab)) {
        let mut lab = Self::new(runtime);
        let done = panic::catch_unwind(AssertUnwindSafe(|| test(&mut lab)));
        if done.is_ok() && lab.failures.is_empty() {
            return;
        }
        if let Some(machine) = lab.host.stands_still() {
            again(&format!("machine {machine} stood still by the emulator's fault"));
            eprintln!("{}", lab.failures.join("\n"));
            drop(lab);
            lab = Self::new(runtime);
            test(&mut lab);
        } else if let Err(failed) = done {
            panic::resume_unwind(failed);
        }
        let failures = std::mem::take(&mut lab.failures);
        assert!(failures.is_empty(), "with {}:\n\n{}", runtime.name(), failures.join("\n"));
    }

    fn new(runtime: Runtime) -> Self {
        let project = Project::here();
        let payload = match runtime {
            Runtime::Runc => Vec::new(),
            Runtime::Msb => project.payload().expect("the programs under test can be built"),
        };
        let setup = project.host(Fixture::Plain).expect("the virtual host can be made");
        let host = VirtualHost::start(Fixture::Plain, &setup, &payload).expect("the virtual host starts");
        Self { host, runtime, prelude: EVENTUALLY.to_owned(), failures: Vec::new(), timeouts: 0 }
    }

    /// Which runtime this is, for the few steps that only one of them can take.
    pub fn runtime(&self) -> Runtime {
        self.runtime
    }

    /// Shell functions for all later scripts.
    pub fn define(&mut self, functions: &str) {
        self.prelude.push_str(functions);
        self.prelude.push('\n');
    }

    /// Puts the program `name` of this package into the host's `PATH`.
    pub fn bring(&mut self, name: &str) {
        self.put(name, Project::here().host_program(name));
    }

    /// Puts the product's command there.
    pub fn bring_msb(&mut self) {
        self.put("msb", Project::here().msb());
    }

    /// Puts `guest-posix` there, which runs in any container.
    pub fn bring_guest_posix(&mut self) {
        self.put("guest-posix", Project::here().guest_posix());
    }

    /// Puts a file there, whose directory must be there.
    pub fn write(&mut self, target: &str, content: Vec<u8>) {
        let brought = self.host.sh(&format!("cat > {target}")).stdin(content).run();
        assert_eq!(brought.expect("the host takes it").code, 0, "the host takes {target}");
    }

    /// Puts Debian there as an archive, for the product's image to be built on.
    pub fn bring_debian(&mut self, target: &str) {
        let archive = Project::here().debian().expect("Debian can be had");
        self.write(target, std::fs::read(archive).expect("it was made just now"));
    }

    /// Puts a version of the original's published client for Python there, as an archive.
    pub fn bring_python_client(&mut self, version: &str, target: &str) {
        let client = Project::here().python_client(version).expect("the client can be had");
        self.write(target, std::fs::read(client.join("client.tar")).expect("it was made just now"));
    }

    /// Does `work` on this machine, with an address that leads to `port` of the host.
    pub fn reach<T>(&self, what: &str, port: u16, work: impl FnOnce(SocketAddr) -> T) -> T {
        let began = Instant::now();
        let done = self.host.reach(port, work).expect("this machine has an address to spare");
        eprintln!("{:6.1} s  {what}", began.elapsed().as_secs_f64());
        done
    }

    fn put(&self, name: &str, program: anyhow::Result<PathBuf>) {
        let program = program.expect("the test's own program can be built");
        let program = std::fs::read(program).expect("it was built just now");
        let script = format!("cat > /usr/local/bin/{name} && chmod 755 /usr/local/bin/{name}");
        let brought = self.host.sh(&script).stdin(program).run().expect("the host takes it");
        assert_eq!(brought.code, 0, "{name} can't be put into the host: {}", brought.err());
    }

    /// Runs `script`; `what` says what it is to show.
    #[must_use = "say what must be true of it"]
    pub fn step(&mut self, what: &str, script: &str) -> Step<'_> {
        self.step_with(what, script, |command| command)
    }

    /// The same, for a script that wants standard input, a terminal or another time limit. How long it took is in the test's
    /// own output, to find out where the time goes.
    #[must_use = "say what must be true of it"]
    pub fn step_with<'a>(
        &'a mut self,
        what: &str,
        script: &str,
        with: impl for<'b> FnOnce(HostCommand<'b>) -> HostCommand<'b>,
    ) -> Step<'a> {
        let began = Instant::now();
        let output = with(self.command(script)).run();
        eprintln!("{:6.1} s  {what}", began.elapsed().as_secs_f64());
        if output.is_err() {
            self.timeouts += 1;
        }
        let step = Step::new(&mut self.failures, what, script, output);
        assert!(
            self.timeouts < MOST_TIMEOUTS,
            "with {}, too many steps took too long:\n\n{}",
            self.runtime.name(),
            step.failures().join("\n")
        );
        step
    }

    /// Runs a script that must succeed: nothing that comes after it makes sense without.
    pub fn must(&mut self, what: &str, script: &str) {
        let failed = self.failures.len();
        let _ = self.step(what, script).code(0);
        assert!(
            self.failures.len() == failed,
            "with {}, and the rest left out:\n\n{}",
            self.runtime.name(),
            self.failures.join("\n")
        );
    }

    /// The standard output of a script that must succeed, without the newline at its end.
    pub fn read(&mut self, what: &str, script: &str) -> String {
        self.step(what, script).code(0).stdout().trim_end_matches('\n').to_owned()
    }

    /// Notes what is wrong, for a test that compares for itself.
    pub fn fail(&mut self, what: &str) {
        self.failures.push(format!("{what}\n"));
    }

    /// Waits until the shell condition `until` holds, which it must within half a minute or so.
    pub fn wait(&mut self, what: &str, until: &str) {
        let turn = format!("i=0; until {until}; do i=$((i+1)); [ $i -lt 300 ] || exit 1; sleep 0.2; done");
        self.must(what, &turn);
    }

    /// All that a container could leave behind, as it is now.
    pub fn snapshot(&mut self) -> Snapshot {
        Snapshot::parse(&self.read("the host can be looked at", Snapshot::SCRIPT))
    }

    /// Compares with `before`. What goes away within a minute is no leftover: callers clean up in the background.
    pub fn nothing_left(&mut self, what: &str, before: &Snapshot) {
        let started = Instant::now();
        loop {
            let left = self.snapshot().beyond(before);
            if left.is_empty() {
                return;
            }
            if started.elapsed() > Duration::from_secs(60) {
                self.failures.push(format!("{what}: left behind:\n  {}\n", left.join("\n  ")));
                return;
            }
            std::thread::sleep(Duration::from_millis(500));
        }
    }

    /// Failures found in what a step printed.
    pub(super) fn note(&mut self, failures: impl IntoIterator<Item = String>) {
        self.failures.extend(failures);
    }

    fn command(&self, script: &str) -> HostCommand<'_> {
        // The path is looked up there: distributions differ on where runc is.
        let whole = format!("P=$(command -v $R)\n{}{script}", self.prelude);
        self.host
            .sh(&whole)
            .env("D", &format!("--runtime={}", self.runtime.name()))
            .env("N", "--network=none")
            .env("R", self.runtime.program())
            .timeout(LIMIT)
    }
}
