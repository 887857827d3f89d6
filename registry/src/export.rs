//! The registry's own log for whoever reviews it: every entry in clear, with what proves it, recorded first.

use crate::config::Config;
use crate::events::Event;
use crate::init::Secrets;
use crate::server::{OpenError, open_journal};
use audit::{Exported, Filter};
use keyring::KeyRing;
use std::io;
use std::path::Path;
use transport::Clock;
use zeroize::Zeroizing;

/// Exports the log of a stopped registry into the directory `into`, which is made and must not be there. Blocks.
///
/// # Errors
/// [`OpenError`]; [`OpenError::Log`] while the registry runs.
pub fn export_log(
    config: &Config,
    into: &Path,
    clock: &Clock,
    passphrase: impl FnOnce() -> io::Result<Zeroizing<String>>,
) -> Result<Exported, OpenError> {
    let secrets = Secrets::obtain(config, passphrase)?;
    let keys = KeyRing::open(&config.key_ring(), &secrets.storage)?;
    let of_log = |source| OpenError::Log { path: config.log.clone(), source };
    let journal = open_journal(config, &secrets, &keys, clock.clone()).map_err(of_log)?;
    let now = clock.now();
    let _recorded = journal
        .append_blocking(Event::Exported)
        .map_err(|error| of_log(audit::Fault::Io { path: config.log.clone(), source: io::Error::other(error) }))?;
    audit::export(journal.log(), into, &Filter::default(), now.0).map_err(of_log)
}
