//! The thread that writes: takes all who wait, writes them as one batch, syncs once, answers them all.

use std::{error::Error, sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, oneshot, watch},
    time::timeout,
};

use crate::{
    entry::{Draft, Sealer},
    fault::{AppendError, Fault},
    log::Receipt,
    note::{Checkpoint, Signer},
    store::Store,
};

/// How many requests may wait; a full batch of the largest entries takes 16 MiB.
pub(crate) const QUEUE: usize = 256;

/// How often the writer looks, with nothing to write, whether a checkpoint is due or a failed disk is back.
const TICK: Duration = Duration::from_secs(1);

/// What the writer is asked for.
pub(crate) enum Request {
    /// Append an entry.
    Append(Draft, Answer<Receipt>),
    /// Sign everything acknowledged.
    Checkpoint(Answer<Checkpoint>),
}

/// Where an answer goes.
pub(crate) type Answer<T> = oneshot::Sender<Result<T, AppendError>>;

/// What everybody may know of the log.
#[derive(Clone, Default)]
pub(crate) struct State {
    /// Acknowledged entries.
    pub(crate) size: u64,
    /// Why the last attempt to write failed.
    pub(crate) fault: Option<String>,
}

pub(crate) struct Writer {
    store: Store,
    signer: Signer,
    sealer: Arc<Sealer>,
    now: Box<dyn Fn() -> i64 + Send>,
    /// The newest checkpoint's size, and the second in which it was signed.
    covered: u64,
    covered_at: i64,
    state: watch::Sender<State>,
}

impl Writer {
    /// Takes over an opened store; everything in it is under a checkpoint when this returns.
    pub(crate) fn new(
        (store, checkpoint): (Store, Checkpoint),
        signer: Signer,
        sealer: Arc<Sealer>,
        now: Box<dyn Fn() -> i64 + Send>,
    ) -> Result<Self, Fault> {
        let state = watch::Sender::new(State { size: store.tree().size(), fault: None });
        let (covered, covered_at) = (checkpoint.size(), now());
        let mut writer = Self { store, signer, sealer, now, covered, covered_at, state };
        if writer.unsigned() {
            writer.sign()?;
        }
        Ok(writer)
    }

    pub(crate) fn state(&self) -> watch::Receiver<State> {
        self.state.subscribe()
    }

    /// Serves until all senders are gone, then signs what is not signed yet.
    pub(crate) async fn run(mut self, mut queue: mpsc::Receiver<Request>) {
        let mut requests = Vec::with_capacity(QUEUE);
        loop {
            let room = usize::try_from(self.store.room()).unwrap_or(QUEUE).min(QUEUE);
            let closed = timeout(TICK, queue.recv_many(&mut requests, room)).await == Ok(0);
            self.serve(requests.drain(..));
            let due = closed || (self.now)() != self.covered_at;
            if self.failed() || due && self.unsigned() {
                // A failure is in the state, and the next turn tries again.
                let _ = self.attempt(Self::sign);
            }
            if closed {
                return;
            }
        }
    }

    fn serve(&mut self, requests: impl Iterator<Item = Request>) {
        let (mut drafts, mut receipts, mut checkpoints) = (Vec::new(), Vec::new(), Vec::new());
        for request in requests {
            match request {
                Request::Append(draft, answer) => {
                    drafts.push(draft);
                    receipts.push(answer);
                }
                Request::Checkpoint(answer) => checkpoints.push(answer),
            }
        }
        if !drafts.is_empty() {
            let first = self.store.tree().size();
            let outcome = self.attempt(|writer| writer.append(&drafts));
            for ((index, draft), answer) in (first..).zip(drafts).zip(receipts) {
                // Whoever stopped waiting has their entry all the same.
                let _ = answer.send(outcome.clone().map(|()| Receipt::new(&self.sealer, index, draft.entry)));
            }
        }
        if !checkpoints.is_empty() {
            let outcome = self.attempt(Self::sign);
            for answer in checkpoints {
                let _ = answer.send(outcome.clone());
            }
        }
    }

    fn append(&mut self, drafts: &[Draft]) -> Result<(), Fault> {
        let seal = |(index, draft): (u64, &Draft)| Ok((draft.entry, self.sealer.seal(index, draft)?));
        let sealed: Result<Vec<_>, _> = (self.store.tree().size()..).zip(drafts).map(seal).collect();
        self.store.append(&sealed.map_err(Fault::io("payload"))?)
    }

    fn sign(&mut self) -> Result<Checkpoint, Fault> {
        let tree = self.store.tree();
        let checkpoint = Checkpoint::sign(&self.signer, tree.size(), tree.root());
        self.store.sign(&checkpoint)?;
        (self.covered, self.covered_at) = (checkpoint.size(), (self.now)());
        Ok(checkpoint)
    }

    fn unsigned(&self) -> bool {
        self.store.tree().size() != self.covered
    }

    fn failed(&self) -> bool {
        self.state.borrow().fault.is_some()
    }

    /// Does `work`, after repairing what a failure before it left. The log is healthy when the last attempt succeeded.
    fn attempt<T>(&mut self, work: impl FnOnce(&mut Self) -> Result<T, Fault>) -> Result<T, AppendError> {
        let ready = if self.failed() { self.store.repair() } else { Ok(()) };
        let outcome = ready.and_then(|()| work(self)).map_err(|fault| reason(&fault));
        let fault = outcome.as_ref().err().cloned();
        match &fault {
            Some(reason) if !self.failed() => tracing::error!(reason, "the audit log cannot be written"),
            None if self.failed() => tracing::info!("the audit log can be written again"),
            _ => {}
        }
        self.state.send_replace(State { size: self.store.tree().size(), fault });
        outcome.map_err(|reason| AppendError::Unwritable { reason })
    }
}

/// An error with its causes, on one line.
fn reason(error: &dyn Error) -> String {
    let causes = error.source().map(reason);
    [error.to_string()].into_iter().chain(causes).collect::<Vec<_>>().join(": ")
}
