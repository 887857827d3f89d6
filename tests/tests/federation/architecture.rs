//! Architecture scenarios.
