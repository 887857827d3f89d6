use super::*;
use crate::conformance;
use redb::StorageBackend;
use redb::backends::InMemoryBackend;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn conforms() {
    let dir = tempfile::tempdir().unwrap();
    let open = async |space: &str| {
        let store: Arc<dyn IndexStore> = Arc::new(Embedded::open(&dir.path().join(space), 1 << 20).unwrap());
        store
    };
    conformance(open).await.unwrap();
}

fn put(n: u8) -> Batch {
    let request = Some(RequestId { id: [n; 32], until: Timestamp(i64::from(n)) });
    Batch { request, put: vec![(RowKey([n; 32]), Row(Box::new([n; ROW_BYTES])))], ..Batch::default() }
}

/// Batches that wait together share one commit, and each gets its own answer.
#[test]
fn waiting_batches_share_a_commit() {
    let dir = tempfile::tempdir().unwrap();
    let db = with_tables(Database::create(dir.path().join("index")).unwrap()).unwrap();
    let job = |change| Job { change, answer: oneshot::channel().0 };
    let clear = Batch { put: vec![], delete: vec![RowKey([1; 32])], ..put(9) };
    let group = [put(1), put(1), put(2), clear].map(|batch| job(Change::Write(batch)));
    let stored = |deleted| Done::Written(Written::Stored { deleted });
    assert_eq!(commit(&db, &group).unwrap(), [stored(0), Done::Written(Written::Replayed), stored(0), stored(1)]);
    assert_eq!(db.begin_read().unwrap().open_table(ROWS).unwrap().len().unwrap(), 1);
}

#[test]
fn keys_are_ordered_by_time_and_give_back_what_they_are_of() {
    let request = |until| RequestId { id: [5; 32], until: Timestamp(until) };
    let note = |at| NoteKey { queue: [7; 32], at: Timestamp(at), id: [5; 16] };
    let times = [i64::MIN, -1, 0, 1, i64::MAX];
    assert!(times.map(|time| request_bytes(&request(time))).is_sorted());
    assert!(times.map(|time| note_bytes(&note(time))).is_sorted());
    assert_eq!(times.map(|time| request_id(&request_bytes(&request(time)))), times.map(request));
    assert_eq!(times.map(|time| note_key(&note_bytes(&note(time)))), times.map(note));
}

/// A disk that can be full.
#[derive(Debug)]
struct Disk {
    pages: Arc<InMemoryBackend>,
    full: Arc<AtomicBool>,
}

impl Disk {
    fn room(&self) -> io::Result<()> {
        if self.full.load(Ordering::SeqCst) { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        self.pages.len()
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.pages.read(offset, out)
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.room()?;
        self.pages.set_len(len)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.room()?;
        self.pages.sync_data()
    }
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.room()?;
        self.pages.write(offset, data)
    }
}

#[tokio::test]
async fn a_full_disk_refuses_and_heals() {
    let (pages, full) = (Arc::new(InMemoryBackend::new()), Arc::new(AtomicBool::new(false)));
    let disk = {
        let full = full.clone();
        move || Disk { pages: pages.clone(), full: full.clone() }
    };
    let open = move || Database::builder().create_with_backend(disk());
    let store = Embedded::over(open().unwrap(), Box::new(open)).unwrap();
    store.write(put(1)).await.unwrap();
    full.store(true, Ordering::SeqCst);
    assert!(store.write(put(2)).await.is_err());
    assert!(store.write(put(3)).await.is_err());
    full.store(false, Ordering::SeqCst);
    // The first call finds the failed handle and replaces it; from then on all is as it was acknowledged.
    let _ = store.count().await;
    let keys = [1, 2, 3].map(|n| RowKey([n; 32]));
    let held: Vec<bool> = store.get(keys.to_vec()).await.unwrap().iter().map(Option::is_some).collect();
    assert_eq!(held, [true, false, false]);
    assert_eq!(store.write(put(2)).await.unwrap(), Written::Stored { deleted: 0 });
}
