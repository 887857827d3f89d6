//! Key_birth scenarios.
