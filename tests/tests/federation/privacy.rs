//! Privacy scenarios.
