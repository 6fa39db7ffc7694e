//! What agent and host say to each other. To the host: whatever a guest writes into its channel, a session takes or refuses. To
//! the agent: whatever a host writes is a message that is written the same way again, or none.

use std::io::Write;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use msb_agent::protocol::{
    FromAgent, Hello, ProcessId, Request, StreamHello, ToAgent, VERSION, decode, encode, read, read_first,
    write,
};
use msb_runtime::process::agent::{Agent, AgentError};
use msb_runtime::process::session::{Session, Turn};

/// What a socket takes without a reader.
const MOST: usize = 100_000;

pub(crate) fn to_host(bytes: &[u8]) {
    if let Ok(message) = read::<FromAgent>(&mut &*bytes) {
        let again = encode(&message).expect("what was read can be written");
        assert_eq!(decode::<FromAgent>(&again[4..]).expect("and read again"), message);
    }
    let (host, mut guest) = UnixStream::pair().expect("two sockets");
    // Mostly one that begins well: else there is nothing more to see.
    let bytes = match bytes.split_first() {
        Some((0, rest)) => rest,
        Some((_, rest)) => {
            write(&mut guest, &FromAgent::Hello(Hello { version: VERSION })).expect("the socket has room");
            rest
        }
        None => return,
    };
    let _ = guest.write_all(&bytes[..bytes.len().min(MOST)]);
    let _ = guest.shutdown(Shutdown::Write);
    let Ok(mut agent) = Agent::greet(host, Duration::from_secs(5)) else { return };
    for request in [Request::Start, Request::Processes, Request::Statistics] {
        // It answers, or the channel is at its end: more is never asked of it.
        match agent.call(request) {
            Ok(_) | Err(AgentError::Failed(_)) => {}
            Err(_) => return,
        }
    }
    let mut session = Session::new(agent, ProcessId::INIT, None);
    while session.turn(&[]).is_ok_and(|turn| !matches!(turn, Turn::Exited(_))) {}
}

pub(crate) fn to_agent(bytes: &[u8]) {
    let mut rest = bytes;
    while let Ok(message) = read::<ToAgent>(&mut rest) {
        let again = encode(&message).expect("what was read can be written");
        assert_eq!(decode::<ToAgent>(&again[4..]).expect("and read again"), message);
    }
    let _ = decode::<ToAgent>(bytes);
    let _ = read_first::<StreamHello>(&mut &*bytes);
    let _ = read_first::<ToAgent>(&mut &*bytes);
    let _ = msb_agent::protocol::names::read(&mut &*bytes);
}
