//! The authority on a real directory; what it issues is read back by another library.

#[cfg(test)]
mod directory;
#[cfg(test)]
mod issuing;
#[cfg(test)]
mod revoking;
#[cfg(test)]
mod support;
