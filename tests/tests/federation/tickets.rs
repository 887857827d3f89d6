//! Tickets scenarios.
