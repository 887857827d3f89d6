//! The federation's certificate authority, in a directory: a root that is carried away after the founding, an issuing
//! authority under it, a register of what was issued, and the revocation list.
//!
//! ```text
//! root.pem            the root certificate, pinned by every member
//! root/key.pem        the root's key: move this directory offline after `init`; nothing here needs it again
//! issuing/cert.pem    the issuing authority's certificate
//! issuing/key.pem     its key
//! issued.json         the register: every certificate issued, revocations, the CRL number
//! crl.pem             the issuing authority's certificate and its current CRL
//! lock                held while an [`Authority`] is open
//! ```
//!
//! Key files are created once with mode 0600 and never written again. The register is replaced whole and is durable
//! before a certificate or CRL leaves, so a crash can lose an answer but never a serial number or a revocation; a
//! `crl.pem` older than the register is put right by the next [`Authority::crl`].
//!
//! A CRL covers members' certificates only. The issuing authority itself is withdrawn by a new root.

mod authority;
mod error;
mod files;
mod mint;
mod register;
mod request;

pub use authority::{Authority, Target};
pub use error::AuthorityError;
pub use register::{Issued, Reason, Status};
