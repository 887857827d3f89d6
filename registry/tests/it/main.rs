//! The registry through its routes: in process with a peer put into the request, and once over real mutual TLS.

#[cfg(test)]
mod disk;
#[cfg(test)]
mod entries;
#[cfg(test)]
mod fairness;
#[cfg(test)]
mod federation;
#[cfg(test)]
mod honeypots;
#[cfg(test)]
mod locate;
#[cfg(test)]
mod manifest;
#[cfg(test)]
mod postgres;
#[cfg(test)]
mod recovery;
#[cfg(test)]
mod review;
#[cfg(test)]
mod serving;
mod succession;
