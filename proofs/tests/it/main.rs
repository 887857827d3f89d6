//! What is proved of the shipped policies, and that the solver can be trusted with it. Needs `cvc5`: without it these
//! tests fail, they are not skipped.

#[cfg(test)]
mod library;
#[cfg(test)]
mod operators;
