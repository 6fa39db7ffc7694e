//! Events, told to containerd in the order in which they happened.
//!
//! They go through one queue, whose front is tried until containerd takes it or [`PATIENCE`] is over: a containerd that is
//! being restarted shall miss nothing.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use containerd_shim_protos::{
    events::task::{
        TaskCreate, TaskDelete, TaskExecAdded, TaskExecStarted, TaskExit, TaskOOM, TaskPaused, TaskResumed,
        TaskStart,
    },
    protobuf::{Message, well_known_types::any::Any, well_known_types::timestamp::Timestamp},
    shim::{event::Envelope, events::ForwardRequest},
    shim_async::{Client, EventsClient},
    topics,
    ttrpc::context,
};
use tokio::sync::{mpsc, oneshot};

use crate::log::Log;

/// How long one event is tried.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long containerd may take for one.
const ANSWER: Duration = Duration::from_secs(5);
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(250);

/// A message that is an event, and what it is published as.
pub trait Event: Message {
    /// One of containerd's topics.
    const TOPIC: &'static str;
}

macro_rules! events {
    ($($message:ident: $topic:ident),*) => {
        $(impl Event for $message {
            const TOPIC: &'static str = topics::$topic;
        })*
    };
}

events! {
    TaskCreate: TASK_CREATE_EVENT_TOPIC,
    TaskStart: TASK_START_EVENT_TOPIC,
    TaskExecAdded: TASK_EXEC_ADDED_EVENT_TOPIC,
    TaskExecStarted: TASK_EXEC_STARTED_EVENT_TOPIC,
    TaskPaused: TASK_PAUSED_EVENT_TOPIC,
    TaskResumed: TASK_RESUMED_EVENT_TOPIC,
    TaskOOM: TASK_OOM_EVENT_TOPIC,
    TaskExit: TASK_EXIT_EVENT_TOPIC,
    TaskDelete: TASK_DELETE_EVENT_TOPIC
}

#[derive(Debug)]
enum Item {
    Event(Box<Envelope>),
    Flush(oneshot::Sender<()>),
}

/// Where events are put; any thread may.
#[derive(Debug, Clone)]
pub struct Events {
    namespace: String,
    queue: mpsc::UnboundedSender<Item>,
}

impl Events {
    /// Those of a namespace, for the containerd that listens at `address`. Called in the runtime.
    pub fn to(address: String, namespace: String, log: Log) -> Self {
        let (queue, items) = mpsc::unbounded_channel();
        tokio::spawn(forward(address, items, log));
        Self { namespace, queue }
    }

    /// Puts one.
    pub fn publish<E: Event>(&self, event: &E) {
        // These messages have nothing that could not be written.
        let Ok(value) = event.write_to_bytes() else { return };
        let event = Any { type_url: format!("containerd.events.{}", E::NAME), value, ..Any::default() };
        let envelope = Envelope {
            timestamp: Some(timestamp(SystemTime::now())).into(),
            namespace: self.namespace.clone(),
            topic: E::TOPIC.into(),
            event: Some(event).into(),
            ..Envelope::default()
        };
        // The runtime is gone only when this process is.
        let _ = self.queue.send(Item::Event(Box::new(envelope)));
    }

    /// Waits until all that were put have been told, or given up.
    pub async fn flush(&self) {
        let (done, told) = oneshot::channel();
        if self.queue.send(Item::Flush(done)).is_ok() {
            let _ = told.await;
        }
    }
}

/// As protobuf has times.
pub fn timestamp(time: SystemTime) -> Timestamp {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp {
        seconds: i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
        nanos: since.subsec_nanos().cast_signed(),
        ..Timestamp::default()
    }
}

async fn forward(address: String, mut items: mpsc::UnboundedReceiver<Item>, log: Log) {
    let address = if address.contains("://") { address } else { format!("unix://{address}") };
    let mut client = None;
    while let Some(item) = items.recv().await {
        match item {
            Item::Flush(done) => drop(done.send(())),
            Item::Event(envelope) => {
                let request =
                    ForwardRequest { envelope: Some(*envelope).into(), ..ForwardRequest::default() };
                if let Err(error) = tell(&address, &mut client, &request).await {
                    log.line("error", &format!("The event {} is lost: {error}", request.envelope.topic));
                }
            }
        }
    }
}

async fn tell(
    address: &str,
    client: &mut Option<EventsClient>,
    request: &ForwardRequest,
) -> Result<(), containerd_shim_protos::ttrpc::Error> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let error = match client {
            Some(connected) => match connected.forward(context::with_duration(ANSWER), request).await {
                Ok(_) => return Ok(()),
                Err(error) => error,
            },
            None => match Client::connect(address).await {
                Ok(connected) => {
                    *client = Some(EventsClient::new(connected));
                    continue;
                }
                Err(error) => error,
            },
        };
        if Instant::now() >= deadline {
            return Err(error);
        }
        // It may be a connection to a containerd that has gone.
        *client = None;
        tokio::time::sleep(PAUSE).await;
    }
}
