//! Tables: each row is a field of `config.json` and what a command inside then sees, on any runtime.
//!
//! Enters: rows. Leaves: failures that name the row. A container under emulation takes seconds, so rows that leave each
//! other alone share one ([`Lab::together`]); rows of `process` are also told by an exec each ([`Lab::by_exec`]).

use super::{Lab, Runtime};

/// Words by which Docker takes an error for one of the container's command, and gives 126 or 127.
pub const DOCKERS_WORDS: [&str; 5] = [
    "executable file not found",
    "no such file or directory",
    "permission denied",
    "is a directory",
    "not a directory",
];

/// Between the outputs of rows that share a container.
const CUT: &str = "=== cut ===\n";

/// Prepares the files of [`script`].
const FILES: &str = "mkdir -p /root/table && cd /root/table && cp /opt/busybox/bundle/config.json base.json";

/// A field's row: what `config.json` says, and what comes of it.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    what: &'static str,
    patch: &'static str,
    host: &'static str,
    command: &'static str,
    runc: Seen,
    ours: Seen,
}

/// What comes of a row.
#[derive(Clone, Copy, Debug)]
enum Seen {
    /// The command's standard output and error, to the byte.
    Out(&'static str),
    /// No container; our runtime's message holds this.
    Refused(&'static str),
}

impl Row {
    /// With `config.json` changed by the jq filter `patch`, the shell script `command` prints `out`.
    ///
    /// The filter sees the bundle of `runc spec` without a terminal and with a writable root.
    pub const fn new(
        what: &'static str,
        patch: &'static str,
        command: &'static str,
        out: &'static str,
    ) -> Self {
        Self { what, patch, host: ":", command, runc: Seen::Out(out), ours: Seen::Out(out) }
    }

    /// No runtime takes it; ours says `hint`, and none of the words that mean the container's command to Docker.
    pub const fn refused(what: &'static str, patch: &'static str, hint: &'static str) -> Self {
        let (runc, ours) = (Seen::Refused(""), Seen::Refused(hint));
        Self { what, patch, host: ":", command: "true", runc, ours }
    }

    /// Ours refuses what runc takes; the README says so.
    pub const fn ours_refuses(self, hint: &'static str) -> Self {
        Self { ours: Seen::Refused(hint), ..self }
    }

    /// This runc is too old for it; ours is told by [`Self::ours_shows`].
    pub const fn runc_refuses(self) -> Self {
        Self { runc: Seen::Refused(""), ..self }
    }

    /// Ours shows something else; the README says so.
    pub const fn ours_shows(self, out: &'static str) -> Self {
        Self { ours: Seen::Out(out), ..self }
    }

    /// Runs on the host before, such as to make the source of a mount.
    pub const fn host(self, script: &'static str) -> Self {
        Self { host: script, ..self }
    }

    fn seen(&self, runtime: Runtime) -> Seen {
        match runtime {
            Runtime::Runc => self.runc,
            Runtime::Msb => self.ours,
        }
    }
}

impl Lab {
    /// A container for each row.
    pub fn apart(&mut self, rows: &[Row]) {
        self.must("files for the table", FILES);
        for row in rows {
            let script = format!("{}\n$R run --bundle /root/table/x table < /dev/null", script(&[row]));
            self.check_row(row, &script, "$R delete --force table");
        }
    }

    /// One container for all rows: their patches one after the other, then their commands. None may be refused.
    pub fn together(&mut self, rows: &[Row]) {
        self.must("files for the table", FILES);
        let runtime = self.runtime();
        let all: Vec<_> = rows.iter().collect();
        let script = format!("{}\n$R run --bundle /root/table/x table < /dev/null", script(&all));
        let out = self.step("rows that share a container", &script).code(0).err("").stdout();
        let mut parts = out.split(CUT);
        let mut wrong = Vec::new();
        for row in rows {
            let found = parts.next().unwrap_or_default();
            match row.seen(runtime) {
                Seen::Out(expected) if expected == found => {}
                expected => wrong.push(format!(
                    "{}: expected {expected:?}\n  patch {}\n  $ {}\n  found {found:?}\n",
                    row.what, row.patch, row.command
                )),
            }
        }
        self.note(wrong);
    }

    /// One container of the bundle that the jq filter `container` leaves, and each row's `process` as an exec in it.
    pub fn by_exec(&mut self, container: &'static str, rows: &[Row]) {
        self.must("files for the table", FILES);
        let idle = Row::new("", ".process.args = [\"sleep\", \"1000\"]", "", "");
        let bundle = Row::new("", container, "", "");
        for row in rows {
            self.must("what the rows need on the host", row.host);
        }
        self.must(
            "a container to exec in",
            &format!(
                "{}\n$R run --detach --bundle /root/table/x table < /dev/null > log 2>&1",
                script(&[&idle, &bundle])
            ),
        );
        for row in rows {
            let script = format!(
                "{}\njq .process x/config.json > process.json\n$R exec --process /root/table/process.json table < /dev/null",
                script(&[row])
            );
            self.check_row(row, &script, ":");
        }
        self.must("no container to exec in", "$R delete --force table");
    }

    /// `after` clears up what a row that should have been refused has left.
    fn check_row(&mut self, row: &Row, script: &str, after: &str) {
        let runtime = self.runtime();
        let what = format!("{} ({})", row.what, row.patch);
        match row.seen(runtime) {
            Seen::Out(out) => {
                let _ = self.step(&what, script).code(0).out(&format!("{out}{CUT}")).err("");
            }
            Seen::Refused(hint) => {
                let whole = format!("({script}) 2>&1; code=$?; {after}; [ $code != 0 ]");
                let step = self
                    .step(&what, &whole)
                    .code(0)
                    .out_is("no output of the command", |out| !out.contains(CUT));
                if runtime == Runtime::Msb {
                    let _ = step.out_has(hint).out_is(
                        "none of the words that mean the container's command",
                        |out| {
                            // Where such words are what the row is about, they are runc's too.
                            DOCKERS_WORDS.iter().all(|words| words == &hint || !out.contains(words))
                        },
                    );
                }
            }
        }
    }
}

/// Makes the bundle `/root/table/x` of some rows.
fn script(rows: &[&Row]) -> String {
    let mut host = String::new();
    let mut commands = String::new();
    let mut patch = String::from(
        r#".linux.cgroupsPath = "/table" | .root.path = "/opt/busybox/rootfs" | .process.args = ["sh", "-c", $script]"#,
    );
    for row in rows {
        host.push_str(row.host);
        host.push('\n');
        patch.push_str(&format!("\n| ({})", row.patch));
        commands.push_str(&format!("( {}\n) 2>&1\necho '{}'\n", row.command, CUT.trim_end()));
    }
    format!(
        "set -e; cd /root/table; mkdir -p x
{host}cat > patch <<'END OF TABLE'
{patch}
END OF TABLE
cat > script <<'END OF TABLE'
{commands}END OF TABLE
jq --rawfile script script --from-file patch base.json > x/config.json"
    )
}
