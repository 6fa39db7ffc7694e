//! Pause: the container stands still, and all that it wrote is in its root on the host.

use super::{Lent, VerbError};
use crate::{
    image::Moment,
    sandbox::control::Control,
    state::{Entry, Stage, StateError, Status},
};

/// Pauses the container of a locked entry, also one whose pause was killed.
///
/// # Errors
/// [`StateError::NotRunning`]; then, and whatever else fails, it runs as before.
pub fn pause(entry: &Entry) -> Result<(), VerbError> {
    let mut record = entry.record()?;
    if record.status() != Status::Running && record.stage != Stage::Pausing {
        return Err(StateError::NotRunning.into());
    }
    // Before it stands still: whoever is killed in between leaves one that is known to need a pause or a resume.
    record.stage = Stage::Pausing;
    entry.set_record(&record)?;
    let control = Control::of(entry.directory());
    if let Err(error) = stand_still(entry, &control) {
        // The first error is the one to tell.
        record.stage = Stage::Running;
        let _ = control.thaw();
        let _ = entry.set_record(&record);
        return Err(error);
    }
    record.stage = Stage::Paused;
    Ok(entry.set_record(&record)?)
}

/// Who pauses in order to look at the root (as a commit does) must see what was written.
fn stand_still(entry: &Entry, control: &Control) -> Result<(), VerbError> {
    control.freeze()?;
    // What came back in part comes so again at the end, which tells it.
    Lent::load(entry)?.map_or(Ok(None), |lent| lent.bring_back(Moment::Paused))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{os::unix::net::UnixListener, thread};

    use msb_agent::protocol;

    use super::*;
    use crate::{
        sandbox::control::{Answer, Question},
        state::{Id, Record, Store},
    };

    /// A pause of a container of that stage, whose sandbox answers so, and finds so what is kept while it is asked: how it went,
    /// what was asked and kept then, and what is kept in the end.
    fn paused(stage: Stage, answers: Vec<Answer>) -> (bool, Vec<(Question, Stage)>, Stage) {
        let root = tempfile::tempdir().unwrap();
        let (store, id): (_, Id) = (Store::new(root.path().into()), "one".parse().unwrap());
        let entry = store.reserve(&id).unwrap().keep();
        entry.set_record(&Record::sample(&id, stage)).unwrap();
        let listener = UnixListener::bind(entry.directory().join("control.sock")).unwrap();
        let sandbox = thread::spawn(move || {
            let asked = answers.into_iter().map(|answer| {
                let (mut stream, _) = listener.accept().unwrap();
                let question: Question = protocol::read_first(&mut stream).unwrap();
                let kept = store.look(&id).unwrap().record().unwrap().stage;
                protocol::write_first(&mut stream, &answer).unwrap();
                (question, kept)
            });
            asked.collect::<Vec<_>>()
        });
        let done = pause(&entry).is_ok();
        (done, sandbox.join().unwrap(), entry.record().unwrap().stage)
    }

    #[test]
    fn one_that_may_stand_still_is_known_as_such() {
        for stage in [Stage::Running, Stage::Pausing] {
            let (done, asked, kept) = paused(stage, vec![Answer::Done]);
            assert_eq!((done, kept), (true, Stage::Paused), "{stage:?}");
            assert_eq!(asked, [(Question::Freeze, Stage::Pausing)], "{stage:?}");
            let (done, asked, kept) = paused(stage, vec![Answer::Failed("no".into()), Answer::Done]);
            assert_eq!((done, kept), (false, Stage::Running), "{stage:?}");
            assert_eq!(asked[1].0, Question::Thaw, "{stage:?}");
        }
    }

    #[test]
    fn only_what_runs_is_paused() {
        for stage in [Stage::Created, Stage::Paused] {
            assert_eq!(paused(stage, Vec::new()), (false, Vec::new(), stage));
        }
    }
}
