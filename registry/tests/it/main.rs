//! The registry through its routes: in process with a peer put into the request, and once over real mutual TLS.

#[cfg(test)]
mod disk;
#[cfg(test)]
mod entries;
#[cfg(test)]
mod federation;
#[cfg(test)]
mod locate;
#[cfg(test)]
mod manifest;
#[cfg(test)]
mod serving;
