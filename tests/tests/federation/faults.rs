//! Faults scenarios.
