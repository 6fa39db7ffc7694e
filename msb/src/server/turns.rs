//! Who changes a sandbox: one at a time. A start, a stop, a removal and a change of name each take many steps, and none of
//! them may see another's half of it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::{Mutex as Waited, OwnedMutexGuard};

use crate::sandbox::Key;

type Places = HashMap<Key, Arc<Waited<()>>>;

/// Of all sandboxes that somebody changes, or waits to.
#[derive(Default)]
pub(crate) struct Turns(Arc<Mutex<Places>>);

/// As long as it is there, nobody else changes the sandbox.
pub(crate) struct Turn {
    key: Key,
    held: Option<OwnedMutexGuard<()>>,
    all: Arc<Mutex<Places>>,
}

impl Turns {
    /// Waits until nobody else changes it.
    pub(crate) async fn of(&self, key: &Key) -> Turn {
        let place = Arc::clone(locked(&self.0).entry(key.clone()).or_default());
        let held = Some(place.lock_owned().await);
        Turn { key: key.clone(), held, all: Arc::clone(&self.0) }
    }

    /// The same of two, whichever is named first.
    pub(crate) async fn of_both(&self, one: &Key, other: &Key) -> (Turn, Option<Turn>) {
        let (first, second) = if one <= other { (one, other) } else { (other, one) };
        let turn = self.of(first).await;
        (turn, if first == second { None } else { Some(self.of(second).await) })
    }

    /// Those that are changed just now.
    pub(crate) fn taken(&self) -> Vec<Key> {
        locked(&self.0).keys().cloned().collect()
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut all = locked(&self.all);
        self.held = None;
        // One that waits has it as well; who gave up waiting has left it to the next one who is done.
        if all.get(&self.key).is_some_and(|place| Arc::strong_count(place) == 1) {
            all.remove(&self.key);
        }
    }
}

fn locked(all: &Mutex<Places>) -> std::sync::MutexGuard<'_, Places> {
    all.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn one_at_a_time_and_nothing_is_left() {
        let key = |name: &str| Key::of(name.parse().unwrap());
        let (a, b) = (key("a"), key("b"));
        let turns = Turns::default();
        let turn = turns.of(&a).await;
        let short = Duration::from_millis(20);
        assert!(tokio::time::timeout(short, turns.of(&a)).await.is_err(), "it is taken");
        assert!(tokio::time::timeout(short, turns.of_both(&b, &a)).await.is_err(), "one of them is taken");
        let other = tokio::time::timeout(short, turns.of(&b)).await.unwrap();
        drop(other);
        drop(turn);
        let both = tokio::time::timeout(short, turns.of_both(&b, &a)).await.unwrap();
        assert_eq!(turns.taken().len(), 2);
        drop(both);
        drop(turns.of_both(&a, &a).await);
        assert!(turns.taken().is_empty());
    }
}
