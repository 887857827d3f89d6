//! Numbers that nobody has, as the indexes that officers plant at the registry: whoever comes upon one was guessing.
//! Nothing of them is kept here.

use crate::import::today;
use crate::node::{Node, NodeError};
use crate::pseudonymise::{PseudonymError, outputs};
use crate::store::{StoreError, Table};
use protocol::evaluation::EvaluationPurpose;
use protocol::review::{Honeypots, MAX_HONEYPOTS};
use protocol::{Epoch, FileId, Index, Reason};
use pseudonym::{Input, Kind, Pesel, PeselError};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use zeroize::Zeroizing;

/// Numbers to plant.
#[derive(Deserialize, Serialize)]
pub struct HoneypotNumbers {
    /// PESEL numbers, 1 to [`MAX_HONEYPOTS`].
    pub numbers: Vec<Zeroizing<String>>,
    /// Under which key; the one in use if not said.
    pub epoch: Option<Epoch>,
}

/// Why there are no indexes. Says by its place which number is wrong, never the number.
#[derive(Debug, thiserror::Error)]
pub enum HoneypotError {
    /// The node is closed.
    #[error("the node is closed: {}", .0.code())]
    Closed(Reason),
    /// None, or more than a document may plant.
    #[error("give 1 to {MAX_HONEYPOTS} numbers, one a line")]
    Count,
    /// One is no PESEL.
    #[error("line {line}: {error}")]
    Number {
        /// Its line, from 1.
        line: usize,
        /// What is wrong.
        error: PeselError,
    },
    /// Somebody has it.
    #[error("line {0}: a client of this institution has this number")]
    OnFile(usize),
    /// No pseudonyms.
    #[error(transparent)]
    Pseudonym(#[from] PseudonymError),
    /// Store.
    #[error(transparent)]
    Node(#[from] NodeError),
}

impl HoneypotError {
    /// Stable code, as the command line and its exit status use it.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            HoneypotError::Closed(reason) => reason.code(),
            HoneypotError::Count => "value",
            HoneypotError::Number { error, .. } => error.code(),
            HoneypotError::OnFile(_) => "resident_on_file",
            HoneypotError::Pseudonym(error) => error.code(),
            HoneypotError::Node(error) => error.code(),
        }
    }
}

/// What the officers are to sign so that these numbers are planted.
pub(crate) async fn prepare(node: &Arc<Node>, asked: HoneypotNumbers) -> Result<Honeypots, HoneypotError> {
    let held = node.manifest().map_err(HoneypotError::Closed)?;
    let issued = node.now().map_err(HoneypotError::Closed)?;
    if asked.numbers.is_empty() || asked.numbers.len() > MAX_HONEYPOTS {
        return Err(HoneypotError::Count);
    }
    let current = || held.epoch(issued).map(|(epoch, _)| epoch.epoch);
    let epoch = asked.epoch.or_else(current).ok_or(PseudonymError::NoEpoch)?;
    let inputs = inputs(node, epoch, &asked.numbers)?;
    let outputs = outputs(node, &held, epoch, inputs, EvaluationPurpose::Lookup).await?;
    let mut plant: Vec<Index> = outputs.iter().map(|output| Index(output.index())).collect();
    // Which number an index is of stands nowhere.
    plant.sort_unstable_by_key(|index| index.0);
    Ok(Honeypots { realm: node.config.realm.clone(), issued, epoch, plant, remove: Vec::new() })
}

/// What the numbers' indexes are made of, if no client has any of them.
fn inputs(node: &Node, epoch: Epoch, numbers: &[Zeroizing<String>]) -> Result<Vec<Input>, HoneypotError> {
    let read = node.store.read().map_err(NodeError::from)?;
    let mut inputs = Vec::with_capacity(numbers.len());
    for (line, number) in (1..).zip(numbers) {
        let pesel = Pesel::parse(number, today(node)).map_err(|error| HoneypotError::Number { line, error })?;
        let link = node.store.identifier_link(crate::records::Kind::Pesel, pesel.as_str());
        if read.get::<FileId>(Table::LINKS, &link).map_err(NodeError::from)?.is_some() {
            return Err(HoneypotError::OnFile(line));
        }
        let input = crate::enrol::input(node, epoch, (Kind::Pesel, pesel.as_str()));
        inputs.push(input.ok_or(NodeError::from(StoreError::Shape("numbers")))?);
    }
    Ok(inputs)
}
