//! Which cryptography TLS runs on, and the self-test before any of it is used.

use crate::known_answers;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use std::sync::{Arc, LazyLock, OnceLock};

/// A primitive gave another answer than its specification prints: the build or the machine is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("cryptographic self-test failed: {0}")]
pub struct CryptoError(pub &'static str);

impl CryptoError {
    /// Stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        "crypto_self_test"
    }
}

/// aws-lc-rs with the TLS 1.3 suites alone, X25519MLKEM768 first (draft-ietf-tls-ecdhe-mlkem), so that recorded
/// traffic stays closed to a later quantum computer.
#[must_use]
pub fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| {
        use aws_lc_rs::{DEFAULT_CIPHER_SUITES, default_provider, kx_group};
        Arc::new(CryptoProvider {
            cipher_suites: DEFAULT_CIPHER_SUITES.iter().copied().filter(|s| s.tls13().is_some()).collect(),
            kx_groups: vec![kx_group::X25519MLKEM768, kx_group::X25519, kx_group::SECP256R1],
            ..default_provider()
        })
    });
    PROVIDER.clone()
}

/// Makes [`provider`] the process default of `rustls` and tests `ring`, `aws-lc-rs` and `jsonwebtoken` against known
/// answers. Call it first in `main`; later calls repeat the first result.
///
/// # Errors
/// [`CryptoError`] naming the primitive that failed; the program must not go on.
pub fn install() -> Result<(), CryptoError> {
    static RESULT: OnceLock<Result<(), CryptoError>> = OnceLock::new();
    *RESULT.get_or_init(|| {
        known_answers::ring()?;
        known_answers::aws_lc_rs()?;
        known_answers::jsonwebtoken()?;
        // An error means that a default is already there, which our own configurations never look at.
        let _ = CryptoProvider::clone(&provider()).install_default();
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_self_test_passes_and_can_be_repeated() {
        assert_eq!((install(), install()), (Ok(()), Ok(())));
        assert!(CryptoProvider::get_default().is_some());
    }

    #[test]
    fn only_tls13_with_the_hybrid_group_first() {
        let provider = provider();
        assert!(!provider.cipher_suites.is_empty());
        assert!(provider.cipher_suites.iter().all(|s| s.tls13().is_some()));
        assert_eq!(provider.kx_groups[0].name(), rustls::NamedGroup::X25519MLKEM768);
    }
}
