//! The public formats, read by other people's code: the crates `tlog_tiles`, `signed_note` and `ct-merkle`, and Go's
//! `golang.org/x/mod/sumdb`.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use audit::{AddCheckpoint, Checkpoint, Config, Log, Vkey, Witness, tree};
use ct_merkle::{ConsistencyProof, InclusionProof, RootHash};
use data_encoding::BASE64;
use serde_json::json;
use sha2::Sha256;
use signed_note::{Note, StandardVerifier, VerifierList};
use tlog_tiles::{HashReader, TileHashReader, TileReader};

/// Two levels of tiles, both with a right edge.
const SIZE: u64 = 1_000;
const OLD: u64 = 300;
const NOW: u64 = 1_795_262_400;

struct Logged {
    dir: tempfile::TempDir,
    log: Log,
    /// Cosigned.
    checkpoint: Checkpoint,
    old: Checkpoint,
    witness: Vkey,
    entries: Vec<tree::Hash>,
}

fn logged() -> Logged {
    let dir = tempfile::tempdir().unwrap();
    let config = Config {
        dir: dir.path(),
        origin: "lodz.example/mops",
        signing_key: &[5; 32],
        payload_key: &[6; 32],
        now: Box::new(|| 1),
    };
    let log = Log::open(config).unwrap();
    let append = |number| *log.append_blocking(&json!({ "number": number })).unwrap().entry_hash();
    let mut entries: Vec<_> = (0..OLD).map(append).collect();
    let old = log.checkpoint_blocking().unwrap();
    entries.extend((OLD..SIZE).map(append));
    let mut checkpoint = log.checkpoint_blocking().unwrap();
    let state = tempfile::tempdir().unwrap();
    let witness = Witness::open(state.path(), "lodz.example/pup/witness", &[7; 32]).unwrap();
    witness.trust([log.vkey().clone()]);
    let request = AddCheckpoint { old: 0, proof: Vec::new(), checkpoint: checkpoint.note().to_owned() };
    let lines = String::from_utf8(witness.add_checkpoint(&request.body(), NOW).unwrap()).unwrap();
    checkpoint.add_cosignature(&lines, witness.vkey()).unwrap();
    log.keep_cosigned(&checkpoint, &[witness.vkey().clone()]).unwrap();
    Logged { witness: witness.vkey().clone(), dir, log, checkpoint, old, entries }
}

/// The tiles as they are fetched over HTTP.
struct Fetched<'a>(&'a Log);

impl TileReader for Fetched<'_> {
    fn height(&self) -> u8 {
        8
    }

    fn read_tiles(&self, tiles: &[tlog_tiles::Tile]) -> Result<Vec<Vec<u8>>, tlog_tiles::Error> {
        let fetch = |tile: &tlog_tiles::Tile| {
            // The crate writes Go's paths, which name the height.
            let path = tile.path().replacen("tile/8/", "tile/", 1);
            self.0.resource(&path).unwrap().unwrap_or_else(|| panic!("no {path}")).content
        };
        Ok(tiles.iter().map(fetch).collect())
    }

    fn save_tiles(&self, _: &[tlog_tiles::Tile], _: &[Vec<u8>]) {}
}

#[test]
fn the_crate_signed_note_opens_our_checkpoint() {
    let logged = logged();
    let body = logged.log.resource("checkpoint").unwrap().unwrap();
    assert!(!body.immutable && body.media_type.starts_with("text/plain"));
    let note = Note::from_bytes(&body.content).unwrap();
    let key = StandardVerifier::new(&logged.log.vkey().to_string()).unwrap();
    let (verified, others) = note.verify(&VerifierList::new(vec![Box::new(key)])).unwrap();
    assert_eq!((verified.len(), others.len()), (1, 1));
    let read = tlog_tiles::Checkpoint::from_bytes(note.text()).unwrap();
    assert_eq!((read.origin(), read.size(), read.hash().0), ("lodz.example/mops", SIZE, logged.checkpoint.root()));
}

#[test]
fn the_crate_tlog_tiles_reads_our_tiles_and_proves_as_we_do() {
    let logged = logged();
    let (log, root) = (&logged.log, tlog_tiles::Hash(logged.checkpoint.root()));
    let fetched = Fetched(log);
    let reader = TileHashReader::new(SIZE, root, &fetched);
    assert_eq!(tlog_tiles::tree_hash(SIZE, &reader).unwrap(), root);
    assert!(reader.read_hashes(&[0]).is_ok());
    let bytes = |proof: Vec<tlog_tiles::Hash>| proof.into_iter().map(|hash| hash.0).collect::<Vec<_>>();
    for index in (0..SIZE).step_by(37).chain([SIZE - 1]) {
        let ours = log.prove_inclusion(index, SIZE).unwrap().unwrap();
        assert_eq!(bytes(tlog_tiles::prove_record(SIZE, index, &reader).unwrap()), ours);
        let entry = &logged.entries[usize::try_from(index).unwrap()];
        let theirs = ours.iter().copied().map(tlog_tiles::Hash).collect();
        tlog_tiles::check_record(&theirs, SIZE, root, index, tlog_tiles::record_hash(entry)).unwrap();
        assert!(tree::verify_inclusion(index, SIZE, tree::leaf_hash(entry), &ours, &root.0));
    }
    for old in [1, 255, 256, 257, 512, OLD, SIZE] {
        let ours = log.prove_consistency(old, SIZE).unwrap().unwrap();
        assert_eq!(bytes(tlog_tiles::prove_tree(SIZE, old, &reader).unwrap()), ours, "from {old}");
    }
    let theirs = log.prove_consistency(OLD, SIZE).unwrap().unwrap().into_iter().map(tlog_tiles::Hash).collect();
    tlog_tiles::check_tree(&theirs, SIZE, root, OLD, tlog_tiles::Hash(logged.old.root())).unwrap();
    assert_eq!(log.resource("tile/0/004").unwrap(), None);
    assert_eq!(log.resource("tile/0/003.p/233").unwrap(), None, "more than is signed");
    assert_eq!(log.resource("../vkey").unwrap(), None);
    let cut = log.resource("tile/entries/000.p/3").unwrap().unwrap().content;
    assert_eq!(cut.len(), 3 * 34);
}

#[test]
fn the_crate_ct_merkle_accepts_our_proofs() {
    let logged = logged();
    let root = |checkpoint: &Checkpoint| RootHash::<Sha256>::new(checkpoint.root().into(), checkpoint.size());
    for index in (0..SIZE).step_by(91) {
        let proof = logged.log.prove_inclusion(index, SIZE).unwrap().unwrap().concat();
        let entry = logged.entries[usize::try_from(index).unwrap()];
        let proof = InclusionProof::<Sha256>::try_from_bytes(proof).unwrap();
        root(&logged.checkpoint).verify_inclusion(&entry, index, &proof).unwrap();
        assert!(root(&logged.checkpoint).verify_inclusion(&[0; 32], index, &proof).is_err());
    }
    let proof = logged.log.prove_consistency(OLD, SIZE).unwrap().unwrap().concat();
    let proof = ConsistencyProof::<Sha256>::try_from_bytes(proof).unwrap();
    root(&logged.checkpoint).verify_consistency(&root(&logged.old), &proof).unwrap();
}

/// Runs `verify.go` on `dir`; what it says.
fn go_verifies(program: &Path, dir: &Path, logged: &Logged) -> Result<String, String> {
    let [vkey, witness, root] =
        [logged.log.vkey().to_string(), logged.witness.to_string(), BASE64.encode(&logged.old.root())];
    let output = Command::new(program).arg(dir).args([vkey, witness, OLD.to_string(), root]).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
}

#[test]
fn go_sumdb_verifies_our_directory() {
    let logged = logged();
    let build = tempfile::tempdir().unwrap();
    let program: PathBuf = build.path().join("verify");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/go/verify.go");
    let compiler = Command::new("go")
        .args(["build", "-o"])
        .arg(&program)
        .arg(&source)
        .env("GO111MODULE", "off")
        .env("GOPATH", "/usr/share/gocode")
        .env("GOCACHE", build.path().join("cache"))
        .env("GOFLAGS", "")
        .output()
        .unwrap_or_else(|error| panic!("`go` is missing: install golang-go and golang-golang-x-mod-dev ({error})"));
    let said = String::from_utf8_lossy(&compiler.stderr).into_owned();
    assert!(compiler.status.success(), "{said}install golang-go and golang-golang-x-mod-dev");
    let verified = go_verifies(&program, logged.dir.path(), &logged);
    assert_eq!(verified, Ok(format!("verified {SIZE} entries, consistent with {OLD}\n")));
    for (file, position) in [("tile/0/000", 77), ("tile/0/003.p/232", 5), ("tile/entries/001", 99), ("cosigned", 20)] {
        let path = logged.dir.path().join(file);
        let honest = std::fs::read(&path).unwrap();
        let mut bytes = honest.clone();
        bytes[position] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        assert!(go_verifies(&program, logged.dir.path(), &logged).is_err(), "{file}");
        std::fs::write(path, honest).unwrap();
    }
}
