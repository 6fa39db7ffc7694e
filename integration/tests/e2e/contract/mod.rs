//! The steps and options of each caller with runc and with ours, in one host: output, exit code, what the caller knows of
//! its container and the events that it tells of are the same, but for the differences that the README lists. A
//! difference that is not listed fails; so does one that is listed and no longer there.
//!
//! What runc answers is kept in `by-runc`, as [`answers`] says: it is asked when a step or the host has changed, and when ours
//! differs.
//!
//! Ours has two callers: runc's shim, which runs `msb-runtime`, and our own. Steps are compared by one and the other in
//! turn, which costs what one of them does and has both in each list; `cargo dev soak` takes both for each.

mod answers;
mod ctr;
mod differences;
mod docker;
mod podman;
mod shares;

use integration::check::Lab;

use answers::Answers;
use differences::DIFFERENCES;

crate::conformance!(both: [], ours: [process, options, namespaces, shared, lifecycle, later, failures, by_podman, by_ctr]);

/// One step: its name, and a script that uses `$D` (Docker's option for the runtime), `$C` (ctr's) or `$P` (its path), and
/// calls its container `box`.
type Step = (&'static str, &'static str);

/// A difference that is meant.
#[derive(Debug)]
struct Difference {
    /// The step's name.
    step: &'static str,
    /// The README's words that give the reason.
    reason: &'static str,
    /// What is different with whom, as [`apart`] tells it: the names of ours, and the lines. Anything else fails.
    lines: &'static [(&'static [&'static str], &'static str)],
}

/// A runtime as its callers name it.
#[derive(Clone, Copy, Debug)]
struct Named {
    /// In a test's name.
    name: &'static str,
    /// Sets `D`, `C` and `P`.
    script: &'static str,
}

/// The reference.
const RUNC: Named =
    Named { name: "runc", script: "D=--runtime=runc; P=$(command -v runc); C=\"--runc-binary $P\"" };

/// Ours, below runc's shim.
const MSB: Named =
    Named { name: "msb", script: "D=--runtime=msb; P=$(command -v msb-runtime); C=\"--runc-binary $P\"" };

/// Ours, by our own shim.
const SHIM: Named =
    Named { name: "shim", script: "D=--runtime=io.containerd.msb.v2; C=\"--runtime io.containerd.msb.v2\"" };

const README: &str = include_str!("../../../../README.md");

const PLAIN: &str = r#"
# What was waited for has not come. That is no agreement, if both say it.
vain() { echo "waited in vain: $*"; }
# Ids, times and the runtimes' own words.
plain() {
    sed -E 's/[0-9a-f]{64}/ID/g; s/\b[0-9a-f]{12}\b/ID/g; s/[0-9]{4}-[0-9-]+T[0-9:.]+(Z|[+-][0-9:]+)/TIME/g;
        s/OCI runtime (create|exec) failed: ((runc create|create|exec) failed: )?(unable to start container process: )?/OCI runtime \1 failed: /
        s#/usr/(local/)?s?bin/(runc|msb-runtime): ((runc create|create|exec) failed: )(unable to start container process: )?#RUNTIME: \4: #
        s/docker: Error response from daemon: failed to create task for container: failed to create shim task: OCI runtime create failed:/docker: not created:/
        s#/proc/[0-9]+/#/proc/PID/#g; s/process [0-9]+/process PID/
        s/RUNTIME: runc create/RUNTIME: create/; s/stat [^:]*: no such/no such/'
}
"#;

fn process(lab: &mut Lab) {
    compare(lab, &[MSB, SHIM], docker::FUNCTIONS, "process", docker::PROCESS);
}

fn options(lab: &mut Lab) {
    compare(lab, &[MSB, SHIM], docker::FUNCTIONS, "options", docker::OPTIONS);
}

fn namespaces(lab: &mut Lab) {
    compare(lab, &[MSB, SHIM], docker::FUNCTIONS, "namespaces", shares::NAMESPACES);
}

fn shared(lab: &mut Lab) {
    let functions = [docker::FUNCTIONS, shares::FUNCTIONS].concat();
    compare(lab, &[MSB, SHIM], &functions, "shared", shares::SHARED);
}

fn lifecycle(lab: &mut Lab) {
    compare(lab, &[MSB, SHIM], docker::FUNCTIONS, "lifecycle", docker::LIFECYCLE);
}

fn later(lab: &mut Lab) {
    compare(lab, &[MSB, SHIM], docker::FUNCTIONS, "later", docker::LATER);
}

fn failures(lab: &mut Lab) {
    compare(lab, &[MSB, SHIM], docker::FUNCTIONS, "failures", docker::FAILURES);
}

fn by_podman(lab: &mut Lab) {
    // As the README says. podman takes the message from the log of those that it knows.
    let known = r#"mkdir -p /etc/containers/containers.conf.d
        printf '[engine]\nruntime_supports_json = ["runc", "msb-runtime"]\n' > /etc/containers/containers.conf.d/msb.conf"#;
    lab.must("podman knows that both write their log as JSON", known);
    compare(lab, &[MSB], podman::FUNCTIONS, "by_podman", podman::STEPS);
}

fn by_ctr(lab: &mut Lab) {
    lab.must("a root of the test's own", "cp -a /opt/busybox/rootfs /root/tree");
    compare(lab, &[MSB, SHIM], ctr::FUNCTIONS, "by_ctr", ctr::STEPS);
}

/// Each step by one of `ours` in turn, in a soak by all of them. `functions`: those that the steps use, `events`, and `clear`,
/// which leaves none of their containers; `list`: what the answers to `steps` are called.
fn compare(lab: &mut Lab, ours: &[Named], functions: &str, list: &str, steps: &[Step]) {
    lab.define(PLAIN);
    lab.define(functions);
    let all = std::env::var_os("MSB_SOAK").is_some();
    let mut answers = Answers::of(list);
    for (step, in_turn) in steps.iter().zip(ours.iter().cycle()) {
        let ours = if all { ours } else { std::slice::from_ref(in_turn) };
        one(lab, ours, step, functions, &mut answers);
    }
    if answers::all_are_asked() {
        answers.write();
    }
}

fn one(lab: &mut Lab, ours: &[Named], (name, script): &Step, functions: &str, answers: &mut Answers) {
    let whole = |runtime: &Named| {
        format!(
            r#"{}; began=$(date +%s.%N)
            ( {script}
            ) > /root/stdout 2> /root/stderr; code=$?
            events > /root/events
            for file in stdout stderr events; do echo "== $file"; plain < /root/$file; done; echo "== code $code"
            clear > /dev/null 2>&1; true"#,
            runtime.script
        )
    };
    let told = |lab: &mut Lab, runtime: &Named| {
        lab.step(&format!("{name}, {}", runtime.name), &whole(runtime)).code(0).stdout()
    };
    let depends = [PLAIN, functions, &whole(&RUNC)].concat();
    let meant = DIFFERENCES.iter().find(|difference| difference.step == *name);
    let lines = meant.map_or([].as_slice(), |difference| difference.lines);
    // What is found, and what should be.
    let against = |reference: &str, who: &str, ours: &str| {
        let found = if ours == reference { String::new() } else { apart(reference, ours) };
        let listed = lines.iter().find(|(whose, _)| whose.contains(&who)).map_or("", |(_, lines)| *lines);
        (found != listed).then_some((found, listed))
    };
    let kept = answers.kept(name, &depends).filter(|_| !answers::all_are_asked());
    let all: Vec<_> = ours.iter().map(|one| (one.name, told(lab, one))).collect();
    let agreed = kept.is_some_and(|kept| all.iter().all(|(who, ours)| against(&kept, who, ours).is_none()));
    if !agreed {
        let reference = told(lab, &RUNC);
        if reference.contains("waited in vain") {
            lab.fail(&format!("{name}: runc itself does not come to it:\n{reference}"));
        }
        answers.add(name, &depends, &reference);
        for (who, ours) in all {
            if let Some((found, listed)) = against(&reference, who, &ours) {
                lab.fail(&format!(
                    "{name}, {who}: not as with runc:\n{found}\nbut the lists have:\n{listed}"
                ));
            }
        }
    }
    let readme = README.split_whitespace().collect::<Vec<_>>().join(" ");
    if let Some(Difference { reason, .. }) = meant.filter(|meant| !readme.contains(meant.reason)) {
        lab.fail(&format!("{name}: the README does not say {reason:?}"));
    }
}

/// The lines that only one of them has; both as a whole, if it is their order or number that differs.
fn apart(reference: &str, ours: &str) -> String {
    let only = |mark: &str, these: &str, those: &str| -> String {
        let those: Vec<&str> = those.lines().collect();
        these.lines().filter(|line| !those.contains(line)).map(|line| format!("  {mark} {line}\n")).collect()
    };
    let lines = only("runc", reference, ours) + &only("ours", ours, reference);
    if lines.is_empty() { format!("{reference}but\n{ours}") } else { lines }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_listed_is_compared() {
        let docker = [docker::PROCESS, docker::OPTIONS, docker::LIFECYCLE, docker::LATER, docker::FAILURES];
        let all = docker.iter().chain(&[shares::NAMESPACES, shares::SHARED, podman::STEPS, ctr::STEPS]);
        let names: Vec<&str> = all.flat_map(|steps| steps.iter().map(|(name, _)| *name)).collect();
        for Difference { step, .. } in DIFFERENCES {
            assert!(names.iter().filter(|name| *name == step).count() == 1, "{step}");
        }
    }
}
