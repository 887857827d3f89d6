//! `ogniwo certs`.

use crate::args::{CertsCommand, RevocationReason};
use crate::exit::Failure;
use crate::files::{read_text, write_file};
use crate::output::Output;
use crate::wire::word;
use certs::{Authority, Reason, Target};
use protocol::time::DAY_SECONDS;
use serde_json::json;
use std::path::Path;
use transport::Clock;

pub(crate) fn run(command: CertsCommand, output: &Output) -> Result<(), Failure> {
    let now = Clock::system().now();
    match command {
        CertsCommand::Init { dir, realm } => {
            let authority = Authority::init(&dir, realm, now)?;
            let fingerprint = authority.root_fingerprint()?;
            output.result(&json!({ "root_sha256": fingerprint }), || {
                format!(
                    "The authority lies in {dir}.\nRoot fingerprint (SHA-256): {fingerprint}\n\
                     Read it out to every member, then carry {dir}/root offline.",
                    dir = dir.display()
                )
            });
            Ok(())
        }
        CertsCommand::Sign { dir, member, csr, out } => {
            let chain = open(&dir)?.sign(&read_text(&csr)?, &member, now)?;
            give(output, &chain, out.as_deref())
        }
        CertsCommand::Renew { dir, member, csr, out } => {
            let chain = open(&dir)?.renew(&read_text(&csr)?, &member, now)?;
            give(output, &chain, out.as_deref())
        }
        CertsCommand::Revoke { dir, member, serial, reason } => {
            let target = match (member, serial) {
                (Some(member), _) => Target::Member(member),
                (None, serial) => Target::Serial(serial.unwrap_or_default()),
            };
            let mut authority = open(&dir)?;
            authority.revoke(&target, reason.into(), now)?;
            said(output, &authority, &dir);
            Ok(())
        }
        CertsCommand::Crl { dir } => {
            let mut authority = open(&dir)?;
            authority.crl(now)?;
            said(output, &authority, &dir);
            Ok(())
        }
        CertsCommand::Show { dir } => show(output, &open(&dir)?, now),
    }
}

fn open(dir: &Path) -> Result<Authority, Failure> {
    if !dir.is_dir() {
        return Err(Failure::new("authority_missing", format!("{} is no directory", dir.display())));
    }
    Ok(Authority::open(dir)?)
}

fn give(output: &Output, chain: &str, out: Option<&Path>) -> Result<(), Failure> {
    match out {
        Some(path) => {
            write_file(path, chain.as_bytes())?;
            output.result(&json!({ "certificate": path }), || format!("Certificate and chain: {}", path.display()));
        }
        None => output.result(&json!({ "certificate_pem": chain }), || chain.to_owned()),
    }
    Ok(())
}

fn said(output: &Output, authority: &Authority, dir: &Path) {
    let (path, number) = (dir.join("crl.pem"), authority.crl_number());
    output.result(&json!({ "crl": path, "number": number }), || {
        format!("Revocation list {number}: {}\nGive it to the registry within 24 hours.", path.display())
    });
}

fn show(output: &Output, authority: &Authority, now: protocol::Timestamp) -> Result<(), Failure> {
    let fingerprint = authority.root_fingerprint()?;
    let rows: Vec<_> = authority
        .show()
        .iter()
        .map(|c| {
            json!({
                "serial": c.serial, "spiffe": c.spiffe, "status": c.status(now), "not_before": c.not_before,
                "not_after": c.not_after, "days_left": (c.not_after - now) / DAY_SECONDS, "revoked_at": c.revoked_at,
            })
        })
        .collect();
    let document = json!({
        "realm": authority.realm(), "root_sha256": fingerprint, "crl_number": authority.crl_number(), "certificates": rows,
    });
    output.result(&document, || {
        let mut text = format!("{}  root {fingerprint}  CRL {}\n", authority.realm(), authority.crl_number());
        for c in authority.show() {
            let days = (c.not_after - now) / DAY_SECONDS;
            let status = word(&c.status(now));
            text.push_str(&format!("{}  {:<8} {days:>4} days left  {}\n", c.serial, status, c.spiffe));
        }
        text
    });
    Ok(())
}

impl From<RevocationReason> for Reason {
    fn from(reason: RevocationReason) -> Reason {
        match reason {
            RevocationReason::Unspecified => Reason::Unspecified,
            RevocationReason::KeyCompromise => Reason::KeyCompromise,
            RevocationReason::AffiliationChanged => Reason::AffiliationChanged,
            RevocationReason::Superseded => Reason::Superseded,
            RevocationReason::CessationOfOperation => Reason::CessationOfOperation,
            RevocationReason::PrivilegeWithdrawn => Reason::PrivilegeWithdrawn,
        }
    }
}
