//! `ogniwo node resident`: through the local API, with an officer's token.

use crate::args::ResidentCommand;
use crate::exit::Failure;
use crate::output::Output;
use crate::prompt::resident;
use crate::wire::post;
use node::{Erased, ResidentData, Restricted};
use serde_json::json;

pub(crate) async fn run(command: ResidentCommand, output: &Output) -> Result<(), Failure> {
    match command {
        ResidentCommand::Show { api: to, resident: who, reason } => {
            let body = json!({ "resident": resident(&who)?, "reason": reason });
            let path = "/v1/audit/residents/show";
            let data: ResidentData = post(&to, path, &body).await?;
            output.result(&data, || words(&data));
        }
        ResidentCommand::Restrict { api: to, resident: who, reason, lift, resident_informed } => {
            let body = json!({
                "resident": resident(&who)?, "reason": reason, "lift": lift, "resident_informed": resident_informed,
            });
            let path = "/v1/audit/residents/restrict";
            let done: Restricted = post(&to, path, &body).await?;
            output.result(&done, || {
                let now = if done.restricted { "is restricted: nothing is answered" } else { "is not restricted" };
                format!("The processing of file {} {now}.", done.file)
            });
        }
        ResidentCommand::Erase {
            api: to,
            resident: who,
            reason,
            no_exception_applies,
            log_entries,
            no_proof_needed,
        } => {
            let body = json!({
                "resident": resident(&who)?, "reason": reason, "no_exception_applies": no_exception_applies,
                "log_entries": log_entries, "no_proof_needed": no_proof_needed,
            });
            let path = "/v1/audit/residents/erase";
            let erased: Erased = post(&to, path, &body).await?;
            output.result(&erased, || {
                let Erased { rows, log_entries, .. } = &erased;
                format!("{rows} rows and {log_entries} entries of the log erased. Run `ogniwo node enrol` to take back what is published.")
            });
        }
    }
    Ok(())
}

fn words(data: &ResidentData) -> String {
    let mut text = format!("File {}", data.file);
    for row in &data.rows {
        let number = row.local_number.as_deref().unwrap_or("-");
        text.push_str(&format!("\n{} {number}", row.source));
        for (field, value) in &row.fields {
            text.push_str(&format!("\n  {field:<28} {value}"));
        }
    }
    if data.sealed {
        text.push_str("\nThere are sealed fields, which are handed over in person only.");
    }
    text
}
