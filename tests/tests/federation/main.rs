//! The one integration binary: every scenario on the federation harness.

mod architecture;
mod consents;
mod exit_codes;
mod faults;
mod identities;
mod imports;
mod key_birth;
mod kills;
mod local_api;
mod privacy;
mod replays;
mod story;
mod tickets;
mod tokens;
