//! Imports scenarios.
