//! Real TLS over loopback with certificates minted here. Time is a manual clock; durations are never asserted tightly.

#[cfg(test)]
mod calls;
#[cfg(test)]
mod certificates;
#[cfg(test)]
mod handshakes;
#[cfg(test)]
mod limits;
#[cfg(test)]
mod pki;
#[cfg(test)]
mod renewal;
#[cfg(test)]
mod revocation;
#[cfg(test)]
mod servers;
