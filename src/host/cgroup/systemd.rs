//! A scope of systemd's around a process that is there already, by D-Bus (`org.freedesktop.systemd1(5)`).

use std::time::Duration;

use rustbus::{
    MessageBuilder, MessageType, RpcConn,
    connection::{Error as BusError, Timeout, ll_conn::force_finish_on_error},
    message_builder::MarshalledMessage,
    wire::errors::{MarshalError, UnmarshalError},
};

use super::{path::Unit, v2};
use crate::config::{Limits, cpu_weight};

/// systemd may be busy; runc waits as long.
const PATIENCE: Duration = Duration::from_secs(30);

/// How a new job deals with one that is queued for the same unit.
const REPLACE: &str = "replace";

/// `org.freedesktop.systemd1.UnitExists`
const UNIT_EXISTS: &str = "org.freedesktop.systemd1.UnitExists";

/// Why systemd did not do it.
#[derive(Debug, thiserror::Error)]
pub enum SystemdError {
    /// The system's bus can't be used.
    #[error(
        "The system's D-Bus can't be used: run without --systemd-cgroup where systemd is not the init system"
    )]
    Bus(#[from] BusError),
    /// A message can't be put together.
    #[error("A message to systemd can't be written: {0:?}")]
    Marshal(MarshalError),
    /// A message can't be understood.
    #[error("A message from systemd can't be read: {0:?}")]
    Unmarshal(UnmarshalError),
    /// It says no.
    #[error("{name}: {text}")]
    Refused {
        /// The error's D-Bus name.
        name: String,
        /// In its words.
        text: String,
    },
    /// The job was not done.
    #[error("the job ended as {result:?}")]
    Job {
        /// `failed`, `timeout`, …
        result: String,
    },
}

impl From<MarshalError> for SystemdError {
    fn from(error: MarshalError) -> Self {
        Self::Marshal(error)
    }
}

impl From<UnmarshalError> for SystemdError {
    fn from(error: UnmarshalError) -> Self {
        Self::Unmarshal(error)
    }
}

// The types of properties that are set here: `s`, `b`, `t`, `au`.
rustbus::dbus_variant_sig!(Value, Text => String; Flag => bool; Number => u64; Pids => Vec<u32>);

/// Starts the scope with `pid` in it, and waits until it is there.
///
/// # Errors
/// [`SystemdError`].
pub(super) fn start(unit: &Unit, pid: u32, limits: &Limits) -> Result<(), SystemdError> {
    let mut bus = Bus::connect()?;
    match bus.start(unit, pid, limits) {
        // A scope of that name failed once, or is about to end.
        Err(SystemdError::Refused { name, .. }) if name == UNIT_EXISTS => {
            let _ = bus.order("ResetFailedUnit", unit);
            let _ = bus.job(named("StopUnit", unit, Some(REPLACE))?);
            bus.start(unit, pid, limits)
        }
        other => other,
    }
}

/// Holds the scope to other limits.
///
/// # Errors
/// [`SystemdError`].
pub(super) fn change(unit: &Unit, limits: &Limits) -> Result<(), SystemdError> {
    let mut call = named("SetUnitProperties", unit, None)?;
    // Only until the next boot, as the scope itself.
    call.body.push_param(true)?;
    call.body.push_param(limiting(limits))?;
    Bus::connect()?.call(call).map(drop)
}

/// Lets systemd forget a scope that has failed. One that it does not know is as good.
///
/// # Errors
/// [`SystemdError::Bus`].
pub(super) fn forget(unit: &Unit) -> Result<(), SystemdError> {
    match Bus::connect()?.order("ResetFailedUnit", unit) {
        Err(SystemdError::Refused { .. }) => Ok(()),
        other => other,
    }
}

/// A connection that hears of systemd's jobs.
struct Bus(RpcConn);

impl Bus {
    fn connect() -> Result<Self, SystemdError> {
        Ok(Self(RpcConn::system_conn(Timeout::Duration(PATIENCE))?))
    }

    fn start(&mut self, unit: &Unit, pid: u32, limits: &Limits) -> Result<(), SystemdError> {
        let mut call = method("StartTransientUnit");
        call.body.push_param2(unit.name.as_str(), REPLACE)?;
        call.body.push_param(properties(unit, pid, limits))?;
        // Auxiliary units: none.
        call.body.push_param(Vec::<(String, Vec<(String, Value)>)>::new())?;
        self.job(call)
    }

    /// A call whose answer says all.
    fn order(&mut self, member: &str, unit: &Unit) -> Result<(), SystemdError> {
        self.call(named(member, unit, None)?).map(drop)
    }

    /// A call whose answer is a job, and that job's end.
    fn job(&mut self, call: MarshalledMessage) -> Result<(), SystemdError> {
        self.call(method("Subscribe"))?;
        let mut rule = rustbus::standard_messages::add_match(
            "type='signal',interface='org.freedesktop.systemd1.Manager',member='JobRemoved'",
        );
        self.send(&mut rule)?;
        let job: String =
            self.call(call)?.body.parser().get::<rustbus::wire::ObjectPath<&str>>()?.as_ref().into();
        loop {
            let signal = self.0.wait_signal(Timeout::Duration(PATIENCE))?;
            if signal.dynheader.member.as_deref() != Some("JobRemoved") {
                continue;
            }
            let mut body = signal.body.parser();
            let (_id, path) = body.get2::<u32, rustbus::wire::ObjectPath<&str>>()?;
            let (_unit, result) = body.get2::<&str, &str>()?;
            if path.as_ref() == job {
                return if result == "done" {
                    Ok(())
                } else {
                    Err(SystemdError::Job { result: result.into() })
                };
            }
        }
    }

    fn send(&mut self, call: &mut MarshalledMessage) -> Result<u32, SystemdError> {
        Ok(self.0.send_message(call)?.write_all().map_err(force_finish_on_error)?)
    }

    fn call(&mut self, mut call: MarshalledMessage) -> Result<MarshalledMessage, SystemdError> {
        let serial = self.send(&mut call)?;
        let answer = self.0.wait_response(serial, Timeout::Duration(PATIENCE))?;
        if answer.typ == MessageType::Error {
            let name = answer.dynheader.error_name.clone().unwrap_or_default();
            let text = answer.body.parser().get::<&str>().unwrap_or_default().to_owned();
            return Err(SystemdError::Refused { name, text });
        }
        Ok(answer)
    }
}

fn method(member: &str) -> MarshalledMessage {
    MessageBuilder::new()
        .call(member)
        .on("/org/freedesktop/systemd1")
        .with_interface("org.freedesktop.systemd1.Manager")
        .at("org.freedesktop.systemd1")
        .build()
}

/// A method of which the first argument is a unit's name.
fn named(member: &str, unit: &Unit, mode: Option<&str>) -> Result<MarshalledMessage, MarshalError> {
    let mut call = method(member);
    call.body.push_param(unit.name.as_str())?;
    mode.map_or(Ok(()), |mode| call.body.push_param(mode))?;
    Ok(call)
}

/// What the scope is to be. The limits are told here too: systemd writes what it knows of a unit's to the same files,
/// whenever it reloads.
fn properties(unit: &Unit, pid: u32, limits: &Limits) -> Vec<(String, Value)> {
    let mut all = vec![
        ("Description", Value::Text(format!("MicroSandbox {}", unit.name))),
        ("Slice", Value::Text(unit.slice.clone())),
        ("DefaultDependencies", Value::Flag(false)),
        ("Delegate", Value::Flag(true)),
        ("PIDs", Value::Pids(vec![pid])),
    ];
    for accounting in ["CPUAccounting", "MemoryAccounting", "TasksAccounting", "IOAccounting"] {
        all.push((accounting, Value::Flag(true)));
    }
    let mut all: Vec<_> = all.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    all.extend(limiting(limits));
    all
}

/// Limits as systemd has them.
fn limiting(limits: &Limits) -> Vec<(String, Value)> {
    let mut all = Vec::new();
    let bytes = |amount: i64| u64::try_from(amount).unwrap_or(u64::MAX);
    all.extend(limits.memory.map(|amount| ("MemoryMax", Value::Number(bytes(amount)))));
    all.extend(limits.reservation.map(|amount| ("MemoryLow", Value::Number(bytes(amount)))));
    all.extend(limits.cpu_shares.map(|shares| ("CPUWeight", Value::Number(cpu_weight(shares)))));
    if let Some(quota) = limits.cpu_quota.and_then(|quota| u64::try_from(quota).ok()) {
        let period = limits.cpu_period.unwrap_or(v2::DEFAULT_PERIOD).max(1);
        all.push(("CPUQuotaPeriodUSec", Value::Number(period)));
        all.push(("CPUQuotaPerSecUSec", Value::Number(quota.saturating_mul(1_000_000) / period)));
    }
    all.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_is_held_to_its_limits() {
        let unit = Unit { name: "docker-x.scope".into(), slice: "system.slice".into() };
        let limits = Limits {
            memory: Some(1 << 20),
            cpu_shares: Some(1024),
            cpu_quota: Some(150_000),
            ..Limits::default()
        };
        let found = properties(&unit, 7, &limits);
        let number = |name: &str| {
            found.iter().find(|(known, _)| known == name).and_then(|(_, value)| match value {
                Value::Number(number) => Some(*number),
                _ => None,
            })
        };
        assert_eq!(number("MemoryMax"), Some(1 << 20));
        assert_eq!(number("CPUWeight"), Some(39));
        assert_eq!(number("CPUQuotaPerSecUSec"), Some(1_500_000));
        assert_eq!(number("MemoryLow"), None);
        assert!(
            found
                .iter()
                .any(|(name, value)| name == "PIDs" && matches!(value, Value::Pids(pids) if *pids == [7]))
        );
    }
}
