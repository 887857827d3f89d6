//! The registry through its routes: in process with a peer put into the request, and once over real mutual TLS.

mod disk;
mod entries;
mod federation;
mod locate;
mod manifest;
mod serving;
