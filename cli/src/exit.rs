//! Exit codes and what a failure says. Documented in docs/OPERATE.md; scripts rely on them.

use protocol::Reason;
use std::fmt;
use std::process::ExitCode;

/// Why a command failed: a stable code, a sentence, what to do next.
#[derive(Debug)]
pub struct Failure {
    /// Stable `snake_case` code; decides the exit code.
    pub code: String,
    /// What happened.
    pub message: String,
    /// What a node tells the person: what was missing and what to do next, in Polish and English.
    pub said: Option<protocol::saying::Message>,
}

impl Failure {
    /// A failure with its code.
    pub fn new(code: &str, message: impl fmt::Display) -> Self {
        Failure { code: code.to_owned(), message: message.to_string(), said: None }
    }

    /// The exit code of this failure.
    #[must_use]
    pub fn exit(&self) -> Exit {
        Exit::of(&self.code)
    }

    /// What to do next.
    #[must_use]
    pub fn next_step(&self) -> &'static str {
        match self.code.as_str() {
            "exists" | "authority_exists" => "choose another place, or move away what is there if it is not needed",
            "authority_missing" => "name the authority's directory with --dir, or make one with `ogniwo certs init`",
            "authority_in_use" => "wait until the other command has ended",
            "authority_damaged" => "restore the authority's directory from its backup",
            "certificate_unknown" => "see `ogniwo certs show` for what there is",
            "nothing_to_renew" => "check who asks, then `ogniwo certs sign`",
            code if code.starts_with("csr_") => "have the request made by the member: `ogniwo node init`, or `renew`",
            "no_directory" => "make the directory and try again; nothing was done",
            "store_failed" => {
                "see that the disk has room, or that the database runs and can be reached; what was acknowledged is kept"
            }
            "share_damaged" => {
                "restore it from the backup, or move it away and have new shares dealt (`ogniwo node keyholder invite`)"
            }
            "no_key_epoch" => {
                "`ogniwo node refresh` fetches a newer manifest; `ogniwo node keyholder status` says how far a ceremony is"
            }
            "config" | "tokens" => Exit::Config.next_step(),
            "salt_missing" => {
                "restore the file from the backup; where nothing was made yet, run `init`. Nothing was changed"
            }
            "policies" => "correct the library or the policies and try `ogniwo policy check`",
            "logs_disagree" => "look at each with `ogniwo audit review`; nothing was changed",
            "resident_unknown" => "check the number; that it was looked for is in the log",
            "consent_unknown" => {
                "compare the id with the receipt; was it recorded elsewhere? withdraw it with --elsewhere"
            }
            "finding_unknown" | "unknown" => "check the id against what is listed",
            "role_not_allowed" => "use the token of somebody who has the role",
            "node_closed" => "`ogniwo node status` says why; put that right, then `ogniwo node refresh`",
            "confirmation_missing" => "give a second officer's token with --confirm-token-file",
            _ if self.exit() == Exit::Config => "correct what was given and try again; nothing was done",
            _ => self.exit().next_step(),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

macro_rules! failures {
    ($($error:ty),+) => { $(
        impl From<$error> for Failure {
            fn from(error: $error) -> Self {
                Failure::new(error.code(), chain(&error))
            }
        }
    )+ };
}
failures!(
    node::NodeError,
    node::ImportError,
    node::EnrolError,
    node::SharedError,
    node::RefreshError,
    node::CeremonyError,
    node::AgreeError,
    node::ContinueError,
    certs::AuthorityError
);

impl From<node::ConfigError> for Failure {
    fn from(error: node::ConfigError) -> Self {
        Failure::new("config", chain(&error))
    }
}

impl From<registry::ConfigError> for Failure {
    fn from(error: registry::ConfigError) -> Self {
        Failure::new("config", chain(&error))
    }
}

impl From<registry::OpenError> for Failure {
    fn from(error: registry::OpenError) -> Self {
        use registry::OpenError;
        let code = match &error {
            OpenError::Secrets(keyring::StorageKeyError::NoSalt(_)) => "salt_missing",
            OpenError::Secrets(_) => "storage_key",
            OpenError::Keys(_) | OpenError::WrongPepper | OpenError::Damaged(_) => "wrong_key",
            OpenError::Log { source: audit::Fault::Locked { .. }, .. } | OpenError::Initialised(_) => "in_use",
            OpenError::HalfMigrated(_) => "exists",
            OpenError::Index { .. } => "store_failed",
            OpenError::Log { source: audit::Fault::Shorter { .. } | audit::Fault::Rewritten { .. }, .. } => {
                "log_rolled_back"
            }
            OpenError::Log { .. } => "log_unavailable",
            OpenError::Identity(_) | OpenError::Trust(_) | OpenError::OtherMember { .. } => "certificate",
            OpenError::Read { .. } | OpenError::Write { .. } => "file",
        };
        Failure::new(code, chain(&error))
    }
}

impl From<registry::ContinueError> for Failure {
    fn from(error: registry::ContinueError) -> Self {
        match (error.code(), error) {
            (_, registry::ContinueError::Open(error)) => error.into(),
            (code, error) => Failure::new(code.unwrap_or("internal"), chain(&error)),
        }
    }
}

impl From<registry::MigrateError> for Failure {
    fn from(error: registry::MigrateError) -> Self {
        use registry::MigrateError;
        let code = match error {
            MigrateError::Open(error) => return error.into(),
            MigrateError::Same | MigrateError::NoSource(_) => "value",
            MigrateError::Served(_) => "in_use",
            MigrateError::NotEmpty(_) | MigrateError::OtherMigration(_) => "exists",
            MigrateError::Store(_) => "store_failed",
            MigrateError::Progress { .. } => "file",
            MigrateError::Unverified { .. } | MigrateError::OtherRest(_) => "verification_failed",
        };
        Failure::new(code, chain(&error))
    }
}

impl From<keyring::StorageKeyError> for Failure {
    fn from(error: keyring::StorageKeyError) -> Self {
        Failure::new("storage_key", chain(&error))
    }
}

impl From<protocol::manifest::ManifestError> for Failure {
    fn from(error: protocol::manifest::ManifestError) -> Self {
        Failure::new("manifest_refused", chain(&error))
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Failure::new("system", error)
    }
}

/// An error with its causes, which its own `Display` does not repeat.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let more = inner.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = inner.source();
    }
    text
}

/// How the program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// 1: something unexpected.
    Unexpected,
    /// 3: configuration.
    Config,
    /// 4: a key or passphrase is missing or wrong.
    Key,
    /// 5: the mapping or the extract as a whole is refused.
    Extract,
    /// 6: the address is in use.
    AddressInUse,
    /// 7: the manifest is refused or expired.
    Manifest,
    /// 8: the registry is out of reach.
    Registry,
    /// 9: key holders or a peer are out of reach, or the node is closed.
    Unavailable,
    /// 10: the request was refused.
    Refused,
    /// 11: verification failed.
    Verification,
    /// 12: in use by another process, or not running.
    InUse,
    /// 13: log or store cannot be written.
    Storage,
    /// 14: certificate.
    Certificate,
    /// 15: a person has still to decide.
    Pending,
    /// 130: interrupted.
    Interrupted,
}

impl Exit {
    /// The exit of a failure code.
    #[must_use]
    pub fn of(code: &str) -> Self {
        match code {
            "authority_missing" | "no_directory" | "config" | "policies" | "tokens" | "value" | "value_invalid"
            | "body_invalid" | "asks_count" | "reason_missing" | "resident_ambiguous" => Exit::Config,
            code if code.starts_with("pesel_") => Exit::Config,
            "storage_key" | "salt_missing" | "wrong_key" | "key_ring" | "keys" => Exit::Key,
            "extract_refused" | "rejects_unwritable" => Exit::Extract,
            code if code.starts_with("mapping") => Exit::Extract,
            "address_in_use" => Exit::AddressInUse,
            "manifest_refused" | "manifest_not_pinned" | "manifest_expired" | "manifest_mismatch" => Exit::Manifest,
            "registry_unavailable" => Exit::Registry,
            "key_holders_unavailable"
            | "peer_unavailable"
            | "node_closed"
            | "no_key_epoch"
            | "clock_wrong"
            | "quota_exceeded"
            | "withdrawal_unconfirmed"
            | "ceremony_aborted" => Exit::Unavailable,
            "pending" => Exit::Pending,
            "interrupted" => Exit::Interrupted,
            "denied"
            | "registry_refused"
            | "not_served"
            | "role_not_allowed"
            | "consent_unknown"
            | "resident_unknown"
            | "resident_on_file"
            | "provisional_quota"
            | "provisional_renewed"
            | "finding_unknown"
            | "finding_own"
            | "user_unknown"
            | "agreement_missing"
            | "confirmation_missing"
            | "already_decided"
            | "result_unknown"
            | "unknown" => Exit::Refused,
            code if code.starts_with("token_") => Exit::Refused,
            "verification_failed" | "log_rolled_back" | "logs_disagree" => Exit::Verification,
            "in_use" | "not_running" | "exists" | "nothing_missing" => Exit::InUse,
            "log_unavailable" | "store_failed" | "share_damaged" | "file" | "authority_io" => Exit::Storage,
            "certificate" | "nothing_to_renew" | "certificate_unknown" | "time_out_of_range" => Exit::Certificate,
            code if code.starts_with("authority_") || code.starts_with("csr_") => Exit::Certificate,
            // Whatever else a rule said no for.
            code if Reason::ALL.iter().any(|reason| reason.code() == code) => Exit::Refused,
            _ => Exit::Unexpected,
        }
    }

    /// The number.
    #[must_use]
    pub fn number(self) -> u8 {
        match self {
            Exit::Unexpected => 1,
            Exit::Config => 3,
            Exit::Key => 4,
            Exit::Extract => 5,
            Exit::AddressInUse => 6,
            Exit::Manifest => 7,
            Exit::Registry => 8,
            Exit::Unavailable => 9,
            Exit::Refused => 10,
            Exit::Verification => 11,
            Exit::InUse => 12,
            Exit::Storage => 13,
            Exit::Certificate => 14,
            Exit::Pending => 15,
            Exit::Interrupted => 130,
        }
    }

    /// What to do next.
    #[must_use]
    pub fn next_step(self) -> &'static str {
        match self {
            Exit::Unexpected => "run again with OGNIWO_LOG=debug and look at the last lines",
            Exit::Config => "correct the configuration and try `check-config`",
            Exit::Key => "check the credential file or type the passphrase again; nothing was changed",
            Exit::Extract => "correct the mapping file or export again; rows committed before stay",
            Exit::AddressInUse => "stop whatever listens there or choose another `listen`",
            Exit::Manifest => {
                "compare the fingerprint with the officers; `ogniwo node refresh` fetches a current manifest, `ogniwo node manifest` hands it out"
            }
            Exit::Registry => "check that the registry runs and can be reached, then try again",
            Exit::Unavailable => "try again when enough members are up; `ogniwo node status` says more",
            Exit::Refused => "do what the reason asks for, above",
            Exit::Verification => "keep the files as they are and call the data-protection officer",
            Exit::InUse => "start the node with `ogniwo node run`, or stop the one that has it open",
            Exit::Storage => "make room or repair the disk; what was acknowledged is kept",
            Exit::Pending => "ask again with `ogniwo node answer` when somebody there decided, within a week",
            Exit::Interrupted => "run it again",
            Exit::Certificate => "see `ogniwo certs show` and have the certificate renewed",
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit.number())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_services_are_not_restarted_where_that_cures_nothing() {
        let hopeless = [Exit::Config, Exit::Key, Exit::Manifest, Exit::Verification, Exit::Certificate];
        let numbers: Vec<String> = hopeless.iter().map(|exit| exit.number().to_string()).collect();
        let line = format!("\nRestartPreventExitStatus=2 {}\n", numbers.join(" "));
        for unit in [
            include_str!("../../deploy/systemd/ogniwo-node.service"),
            include_str!("../../deploy/systemd/ogniwo-registry.service"),
        ] {
            assert!(unit.contains(&line), "{line}");
        }
    }

    #[test]
    fn what_to_do_next_follows_from_what_went_wrong() {
        for (code, exit, word) in [
            ("config", Exit::Config, "check-config"),
            ("policies", Exit::Config, "policy check"),
            ("salt_missing", Exit::Key, "backup"),
            ("consent_unknown", Exit::Refused, "receipt"),
            ("value", Exit::Config, "given"),
            ("pesel_checksum", Exit::Config, "given"),
            ("resident_unknown", Exit::Refused, "number"),
            ("denied", Exit::Refused, "reason"),
            ("node_closed", Exit::Unavailable, "node refresh"),
            ("no_key_epoch", Exit::Unavailable, "node refresh"),
            ("authority_exists", Exit::Certificate, "another place"),
            ("csr_invalid", Exit::Certificate, "node init"),
            ("no_directory", Exit::Config, "make the directory"),
            ("share_damaged", Exit::Storage, "backup"),
            ("store_failed", Exit::Storage, "database"),
            ("verification_failed", Exit::Verification, "officer"),
        ] {
            let failure = Failure::new(code, "");
            assert_eq!(failure.exit(), exit, "{code}");
            assert!(failure.next_step().contains(word), "{code}: {}", failure.next_step());
        }
    }
}
