//! Identities scenarios.
