//! Tokens scenarios.
