//! Kills scenarios.
