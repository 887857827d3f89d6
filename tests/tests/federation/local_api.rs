//! Local_api scenarios.
