//! How far a pull or a load is, on stderr where that is a terminal: a line for each layer.

use std::{
    collections::BTreeMap,
    io::{self, IsTerminal, Write},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use msb::image::{Event, Progress, Stage};

use crate::format;

/// Between two drawings.
const PAUSE: Duration = Duration::from_millis(100);
/// Of a bar.
const WIDTH: u64 = 30;

/// Lines that are drawn again and again.
#[derive(Debug)]
pub struct Bars {
    seen: bool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Of an archive.
    read: Option<u64>,
    layers: BTreeMap<String, Layer>,
    order: Vec<String>,
    drawn: usize,
    last: Option<Instant>,
}

#[derive(Debug)]
struct Layer {
    stage: Stage,
    done: u64,
    total: u64,
}

impl Bars {
    /// Where stderr is; nothing where that is no terminal.
    pub fn new() -> Self {
        Self { seen: io::stderr().is_terminal(), state: Mutex::default() }
    }
}

impl Progress for Bars {
    fn event(&self, event: Event<'_>) {
        if !self.seen {
            return;
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Resolving { reference } => {
                eprintln!("Looking for {}", msb_runtime::plain::line(reference))
            }
            Event::Reading { done } => {
                state.read = Some(done);
                if state.last.is_none_or(|last| last.elapsed() > PAUSE) {
                    state.draw();
                }
            }
            Event::Layer { digest, stage, done, total } => {
                let name = digest.short();
                let news = state.layers.get(&name).is_none_or(|layer| layer.stage != stage);
                if !state.layers.contains_key(&name) {
                    state.order.push(name.clone());
                }
                state.layers.insert(name, Layer { stage, done, total });
                if news || state.last.is_none_or(|last| last.elapsed() > PAUSE) {
                    state.draw();
                }
            }
        }
    }
}

impl State {
    fn lines(&self) -> Vec<String> {
        let archive = self.read.map(|done| format!("archive  {} read", format::size(done)));
        let layers = self.order.iter().filter_map(|name| Some(line(name, self.layers.get(name)?)));
        archive.into_iter().chain(layers).collect()
    }

    /// Over what was drawn before (ECMA-48: cursor up, erase line).
    fn draw(&mut self) {
        let mut text = String::new();
        if self.drawn > 0 {
            text.push_str(&format!("\x1b[{}A", self.drawn));
        }
        let lines = self.lines();
        lines.iter().for_each(|line| text.push_str(&format!("\x1b[2K{line}\n")));
        self.drawn = lines.len();
        self.last = Some(Instant::now());
        // There is nowhere else to show it.
        let _ = io::stderr().write_all(text.as_bytes());
    }
}

fn line(name: &str, Layer { stage, done, total }: &Layer) -> String {
    let word = match stage {
        Stage::Here => return format!("{name}  here already"),
        Stage::Unpacked => return format!("{name}  done"),
        Stage::Downloaded => return format!("{name}  downloaded"),
        Stage::Downloading => "downloading",
        Stage::Unpacking => "unpacking",
    };
    let filled = (done * WIDTH).checked_div(*total).unwrap_or(0).min(WIDTH);
    let (full, rest) = ("=".repeat(usize::try_from(filled).unwrap_or(0)), WIDTH - filled);
    let empty = " ".repeat(usize::try_from(rest).unwrap_or(0));
    format!("{name}  {word:<11} [{full}{empty}] {} of {}", format::size(*done), format::size(*total))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_as_full_as_its_layer() {
        let layer = Layer { stage: Stage::Downloading, done: 512, total: 1024 };
        assert_eq!(
            line("abc", &layer),
            format!("abc  downloading [{}{}] 512 B of 1.0 KiB", "=".repeat(15), " ".repeat(15))
        );
        let mut state = State { read: Some(3 << 20), ..State::default() };
        assert_eq!(
            state.lines(),
            ["archive  3.0 MiB read"],
            "an archive is read before its layers are known"
        );
        state.order.push("abc".into());
        state.layers.insert("abc".into(), layer);
        assert_eq!(state.lines().len(), 2);
        let empty = Layer { stage: Stage::Unpacking, done: 7, total: 0 };
        assert!(line("abc", &empty).contains("[ "));
    }
}
