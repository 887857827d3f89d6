use super::*;
use crate::{Cluster, conformance};
use std::sync::Arc;

fn database(cluster: &Cluster, name: &str) -> PostgresConfig {
    let _exists = cluster.sql(&format!("CREATE DATABASE \"{name}\""));
    cluster.settings(name)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn conforms() {
    let cluster = Cluster::start(&[]).unwrap();
    let open = async |space: &str| {
        let store: Arc<dyn IndexStore> = Arc::new(Postgres::open(&database(&cluster, space)).await.unwrap());
        store
    };
    conformance(open).await.unwrap();
}

fn put(n: u32, version: u8) -> Batch {
    let id = protocol::encoding::sha256(&[&n.to_be_bytes(), &[version]]);
    let key = RowKey(protocol::encoding::sha256(&[&n.to_be_bytes()]));
    let request = Some(RequestId { id, until: Timestamp(1_000) });
    Batch { request, put: vec![(key, Row(Box::new([version; ROW_BYTES])))], ..Batch::default() }
}

/// Several registries start at once over an empty database, and each sees what the others wrote.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn processes_share_one_database() {
    let cluster = Cluster::start(&[]).unwrap();
    let settings = database(&cluster, "shared");
    let opening: Vec<_> = (0..4).map(|_| (settings.clone(), ())).collect();
    let tasks: Vec<_> = opening
        .into_iter()
        .map(|(settings, ())| tokio::spawn(async move { Postgres::open(&settings).await }))
        .collect();
    let mut stores = Vec::new();
    for task in tasks {
        stores.push(Arc::new(task.await.unwrap().unwrap()));
    }
    // Everybody writes the same rows in another order; nobody waits for another forever, nothing is done twice.
    let write = |store: Arc<Postgres>, shift: u32| async move {
        for step in 0..20 {
            let mut batch = put(1000 * (shift + 1) + step, 1);
            for n in 0..10 {
                let (key, row) = put((n + shift + step) % 10, 7).put.remove(0);
                batch.put.push((key, row));
                batch.delete.push(RowKey([u8::try_from((n * 7 + shift) % 10).unwrap(); 32]));
            }
            store.write(batch).await?;
        }
        Ok::<_, StoreError>(())
    };
    let tasks: Vec<_> =
        stores.iter().zip(0..).map(|(store, shift)| tokio::spawn(write(store.clone(), shift))).collect();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    for store in &stores {
        assert_eq!(store.count().await.unwrap(), 4 * 20 + 10);
    }
    let again: Vec<_> = stores
        .iter()
        .map(|store| {
            tokio::spawn({
                let store = store.clone();
                async move { store.write(put(5, 9)).await }
            })
        })
        .collect();
    let mut stored = 0;
    for task in again {
        stored += usize::from(task.await.unwrap().unwrap() != Written::Replayed);
    }
    assert_eq!(stored, 1, "of one request at four processes, one is done");
}

/// The server ends one of two transactions that wait for each other; if it is ours, it is done again.
#[tokio::test(flavor = "multi_thread")]
async fn a_batch_ended_for_anothers_sake_is_done_again() {
    // Ours has waited longer when the circle closes, so that ours is looked at first, and ended.
    let cluster = Cluster::start(&["deadlock_timeout=2s"]).unwrap();
    let store = Arc::new(Postgres::open(&cluster.settings("postgres")).await.unwrap());
    for n in [1, 2] {
        store.write(put(n, 1)).await.unwrap();
    }
    let (ours, theirs) = (put(1, 2).put[0].0, put(2, 2).put[0].0);
    let other = store.client().await.unwrap();
    other.batch_execute("BEGIN; SET LOCAL deadlock_timeout = '1min'").await.unwrap();
    let lock = "UPDATE entries SET row = row WHERE key = $1";
    other.execute(lock, &[&theirs.0.as_slice()]).await.unwrap();
    let writing = tokio::spawn({
        let store = store.clone();
        async move { store.write(Batch { delete: vec![theirs], ..put(1, 2) }).await }
    });
    let waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted";
    while other.query_one(waiting, &[]).await.unwrap().get::<_, i64>(0) == 0 {}
    other.execute(lock, &[&ours.0.as_slice()]).await.unwrap();
    other.batch_execute("COMMIT").await.unwrap();
    assert_eq!(writing.await.unwrap().unwrap(), Written::Stored { deleted: 1 });
    assert_eq!(store.get(vec![ours, theirs]).await.unwrap(), [Some(Row(Box::new([2; ROW_BYTES]))), None]);
}

/// The server's processes are killed while it is written to; what was acknowledged is there when it is back.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_server_loses_nothing_acknowledged() {
    let mut cluster = Cluster::start(&[]).unwrap();
    let store = Arc::new(Postgres::open(&database(&cluster, "killed")).await.unwrap());
    let writing = tokio::spawn({
        let store = store.clone();
        async move {
            let mut acknowledged = 0;
            while store.write(put(acknowledged, 1)).await.is_ok() {
                acknowledged += 1;
            }
            acknowledged
        }
    });
    while store.count().await.unwrap() < 50 {}
    cluster.kill().unwrap();
    let acknowledged = writing.await.unwrap();
    assert!(store.ready().await.is_err());
    cluster.restart().unwrap();
    let count = store.count().await.unwrap();
    assert!(count == u64::from(acknowledged) || count == u64::from(acknowledged) + 1, "{count} of {acknowledged}");
    let keys = (0..acknowledged).map(|n| put(n, 1).put[0].0).collect();
    assert!(store.get(keys).await.unwrap().iter().all(Option::is_some));
    store.write(put(1_000_000, 1)).await.unwrap();
}

/// A primary that is lost for good, and a standby promoted: with `synchronous_standby_names` set nothing acknowledged is
/// lost, and the registry goes on by itself.
#[tokio::test(flavor = "multi_thread")]
async fn a_failover_loses_nothing_acknowledged() {
    let mut primary = Cluster::start(&["synchronous_standby_names=other"]).unwrap();
    // Founding the database would wait for a standby that is not there yet.
    let alone = primary.settings("postgres");
    let standby = Cluster::standby(&primary, "other", &["synchronous_standby_names="]).unwrap();
    let sockets = format!("{},{}", primary.socket().display(), standby.socket().display());
    let settings = PostgresConfig {
        url: format!("host={sockets} user=registry dbname=postgres target_session_attrs=read-write"),
        require_standby: true,
        ..alone
    };
    let store = Arc::new(Postgres::open(&settings).await.unwrap());
    assert_eq!(store.ready().await.unwrap(), [""; 0]);
    let content_alone = Postgres::open(&PostgresConfig { require_standby: false, ..settings }).await.unwrap();
    let writing = tokio::spawn({
        let store = store.clone();
        async move {
            let mut acknowledged = 0;
            while store.write(put(acknowledged, 1)).await.is_ok() {
                acknowledged += 1;
            }
            acknowledged
        }
    });
    while store.count().await.unwrap() < 100 {}
    primary.kill().unwrap();
    let acknowledged = writing.await.unwrap();
    standby.promote().unwrap();

    // The promoted one has no standby of its own: a registry that needs one refuses it, and says why.
    let refused = store.write(put(1_000_000, 1)).await.unwrap_err();
    assert!(refused.0.contains("synchronous_standby_names"), "{refused}");
    // One that does not finds it by itself.
    let keys = (0..acknowledged).map(|n| put(n, 1).put[0].0).collect();
    assert!(content_alone.get(keys).await.unwrap().iter().all(Option::is_some), "of {acknowledged} acknowledged");
    assert!(content_alone.ready().await.unwrap()[0].contains("synchronous_standby_names"));
    content_alone.write(put(1_000_000, 1)).await.unwrap();
}

#[tokio::test]
async fn a_server_that_acknowledges_too_early_is_refused_or_set_right() {
    let cluster = Cluster::start(&["fsync=off"]).unwrap();
    let refused = Postgres::open(&cluster.settings("postgres")).await.map(drop).unwrap_err();
    assert!(refused.0.contains("fsync = off"), "{refused}");
    drop(cluster);

    let cluster = Cluster::start(&["synchronous_commit=off", "full_page_writes=off"]).unwrap();
    let store = Postgres::open(&cluster.settings("postgres")).await.unwrap();
    let warnings = store.ready().await.unwrap();
    assert!(warnings.iter().any(|warning| warning.contains("full_page_writes")), "{warnings:?}");
    let client = store.client().await.unwrap();
    let set: String = client.query_one("SHOW synchronous_commit", &[]).await.unwrap().get(0);
    assert_eq!(set, "on");
}

#[tokio::test]
async fn a_database_of_a_newer_program_is_refused() {
    let cluster = Cluster::start(&[]).unwrap();
    let settings = cluster.settings("postgres");
    Postgres::open(&settings).await.unwrap();
    Postgres::open(&settings).await.unwrap();
    cluster.sql("INSERT INTO migrations VALUES (99)").unwrap();
    let refused = Postgres::open(&settings).await.map(drop).unwrap_err();
    assert!(refused.0.contains("newer version"), "{refused}");
}

/// Counting millions takes longer than a statement may: the sweeper and the operator make do with an estimate.
#[tokio::test]
async fn many_rows_are_estimated_and_few_counted() {
    let cluster = Cluster::start(&["autovacuum=off"]).unwrap();
    let store = Postgres::open(&cluster.settings("postgres")).await.unwrap();
    assert_eq!(store.size().await.unwrap(), 0);
    let rows = |range: std::ops::Range<u32>| range.map(|n| put(n, 1).put.remove(0)).collect();
    store.load(rows(0..9_000), vec![], Ledger::default()).await.unwrap();
    assert_eq!(store.size().await.unwrap(), 9_000);
    store.load(rows(9_000..12_000), vec![], Ledger::default()).await.unwrap();
    assert_eq!(store.size().await.unwrap(), 12_000, "the server has not looked yet");
    cluster.sql("ANALYZE").unwrap();
    store.load(rows(12_000..13_000), vec![], Ledger::default()).await.unwrap();
    assert_eq!((store.size().await.unwrap(), store.count().await.unwrap()), (12_000, 13_000));
    // The session's limit is back after a count without one.
    let client = store.client().await.unwrap();
    let limit: String = client.query_one("SHOW statement_timeout", &[]).await.unwrap().get(0);
    assert_eq!(limit, "15s");
}

/// Looking rows up must use the primary key, whatever the planner thinks of thousands of keys.
#[tokio::test]
async fn rows_are_looked_up_by_the_primary_key() {
    let cluster = Cluster::start(&[]).unwrap();
    let store = Postgres::open(&cluster.settings("postgres")).await.unwrap();
    let rows = (0..5_000_u32).map(|n| put(n, 1).put.remove(0)).collect();
    store.load(rows, vec![], Ledger::default()).await.unwrap();
    cluster.sql("ANALYZE").unwrap();
    let client = store.client().await.unwrap();
    client.batch_execute(&format!("PREPARE looked (bytea[]) AS {GET}")).await.unwrap();
    let plan = client.simple_query("EXPLAIN EXECUTE looked (ARRAY['\\x00', '\\x01']::bytea[])").await.unwrap();
    let plan = format!("{plan:?}");
    assert!(plan.contains("entries_pkey") && !plan.contains("Seq Scan"), "{plan}");
}
