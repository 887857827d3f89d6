//! Reading what an institution's own system exports: a CSV file and a [`Mapping`] in, typed rows of catalogue fields out.
//!
//! [`Extract`] streams: it holds one record of the file at a time, however large the file is. Each record becomes a
//! whole [`Row`] or one [`Reject`] that says where and why in words that never repeat a value; a row is never
//! half-read, and a refused one never stops the file. What is wrong with the file as a whole (another delimiter, a
//! column nobody mapped) is an [`ExtractError`] before the first row, so that nothing is dropped unnoticed.
//!
//! ```text
//! bytes ── scan ──▶ records ── header ──▶ cells of mapped columns ── text, value ──▶ Row | Reject ──▶ RejectsFile
//! ```
//!
//! It stores nothing, and knows the field catalogue only through the lookup that [`Mapping::parse`] is given.

mod header;
mod mapping;
mod name;
mod raw;
mod reader;
mod reject;
mod resolve;
mod scan;
mod text;
mod value;

#[cfg(test)]
mod tests;

pub use header::HeaderError;
pub use mapping::{FieldRule, Mapping, MappingError};
pub use policies::FieldType;
pub use reader::{Entry, Extract, ExtractError, Row};
pub use reject::{Reject, RejectReason, RejectsError, RejectsFile};
