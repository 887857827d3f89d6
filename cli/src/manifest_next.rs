//! `ogniwo registry manifest next`: what key holders, parties to agreements or officers decided, taken into the manifest
//! that comes next.

use crate::args::NextArgs;
use crate::exit::Failure;
use crate::files::read_json;
use node::Word;
use policies::Library;
use protocol::agreement::SignedAgreement;
use protocol::manifest::{KeyEpoch, Member};
use protocol::succession::Succession;
use protocol::time::DAY_SECONDS;
use protocol::{Epoch, Manifest, MemberId, SignedManifest, Timestamp};
use std::collections::BTreeSet;

/// The unsigned successor of `held`; it is checked as members will check it, but for the officers' signatures.
pub(crate) fn next(held: &SignedManifest, changes: &NextArgs, now: Timestamp) -> Result<SignedManifest, Failure> {
    let mut manifest = held.accept_held()?;
    manifest.version += 1;
    manifest.issued = now;
    manifest.expires = now + i64::from(changes.days) * DAY_SECONDS;
    for path in &changes.epoch {
        take(&mut manifest, read_json::<KeyEpoch>(path)?);
    }
    for (epoch, at) in &changes.destroy {
        let known = manifest.epochs.iter_mut().find(|known| known.epoch == *epoch);
        known.ok_or_else(|| no_epoch(*epoch))?.destroy_at = Some(*at);
    }
    for epoch in &changes.forget {
        let epoch = Epoch(*epoch);
        manifest.epoch(epoch).ok_or_else(|| no_epoch(epoch))?;
        manifest.epochs.retain(|known| known.epoch != epoch);
    }
    for path in &changes.agreement {
        manifest.agreements.push(read_json::<SignedAgreement>(path)?);
    }
    for path in &changes.revocation {
        let Word { agreement, token, .. } = read_json(path)?;
        let known = manifest.agreements.iter_mut().find(|known| known.terms.reference() == agreement);
        known.ok_or_else(|| Failure::new("value", format!("there is no agreement {agreement}")))?.revocation =
            Some(token);
    }
    if let Some(directory) = &changes.library {
        let library = Library::load(directory).map_err(|e| Failure::new("policies", e))?;
        library.check_release(&manifest.officers, &manifest.realm).map_err(|e| Failure::new("policies", e))?;
        manifest.library = library.pin();
    }
    for path in &changes.member {
        let member: Member = read_json(path)?;
        manifest.members.retain(|known| known.id != member.id);
        manifest.members.push(member);
    }
    for (id, name) in &changes.name {
        let member = manifest.members.iter_mut().find(|member| &member.id == id);
        member.ok_or_else(|| no_member(id))?.name.clone_from(name);
    }
    for (from, to) in &changes.succession {
        manifest.successions.push(Succession { from: from.clone(), to: to.clone(), at: now });
    }
    for id in &changes.leave {
        leave(&mut manifest, id)?;
    }
    for (epoch, at) in &changes.destroy {
        let refused =
            |why: &str| Err(Failure::new("value", format!("epoch {} cannot be destroyed then: {why}", epoch.0)));
        if *at <= now {
            return refused("that day is past");
        }
        if manifest.current_epoch(*at).is_none() {
            return refused("no other key is in use on that day, so nobody could be located or enrolled");
        }
    }
    manifest.check()?;
    manifest.may_follow(&held.read()?)?;
    Ok(SignedManifest::draft(&manifest)?)
}

/// Lists a new key, or new shares in the place of the old ones.
pub(crate) fn take(manifest: &mut Manifest, epoch: KeyEpoch) {
    match manifest.epochs.iter_mut().find(|known| known.epoch == epoch.epoch) {
        Some(known) => *known = KeyEpoch { destroy_at: known.destroy_at, ..epoch },
        None => manifest.epochs.push(epoch),
    }
}

/// Strikes a member out, with its agreements.
fn leave(manifest: &mut Manifest, id: &MemberId) -> Result<(), Failure> {
    manifest.member(id).ok_or_else(|| no_member(id))?;
    manifest.members.retain(|member| &member.id != id);
    manifest.agreements.retain(|agreement| &agreement.terms.asker != id && &agreement.terms.holder != id);
    Ok(())
}

fn no_epoch(epoch: Epoch) -> Failure {
    Failure::new("value", format!("there is no epoch {}", epoch.0))
}

fn no_member(id: &MemberId) -> Failure {
    Failure::new("value", format!("there is no member {id}"))
}

/// `MEMBER=NAME`.
pub(crate) fn name(text: &str) -> Result<(MemberId, String), String> {
    let (id, name) = text.split_once('=').filter(|(_, name)| !name.trim().is_empty()).ok_or("expected MEMBER=NAME")?;
    Ok((id.parse().map_err(|e| format!("{e}"))?, name.to_owned()))
}

/// `FROM=TO,TO…`.
pub(crate) fn succession(text: &str) -> Result<(MemberId, BTreeSet<MemberId>), String> {
    let (from, to) = text.split_once('=').ok_or("expected FROM=TO or FROM=TO,TO")?;
    let id = |text: &str| text.parse::<MemberId>().map_err(|e| format!("{e}"));
    Ok((id(from)?, to.split(',').map(id).collect::<Result<_, _>>()?))
}

/// `EPOCH=DATE`, the date as `2027-01-31`; the day's first moment in UTC.
pub(crate) fn destruction(text: &str) -> Result<(Epoch, Timestamp), String> {
    let (epoch, date) = text.split_once('=').ok_or("expected EPOCH=YYYY-MM-DD")?;
    let epoch = epoch.parse().map_err(|_| "the epoch is a number")?;
    let date: jiff::civil::Date = date.parse().map_err(|e| format!("{e}"))?;
    let at = jiff::tz::Offset::UTC.to_timestamp(date.to_datetime(jiff::civil::Time::midnight()));
    Ok((Epoch(epoch), Timestamp(at.map_err(|e| e.to_string())?.as_second())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_of_destruction_is_its_first_moment() {
        assert_eq!(destruction("1=1970-01-02"), Ok((Epoch(1), Timestamp(86_400))));
        for wrong in ["1", "1=tomorrow", "x=2027-01-01", "1=2027-02-30"] {
            assert!(destruction(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_succession_names_one_and_its_followers() {
        let (from, to) = succession("css=css,cus").unwrap();
        assert_eq!((from.as_str(), to.len()), ("css", 2));
        for wrong in ["css", "=cus", "css=", "css=cus,", "CSS=cus"] {
            assert!(succession(wrong).is_err(), "{wrong}");
        }
        assert_eq!(name("zlm=Zarząd=Lokali").unwrap().1, "Zarząd=Lokali");
        assert!(name("zlm= ").is_err() && name("zlm").is_err());
    }
}
