//! `ogniwo policy`.

use crate::args::PolicyCommand;
use crate::exit::{Failure, chain};
use crate::output::Output;
use policies::{Engine, Library};
use serde_json::json;

pub(crate) fn run(command: PolicyCommand, output: &Output) -> Result<(), Failure> {
    let refused = |e: policies::LibraryError| Failure::new("policies", chain(&e));
    match command {
        PolicyCommand::Check { library, local } => {
            let library = library.map_or_else(Library::builtin, |dir| Library::load(&dir)).map_err(refused)?;
            let digest = protocol::encoding::b64(&library.digest());
            let local = local.map(|dir| node::local_policies(&dir)).transpose()?.unwrap_or_default();
            Engine::new(library, &local).map_err(refused)?;
            let document = json!({ "library": digest, "local_policies": local.len() });
            output.result(&document, || {
                format!("The library is valid and its examples hold: {digest}\nOwn policies: {}", local.len())
            });
            Ok(())
        }
        PolicyCommand::Show => {
            let library = Library::builtin().map_err(refused)?;
            let catalogue = library.catalogue();
            let names = |keys: Vec<String>| keys;
            let document = json!({
                "library": protocol::encoding::b64(&library.digest()),
                "queries": names(catalogue.queries.keys().map(ToString::to_string).collect()),
                "mandates": names(catalogue.mandates.keys().cloned().collect()),
                "templates": names(catalogue.templates.keys().cloned().collect()),
                "purposes": names(catalogue.purposes.keys().map(ToString::to_string).collect()),
            });
            output.result(&document, || {
                let mut text = String::from("Queries\n");
                for (id, query) in &catalogue.queries {
                    text.push_str(&format!("  {id:<6} {:<9} {}\n", query.tier.as_str(), query.en));
                }
                text.push_str("Mandates\n");
                for (id, mandate) in &catalogue.mandates {
                    text.push_str(&format!("  {id:<24} {} {}\n", mandate.statute, mandate.article));
                }
                text.push_str("Consent templates and their modules\n");
                for (id, template) in catalogue.templates.iter().filter_map(|(id, all)| Some((id, all.last()?))) {
                    text.push_str(&format!("  {id}@{}: {}\n", template.version, template.en.title));
                    for (module, about) in &template.modules {
                        text.push_str(&format!("    {module:<20} {}\n", about.en));
                    }
                }
                text.push_str("Purposes\n");
                for (id, purpose) in &catalogue.purposes {
                    text.push_str(&format!("  {id:<40} {}\n", purpose.en));
                }
                text
            });
            Ok(())
        }
    }
}
