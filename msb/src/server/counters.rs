//! What the server counts of itself and of its sandboxes, in the text form of Prometheus, version 0.0.4.

use std::{
    collections::BTreeMap,
    fmt::Write,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use crate::sandbox::{Info, Usage};

/// Requests that were answered. What they are counted by is ours, never a caller's: their number has a bound.
#[derive(Default)]
pub(crate) struct Counters {
    answered: Mutex<BTreeMap<(&'static str, u16), Answered>>,
}

#[derive(Default, Clone, Copy)]
struct Answered {
    number: u64,
    time: Duration,
}

impl Counters {
    /// One was answered.
    pub(crate) fn answered(&self, what: &'static str, status: u16, time: Duration) {
        let mut answered = self.answered.lock().unwrap_or_else(PoisonError::into_inner);
        let one = answered.entry((what, status)).or_default();
        one.number += 1;
        one.time += time;
    }

    /// All of it.
    pub(crate) fn text(&self, sandboxes: &[(Info, Option<Usage>)]) -> String {
        let mut text = String::new();
        let answered = self.answered.lock().unwrap_or_else(PoisonError::into_inner).clone();
        family(
            &mut text,
            ("msb_http_requests_total", "counter", "Requests that were answered."),
            answered.iter().map(|(key, one)| (of_request(*key), one.number.to_string())),
        );
        family(
            &mut text,
            ("msb_http_request_seconds_total", "counter", "Time that they took."),
            answered.iter().map(|(key, one)| (of_request(*key), one.time.as_secs_f64().to_string())),
        );
        let one = |info: &Info| format!("namespace=\"{}\",sandbox=\"{}\"", info.key.namespace, info.key.name);
        family(
            &mut text,
            ("msb_sandbox_running", "gauge", "Whether a sandbox runs."),
            sandboxes.iter().map(|(info, _)| (one(info), u8::from(info.running()).to_string())),
        );
        type Read = fn(&Usage) -> Option<String>;
        let gauges: [(&str, &str, Read); 3] = [
            ("msb_sandbox_cpu_percent", "Of one processor.", |usage| usage.cpu.map(|cpu| cpu.to_string())),
            ("msb_sandbox_memory_bytes", "Of the host's memory.", |usage| {
                usage.memory.map(|bytes| bytes.to_string())
            }),
            ("msb_sandbox_disk_bytes", "Of its writable layer.", |usage| {
                usage.disk.map(|bytes| bytes.to_string())
            }),
        ];
        for (name, help, read) in gauges {
            let values = sandboxes
                .iter()
                .filter_map(|(info, usage)| Some((one(info), usage.as_ref().and_then(read)?)));
            family(&mut text, (name, "gauge", help), values);
        }
        text
    }
}

fn of_request((what, status): (&'static str, u16)) -> String {
    format!("request=\"{what}\",status=\"{status}\"")
}

fn family(
    text: &mut String,
    (name, kind, help): (&str, &str, &str),
    values: impl Iterator<Item = (String, String)>,
) {
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
    for (labels, value) in values {
        let _ = writeln!(text, "{name}{{{labels}}} {value}");
    }
}
