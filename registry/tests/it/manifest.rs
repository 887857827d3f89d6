//! Which manifest is in force, and what is closed without one.

use crate::federation::{DAY, Federation, MEMBERS, NOW, agreement, message_key, signed};
use protocol::manifest::{ManifestRef, OfficerKey, SignedManifest};
use protocol::{Bytes, SigningKey};

async fn offer(federation: &Federation, manifest: &SignedManifest) -> crate::federation::Reply {
    federation.call("pup", "PUT", "/v1/manifest", serde_json::to_vec(manifest).unwrap()).await
}

#[tokio::test]
async fn the_first_must_be_the_one_pinned() {
    let mut federation = Federation::unpublished().await;
    federation.send("POST", "/v1/locate", &federation.locate_request("mops", &[1])).await.refused("manifest_missing");
    federation.call("mops", "GET", "/v1/manifest", vec![]).await.refused("manifest_missing");
    federation.call("mops", "GET", "/health/ready", vec![]).await.refused("manifest_missing");
    let other = federation.successor(|_| ());
    offer(&federation, &other).await.refused("manifest_wrong_fingerprint");
    assert_eq!(offer(&federation, &federation.manifest).await.json::<ManifestRef>(), federation.reference());
    assert_eq!(federation.call("mops", "GET", "/health/ready", vec![]).await.status, 200);
    federation.restart().await;
    assert_eq!(federation.locate("mops", &[1]).await.found.len(), 1);
}

#[tokio::test]
async fn without_a_pin_none_is_accepted() {
    let mut federation = Federation::unpublished().await;
    federation.config.manifest_fingerprint = None;
    federation.restart().await;
    offer(&federation, &federation.manifest).await.refused("manifest_not_pinned");
}

#[tokio::test]
async fn whoever_has_a_certificate_gets_it_member_or_not() {
    let federation = Federation::new().await;
    for peer in ["mops", "newcomer"] {
        let served: SignedManifest = federation.call(peer, "GET", "/v1/manifest", vec![]).await.json();
        assert_eq!(served, federation.manifest);
    }
    let crl = federation.call("newcomer", "GET", "/v1/crl", vec![]).await;
    assert_eq!(crl.body, std::fs::read(federation.dir.path().join("crl.pem")).unwrap());
}

#[tokio::test]
async fn successors_are_accepted_recorded_and_kept() {
    let mut federation = Federation::new().await;
    let old = federation.locate_request("css", &[1]);
    federation.amend(|manifest| manifest.agreements.push(agreement("css", "zlm"))).await;
    federation.send("POST", "/v1/locate", &old).await.refused("manifest_behind");
    let log = federation.log();
    let entry = log.last().unwrap();
    assert_eq!((&entry["event"], &entry["manifest"]["version"]), (&"manifest".into(), &2.into()));
    assert_eq!(entry["manifest"]["hash"], federation.manifest.fingerprint());
    let entries = federation.log().len();
    assert_eq!(offer(&federation, &federation.manifest).await.json::<ManifestRef>().version, 2);
    assert_eq!(federation.log().len(), entries, "the same one again is no news");
    federation.restart().await;
    assert_eq!(federation.locate("css", &[1]).await.found.len(), 1);
}

#[tokio::test]
async fn what_is_not_a_successor_is_refused() {
    let mut federation = Federation::new().await;
    let first = federation.manifest.clone();
    federation.amend(|_| ()).await;
    offer(&federation, &first).await.refused("manifest_older");
    let fork = federation.successor(|m| {
        m.version -= 1;
        m.library.digest = Bytes(vec![1; 32]);
    });
    offer(&federation, &fork).await.refused("manifest_fork");
    let mut alone = SignedManifest::draft(&federation.successor(|_| ()).read().unwrap()).unwrap();
    alone.sign(&SigningKey::from_seed(&[101; 32]).unwrap());
    offer(&federation, &alone).await.refused("manifest_unsigned");
    offer(&federation, &federation.successor(|m| m.expires = NOW + -1)).await.refused("manifest_expired");
    offer(&federation, &federation.successor(|m| m.issued = NOW + 31)).await.refused("clock_wrong");
    offer(&federation, &federation.successor(|m| m.realm = "other.example".parse().unwrap()))
        .await
        .refused("manifest_other_realm");
    let stranger = message_key("stranger").public();
    offer(&federation, &federation.successor(|m| m.members[4].keys[0].key = stranger))
        .await
        .refused("manifest_not_ours");
    federation.call("pup", "PUT", "/v1/manifest", b"{}".to_vec()).await.refused("request_malformed");
    assert_eq!(federation.locate("mops", &[1]).await.found.len(), 1, "the one held stays in force");
}

#[tokio::test]
async fn an_expired_manifest_closes_everything_but_fetching() {
    let mut federation = Federation::new().await;
    federation.put("mops", &[1], &[]).await;
    federation.clock.set(NOW + 500 * DAY);
    assert_eq!(federation.locate("mops", &[1]).await.found.len(), 1);
    federation.clock.advance(1);
    federation.send("POST", "/v1/locate", &federation.locate_request("mops", &[1])).await.refused("manifest_expired");
    federation.send("PUT", "/v1/entries", &federation.put_request("mops", &[1], &[])).await.refused("manifest_expired");
    federation.call("mops", "GET", "/health/ready", vec![]).await.refused("manifest_expired");
    assert_eq!(federation.call("mops", "GET", "/v1/manifest", vec![]).await.status, 200);
    assert_eq!(federation.call("mops", "GET", "/health/live", vec![]).await.status, 200);
    federation.amend(|manifest| manifest.expires = NOW + 900 * DAY).await;
    assert_eq!(federation.locate("mops", &[1]).await.found.len(), 1);
}

#[tokio::test]
async fn a_clock_behind_manifest_or_log_closes() {
    let mut federation = Federation::new().await;
    let locate = async |federation: &Federation| {
        federation.send("POST", "/v1/locate", &federation.locate_request("mops", &[1])).await
    };
    federation.clock.set(NOW + -31);
    locate(&federation).await.refused("clock_wrong");
    federation.clock.set(NOW + DAY);
    assert_eq!(locate(&federation).await.status, 200);
    federation.clock.set(NOW + DAY + -31);
    locate(&federation).await.refused("clock_wrong");
    federation.restart().await;
    locate(&federation).await.refused("clock_wrong");
    federation.call("mops", "GET", "/health/ready", vec![]).await.refused("clock_wrong");
    federation.clock.set(NOW + DAY + -30);
    assert_eq!(locate(&federation).await.status, 200);
}

#[tokio::test]
async fn a_member_that_left_is_unknown_and_unseen() {
    let mut federation = Federation::new().await;
    federation.put("mops", &[1], &MEMBERS).await;
    federation.put("zlm", &[1], &MEMBERS).await;
    assert_eq!(federation.locate("mops", &[1]).await.found[0].entries.len(), 1);
    federation.manifest = {
        let next = federation.successor(|m| {
            m.members.retain(|member| member.id.as_str() != "zlm");
            m.agreements.retain(|a| [&a.terms.asker, &a.terms.holder].iter().all(|party| party.as_str() != "zlm"));
        });
        signed(&next.read().unwrap())
    };
    federation.registry().publish(federation.manifest.clone()).await.unwrap();
    assert_eq!(federation.locate("mops", &[1]).await.found[0].entries.len(), 0);
    federation.send("POST", "/v1/locate", &federation.locate_request("zlm", &[1])).await.refused("peer_unknown");
}

/// Officers change by and by: each step under the thresholds of both. Nobody jumps to officers whom the old ones did not
/// sign for, and no operator gets hold of as many shares as open the key.
#[tokio::test]
async fn officers_rotate_and_operators_stay_apart() {
    let mut federation = Federation::new().await;
    let officer = |seed: u8, name: &str| OfficerKey {
        member: name.parse().unwrap(),
        key: SigningKey::from_seed(&[seed; 32]).unwrap().public(),
    };
    let by = |manifest: &protocol::Manifest, seeds: &[u8]| {
        let mut signed = SignedManifest::draft(manifest).unwrap();
        for seed in seeds {
            signed.sign(&SigningKey::from_seed(&[*seed; 32]).unwrap());
        }
        signed
    };
    let mut next = federation.successor(|_| ()).read().unwrap();
    next.officers.keys = vec![officer(102, "mops"), officer(103, "pup"), officer(104, "zlm")];
    // 101 leaves, 104 comes: two of the old and two of the new have to sign.
    offer(&federation, &by(&next, &[101, 104])).await.refused("manifest_unsigned");
    offer(&federation, &by(&next, &[101, 102])).await.refused("manifest_unsigned");
    let accepted = by(&next, &[101, 102, 104]);
    assert_eq!(offer(&federation, &accepted).await.status, 200);
    federation.manifest = accepted;
    // The one who left no longer counts.
    let mut later = federation.successor(|_| ()).read().unwrap();
    offer(&federation, &by(&later, &[101, 102])).await.refused("manifest_unsigned");
    later.members.iter_mut().find(|m| m.id.as_str() == "pup").unwrap().operator = "it of MOPS".into();
    offer(&federation, &by(&later, &[102, 103])).await.refused("manifest_operators");
}
