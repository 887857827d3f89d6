//! The story, step by step. Everything it says was done by the federation's processes over their own connections.

use crate::demo::extracts::{Extracts, UNITS};
use crate::demo::people::{People, search};
use crate::demo::report::{Asked, Audited, Report};
use crate::exit::{Failure, chain};
use crate::federation::{Federation, Launcher};
use crate::found::{Plan, Unit, evidence};
use crate::node_command::import_words;
use crate::output::Output;
use crate::wire::word;
use futures_util::future::try_join_all;
use http::Method;
use node::{ConsentReceipt, ImportMode, Outcome, QueryResult, SharedSummary};
use protocol::MemberId;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Instant;

const PURPOSE: &str = "social-welfare-eligibility-assessment";
const THRESHOLD: u16 = 2;

pub(crate) fn unit(name: &str) -> Result<MemberId, Failure> {
    name.parse().map_err(|e| Failure::new("value", e))
}

/// The plan of the demo's federation: four units, three of them key holders and with an officer each.
fn plan(extracts: &Extracts) -> Result<Plan, Failure> {
    let units = UNITS
        .iter()
        .map(|(id, name, kind)| {
            Ok(Unit {
                id: unit(id)?,
                name: (*name).to_owned(),
                kind: kind.parse().map_err(|e| Failure::new("value", e))?,
                key_holder: *id != "zlm",
                officer: *id != "zlm",
                first_enrolment: extracts.lines(id)?,
                duty_desk: (*id == "mops").then(|| "dyżur, tel. 42 000 00 00".to_owned()),
            })
        })
        .collect::<Result<_, Failure>>()?;
    let realm = "demo.ogniwo.example".parse().map_err(|e| Failure::new("value", e))?;
    Ok(Plan { realm, units, officer_threshold: 2, queries_per_day: 1_000, address: Ipv4Addr::LOCALHOST.into() })
}

/// Founds and starts the federation.
pub(crate) async fn found(
    program: &Path,
    dir: &Path,
    extracts: &Extracts,
    output: &Output,
) -> Result<Federation, Failure> {
    output.say("Ogniwo: four units of a city ask each other about residents they serve, without a common database.\n");
    output.say(format!("1. Founding a federation in {}", dir.display()));
    let federation =
        Federation::start(&Launcher::Processes(program.to_owned()), dir, plan(extracts)?, THRESHOLD, &|_, at| at)
            .await?;
    output.say(format!(
        "   a certificate authority, a registry and {} nodes, each a process of its own with keys it made itself;\n   \
         the pseudonym key was born split among mops, pup and css: any {THRESHOLD} of them must answer, nobody has it;\n   \
         manifest {} signed by 2 of 3 officers: {}",
        federation.nodes.len(),
        federation.founded.manifest.read()?.version,
        federation.founded.manifest.fingerprint()
    ));
    Ok(federation)
}

/// Tells the rest.
pub(crate) async fn tell(
    federation: &mut Federation,
    extracts: &Extracts,
    report: &mut Report,
    output: &Output,
) -> Result<(), Failure> {
    import(federation, extracts, report, output).await?;
    enrol(federation, report, output).await?;
    let shared = shared_clients(federation, report, output).await?;
    let today = jiff::tz::Offset::UTC
        .to_datetime(
            jiff::Timestamp::from_second(transport::Clock::system().now().0)
                .map_err(|e| Failure::new("clock_wrong", e))?,
        )
        .date();
    let people = UNITS.iter().map(|(u, ..)| People::read(extracts, u, today)).collect::<Result<Vec<_>, _>>()?;
    let started = Instant::now();
    queries(federation, &shared, &people, report, output).await?;
    report.seconds.queries = started.elapsed().as_secs_f64();
    disk(federation, &people, output)?;
    logs(federation, report, output)
}

async fn import(
    federation: &Federation,
    extracts: &Extracts,
    report: &mut Report,
    output: &Output,
) -> Result<(), Failure> {
    output.say("\n2. Each unit imports its own system's extract; nothing leaves the unit");
    let started = Instant::now();
    let imports = UNITS.iter().map(|(name, ..)| async move {
        let (mapping, extract) = (extracts.mapping(name), extracts.extract(name));
        let summary = federation.import(&unit(name)?, mapping, extract, ImportMode::Update, &|_| {}).await?;
        Ok::<_, Failure>((*name, summary, started.elapsed()))
    });
    for (name, summary, took) in try_join_all(imports).await? {
        let words = import_words(&summary, took).lines().next().unwrap_or_default().to_owned();
        output.say(format!("   {name:<5} {words}"));
        report.clients.insert(name.to_owned(), summary.clients);
        report.rejected.insert(name.to_owned(), summary.rejected);
    }
    report.seconds.import = started.elapsed().as_secs_f64();
    Ok(())
}

async fn enrol(federation: &Federation, report: &mut Report, output: &Output) -> Result<(), Failure> {
    output.say("\n3. Clients get pseudonyms from two key holders, who see blinded points only; the registry gets sealed entries");
    let started = Instant::now();
    let enrolments = UNITS
        .iter()
        .map(|(name, ..)| async move { Ok::<_, Failure>((*name, federation.enrol(&unit(name)?, &|_| {}).await?)) });
    for (name, summary) in try_join_all(enrolments).await? {
        output.say(format!("   {name:<5} {} clients published", summary.published));
    }
    report.seconds.enrol = started.elapsed().as_secs_f64();
    output.say(format!("   in {:.1} s", report.seconds.enrol));
    Ok(())
}

/// What each unit learns of its shared clients; every set of units must be told the same number by all of them.
async fn shared_clients(
    federation: &Federation,
    report: &mut Report,
    output: &Output,
) -> Result<BTreeMap<&'static str, SharedSummary>, Failure> {
    output.say("\n4. Shared clients, as each unit learns them from the registry about its own clients alone");
    let started = Instant::now();
    let runs = UNITS
        .iter()
        .map(|(name, ..)| async move { Ok::<_, Failure>((*name, federation.shared(&unit(name)?, true).await?)) });
    let learnt: BTreeMap<_, _> = try_join_all(runs).await?.into_iter().collect();
    let mut told: BTreeMap<String, BTreeSet<u64>> = BTreeMap::new();
    for (name, summary) in &learnt {
        for (others, count) in &summary.at_least {
            let mut units: Vec<&str> = others.split('+').chain([*name]).collect();
            units.sort_unstable();
            told.entry(units.join("+")).or_default().insert(*count);
        }
    }
    for units in combinations() {
        let counts = told.remove(&units).unwrap_or_else(|| BTreeSet::from([0]));
        match counts.into_iter().collect::<Vec<_>>().as_slice() {
            [count] => report.shared.insert(units, *count),
            _ => {
                return Err(Failure::new(
                    "verification_failed",
                    format!("the units of {units} learnt different numbers"),
                ));
            }
        };
    }
    report.seconds.shared = started.elapsed().as_secs_f64();
    if !output.is_json() {
        matrix(report, output);
    }
    Ok(learnt)
}

/// Every set of two or more units, ids sorted and joined by `+`.
fn combinations() -> Vec<String> {
    let mut units: Vec<&str> = UNITS.iter().map(|(id, ..)| *id).collect();
    units.sort_unstable();
    let chosen = |mask: u32| units.iter().enumerate().filter(move |(i, _)| mask >> i & 1 == 1).map(|(_, unit)| *unit);
    (1u32..1 << units.len())
        .filter(|mask| mask.count_ones() > 1)
        .map(|mask| chosen(mask).collect::<Vec<_>>().join("+"))
        .collect()
}

fn matrix(report: &Report, output: &Output) {
    let pair = |a: &str, b: &str| {
        let mut pair = [a, b];
        pair.sort_unstable();
        report.shared.get(&pair.join("+")).map(ToString::to_string)
    };
    let head: String = UNITS.iter().map(|(unit, ..)| format!("{unit:>7}")).collect();
    output.say(format!("         {head}"));
    for (row, ..) in UNITS {
        let cells: String = UNITS
            .iter()
            .map(|(column, ..)| {
                let own = || report.clients.get(row).map(|n| format!("({n})"));
                let cell = if *column == row { own() } else { pair(row, column) };
                format!("{:>7}", cell.unwrap_or_default())
            })
            .collect();
        output.say(format!("   {row:<6}{cells}"));
    }
    for (units, count) in report.shared.iter().filter(|(units, _)| units.matches('+').count() > 1) {
        output.say(format!("   {count:>6} known to {units}"));
    }
}

async fn queries(
    federation: &Federation,
    shared: &BTreeMap<&'static str, SharedSummary>,
    people: &[People],
    report: &mut Report,
    output: &Output,
) -> Result<(), Failure> {
    output.say("\n5. A caseworker of mops asks pup about a resident both serve");
    let (mops, pup) = (unit("mops")?, unit("pup")?);
    let minors = UNITS.iter().zip(people).find(|((id, ..), _)| *id == mops.as_str()).map(|(_, people)| &people.minors);
    match client_number(federation, shared, minors, &mops, &pup).await? {
        Some(number) => {
            let resident = json!({ "local_number": number });
            about_a_client(federation, &mops, &pup, resident, report, output).await?;
        }
        None => output.say("   left out: these extracts have nobody of age whom both serve under a number of its own"),
    }
    let Some((asker, holder, pesel)) = stranger(people) else {
        output.say("   left out: in these extracts every unit serves everybody");
        return Ok(());
    };
    let (asker, holder) = (unit(asker)?, unit(holder)?);
    let basis = json!({ "kind": "mandate", "id": "ups-105" });
    let resident = json!({ "pesel": pesel });
    let question = Question { asker: &asker, holder: &holder, query: "q01", resident, basis };
    let outcome = put(federation, &question).await?;
    let words = format!("{asker} asks about somebody it does not serve");
    tell_outcome(report, output, "not_served", &words, &asker, &holder, &outcome);
    Ok(())
}

/// A client of mops and pup: without a basis, with a consent, after its withdrawal.
async fn about_a_client(
    federation: &Federation,
    mops: &MemberId,
    pup: &MemberId,
    resident: Value,
    report: &mut Report,
    output: &Output,
) -> Result<(), Failure> {
    let ask = |basis: Value| Question { asker: mops, holder: pup, query: "q02", resident: resident.clone(), basis };

    let outcome = put(federation, &ask(json!({ "kind": "none" }))).await?;
    tell_outcome(report, output, "no_basis", "without a legal basis", mops, pup, &outcome);

    let consent = record_consent(federation, mops, &resident).await?;
    output.say("   the front desk of mops records the resident's consent; pup gets the grant");
    let basis = json!({ "kind": "consent", "id": consent.id });
    let outcome = put(federation, &ask(basis.clone())).await?;
    tell_outcome(report, output, "with_consent", "with the consent", mops, pup, &outcome);

    let token = federation.token(mops, "anna.recepcja", &["front-desk"])?;
    let path = format!("/v1/consents/{}/withdraw", consent.id);
    let _withdrawn: ConsentReceipt = federation.local(mops)?.call(Method::POST, &path, &token, None).await?;
    output.say("   the resident withdraws at the front desk");
    let outcome = put(federation, &ask(basis)).await?;
    tell_outcome(report, output, "withdrawn", "after the withdrawal", mops, pup, &outcome);
    Ok(())
}

/// Somebody whom one unit serves and another does not: who asks, who serves, about whom. zlm and pup if they will do.
fn stranger(people: &[People]) -> Option<(&'static str, &'static str, &str)> {
    let units: Vec<_> = UNITS.iter().map(|(id, ..)| *id).zip(people).collect();
    let others = || units.iter().cycle().skip(1).take(units.len());
    let mut pairs = units.iter().rev().flat_map(|asker| others().map(move |holder| (asker, holder)));
    pairs.find_map(|((asker, here), (holder, there))| {
        let pesel = there.pesels.difference(&here.pesels).next()?;
        Some((*asker, *holder, pesel.as_str()))
    })
}

/// One of mops's own numbers of a resident that pup knows too and who consents without a guardian; it means one resident
/// only.
async fn client_number(
    federation: &Federation,
    shared: &BTreeMap<&'static str, SharedSummary>,
    minors: Option<&BTreeSet<String>>,
    mops: &MemberId,
    pup: &MemberId,
) -> Result<Option<String>, Failure> {
    let clients = shared.get(mops.as_str()).map(|s| s.clients.as_slice()).unwrap_or_default();
    let token = federation.token(mops, "jan.pracownik", &["caseworker"])?;
    for client in clients.iter().filter(|client| client.units.contains(pup)) {
        let of_age = |number: &&String| minors.is_none_or(|minors| !minors.contains(*number));
        for number in client.local_numbers.iter().filter(of_age) {
            let question = json!({
                "resident": { "local_number": number }, "asks": [{ "query": "q01", "holder": pup }],
                "purpose": PURPOSE, "basis": { "kind": "none" }, "reason": "przygotowanie rozmowy",
            });
            let (status, _) =
                federation.local(mops)?.send(Method::POST, "/v1/queries", Some(&token), Some(&question)).await?;
            if status == 200 {
                return Ok(Some(number.clone()));
            }
        }
    }
    Ok(None)
}

struct Question<'a> {
    asker: &'a MemberId,
    holder: &'a MemberId,
    query: &'a str,
    resident: Value,
    basis: Value,
}

async fn put(federation: &Federation, question: &Question<'_>) -> Result<Outcome, Failure> {
    let token = federation.token(question.asker, "jan.pracownik", &["caseworker"])?;
    let body = json!({
        "resident": question.resident, "asks": [{ "query": question.query, "holder": question.holder }],
        "purpose": PURPOSE, "basis": question.basis, "case_ref": "MOPS/2026/17", "reason": "wniosek o zasiłek okresowy",
    });
    let api = federation.local(question.asker)?;
    let result: QueryResult = api.call(Method::POST, "/v1/queries", &token, Some(&body)).await?;
    result.outcomes.into_iter().next().ok_or_else(|| Failure::new("internal", "no outcome"))
}

async fn record_consent(federation: &Federation, mops: &MemberId, resident: &Value) -> Result<ConsentReceipt, Failure> {
    let token = federation.token(mops, "anna.recepcja", &["front-desk"])?;
    let body = json!({
        "resident": resident, "template": "instead-of-certificate",
        "modules": { "labour-status": "given", "labour-benefit": "refused" }, "recipient": mops,
        "purposes": [PURPOSE], "days": 30, "evidence_sha256": evidence()?,
    });
    federation.local(mops)?.call(Method::POST, "/v1/consents", &token, Some(&body)).await
}

fn tell_outcome(
    report: &mut Report,
    output: &Output,
    name: &'static str,
    words: &str,
    asker: &MemberId,
    holder: &MemberId,
    outcome: &Outcome,
) {
    let kind = word(&outcome.outcome);
    let reason = outcome.reason.as_deref().map(|r| format!(" ({r})")).unwrap_or_default();
    output.say(format!("   {words}: {kind}{reason}"));
    if let Some(next) = &outcome.next_step {
        output.say(format!("      {next}"));
    }
    for (field, value) in &outcome.fields {
        output.say(format!("      {field:<24} {value}"));
    }
    report.queries.push(Asked {
        name,
        asker: asker.to_string(),
        holder: holder.to_string(),
        outcome: kind,
        reason: outcome.reason.clone(),
        fields: outcome.fields.keys().map(ToString::to_string).collect(),
    });
}

fn disk(federation: &Federation, people: &[People], output: &Output) -> Result<(), Failure> {
    output.say("\n6. What the disks show");
    for (dir, words) in [("registry", "the registry's files"), ("", "every file of the federation, logs included")] {
        let searched = search(&federation.founded.dir.join(dir), people)?;
        output.say(format!(
            "   {words}: {} files, {} KiB: {} PESEL numbers, plain hashes of them or surnames",
            searched.files,
            searched.bytes / 1024,
            searched.found
        ));
        if searched.found > 0 {
            return Err(Failure::new("verification_failed", format!("identifiers were found in {words}")));
        }
    }
    Ok(())
}

fn logs(federation: &Federation, report: &mut Report, output: &Output) -> Result<(), Failure> {
    output.say("\n7. The logs of all sides, verified offline");
    for name in UNITS.iter().map(|(name, ..)| *name).chain(["registry"]) {
        let dir = federation.founded.dir.join(name).join("data/log");
        let verified =
            audit::verify_dir(&dir, None, None, |_| {}).map_err(|e| Failure::new("verification_failed", chain(&e)))?;
        output.say(format!(
            "   {name:<9} {} entries, root {}",
            verified.entries,
            protocol::encoding::b64(&verified.root)
        ));
        report.audit.insert(name.to_owned(), Audited { entries: verified.entries, verified: true });
    }
    Ok(())
}
