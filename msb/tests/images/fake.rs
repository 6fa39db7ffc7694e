//! A registry that says what a test wants it to say.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

/// To one request.
pub enum Answer {
    /// 200, or 206 from where the request wants it.
    Found(Vec<u8>),
    /// As that, but no more than `after` bytes of what was promised.
    Cut { body: Vec<u8>, after: usize },
    /// More and more.
    Endless,
    /// An error.
    Status(u16),
}

/// Listens until the test ends.
pub struct Fake {
    pub address: String,
    asked: Arc<Mutex<Vec<(String, u64)>>>,
}

impl Fake {
    /// Answers paths as in `answers`, after `change`.
    pub fn start(
        answers: HashMap<String, Vec<u8>>,
        change: impl Fn(&str, Answer) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&asked);
        let shared = Arc::new((answers, change));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (log, shared) = (Arc::clone(&log), Arc::clone(&shared));
                // A client that goes away is its own affair.
                thread::spawn(move || drop(serve(&stream.unwrap(), &log, &shared.0, &shared.1)));
            }
        });
        Self { address, asked }
    }

    /// From where each request for `path` wanted it.
    pub fn ranges(&self, path: &str) -> Vec<u64> {
        let asked = self.asked.lock().unwrap();
        asked.iter().filter(|(other, _)| other == path).map(|(_, from)| *from).collect()
    }
}

fn serve(
    stream: &TcpStream,
    log: &Mutex<Vec<(String, u64)>>,
    answers: &HashMap<String, Vec<u8>>,
    change: &impl Fn(&str, Answer) -> Answer,
) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream).lines();
    let first = lines.next().unwrap_or_else(|| Ok(String::new()))?;
    let mut from = 0;
    for line in lines {
        let line = line?.to_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(range) = line.strip_prefix("range: bytes=") {
            from = range.trim_end_matches('-').parse().unwrap();
        }
    }
    // A proxy is asked for a whole URL.
    let asked = first.split(' ').nth(1).unwrap_or("/");
    let path = asked.strip_prefix("http://").map_or(asked, |rest| &rest[rest.find('/').unwrap()..]);
    log.lock().unwrap().push((path.to_owned(), from));
    let answer = match answers.get(path) {
        Some(body) => Answer::Found(body[usize::try_from(from).unwrap().min(body.len())..].to_vec()),
        None => Answer::Status(404),
    };
    let mut to = stream;
    let mut head = |status: u16, length: usize| {
        write!(to, "HTTP/1.1 {status} X\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n")
    };
    let status = if from > 0 { 206 } else { 200 };
    match change(path, answer) {
        Answer::Found(body) => {
            head(status, body.len())?;
            to.write_all(&body)
        }
        Answer::Cut { body, after } => {
            head(status, body.len())?;
            to.write_all(&body[..after])
        }
        Answer::Endless => {
            write!(to, "HTTP/1.1 200 X\r\nConnection: close\r\n\r\n")?;
            loop {
                to.write_all(&[b' '; 65536])?;
            }
        }
        Answer::Status(status) => head(status, 0),
    }
}
