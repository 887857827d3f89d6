//! Why the authority refuses.

use protocol::{MemberId, SpiffeId};
use std::path::{Path, PathBuf};

/// What went wrong, by who is to blame: the directory, the request, or the asker.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// A file cannot be read or written.
    #[error("cannot access {path}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// `init` on a directory that holds something.
    #[error("{0} is not empty; an authority is never founded over another")]
    NotEmpty(PathBuf),
    /// Another process has the authority open.
    #[error("{0} is in use by another process")]
    InUse(PathBuf),
    /// A file of the directory does not hold what it should.
    #[error("{path} is damaged: {what}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// The CSR cannot be read or its signature does not match its key.
    #[error("the request is refused: {0}")]
    BadRequest(String),
    /// The CSR's one URI name is not the member's.
    #[error("the request must name {expected} as its only alternative name")]
    WrongName {
        /// The name the member has.
        expected: SpiffeId,
    },
    /// The CSR asks for more than a member's certificate.
    #[error("the request asks for {0}, which a member's certificate never has")]
    AsksTooMuch(&'static str),
    /// Renewal without a certificate in force.
    #[error("{0} has no certificate in force; use sign after checking who asks")]
    NothingToRenew(MemberId),
    /// Nothing on record to revoke.
    #[error("no certificate on record matches")]
    UnknownCertificate,
    /// The time given cannot stand in a certificate.
    #[error("the time is outside the years 1970 to 9949")]
    Time,
    /// Key generation or signing failed.
    #[error("cannot generate or sign")]
    Generate(#[source] rcgen::Error),
}

impl AuthorityError {
    /// Stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            AuthorityError::Io { .. } => "authority_io",
            AuthorityError::NotEmpty(_) => "authority_exists",
            AuthorityError::InUse(_) => "authority_in_use",
            AuthorityError::Damaged { .. } => "authority_damaged",
            AuthorityError::BadRequest(_) => "csr_invalid",
            AuthorityError::WrongName { .. } => "csr_wrong_name",
            AuthorityError::AsksTooMuch(_) => "csr_asks_too_much",
            AuthorityError::NothingToRenew(_) => "nothing_to_renew",
            AuthorityError::UnknownCertificate => "certificate_unknown",
            AuthorityError::Time => "time_out_of_range",
            AuthorityError::Generate(_) => "authority_generate",
        }
    }

    pub(crate) fn damaged(path: &Path, what: &impl ToString) -> Self {
        AuthorityError::Damaged { path: path.to_owned(), what: what.to_string() }
    }
}

impl From<rcgen::Error> for AuthorityError {
    fn from(error: rcgen::Error) -> Self {
        AuthorityError::Generate(error)
    }
}
