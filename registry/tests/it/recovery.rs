//! A registry restored from a backup, for real: its directory is copied, lived on, and put back.

use crate::federation::{DAY, Federation, MEMBERS, agreement, no_passphrase};
use protocol::manifest::SignedManifest;
use protocol::registry::INDEX_HEADER;
use registry::{OpenError, Registry};
use std::path::Path;

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(|entry| entry.unwrap().path()) {
        let target = to.join(entry.file_name().unwrap());
        if entry.is_dir() { copy(&entry, &target) } else { std::fs::copy(&entry, &target).map(drop).unwrap() }
    }
}

pub(crate) async fn generation(federation: &Federation) -> String {
    let (headers, _) = federation.exchange("mops", "GET", "/v1/manifest", vec![]).await;
    headers[INDEX_HEADER].to_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_restored_registry_is_closed_until_members_confirm_what_it_knows() {
    let mut federation = Federation::new().await;
    federation.put("mops", &[1], &MEMBERS).await;
    let (data, backup) = (federation.config.data.clone(), federation.dir.path().join("backup"));
    let before = generation(&federation).await;
    federation.restart().await;
    assert_eq!(generation(&federation).await, before, "an ordinary start is no news");
    federation.stop();
    copy(&data, &backup);

    // Life goes on: an entry, a deletion's replay guard, a new manifest.
    federation.restart().await;
    let old_manifest = federation.manifest.clone();
    let put = federation.put_request("pup", &[1], &MEMBERS);
    assert_eq!(federation.send("PUT", "/v1/entries", &put).await.status, 200);
    federation.amend(|manifest| manifest.agreements.push(agreement("css", "zlm"))).await;
    federation.stop();
    std::fs::remove_dir_all(&data).unwrap();
    copy(&backup, &data);
    federation.clock.advance(30);
    registry::restored(&federation.config, federation.clock.now()).unwrap();
    federation.restart().await;
    assert_ne!(generation(&federation).await, before, "members see that entries may be missing");

    let locate = async |federation: &Federation, asker: &str| {
        federation.send("POST", "/v1/locate", &federation.locate_request(asker, &[1])).await
    };
    federation.call("mops", "GET", "/health/ready", vec![]).await.refused("registry_restored");
    federation.clock.advance(1);
    // Members know a newer manifest: nobody confirms the old one, and they bring it.
    for asker in MEMBERS {
        locate(&federation, asker).await.refused("manifest_unknown");
    }
    let newest = serde_json::to_vec(&federation.manifest).unwrap();
    assert_eq!(federation.call("pup", "PUT", "/v1/manifest", newest).await.status, 200);
    // What was sent before is not believed: whether it was done is forgotten.
    let (iat, jti) = (put.iat, put.jti.clone());
    let again = protocol::registry::EntriesRequest { iat, jti, ..federation.put_request("pup", &[1], &MEMBERS) };
    federation.send("PUT", "/v1/entries", &again).await.refused("request_stale");
    locate(&federation, "mops").await.refused("registry_restored");
    locate(&federation, "mops").await.refused("registry_restored");
    // The second member opens it. One without an own entry: meters count as spent today.
    locate(&federation, "pup").await.refused("miss_budget_spent");
    assert_eq!(locate(&federation, "mops").await.status, 200);
    assert_eq!(federation.call("mops", "GET", "/health/ready", vec![]).await.status, 200);
    let log = federation.log();
    let reopened = log.iter().find(|entry| entry["event"] == "reopened").unwrap();
    assert_eq!(reopened["confirmed_by"], serde_json::json!(["mops", "pup"]));
    assert_ne!(old_manifest, federation.manifest);

    // That it was restored is remembered, and that it is open.
    let generation_now = generation(&federation).await;
    federation.restart().await;
    assert_eq!(generation(&federation).await, generation_now);
    federation.send("PUT", "/v1/entries", &again).await.refused("request_stale");
    locate(&federation, "pup").await.refused("miss_budget_spent");
    federation.clock.advance(DAY);
    assert_eq!(locate(&federation, "pup").await.status, 200);
}

/// An index that was made with other secrets is not taken for an empty one.
#[tokio::test]
async fn an_index_of_another_registry_is_refused() {
    let mut federation = Federation::new().await;
    federation.put("mops", &[1], &MEMBERS).await;
    federation.stop();
    let mut other = Federation::new().await;
    other.stop();
    std::fs::copy(federation.config.index(), other.config.index()).unwrap();
    let refused = Registry::open(other.config.clone(), other.clock.clone(), no_passphrase).await.map(drop);
    assert!(matches!(refused, Err(OpenError::WrongPepper)), "{refused:?}");
}

/// Whoever pinned an old manifest walks forward to the one in force, version by version.
#[tokio::test]
async fn older_manifests_are_served_with_what_followed_them() {
    let mut federation = Federation::new().await;
    let first = federation.manifest.clone();
    federation.amend(|_| ()).await;
    federation.amend(|manifest| manifest.version += 5).await;
    federation.restart().await;
    let mut which = first.fingerprint();
    let mut walked: Vec<SignedManifest> = vec![];
    loop {
        let (headers, reply) = federation.exchange("newcomer", "GET", &format!("/v1/manifest/{which}"), vec![]).await;
        let manifest: SignedManifest = reply.json();
        match walked.last() {
            None => manifest.accept_first(&first.hash()).map(drop).unwrap(),
            Some(held) => manifest.accept_after(held).map(drop).unwrap(),
        }
        walked.push(manifest);
        let Some(next) = headers.get(protocol::manifest::NEXT_HEADER) else { break };
        which = next.to_str().unwrap().to_owned();
    }
    assert_eq!(walked.iter().map(|m| m.read().unwrap().version).collect::<Vec<_>>(), [1, 2, 8]);
    assert_eq!(walked.last().unwrap(), &federation.manifest);
    federation.call("newcomer", "GET", "/v1/manifest/3", vec![]).await.refused("manifest_unknown");
    federation.call("newcomer", "GET", "/v1/manifest/x", vec![]).await.refused("request_malformed");
}
