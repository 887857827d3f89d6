//! `ogniwo node keyholder`: ceremonies among key holders, as their operators see them.

use crate::args::KeyholderCommand;
use crate::exit::Failure;
use crate::files::write_file;
use crate::output::Output;
use crate::wire::admin;
use node::{CeremonyState, CeremonyStatus, Invitation, SessionRef};
use protocol::encoding::b64;
use protocol::manifest::KeyEpoch;
use protocol::time::DAY_SECONDS;
use protocol::{Epoch, MemberId};
use std::collections::BTreeSet;

pub(crate) async fn run(command: KeyholderCommand, output: &Output) -> Result<(), Failure> {
    match command {
        KeyholderCommand::Invite { node, epoch, threshold, dealers, in_days, holders } => {
            let invitation = Invitation {
                epoch: Epoch(epoch),
                threshold,
                holders,
                dealers,
                not_before: in_days.map(|days| transport::Clock::system().now() + i64::from(days) * DAY_SECONDS),
            };
            let status: CeremonyStatus = admin(&node)?.run("/keyholder/invite", &invitation, &|_| {}).await?;
            output.result(&status, || {
                format!("{}\nRead the digest out to the others; each of them joins this session.", describe(&status))
            });
            Ok(())
        }
        KeyholderCommand::Join { node, session, wait, out } => {
            let (admin, at) = (admin(&node)?, session_ref(&session)?);
            let status: CeremonyStatus = admin.run("/keyholder/join", &at, &|_| {}).await?;
            if !wait && out.is_none() {
                output.result(&status, || describe(&status));
                return Ok(());
            }
            let epoch: KeyEpoch = admin.run("/keyholder/wait", &at, &|_| {}).await?;
            let text = serde_json::to_vec_pretty(&epoch).map_err(|e| Failure::new("internal", e))?;
            if let Some(path) = &out {
                write_file(path, &text)?;
            }
            output.result(&epoch, || String::from_utf8_lossy(&text).into_owned());
            Ok(())
        }
        KeyholderCommand::Status { node } => {
            let all: Vec<CeremonyStatus> = admin(&node)?.get("/keyholder").await?;
            output.result(&all, || {
                let words: Vec<String> = all.iter().map(describe).collect();
                if words.is_empty() { "No ceremonies.".to_owned() } else { words.join("\n\n") }
            });
            Ok(())
        }
        KeyholderCommand::Abandon { node, session } => {
            let at = session_ref(&session)?;
            let status: CeremonyStatus = admin(&node)?.run("/keyholder/abandon", &at, &|_| {}).await?;
            output.result(&status, || "Abandoned; what we knew of it is erased.".to_owned());
            Ok(())
        }
    }
}

fn session_ref(text: &str) -> Result<SessionRef, Failure> {
    let session = protocol::encoding::unb64::<16>(text);
    let session = session.ok_or_else(|| Failure::new("value", "a session is 22 characters, as `status` shows it"))?;
    Ok(SessionRef { session: protocol::Bytes(session.to_vec()) })
}

fn describe(status: &CeremonyStatus) -> String {
    let ceremony = &status.ceremony;
    let kind = if ceremony.dealers.is_empty() { "birth" } else { "new shares" };
    let holders: Vec<String> = ceremony.holders.iter().map(|(id, member)| format!("{member} ({id})")).collect();
    let mut text = format!(
        "session {}  {kind} of epoch {}, generation {}: {} of {}\n  invited by {}  digest {}\n  {}",
        b64(&ceremony.session.0),
        ceremony.epoch.0,
        ceremony.generation,
        ceremony.threshold,
        holders.join(", "),
        status.invited_by,
        status.digest,
        state(status)
    );
    for (what, who) in [("waiting for", &status.waiting_for), ("not delivered to", &status.undelivered)] {
        if !who.is_empty() {
            text.push_str(&format!("\n  {what} {}", names(who)));
        }
    }
    if let Some(transcript) = &status.transcript {
        text.push_str(&format!("\n  transcript {transcript}"));
    }
    text
}

fn state(status: &CeremonyStatus) -> String {
    match status.state {
        CeremonyState::Invited => "waits for you to join".to_owned(),
        CeremonyState::Publishing => "packages are being published".to_owned(),
        CeremonyState::Comparing => "packages are being compared".to_owned(),
        CeremonyState::Sharing => "secret packages are on their way".to_owned(),
        CeremonyState::Signing => "the result is being signed".to_owned(),
        CeremonyState::Done => "done: take the result into the next manifest".to_owned(),
        CeremonyState::Failed => format!("failed: {}", status.failed.as_deref().unwrap_or("unknown")),
    }
}

fn names(members: &BTreeSet<MemberId>) -> String {
    members.iter().map(MemberId::as_str).collect::<Vec<_>>().join(", ")
}
