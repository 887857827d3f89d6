//! The one integration binary: every scenario on the federation harness.

#![expect(clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]
#![expect(clippy::print_stdout, reason = "seeds and counts are shown with a failure")]

mod agreements;
mod architecture;
mod asking;
mod blindness;
mod commands;
mod consent_life;
mod consents;
mod decisions;
mod documents;
mod exit_codes;
mod faults;
mod identities;
mod imports;
mod key_birth;
mod key_ceremonies;
mod key_epochs;
mod kills;
mod local_api;
mod officer;
mod officer_commands;
mod own_limits;
mod privacy;
mod ran;
mod registry_life;
mod replays;
mod restores;
mod soak;
mod story;
mod successions;
mod tickets;
mod tokens;
mod witnesses;
