//! The other side of a witness: a log that asks for a cosignature.

use crate::{
    fault::Fault,
    log::Log,
    note::{Checkpoint, NoteError, Vkey},
    witness::AddCheckpoint,
};

/// One checkpoint on its way to one witness: [`Self::body`], POST it to `add-checkpoint`, [`Self::answer`]; once more
/// when it says so.
#[derive(Clone, Debug)]
pub struct Submission {
    checkpoint: Checkpoint,
    witness: Vkey,
    old: u64,
    retried: bool,
}

/// What a witness's answer comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Cosigned, at this time of the witness's clock; the lines are for [`Checkpoint::add_cosignature`].
    Cosigned {
        /// Signature lines.
        lines: String,
        /// Seconds since 1970.
        time: u64,
    },
    /// The witness knows another size: POST [`Submission::body`] again.
    Again,
}

/// Why there is no cosignature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// The witness has cosigned a larger tree than this one: the log was rolled back, or somebody else signs as it.
    #[error("the witness has cosigned {known} entries, more than there are")]
    Ahead {
        /// The size the witness knows.
        known: u64,
    },
    /// The witness cosigned another tree of this size: fetch its newest checkpoint and [`Log::hold_against`] it.
    #[error("the witness has cosigned another tree")]
    Fork,
    /// The answer carries no valid cosignature of this witness.
    #[error("the witness's answer is not a cosignature: {0}")]
    Answer(NoteError),
    /// Refused, with a status that another request does not change.
    #[error("the witness refused with status {status}")]
    Refused {
        /// The HTTP status.
        status: u16,
    },
}

impl Submission {
    /// Submits `checkpoint`, one of the log's own, to `witness`, which is believed to have cosigned `old` entries (0
    /// when that is not known).
    #[must_use]
    pub fn new(checkpoint: Checkpoint, witness: Vkey, old: u64) -> Self {
        let old = old.min(checkpoint.size());
        Self { checkpoint, witness, old, retried: false }
    }

    /// The body of the POST. Blocks: it reads tiles.
    ///
    /// # Errors
    /// [`Fault::Tile`] or [`Fault::Io`].
    pub fn body(&self, log: &Log) -> Result<Vec<u8>, Fault> {
        let size = self.checkpoint.size();
        let proof = log.prove_consistency(self.old, size)?.ok_or(Fault::Shorter { size: log.size(), signed: size })?;
        Ok(AddCheckpoint { old: self.old, proof, checkpoint: self.checkpoint.note().to_owned() }.body())
    }

    /// What the witness's answer comes to.
    ///
    /// # Errors
    /// A [`SubmitError`].
    pub fn answer(&mut self, status: u16, body: &[u8]) -> Result<Step, SubmitError> {
        match status {
            200 => {
                let lines = str::from_utf8(body).map_err(|_| SubmitError::Answer(NoteError::Form))?;
                let mut cosigned = self.checkpoint.clone();
                let time = cosigned.add_cosignature(lines, &self.witness).map_err(SubmitError::Answer)?;
                Ok(Step::Cosigned { lines: lines.to_owned(), time })
            }
            409 => {
                let known = str::from_utf8(body).ok().and_then(|body| body.strip_suffix('\n')?.parse::<u64>().ok());
                match known.unwrap_or(self.old) {
                    known if known > self.checkpoint.size() => Err(SubmitError::Ahead { known }),
                    known if known == self.old && known == self.checkpoint.size() => Err(SubmitError::Fork),
                    known if known != self.old && !self.retried => {
                        (self.old, self.retried) = (known, true);
                        Ok(Step::Again)
                    }
                    _ => Err(SubmitError::Refused { status }),
                }
            }
            status => Err(SubmitError::Refused { status }),
        }
    }
}
