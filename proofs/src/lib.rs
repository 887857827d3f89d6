//! Proofs about Cedar policies: what holds for every request and every set of entities the schema allows, not for the
//! examples somebody thought of.
//!
//! `cedar-policy-symcc` compiles policies to SMT, the solver `cvc5` answers. No part of the program uses this crate: its
//! tests are the proof step of `./check`.

use cedar_policy::{PolicySet, RequestEnv, Schema};
use cedar_policy_symcc::solver::LocalSolver;
use cedar_policy_symcc::{CedarSymCompiler, CompiledPolicySet, Env};
use std::fmt;

/// How long cvc5 may think about one question, in milliseconds.
const LIMIT: &str = "--tlimit=60000";

/// Asks the solver about policies of one schema.
pub struct Prover {
    runtime: tokio::runtime::Runtime,
    schema: Schema,
}

/// A request, with entities, for which something does not hold.
#[derive(Clone, Debug)]
pub struct Counterexample(String);

impl fmt::Display for Counterexample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a question was not answered.
#[derive(Debug, thiserror::Error)]
pub enum ProofError {
    /// No runtime to talk to the solver on.
    #[error("cannot start: {0}")]
    Runtime(#[from] std::io::Error),
    /// The schema is not one.
    #[error("the schema does not parse: {0}")]
    Schema(String),
    /// cvc5 is missing.
    #[error("cvc5 cannot be run (Debian: apt-get install cvc5): {0}")]
    Solver(String),
    /// The policies could not be compiled, or the solver had no answer.
    #[error("{0}")]
    Unanswered(String),
}

impl Prover {
    /// A prover for `schema`.
    ///
    /// # Errors
    /// [`ProofError::Schema`] or [`ProofError::Runtime`].
    pub fn new(schema: &str) -> Result<Self, ProofError> {
        let (schema, _warnings) =
            Schema::from_cedarschema_str(schema).map_err(|e| ProofError::Schema(e.to_string()))?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(Prover { runtime, schema })
    }

    /// A request that both `left` and `right` permit, if there is one.
    ///
    /// # Errors
    /// [`ProofError`]; no answer is never taken for "none".
    pub fn permitted_by_both(&self, left: &PolicySet, right: &PolicySet) -> Result<Option<Counterexample>, ProofError> {
        self.search(left, right, &async |compiler, left, right| {
            compiler.check_disjoint_with_counterexample_opt(left, right).await
        })
    }

    /// A request that `narrow` permits and `wide` does not, if there is one.
    ///
    /// # Errors
    /// As [`Prover::permitted_by_both`].
    pub fn permitted_beyond(&self, narrow: &PolicySet, wide: &PolicySet) -> Result<Option<Counterexample>, ProofError> {
        self.search(narrow, wide, &async |compiler, narrow, wide| {
            compiler.check_implies_with_counterexample_opt(narrow, wide).await
        })
    }

    /// A request on which some policy of `policies` does not evaluate, if there is one.
    ///
    /// # Errors
    /// As [`Prover::permitted_by_both`].
    pub fn erring(&self, policies: &PolicySet) -> Result<Option<Counterexample>, ProofError> {
        for policy in policies.policies() {
            for kind in self.schema.request_envs() {
                let compiled = cedar_policy_symcc::CompiledPolicy::compile(policy, &kind, &self.schema);
                let compiled = compiled.map_err(unanswered)?;
                let found = self.runtime.block_on(async {
                    solver()?.check_never_errors_with_counterexample_opt(&compiled).await.map_err(unanswered)
                })?;
                if let Some(found) = found {
                    return Ok(Some(shown(&kind, &found)));
                }
            }
        }
        Ok(None)
    }

    /// Puts `question` about each kind of request the schema has, until one has a counterexample.
    fn search(
        &self,
        left: &PolicySet,
        right: &PolicySet,
        question: &impl AsyncFn(
            &mut CedarSymCompiler<LocalSolver>,
            &CompiledPolicySet,
            &CompiledPolicySet,
        ) -> cedar_policy_symcc::err::Result<Option<Env>>,
    ) -> Result<Option<Counterexample>, ProofError> {
        for kind in self.schema.request_envs() {
            let compile = |policies| CompiledPolicySet::compile(policies, &kind, &self.schema).map_err(unanswered);
            let (left, right) = (compile(left)?, compile(right)?);
            let found =
                self.runtime.block_on(async { question(&mut solver()?, &left, &right).await.map_err(unanswered) })?;
            if let Some(found) = found {
                return Ok(Some(shown(&kind, &found)));
            }
        }
        Ok(None)
    }
}

/// A solver of its own for every question, so that none can disturb another.
fn solver() -> Result<CedarSymCompiler<LocalSolver>, ProofError> {
    let solver = LocalSolver::cvc5_with_args([LIMIT]).map_err(|e| ProofError::Solver(causes(&e)))?;
    CedarSymCompiler::new(solver).map_err(unanswered)
}

#[expect(clippy::needless_pass_by_value, reason = "it is what `map_err` gives")]
fn unanswered(error: cedar_policy_symcc::err::Error) -> ProofError {
    ProofError::Unanswered(causes(&error))
}

fn shown(kind: &RequestEnv, found: &Env) -> Counterexample {
    Counterexample(format!("{}: {found}", kind.action()))
}

fn causes(error: &dyn std::error::Error) -> String {
    let inner = error.source().map(|source| format!(": {}", causes(source)));
    format!("{error}{}", inner.unwrap_or_default())
}
