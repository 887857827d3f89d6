//! Replays scenarios.
