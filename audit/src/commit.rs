//! Group commit: who comes while a batch is being written waits for the next one, and one `fdatasync` serves them all.
//!
//! One at a time *leads*: takes all who wait, writes them, syncs, answers them. A thread that appends and finds nobody
//! leading leads itself, so that alone it waits for nothing but the disk; an async task must not block and calls the
//! log's own thread to lead. Leading ends when nobody waits.

use std::{
    error::Error,
    sync::{
        Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use tokio::sync::oneshot;

use crate::{
    entry::Draft,
    fault::{AppendError, Fault},
    store::Store,
    tree::Hash,
};

/// Where an answer goes: the entry's index and hash.
pub(crate) type Answer = oneshot::Sender<Result<(u64, Hash), AppendError>>;

/// How many batches a caller commits before the log's own thread takes over, who would have to be woken for it.
const TURNS: usize = 16;

/// Locks; what a panic left behind is still whole, because whoever leads answers for it (see [`Leading`]).
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The appending half of a log.
pub(crate) struct Commit {
    queue: Mutex<Queue>,
    /// Tells the log's thread to lead, or to stop.
    called: Condvar,
    pub(crate) store: Mutex<Store>,
    size: AtomicU64,
    last_batch: AtomicU64,
    faults: Mutex<Faults>,
}

#[derive(Default)]
struct Queue {
    waiting: Vec<(Draft, Answer)>,
    /// Somebody leads.
    led: bool,
    /// The thread is the one who is to.
    call: bool,
    closed: bool,
}

#[derive(Default)]
struct Faults {
    append: Option<String>,
    publish: Option<String>,
    /// The log is not the one that was cosigned; nothing heals this.
    refuted: Option<String>,
}

/// Whoever holds this leads; should they panic, all who wait are refused, now and later.
struct Leading<'a>(&'a Commit);

impl Drop for Leading<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            let mut queue = lock(&self.0.queue);
            queue.closed = true;
            queue.waiting.clear();
        }
    }
}

impl Commit {
    pub(crate) fn new(store: Store) -> Self {
        Self {
            queue: Mutex::default(),
            called: Condvar::new(),
            size: store.tree().size().into(),
            store: Mutex::new(store),
            last_batch: 0.into(),
            faults: Mutex::default(),
        }
    }

    /// Queues an entry; whether the caller has to lead.
    pub(crate) fn enqueue(&self, draft: Draft, answer: Answer) -> Result<bool, AppendError> {
        let mut queue = lock(&self.queue);
        if queue.closed {
            return Err(AppendError::Closed);
        }
        queue.waiting.push((draft, answer));
        Ok(!std::mem::replace(&mut queue.led, true))
    }

    /// Has the log's thread lead.
    pub(crate) fn call(&self) {
        lock(&self.queue).call = true;
        self.called.notify_one();
    }

    /// Leads: the first batch has the caller's own entry, and a few more follow while others keep coming; it is the
    /// thread's turn then.
    pub(crate) fn lead(&self) {
        let _leading = Leading(self);
        for _ in 0..TURNS {
            self.commit();
            let mut queue = lock(&self.queue);
            if queue.waiting.is_empty() {
                queue.led = false;
                return;
            }
        }
        self.call();
    }

    /// The thread: leads when called, until the log closes.
    pub(crate) fn run(&self) {
        let _leading = Leading(self);
        loop {
            let mut queue = lock(&self.queue);
            while !queue.call && !queue.closed {
                queue = self.called.wait(queue).unwrap_or_else(PoisonError::into_inner);
            }
            if !queue.call {
                return;
            }
            queue.call = false;
            while !queue.waiting.is_empty() {
                drop(queue);
                self.commit();
                queue = lock(&self.queue);
            }
            queue.led = false;
        }
    }

    /// Takes nobody any more; who waits is still served.
    pub(crate) fn close(&self) {
        lock(&self.queue).closed = true;
        self.called.notify_all();
    }

    fn commit(&self) {
        self.gather();
        let mut store = lock(&self.store);
        let batch = {
            let mut queue = lock(&self.queue);
            let room = usize::try_from(store.room()).unwrap_or(usize::MAX).min(queue.waiting.len());
            let later = queue.waiting.split_off(room);
            std::mem::replace(&mut queue.waiting, later)
        };
        self.last_batch.store(batch.len() as u64, Ordering::Relaxed);
        let (drafts, answers): (Vec<_>, Vec<_>) = batch.into_iter().unzip();
        let first = store.tree().size();
        let outcome = self.allowed().and_then(|()| {
            let outcome = store.append(&drafts).map_err(|fault| reason(&fault));
            self.note(|faults| &mut faults.append, outcome.as_ref().err());
            outcome.map_err(|reason| AppendError::Unwritable { reason })
        });
        self.size.store(store.tree().size(), Ordering::Release);
        drop(store);
        for ((index, draft), answer) in (first..).zip(drafts).zip(answers) {
            // Whoever stopped waiting has their entry all the same.
            let _ = answer.send(outcome.clone().map(|()| (index, draft.entry)));
        }
    }

    /// Where many appended a moment ago, lets those who are about to join: as long as giving up the processor brings
    /// more of them.
    fn gather(&self) {
        if self.last_batch.load(Ordering::Relaxed) < 2 {
            return;
        }
        let (mut before, mut waiting) = (0, lock(&self.queue).waiting.len());
        while waiting > before {
            thread::yield_now();
            (before, waiting) = (waiting, lock(&self.queue).waiting.len());
        }
    }

    /// What cannot be published is not taken, even where the records have room: nobody could witness it.
    fn allowed(&self) -> Result<(), AppendError> {
        self.unrefuted()?;
        lock(&self.faults).publish.clone().map_or(Ok(()), |reason| Err(AppendError::Unwritable { reason }))
    }

    /// Refuses once the log is not the one that was cosigned.
    pub(crate) fn unrefuted(&self) -> Result<(), AppendError> {
        lock(&self.faults).refuted.clone().map_or(Ok(()), |reason| Err(AppendError::Unwritable { reason }))
    }

    /// The number of acknowledged entries.
    pub(crate) fn size(&self) -> u64 {
        self.size.load(Ordering::Acquire)
    }

    /// Why nothing can be written, if so.
    pub(crate) fn fault(&self) -> Option<AppendError> {
        let faults = lock(&self.faults);
        let reason = faults.refuted.as_ref().or(faults.append.as_ref()).or(faults.publish.as_ref()).cloned();
        drop(faults);
        let closed = || lock(&self.queue).closed.then_some(AppendError::Closed);
        reason.map(|reason| AppendError::Unwritable { reason }).or_else(closed)
    }

    /// Takes note of how publishing went.
    pub(crate) fn published(&self, outcome: Result<(), &Fault>) {
        self.note(|faults| &mut faults.publish, outcome.err().map(|fault| reason(fault)).as_ref());
    }

    /// Refuses everything from now on.
    pub(crate) fn refute(&self, fault: &Fault) {
        self.note(|faults| &mut faults.refuted, Some(&reason(fault)));
    }

    /// Tries to put a failed store right, with nothing to append.
    pub(crate) fn heal(&self) {
        let mut store = lock(&self.store);
        if store.failed() {
            let outcome = store.repair().map_err(|fault| reason(&fault));
            self.note(|faults| &mut faults.append, outcome.as_ref().err());
        }
    }

    fn note(&self, of: impl Fn(&mut Faults) -> &mut Option<String>, fault: Option<&String>) {
        let mut faults = lock(&self.faults);
        let before = of(&mut faults);
        match fault {
            Some(reason) if before.is_none() => tracing::error!(reason, "the audit log cannot be written"),
            None if before.is_some() => tracing::info!("the audit log can be written again"),
            _ => {}
        }
        *before = fault.cloned();
    }
}

/// An error with its causes, on one line.
pub(crate) fn reason(error: &dyn Error) -> String {
    let causes = error.source().map(reason);
    [error.to_string()].into_iter().chain(causes).collect::<Vec<_>>().join(": ")
}
