//! `ogniwo agreement`: what two institutions agree on, signed by the nodes of both.

use crate::args::AgreementCommand;
use crate::exit::Failure;
use crate::files::{read_json, write_json};
use crate::output::{Output, utc};
use crate::wire::{Admin, admin};
use node::{Config, Word};
use policies::Library;
use protocol::MemberId;
use protocol::agreement::{Agreement, AgreementRef, AnswerMode, Hours, SignedAgreement};
use serde_json::json;
use transport::Clock;

pub(crate) async fn run(command: AgreementCommand, output: &Output) -> Result<(), Failure> {
    match command {
        AgreementCommand::Draft { description, template, asker, holder, out } => {
            let terms: Agreement = match (description, template, asker, holder) {
                (Some(description), ..) => read_json(&description)?,
                (None, Some(template), Some(asker), Some(holder)) => from_template(&template, &asker, &holder)?,
                _ => return Err(Failure::new("value", "a description, or a template with an asker and a holder")),
            };
            terms.digest().map_err(|e| Failure::new("value", e))?;
            let draft = SignedAgreement::draft(terms);
            write_json(&out, &draft)?;
            output.result(&draft, || format!("{}\nNow both parties sign {}.", in_words(&draft), out.display()));
            Ok(())
        }
        AgreementCommand::Show { agreement } => {
            let agreement: SignedAgreement = read_json(&agreement)?;
            output.result(&agreement, || in_words(&agreement));
            Ok(())
        }
        AgreementCommand::Sign { node, agreement: path } => {
            let mut agreement: SignedAgreement = read_json(&path)?;
            let config = Config::load(&node.config)?;
            let word: Word = Admin::of(&config.data).run("/agreements/assent", &agreement.terms, &|_| {}).await?;
            agreement.assents.insert(config.member.clone(), word.token);
            write_json(&path, &agreement)?;
            output.result(
                &json!({ "agreement": word.agreement, "signed_by": agreement.assents.keys().collect::<Vec<_>>() }),
                || {
                    let rest =
                        "the officers take it into the next manifest (`ogniwo registry manifest next --agreement`)";
                    match agreement.assents.len() {
                        0 | 1 => "Signed. Now the other party signs.".to_owned(),
                        _ => format!("Signed by both. Now {rest}."),
                    }
                },
            );
            Ok(())
        }
        AgreementCommand::Revoke { node, agreement, out } => {
            let word: Word = admin(&node)?.run("/agreements/revoke", &agreement, &|_| {}).await?;
            write_json(&out, &word)?;
            output.result(&word, || {
                let told = if word.waiting { "is told as soon as it can be reached" } else { "knows" };
                format!(
                    "{} is over here, and the other party {told}.\nThe officers take {} into the next manifest \
                     (`ogniwo registry manifest next --revocation`).",
                    word.agreement,
                    out.display()
                )
            });
            Ok(())
        }
    }
}

/// The terms of `template` between two members, from now on, under the id `ASKER-HOLDER`.
fn from_template(template: &str, asker: &MemberId, holder: &MemberId) -> Result<Agreement, Failure> {
    let library = Library::builtin().map_err(|e| Failure::new("policies", e))?;
    let known = library.catalogue().agreements.get(template);
    let known = known.ok_or_else(|| Failure::new("value", format!("there is no agreement template {template}")))?;
    Ok(known.terms(&format!("{asker}-{holder}"), asker, holder, Clock::system().now()))
}

/// `ID@VERSION`, as statuses and logs write it.
pub(crate) fn reference(text: &str) -> Result<AgreementRef, String> {
    let (id, version) = text.rsplit_once('@').ok_or("expected ID@VERSION")?;
    let version = version.parse().map_err(|_| "the version is a number")?;
    Ok(AgreementRef { id: id.to_owned(), version })
}

fn in_words(agreement: &SignedAgreement) -> String {
    let terms = &agreement.terms;
    let library = Library::builtin().ok();
    let name = |id: &protocol::FieldId| {
        let field = library.as_ref().and_then(|library| library.catalogue().fields.get(id));
        field.map_or_else(|| format!("{id} (unknown)"), |field| format!("{id} ({})", field.pl))
    };
    let lines = |what: &str, of: Vec<String>| of.iter().map(|one| format!("{what} {one}\n")).collect::<String>();
    let mut text = format!(
        "{}: {} asks {}, from {} until {}\n",
        terms.reference(),
        terms.asker,
        terms.holder,
        utc(terms.valid_from.0),
        utc(terms.valid_to.0)
    );
    text.push_str(&lines("  query   ", terms.queries.iter().map(ToString::to_string).collect()));
    text.push_str(&lines("  field   ", terms.fields.iter().map(name).collect()));
    text.push_str(&lines("  purpose ", terms.purposes.iter().map(ToString::to_string).collect()));
    text.push_str(&format!("  {} queries a day", terms.queries_per_day));
    if let Some(each) = terms.queries_per_user_per_day {
        text.push_str(&format!(", {each} by one user"));
    }
    text.push_str(match terms.mode {
        AnswerMode::Automatic => "; the node answers by the rules\n",
        AnswerMode::Human => "; a person answers each\n",
    });
    let clock = |minute: u16| format!("{:02}:{:02}", minute / 60, minute % 60);
    let hours = |span: &Hours| format!("{:?} {}-{}", span.day, clock(span.from_minute), clock(span.to_minute));
    text.push_str(&lines("  hours   ", terms.hours.iter().map(hours).collect()));
    let signed: Vec<&str> = agreement.assents.keys().map(protocol::MemberId::as_str).collect();
    text.push_str(&match signed.as_slice() {
        [] => "signed by nobody yet".to_owned(),
        signed => format!("signed by {}", signed.join(" and ")),
    });
    if agreement.revocation.is_some() {
        text.push_str("; revoked");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_is_an_id_and_a_version() {
        assert_eq!(reference("mops-pup@2"), Ok(AgreementRef { id: "mops-pup".to_owned(), version: 2 }));
        for wrong in ["mops-pup", "mops-pup@", "mops-pup@x"] {
            assert!(reference(wrong).is_err(), "{wrong}");
        }
    }
}
