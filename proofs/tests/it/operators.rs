//! Every question the symbolic compiler can put is answered by the solver installed, the right way in both directions.
//! Debian's cvc5 is older than the one the compiler's authors name.

use cedar_policy::{Policy, PolicySet, RequestEnv, Schema};
use cedar_policy_symcc::solver::LocalSolver;
use cedar_policy_symcc::{CedarSymCompiler, CompiledPolicy, CompiledPolicySet};

const SCHEMA: &str = r#"
    entity User { level: Long, names: Set<String> };
    entity Doc enum ["a", "b"];
    action read appliesTo { principal: User, resource: Doc, context: { on: Bool } };
"#;
const ALL: &str = "permit (principal, action, resource);";
const NONE: &str = "forbid (principal, action, resource);";
const ON: &str = "permit (principal, action, resource) when { context.on };";
const OFF: &str = "permit (principal, action, resource) unless { context.on };";
const ON_AND_A: &str = r#"permit (principal, action, resource == Doc::"a") when { context.on };"#;
const ERRS: &str = "permit (principal, action, resource) when { principal.level + 1 > 0 };";
const NAMED: &str =
    r#"permit (principal, action, resource) when { principal.names.contains("x") && principal.names.isEmpty() };"#;

struct Asked {
    schema: Schema,
    kind: RequestEnv,
}

impl Asked {
    fn new() -> Self {
        let schema = Schema::from_cedarschema_str(SCHEMA).unwrap().0;
        let kind = schema.request_envs().next().unwrap();
        Asked { schema, kind }
    }

    fn one(&self, text: &str) -> CompiledPolicy {
        let policy: Policy = text.parse().unwrap();
        CompiledPolicy::compile(&policy, &self.kind, &self.schema).unwrap()
    }

    fn set(&self, text: &str) -> CompiledPolicySet {
        let policies: PolicySet = text.parse().unwrap();
        CompiledPolicySet::compile(&policies, &self.kind, &self.schema).unwrap()
    }
}

fn solver() -> CedarSymCompiler<LocalSolver> {
    CedarSymCompiler::new(LocalSolver::cvc5().unwrap()).unwrap()
}

/// A question about policies: whether it holds, asked plainly and with a counterexample.
macro_rules! answers {
    ($asked:ident, $make:ident, $plain:ident, $example:ident, holds($($yes:expr),+), fails($($no:expr),+)) => {{
        assert!(solver().$plain($(&$asked.$make($yes)),+).await.unwrap(), stringify!($plain));
        assert!(!solver().$plain($(&$asked.$make($no)),+).await.unwrap(), stringify!($plain));
        assert!(solver().$example($(&$asked.$make($yes)),+).await.unwrap().is_none(), stringify!($example));
        assert!(solver().$example($(&$asked.$make($no)),+).await.unwrap().is_some(), stringify!($example));
    }};
}

#[tokio::test]
async fn about_one_policy() {
    let a = Asked::new();
    answers!(a, one, check_never_errors_opt, check_never_errors_with_counterexample_opt, holds(ON), fails(ERRS));
    answers!(a, one, check_always_matches_opt, check_always_matches_with_counterexample_opt, holds(ALL), fails(ON));
    answers!(a, one, check_never_matches_opt, check_never_matches_with_counterexample_opt, holds(NAMED), fails(ON));
}

#[tokio::test]
async fn about_two_policies() {
    let a = Asked::new();
    answers!(
        a,
        one,
        check_matches_equivalent_opt,
        check_matches_equivalent_with_counterexample_opt,
        holds(ON, ON),
        fails(ON, OFF)
    );
    answers!(
        a,
        one,
        check_matches_implies_opt,
        check_matches_implies_with_counterexample_opt,
        holds(ON_AND_A, ON),
        fails(ON, ON_AND_A)
    );
    answers!(
        a,
        one,
        check_matches_disjoint_opt,
        check_matches_disjoint_with_counterexample_opt,
        holds(ON, OFF),
        fails(ON, ALL)
    );
}

#[tokio::test]
async fn about_sets_of_policies() {
    let a = Asked::new();
    let both = format!("{ON}\n{OFF}");
    answers!(
        a,
        set,
        check_always_allows_opt,
        check_always_allows_with_counterexample_opt,
        holds(both.as_str()),
        fails(ON)
    );
    answers!(a, set, check_always_denies_opt, check_always_denies_with_counterexample_opt, holds(NONE), fails(ON));
    answers!(
        a,
        set,
        check_implies_opt,
        check_implies_with_counterexample_opt,
        holds(ON_AND_A, ON),
        fails(ON, ON_AND_A)
    );
    answers!(
        a,
        set,
        check_equivalent_opt,
        check_equivalent_with_counterexample_opt,
        holds(both.as_str(), ALL),
        fails(ON, ALL)
    );
    answers!(a, set, check_disjoint_opt, check_disjoint_with_counterexample_opt, holds(ON, OFF), fails(ON, ALL));
}
