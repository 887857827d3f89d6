//! Ceremonies of key holders that operators hold: through restarts, to renew shares, to replace a holder, to change the
//! key; and what becomes of a holder restored from a backup.

use crate::key_birth::{assert_shared_is_the_truth, imported, restart, stop};
use crate::witnesses::impostor;
use axum::Router;
use axum::routing::post;
use http::{Method, StatusCode};
use node::{CeremonyState, CeremonyStatus, Invitation, NodeStatus, SessionRef};
use protocol::dkg::{DkgMessage, DkgStep};
use protocol::manifest::{Duty, KeyEpoch, KeyUse};
use protocol::{Bytes, Epoch, MemberId, jws};
use pseudonym::dkg;
use rand_core::UnwrapErr;
use serde_json::json;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tests::{Harness, Member, UNITS, member, read_log, until};

fn members(names: &[&str]) -> Vec<MemberId> {
    names.iter().map(|name| member(name)).collect()
}

pub(crate) fn renewal(dealers: &[&str], holders: &[&str]) -> Invitation {
    Invitation {
        epoch: Epoch(1),
        threshold: None,
        holders: members(holders),
        dealers: members(dealers),
        not_before: None,
    }
}

/// Publishes what a ceremony brought, as the officers would.
pub(crate) async fn publish(harness: &mut Harness, epoch: KeyEpoch) {
    let signed = harness.federation.founded.with_epoch(harness.clock.now(), epoch).expect("a manifest");
    harness.federation.publish(&signed).await.expect("published");
}

pub(crate) fn share_of(harness: &Harness, unit: &str, generation: u32) -> PathBuf {
    harness.home().join(unit).join(format!("data/1-{generation}.share"))
}

pub(crate) async fn shares(harness: &Harness, unit: &str) -> BTreeMap<u32, bool> {
    let status: NodeStatus = harness.federation.admin(&member(unit)).get("/status").await.expect("a status");
    status.shares
}

/// Waits until `done` says so: nodes tend their shares by themselves, every ten seconds.
pub(crate) async fn eventually(what: &str, done: impl Fn() -> bool) {
    for _ in 0..300 {
        if done() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("{what} does not happen");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_birth_outlives_restarts_of_everybody() {
    let mut harness = Harness::new().await;
    stop(&mut harness, "css").await;
    let invitation = Invitation {
        epoch: Epoch(2),
        threshold: Some(2),
        holders: members(&["mops", "pup", "css"]),
        dealers: Vec::new(),
        not_before: None,
    };
    let admin = |harness: &Harness, unit: &str| harness.federation.admin(&member(unit));
    let invited: CeremonyStatus =
        admin(&harness, "mops").run("/keyholder/invite", &invitation, &|_| {}).await.expect("an invitation");
    let at = SessionRef { session: invited.ceremony.session.clone() };
    assert!(invited.waiting_for.contains(&member("css")) && invited.undelivered.contains(&member("css")));

    // Everybody goes down once while the packages of one are missing, again and again while the rest goes on.
    for unit in ["mops", "pup"] {
        stop(&mut harness, unit).await;
        restart(&mut harness, unit).await;
    }
    restart(&mut harness, "css").await;
    let mut joined = [false; 2];
    for round in 0..60 {
        for (unit, joined) in ["pup", "css"].into_iter().zip(&mut joined) {
            if !*joined {
                *joined = admin(&harness, unit).run::<CeremonyStatus>("/keyholder/join", &at, &|_| {}).await.is_ok();
            }
        }
        let mut done = 0;
        for unit in ["mops", "pup", "css"] {
            let all: Vec<CeremonyStatus> = admin(&harness, unit).get("/keyholder").await.expect("a status");
            let here = all.iter().find(|status| status.ceremony.session == at.session);
            assert!(here.is_none_or(|here| here.failed.is_none()), "{unit}: {:?}", here.map(|h| &h.failed));
            done += usize::from(here.is_some_and(|here| here.state == CeremonyState::Done));
        }
        if done == 3 {
            break;
        }
        if round < 12 {
            let unit = ["css", "mops", "pup"][round % 3];
            stop(&mut harness, unit).await;
            restart(&mut harness, unit).await;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let mut results = Vec::new();
    for unit in ["mops", "pup", "css"] {
        results.push(admin(&harness, unit).run::<KeyEpoch>("/keyholder/wait", &at, &|_| {}).await.expect("a key"));
    }
    assert!(results.iter().all(|result| *result == results[0]), "all have one result");
    publish(&mut harness, results.remove(0)).await;
    for unit in ["mops", "pup", "css"] {
        assert_eq!(shares(&harness, unit).await, BTreeMap::from([(1, true), (2, true)]), "{unit}");
        stop(&mut harness, unit).await;
        let transcripts: Vec<String> = tokio::task::block_in_place(|| read_log(&harness, unit))
            .iter()
            .filter(|entry| entry["event"] == "key.compared" && entry["epoch"] == 2)
            .map(|entry| entry["detail"].as_str().unwrap_or_default().to_owned())
            .collect();
        let expected = protocol::encoding::b64(
            &harness.federation.founded.manifest.read().expect("a manifest").epochs[1].transcript.0,
        );
        assert!(!transcripts.is_empty() && transcripts.iter().all(|t| *t == expected), "{unit}: {transcripts:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn renewed_shares_give_the_old_names_and_the_old_shares_go() {
    let mut harness = imported().await;
    for unit in ["mops", "pup"] {
        harness.enrol(unit).await.expect("an enrolment");
    }
    let old = std::fs::read(share_of(&harness, "css", 1)).expect("a share");
    let renewed = harness.federation.hold_ceremony(&renewal(&["mops", "pup"], &["mops", "pup", "css"])).await;
    let renewed = renewed.expect("new shares");
    assert_eq!((renewed.epoch, renewed.generation), (Epoch(1), 2));
    // Until the manifest lists them, the old ones serve.
    harness.enrol("css").await.expect("an enrolment under the old shares");
    publish(&mut harness, renewed).await;
    harness.enrol("zlm").await.expect("an enrolment under the new shares");
    assert_shared_is_the_truth(&harness).await;

    for unit in ["mops", "pup", "css"] {
        assert!(share_of(&harness, unit, 1).exists() && share_of(&harness, unit, 2).exists(), "{unit} has both");
    }
    harness.clock.advance(20 * 60);
    for unit in ["mops", "pup", "css"] {
        eventually("the old share's end", || !share_of(&harness, unit, 1).exists()).await;
    }

    // A backup of css comes back: it notices, refuses, and the other two do.
    stop(&mut harness, "css").await;
    std::fs::remove_file(share_of(&harness, "css", 2)).expect("removed");
    std::fs::write(share_of(&harness, "css", 1), old).expect("restored");
    restart(&mut harness, "css").await;
    assert_eq!(shares(&harness, "css").await, BTreeMap::from([(1, false)]));
    for (unit, _) in UNITS {
        harness.enrol(unit).await.expect("two holders are enough");
    }
    let failure = harness.federation.hold_ceremony(&renewal(&["css", "pup"], &["mops", "pup", "css"])).await;
    let failure = failure.expect_err("it cannot deal");
    assert!(failure.message.contains("not of the key's current generation"), "{}", failure.message);

    // New shares heal it.
    let renewed = harness.federation.hold_ceremony(&renewal(&["mops", "pup"], &["mops", "pup", "css"])).await;
    publish(&mut harness, renewed.expect("new shares")).await;
    assert_eq!(shares(&harness, "css").await, BTreeMap::from([(1, true)]));
    stop(&mut harness, "mops").await;
    let ask = harness.ask("zlm", "pup", "q02", json!({ "pesel": "80010300035" }), json!({ "kind": "none" })).await;
    assert_ne!(ask.reason.as_deref(), Some("key_holders_unavailable"), "css answers again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_holder_is_replaced_and_one_added() {
    let mut harness = imported().await;
    harness.enrol("mops").await.expect("an enrolment");
    let failure = harness.federation.hold_ceremony(&renewal(&["mops", "pup"], &["mops", "pup", "zlm"])).await;
    assert!(failure.expect_err("not its duty").message.contains("not a key holder"));
    let next = harness.federation.founded.next_manifest(harness.clock.now(), |manifest| {
        for unit in &mut manifest.members {
            if unit.id == member("zlm") {
                unit.roles.insert(Duty::KeyHolder);
            }
        }
    });
    harness.federation.publish(&next.expect("a manifest")).await.expect("published");

    // css leaves though it is away, zlm comes.
    stop(&mut harness, "css").await;
    let renewed = harness.federation.hold_ceremony(&renewal(&["mops", "pup"], &["mops", "pup", "zlm"])).await;
    let renewed = renewed.expect("new shares");
    let holders: Vec<(u16, &str)> = renewed.holders.iter().map(|h| (h.id, h.member.as_str())).collect();
    assert_eq!(holders, [(1, "mops"), (2, "pup"), (4, "zlm")], "a number is not used again");
    restart(&mut harness, "css").await;
    publish(&mut harness, renewed).await;
    assert_eq!((shares(&harness, "zlm").await, shares(&harness, "css").await.len()), (BTreeMap::from([(1, true)]), 0));

    // The newcomer and one old holder give the old names.
    stop(&mut harness, "mops").await;
    for unit in ["pup", "css", "zlm"] {
        harness.enrol(unit).await.expect("two are enough");
    }
    restart(&mut harness, "mops").await;
    assert_shared_is_the_truth(&harness).await;

    let added = harness.federation.hold_ceremony(&renewal(&["pup", "zlm"], &["mops", "pup", "css", "zlm"])).await;
    publish(&mut harness, added.expect("a fourth share")).await;
    assert_eq!(shares(&harness, "css").await, BTreeMap::from([(1, true)]));
}

/// A participant that is no node: hears everything, and says what it is told to.
struct Liar {
    member: Member,
    session: Bytes,
    holders: BTreeMap<u16, MemberId>,
    heard: Arc<Mutex<Vec<String>>>,
}

impl Liar {
    /// Its share's number.
    fn id(&self) -> u16 {
        self.holders.iter().find(|(_, member)| **member == self.member.id).map(|(id, _)| *id).expect("a participant")
    }

    fn others(&self) -> impl Iterator<Item = (u16, &MemberId)> {
        self.holders.iter().filter(|(_, member)| **member != self.member.id).map(|(id, member)| (*id, member))
    }

    /// Says it until it is taken.
    async fn say(&self, to: &MemberId, step: DkgStep) {
        let (iss, aud, session) = (self.member.id.clone(), to.clone(), self.session.clone());
        let message = DkgMessage { iss, aud, iat: self.member.now(), session, step };
        for _ in 0..100 {
            if self.member.send(to.as_str(), Method::POST, "/v1/dkg", &message).await.is_ok() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("{to} does not take round {}", message.step.round());
    }

    /// The packages that the others published.
    async fn packages(&self) -> BTreeMap<u16, Vec<u8>> {
        for _ in 0..100 {
            let mut packages = BTreeMap::new();
            for token in self.heard.lock().expect("heard").iter() {
                let key = |kid: &_| self.member.manifest.key(kid, KeyUse::Message, self.member.now());
                let message: DkgMessage = jws::verify(token, key).expect("signed");
                let from = self.others().find(|(_, member)| **member == message.iss);
                if let (true, Some((id, _)), DkgStep::Round1 { package }) =
                    (message.session == self.session, from, message.step)
                {
                    packages.insert(id, package.0);
                }
            }
            if packages.len() == self.holders.len() - 1 {
                return packages;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("the others publish nothing");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_ceremonies_for_the_same_shares_a_holder_takes_part_in_one() {
    let harness = Harness::new().await;
    let admin = |unit: &str| harness.federation.admin(&member(unit));
    let invite = async |unit: &str| {
        let (holders, dealers) = (members(&["mops", "pup", "css"]), Vec::new());
        let invitation = Invitation { epoch: Epoch(2), threshold: Some(2), holders, dealers, not_before: None };
        let invited = admin(unit).run::<CeremonyStatus>("/keyholder/invite", &invitation, &|_| {}).await;
        SessionRef { session: invited.expect("an invitation").ceremony.session }
    };
    let does = async |unit: &str, what: &str, at: &SessionRef| {
        let path = format!("/keyholder/{what}");
        admin(unit).run::<CeremonyStatus>(&path, at, &|_| {}).await.map_err(|failure| failure.message)
    };
    let (first, second) = (invite("mops").await, invite("pup").await);
    for (unit, at) in [("css", &first), ("css", &second), ("mops", &second), ("pup", &first)] {
        until("the invitation", async || {
            let all: Vec<CeremonyStatus> = admin(unit).get("/keyholder").await.expect("a status");
            all.iter().any(|status| status.ceremony.session == at.session)
        })
        .await;
    }
    does("css", "join", &first).await.expect("joined");
    for (unit, at) in [("css", &second), ("mops", &second), ("pup", &first)] {
        let refused = does(unit, "join", at).await.expect_err("it takes part in the other");
        assert!(refused.contains("abandon"), "{unit}: {refused}");
    }
    does("pup", "abandon", &second).await.expect("abandoned");
    does("pup", "join", &first).await.expect("joined");
    for unit in ["mops", "pup", "css"] {
        admin(unit).run::<KeyEpoch>("/keyholder/wait", &first, &|_| {}).await.expect("a key");
    }
    // What is left of the other one does not touch the shares.
    for unit in ["mops", "css"] {
        does(unit, "abandon", &second).await.expect("abandoned");
        assert!(harness.home().join(unit).join("data/2-1.share").exists(), "{unit}");
    }
}

/// Why the ceremony failed at `unit`.
async fn failure(harness: &Harness, unit: &str, session: &Bytes) -> String {
    for _ in 0..300 {
        let all: Vec<CeremonyStatus> =
            harness.federation.admin(&member(unit)).get("/keyholder").await.expect("a status");
        if let Some(why) = all.into_iter().find(|s| &s.ceremony.session == session).and_then(|s| s.failed) {
            return why;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("{unit} does not notice");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_participant_that_cheats_leaves_nobody_with_a_share() {
    let mut harness = Harness::new().await;
    stop(&mut harness, "css").await;
    let heard: Arc<Mutex<Vec<String>>> = Arc::default();
    let ear = heard.clone();
    let hear = post(async move |token: String| {
        ear.lock().expect("heard").push(token);
        StatusCode::NO_CONTENT
    });
    let stands_in = impostor(&harness, "css", Router::new().route("/v1/dkg", hear)).await;
    let begin = async || {
        let (holders, dealers) = (members(&["mops", "pup", "css"]), Vec::new());
        let invitation = Invitation { epoch: Epoch(2), threshold: Some(2), holders, dealers, not_before: None };
        let admin = |unit: &str| harness.federation.admin(&member(unit));
        let invited: CeremonyStatus =
            admin("mops").run("/keyholder/invite", &invitation, &|_| {}).await.expect("an invitation");
        let at = SessionRef { session: invited.ceremony.session.clone() };
        while admin("pup").run::<CeremonyStatus>("/keyholder/join", &at, &|_| {}).await.is_err() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let (session, holders) = (at.session, invited.ceremony.holders);
        Liar { member: Member::of(&harness, "css"), session, holders, heard: heard.clone() }
    };
    let mut rng = UnwrapErr(getrandom::SysRng);

    // Another package for each: both see that the other got another.
    let liar = begin().await;
    for (_, other) in liar.others() {
        let (_, package) = dkg::round1(liar.id(), 3, 2, &mut rng).expect("a package");
        liar.say(other, DkgStep::Round1 { package: Bytes(package) }).await;
    }
    for unit in ["mops", "pup"] {
        let why = failure(&harness, unit, &liar.session).await;
        assert!(why.contains("other round-1 packages"), "{unit}: {why}");
    }

    // Honest until everybody has a share on its disk, and then a signature over something else.
    let liar = begin().await;
    let (secret, own) = dkg::round1(liar.id(), 3, 2, &mut rng).expect("a package");
    for (_, other) in liar.others() {
        liar.say(other, DkgStep::Round1 { package: Bytes(own.clone()) }).await;
    }
    let mut packages = liar.packages().await;
    packages.insert(liar.id(), own);
    let transcript = dkg::round1_digest(&packages);
    let (_, mut addressed) = dkg::round2(secret, &packages).expect("secret packages");
    for (id, other) in liar.others() {
        let secret = addressed.remove(&id).expect("one for each");
        liar.say(other, DkgStep::Compared { transcript: Bytes(transcript.to_vec()) }).await;
        liar.say(other, DkgStep::Round2 { package: Bytes(secret.to_vec()) }).await;
        liar.say(other, DkgStep::Born { signature: Bytes(vec![0; 64]) }).await;
    }
    for unit in ["mops", "pup"] {
        let why = failure(&harness, unit, &liar.session).await;
        assert!(why.contains("css signed another result"), "{unit}: {why}");
        assert!(!harness.home().join(unit).join("data/2-1.share").exists(), "{unit} keeps a share");
    }
    stands_in.cancel();
    for unit in ["mops", "pup"] {
        stop(&mut harness, unit).await;
        let log = tokio::task::block_in_place(|| read_log(&harness, unit));
        let count = |event: &str| log.iter().filter(|entry| entry["event"] == event && entry["epoch"] == 2).count();
        assert_eq!((count("key.ceremony_failed"), count("key.share_destroyed")), (2, 1), "{unit}");
    }
}
