//! Exit_codes scenarios.
