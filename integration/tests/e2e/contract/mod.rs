//! The steps and options of each caller with runc and with ours, in one host: output, exit code, what the caller knows of
//! its container and the events that it tells of are the same, but for the differences that the README lists. A
//! difference that is not listed fails; so does one that is listed and no longer there.

mod ctr;
mod docker;
mod podman;

use integration::check::Lab;

crate::conformance!(both: [], ours: [process, options, namespaces, lifecycle, later, failures, by_podman, by_ctr]);

/// One step: its name, and a script that uses `$D` (Docker's option for the runtime), `$C` (ctr's) or `$P` (its path), and
/// calls its container `box`.
type Step = (&'static str, &'static str);

/// A difference that is meant: the step's name, and the README's words that give the reason.
type Difference = (&'static str, &'static str);

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
# Ids, times and the runtimes' own words.
plain() {
    sed -E 's/[0-9a-f]{64}/ID/g; s/\b[0-9a-f]{12}\b/ID/g; s/[0-9]{4}-[0-9-]+T[0-9:.]+(Z|[+-][0-9:]+)/TIME/g;
        s/OCI runtime (create|exec) failed: ((runc create|create|exec) failed: )?(unable to start container process: )?/OCI runtime \1 failed: /
        s#/usr/(local/)?s?bin/(runc|msb-runtime): ((runc create|create|exec) failed: )(unable to start container process: )?#RUNTIME: \4: #
        s/RUNTIME: runc create/RUNTIME: create/; s/stat [^:]*: no such/no such/'
}
"#;

/// What is meant to differ.
const DIFFERENCES: &[Difference] = &[
    ("another's processes", "another container can't be joined"),
    ("hidden and read-only paths", "`/proc` and `/sys` have what the guest's kernel has"),
    ("looked at", "`docker top` shows the machine's one process"),
];

fn process(lab: &mut Lab) {
    compare(lab, &[MSB], docker::FUNCTIONS, docker::PROCESS);
}

fn options(lab: &mut Lab) {
    compare(lab, &[MSB], docker::FUNCTIONS, docker::OPTIONS);
}

fn namespaces(lab: &mut Lab) {
    compare(lab, &[MSB], docker::FUNCTIONS, docker::NAMESPACES);
}

fn lifecycle(lab: &mut Lab) {
    compare(lab, &[MSB, SHIM], docker::FUNCTIONS, docker::LIFECYCLE);
}

fn later(lab: &mut Lab) {
    compare(lab, &[MSB], docker::FUNCTIONS, docker::LATER);
}

fn failures(lab: &mut Lab) {
    compare(lab, &[MSB], docker::FUNCTIONS, docker::FAILURES);
}

fn by_podman(lab: &mut Lab) {
    // As the README says. podman takes the message from the log of those that it knows.
    let known = r#"mkdir -p /etc/containers/containers.conf.d
        printf '[engine]\nruntime_supports_json = ["runc", "msb-runtime"]\n' > /etc/containers/containers.conf.d/msb.conf"#;
    lab.must("podman knows that both write their log as JSON", known);
    compare(lab, &[MSB], podman::FUNCTIONS, podman::STEPS);
}

fn by_ctr(lab: &mut Lab) {
    lab.must("a root of the test's own", "cp -a /opt/busybox/rootfs /root/tree");
    compare(lab, &[MSB, SHIM], ctr::FUNCTIONS, ctr::STEPS);
}

/// `functions`: those that the steps use, `events`, and `clear`, which leaves none of their containers.
fn compare(lab: &mut Lab, ours: &[Named], functions: &str, steps: &[Step]) {
    lab.define(PLAIN);
    lab.define(functions);
    let readme = README.split_whitespace().collect::<Vec<_>>().join(" ");
    for (name, script) in steps {
        let mut told = |runtime: &Named| {
            let whole = format!(
                r#"{}; began=$(date +%s.%N)
                ( {script}
                ) > /root/stdout 2> /root/stderr; code=$?
                events > /root/events
                for file in stdout stderr events; do echo "== $file"; plain < /root/$file; done; echo "== code $code"
                clear > /dev/null 2>&1; true"#,
                runtime.script
            );
            lab.step(&format!("{name}, {}", runtime.name), &whole).code(0).stdout()
        };
        let reference = told(&RUNC);
        let all: Vec<_> = ours.iter().map(|one| (one.name, told(one))).collect();
        let meant = DIFFERENCES.iter().find(|(step, _)| step == name);
        for (who, ours) in all {
            match meant {
                None if reference != ours => {
                    lab.fail(&format!("{name}, {who}: not as with runc:\n{}", apart(&reference, &ours)));
                }
                Some(_) if reference == ours => {
                    lab.fail(&format!(
                        "{name}, {who}: no longer different from runc: take it from the lists"
                    ));
                }
                Some((_, reason)) if !readme.contains(reason) => {
                    lab.fail(&format!("{name}: the README does not say {reason:?}"));
                }
                _ => {}
            }
        }
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
