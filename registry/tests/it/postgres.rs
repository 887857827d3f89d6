//! The registry over PostgreSQL: two processes at once, the disk's silence, and moving there and back.

use crate::federation::{DAY, Federation, MEMBERS, index, no_passphrase, open, sealed};
use crate::recovery::generation;
use protocol::registry::LocateAnswer;
use protocol::review::News;
use registry::{Cluster, Config, Engine, MigrateError, OpenError, Registry, Status, migrate};
use std::sync::{Arc, Mutex};
use std::time::Duration;

async fn over(cluster: &Cluster) -> Federation {
    let mut federation = Federation::unpublished().await;
    federation.config.engine = Engine::Postgres;
    federation.config.postgres = Some(cluster.settings("postgres"));
    federation.restart().await;
    federation.registry().publish(federation.manifest.clone()).await.unwrap();
    federation
}

/// Another process over the same database, with directory, keys and log of its own, and the same two secrets.
async fn second(federation: &mut Federation) -> (Config, Arc<Registry>) {
    let mut second = federation.config.clone();
    second.instance = Some("b".parse().unwrap());
    second.data = federation.dir.path().join("second");
    second.log = second.data.join("log");
    registry::init(&second, no_passphrase).unwrap();
    let keys = {
        let storage = keyring::StorageKey::obtain(&second.storage_key, no_passphrase).unwrap();
        let ring = keyring::KeyRing::open(&second.key_ring(), &storage).unwrap();
        registry::member_keys(&ring, federation.clock.now() + -DAY, federation.clock.now() + 400 * DAY)
    };
    let first_manifest = federation.manifest.clone();
    federation
        .amend(|manifest| {
            let us = manifest.members.iter_mut().find(|m| m.id.as_str() == "registry").unwrap();
            us.keys.extend(keys.clone());
        })
        .await;
    let newest = federation.manifest.clone();
    second.manifest_fingerprint = Some(newest.hash());
    let other = open(&second, &federation.clock).await;
    other.publish(newest).await.unwrap();
    assert_eq!(other.log().origin(), "lodz.example/registry/b");
    assert_ne!(first_manifest, federation.manifest);
    (second, other)
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_answer_as_one() {
    let cluster = Cluster::start(&[]).unwrap();
    let mut federation = over(&cluster).await;
    let (_, other) = second(&mut federation).await;
    federation.put("mops", &[1], &MEMBERS).await;
    let put = federation.put_request("pup", &[1], &MEMBERS);
    let first = federation.swap(other);
    assert_eq!(federation.send("PUT", "/v1/entries", &put).await.status, 200);
    assert_eq!(federation.locate("pup", &[1]).await.found[0].entries, [sealed("mops", 1)]);
    let _second = federation.swap(first);
    // What the one stored the other shows, refuses a second time, and tells in review queues.
    federation.send("PUT", "/v1/entries", &put).await.refused("request_replayed");
    assert_eq!(federation.locate("mops", &[1]).await.found[0].entries, [sealed("pup", 1)]);
    federation.clock.advance(120);
    assert!(matches!(federation.review("mops").await[0].news, News::Met { by_reader: false, .. }));
}

/// Both are told that their database was restored: members see one new generation, whichever process they ask.
#[tokio::test(flavor = "multi_thread")]
async fn two_processes_over_a_restored_database_agree() {
    let cluster = Cluster::start(&[]).unwrap();
    let mut federation = over(&cluster).await;
    let (config, other) = second(&mut federation).await;
    let before = generation(&federation).await;
    for config in [&federation.config, &config] {
        registry::restored(config, federation.clock.now()).unwrap();
    }
    // One goes on running: it tells of what the other wrote as soon as that is written.
    federation.restart().await;
    let renewed = generation(&federation).await;
    assert_ne!(renewed, before);
    let first = federation.swap(other);
    assert_eq!(generation(&federation).await, renewed);
    drop(federation.swap(first));
    federation.clock.advance(5);
    let other = open(&config, &federation.clock).await;
    let first = federation.swap(other);
    assert_eq!(generation(&federation).await, renewed, "the other comes later and renews nothing");
    drop(federation.swap(first));
    federation.restart().await;
    assert_eq!(generation(&federation).await, renewed);

    // Restored once more, both start at one moment.
    federation.clock.advance(5);
    for config in [&federation.config, &config] {
        registry::restored(config, federation.clock.now()).unwrap();
    }
    federation.stop();
    let (first, other) = tokio::join!(open(&federation.config, &federation.clock), open(&config, &federation.clock));
    federation.start(first);
    let again = generation(&federation).await;
    assert_ne!(again, renewed);
    federation.swap(other);
    assert_eq!(generation(&federation).await, again);
}

/// Batches of one member that are under way together wait at no common row.
#[tokio::test(flavor = "multi_thread")]
async fn a_members_batches_do_not_wait_for_each_other() {
    let cluster = Arc::new(Cluster::start(&[]).unwrap());
    let federation = over(&cluster).await;
    federation.put("mops", &[0], &MEMBERS).await;
    // As another registry process would in a transaction that is not over: what the first batch touched is locked.
    let locking = {
        let cluster = cluster.clone();
        let lock =
            "BEGIN; SELECT count(*) FROM (SELECT 1 FROM meters FOR UPDATE) AS locked; SELECT pg_sleep(20); COMMIT";
        std::thread::spawn(move || cluster.sql(lock))
    };
    let locked = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
    while cluster.sql(locked).unwrap() == "0" {}
    let puts = (1..=8).map(|n| federation.put_request("mops", &[n], &MEMBERS)).collect::<Vec<_>>();
    let send = async |put| {
        tokio::time::timeout(Duration::from_secs(8), federation.send("PUT", "/v1/entries", put)).await.is_ok()
    };
    let done = futures_util::future::join_all(puts.iter().map(send)).await.into_iter().filter(|done| *done).count();
    assert!(done >= 5, "{done} of 8 did not wait");
    cluster.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'PgSleep'").unwrap();
    let _ended = locking.join().unwrap();
    // What was counted on many meters is one number.
    let status: Status = federation.call("registry", "GET", "/v1/status", vec![]).await.json();
    let mops = status.members.iter().find(|m| m.id.as_str() == "mops").unwrap();
    assert!(mops.posted > u64::try_from(done).unwrap(), "{}", mops.posted);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_databases_files_show_no_index_and_no_sealed_value() {
    let mut cluster = Cluster::start(&[]).unwrap();
    let mut federation = over(&cluster).await;
    for name in MEMBERS {
        federation.put(name, &[1, 2], &MEMBERS).await;
        federation.locate(name, &[1, 2]).await;
    }
    federation.stop();
    cluster.sql("CHECKPOINT").unwrap();
    cluster.kill().unwrap();
    for n in [1, 2] {
        assert_eq!(crate::disk::shows(&cluster.data(), index(n).as_bytes()), [""; 0]);
        assert_eq!(crate::disk::shows(&cluster.data(), &sealed("mops", n).0[..32]), [""; 0]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreachable_database_refuses_and_heals() {
    let mut cluster = Cluster::start(&[]).unwrap();
    let federation = over(&cluster).await;
    federation.put("mops", &[1], &MEMBERS).await;
    federation.put("pup", &[1], &MEMBERS).await;
    cluster.kill().unwrap();
    let refused = federation.send("POST", "/v1/locate", &federation.locate_request("mops", &[1])).await;
    refused.refused("index_unavailable");
    assert!(refused.problem().retry_after.is_some());
    federation.call("mops", "GET", "/health/ready", vec![]).await.refused("index_unavailable");
    cluster.restart().unwrap();
    let found: LocateAnswer = federation.locate("mops", &[1]).await;
    assert_eq!(found.found[0].entries, [sealed("pup", 1)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_moves_to_the_database_and_back() {
    let cluster = Cluster::start(&[]).unwrap();
    let mut federation = Federation::new().await;
    federation.config.postgres = Some(cluster.settings("postgres"));
    let all: Vec<u8> = (0..=255).collect();
    for name in MEMBERS {
        federation.put(name, &all, &MEMBERS).await;
    }
    let put = federation.put_request("mops", &[1], &MEMBERS);
    federation.send("PUT", "/v1/entries", &put).await;
    let before = generation(&federation).await;
    federation.stop();

    let there = (Engine::Embedded, Engine::Postgres);
    federation.config.postgres = Some(cluster.settings("nowhere"));
    let nowhere = migrate(&federation.config, there, true, |_| ()).await;
    assert!(matches!(nowhere, Err(MigrateError::Open(_))), "{nowhere:?}");
    federation.config.postgres = Some(cluster.settings("postgres"));
    let planned = migrate(&federation.config, there, true, |_| ()).await.unwrap();
    assert_eq!((planned.rows, planned.verified), (4 * 256, false));
    assert!(planned.notes > 0 && planned.meters > 0);
    assert_eq!(cluster.sql("SELECT count(*) FROM pg_tables WHERE tablename = 'entries'").unwrap(), "0");
    // The operator tries the new configuration first, as is said to be done: the target has a generation of its own.
    federation.config.engine = Engine::Postgres;
    federation.restart().await;
    assert_ne!(generation(&federation).await, before);
    let served = migrate(&federation.config, there, false, |_| ()).await;
    assert!(matches!(served, Err(MigrateError::Served(_))), "{served:?}");
    federation.stop();
    let steps = Mutex::new(vec![]);
    let moved = migrate(&federation.config, there, false, |step| steps.lock().unwrap().push(step)).await.unwrap();
    assert_eq!(
        (moved.rows, moved.notes, moved.meters, moved.verified),
        (planned.rows, planned.notes, planned.meters, true)
    );
    assert!(steps.lock().unwrap().last().is_some_and(|step| step.verifying && step.rows == step.of));

    // As if it had been ended after its last step: all is there.
    let again = migrate(&federation.config, there, false, |_| ()).await.unwrap();
    assert_eq!(
        (again.resumed_at, again.rows, again.notes, again.meters, again.verified),
        (planned.rows, planned.rows, planned.notes, planned.meters, true)
    );
    federation.restart().await;
    assert_eq!(generation(&federation).await, before, "nothing is missing: nobody publishes again");
    federation.send("PUT", "/v1/entries", &put).await.refused("request_replayed");
    assert_eq!(federation.locate("mops", &[1, 255]).await.found[1].entries.len(), 3);
    federation.clock.advance(120);
    assert!(!federation.review("mops").await.is_empty());
    federation.put("mops", &[7], &MEMBERS[..1]).await;
    federation.stop();
    // Now it would overwrite what lives there.
    let again = migrate(&federation.config, there, false, |_| ()).await;
    assert!(matches!(again, Err(MigrateError::NotEmpty(found)) if found > 1024), "{again:?}");

    // And back, into a file of its own.
    std::fs::remove_file(federation.config.index()).unwrap();
    let back = migrate(&federation.config, (Engine::Postgres, Engine::Embedded), false, |_| ()).await.unwrap();
    assert_eq!((back.rows, back.verified), (1024, true));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_migration_goes_on_where_it_stopped_and_notices_what_is_wrong() {
    let cluster = Cluster::start(&[]).unwrap();
    let mut federation = Federation::new().await;
    federation.config.postgres = Some(cluster.settings("postgres"));
    for name in MEMBERS {
        federation.put(name, &(0..=255).collect::<Vec<u8>>(), &MEMBERS).await;
    }
    federation.stop();
    let there = (Engine::Embedded, Engine::Postgres);
    migrate(&federation.config, there, false, |_| ()).await.unwrap();
    // As if it had ended after its first page, before it noted how far it is: what is there is no obstacle.
    let begun = serde_json::json!({"from": "embedded", "after": null, "rows": 0});
    std::fs::write(federation.config.migration(), begun.to_string()).unwrap();
    let resumed = migrate(&federation.config, there, false, |_| ()).await.unwrap();
    assert_eq!((resumed.resumed_at, resumed.rows, resumed.verified), (0, 1024, true));
    // As if it had stopped in the middle: half of the rows are there, and so it says.
    let middle = cluster.sql("SELECT encode(key, 'base64') FROM entries ORDER BY key OFFSET 511 LIMIT 1").unwrap();
    cluster.sql("DELETE FROM entries WHERE key > (SELECT key FROM entries ORDER BY key OFFSET 511 LIMIT 1)").unwrap();
    let key = data_encoding::BASE64.decode(middle.as_bytes()).unwrap();
    let state = serde_json::json!({"from": "embedded", "after": protocol::encoding::b64(&key), "rows": 512});
    std::fs::write(federation.config.migration(), state.to_string()).unwrap();
    let resumed = migrate(&federation.config, there, false, |_| ()).await.unwrap();
    assert_eq!((resumed.resumed_at, resumed.rows, resumed.verified), (512, 1024, true));
    assert!(!federation.config.migration().exists());

    // One row that the target lost meanwhile is noticed, although it was copied.
    cluster.sql("DELETE FROM entries WHERE key = (SELECT key FROM entries ORDER BY key LIMIT 1)").unwrap();
    std::fs::write(federation.config.migration(), state.to_string()).unwrap();
    // Nor does a registry serve from it as long as not all is there.
    let config = Config { engine: Engine::Postgres, ..federation.config.clone() };
    let refused = Registry::open(config, federation.clock.clone(), no_passphrase).await.map(drop);
    assert!(matches!(refused, Err(OpenError::HalfMigrated(_))), "{refused:?}");
    let noticed = migrate(&federation.config, there, false, |_| ()).await;
    assert!(matches!(noticed, Err(MigrateError::Unverified { rows: 1024, wrong: 1, target: 1023 })), "{noticed:?}");
    // So are a note and a meter that are other than they were.
    std::fs::write(federation.config.migration(), begun.to_string()).unwrap();
    cluster.sql("UPDATE notes SET row = (SELECT row FROM notes ORDER BY row LIMIT 1)").unwrap();
    let noticed = migrate(&federation.config, there, false, |_| ()).await;
    assert!(matches!(noticed, Err(MigrateError::OtherRest("notes"))), "{noticed:?}");
    cluster.sql("DELETE FROM notes; INSERT INTO meters VALUES (decode(repeat('07', 32), 'hex'), 1, 1)").unwrap();
    let noticed = migrate(&federation.config, there, false, |_| ()).await;
    assert!(matches!(noticed, Err(MigrateError::OtherRest("meters"))), "{noticed:?}");
    let other = migrate(&federation.config, (Engine::Postgres, Engine::Embedded), false, |_| ()).await;
    assert!(matches!(other, Err(MigrateError::OtherMigration(_))), "{other:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn status_says_what_the_operator_must_know() {
    let cluster = Cluster::start(&[]).unwrap();
    let federation = over(&cluster).await;
    federation.put("mops", &[1, 2], &MEMBERS).await;
    federation.locate("mops", &[1, 9]).await;
    federation.call("mops", "GET", "/v1/status", vec![]).await.refused("own_certificate_required");
    let status: Status = federation.call("registry", "GET", "/v1/status", vec![]).await.json();
    assert_eq!((status.rows, status.engine.as_str(), status.closed), (2, "postgres", None));
    assert!(status.warnings.iter().any(|warning| warning.contains("synchronous_standby_names")));
    assert_eq!(status.members.len(), MEMBERS.len(), "the registry is no member to watch");
    let mops = status.members.iter().find(|m| m.id.as_str() == "mops").unwrap();
    assert_eq!((mops.misses_today, mops.posted, mops.met), (1, 2, 0));
    // One evaluation a day and one at once, under each of two keys; as mops holds a share, one of two others must answer.
    assert_eq!(mops.identifiers_per_year, 2 * (365 + 1) * 2);
    assert!((mops.pesel_percent_per_year - 1464.0 / 3.9e6).abs() < 1e-6);
    let _: &Registry = federation.registry();
}
