//! Logs and their witnesses: what one cosigns, what it never does, and what that proves.

use std::{fs, path::Path, sync::Arc};

use super::{
    ORIGIN, PAYLOAD_KEY, SIGNING_KEY, closed, config,
    failing_disk::{Fails, Faulty},
    files, image, open, payload, verify,
};
use crate::{
    AddCheckpoint, Against, Checkpoint, Config, Fault, Log, NoteError, Refusal, Step, Submission, SubmitError,
    SucceedError, Vkey, Witness, note::Signer, succeed, tree, verify_against, verify_dir, witnessed,
};

const NOW: u64 = 1_795_262_400;

fn witness(dir: &Path, name: &str) -> Witness {
    let seed = tree::sha256(name.as_bytes());
    let witness = Witness::open(dir, name, &seed).unwrap();
    witness.trust([Signer::new(ORIGIN, &SIGNING_KEY).unwrap().vkey().clone()]);
    witness
}

fn grow(log: &Log, size: u64) -> Checkpoint {
    (log.size()..size).for_each(|number| drop(log.append_blocking(&payload(number)).unwrap()));
    log.checkpoint_blocking().unwrap()
}

fn request(log: &Log, checkpoint: &Checkpoint, old: u64) -> Vec<u8> {
    let proof = log.prove_consistency(old, checkpoint.size()).unwrap().unwrap();
    AddCheckpoint { old, proof, checkpoint: checkpoint.note().to_owned() }.body()
}

/// The whole exchange, as it would go over the wire.
fn submit(log: &Log, checkpoint: &Checkpoint, witness: &Witness, old: u64) -> Result<Step, SubmitError> {
    let mut submission = Submission::new(checkpoint.clone(), witness.vkey().clone(), old);
    loop {
        let step = match witness.add_checkpoint(&submission.body(log).unwrap(), NOW) {
            Ok(lines) => submission.answer(200, &lines)?,
            Err(refusal) => submission.answer(refusal.status(), refusal.body().as_bytes())?,
        };
        if step != Step::Again {
            return Ok(step);
        }
    }
}

/// Has every witness cosign the newest checkpoint, and keeps it.
fn cosign(log: &Log, witnesses: &[&Witness]) -> Checkpoint {
    let mut checkpoint = log.checkpoint_blocking().unwrap();
    for witness in witnesses {
        let Ok(Step::Cosigned { lines, time: NOW }) = submit(log, &checkpoint, witness, 0) else {
            panic!("no cosignature")
        };
        assert_eq!(checkpoint.add_cosignature(&lines, witness.vkey()), Ok(NOW));
    }
    let keys: Vec<_> = witnesses.iter().map(|witness| witness.vkey().clone()).collect();
    log.keep_cosigned(&checkpoint, &keys).unwrap();
    checkpoint
}

#[test]
fn a_growing_log_is_cosigned_from_whatever_size_it_believes() {
    let dirs: [_; 3] = std::array::from_fn(|_| tempfile::tempdir().unwrap());
    let (log, witnesses) =
        (open(dirs[0].path()), [witness(dirs[1].path(), "w.pl/1"), witness(dirs[2].path(), "w.pl/2")]);
    for size in [1, 2, 255, 256, 257, 700] {
        grow(&log, size);
        let cosigned = cosign(&log, &[&witnesses[0], &witnesses[1]]);
        assert_eq!(log.published_checkpoint(), cosigned);
        let report = verify(dirs[0].path()).unwrap();
        assert_eq!((report.cosigned, report.witnesses.len(), report.witnesses[0].1), (size, 2, NOW));
        let known = witnesses[1].newest(ORIGIN).unwrap().unwrap();
        assert_eq!(witnesses[1].all().unwrap()[ORIGIN].note(), known);
        assert_eq!(witnessed(dirs[2].path()).unwrap(), witnesses[1].all().unwrap());
        assert_eq!(Checkpoint::open(&known, log.vkey()).unwrap().size(), size);
    }
    // A state under another log's name, and one that is no checkpoint.
    let kept = fs::read_dir(dirs[2].path()).unwrap().next().unwrap().unwrap().path();
    let elsewhere = dirs[2].path().join("0".repeat(64));
    for note in [fs::read(&kept).unwrap(), b"no checkpoint".to_vec()] {
        fs::write(&elsewhere, note).unwrap();
        assert!(matches!(witnessed(dirs[2].path()), Err(Fault::Checkpoint { path, .. }) if path == elsewhere));
    }
    drop(log);
    let log = open(dirs[0].path());
    assert_eq!(log.published_checkpoint().size(), 700);
    log.hold_against(&log.published_checkpoint()).unwrap();
    grow(&log, 701);
}

#[test]
fn what_was_cosigned_while_the_log_grew_keeps_its_tiles() {
    let dirs: [_; 2] = std::array::from_fn(|_| tempfile::tempdir().unwrap());
    let (log, witness) = (open(dirs[0].path()), witness(dirs[1].path(), "w.pl/1"));
    for (size, later) in [(106, [107, 255]), (256, [257, 258]), (600, [1_023, 1_024])] {
        let mut checkpoint = grow(&log, size);
        let Ok(Step::Cosigned { lines, .. }) = submit(&log, &checkpoint, &witness, 0) else { panic!("no cosignature") };
        checkpoint.add_cosignature(&lines, witness.vkey()).unwrap();
        for size in later {
            grow(&log, size);
        }
        log.keep_cosigned(&checkpoint, &[witness.vkey().clone()]).unwrap();
        assert_eq!(verify(dirs[0].path()).unwrap().cosigned, size);
    }
}

#[test]
fn what_is_out_of_form_unknown_or_unsigned_is_refused_with_its_status() {
    let (dir, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (log, witness) = (open(dir.path()), witness(state.path(), "w.pl/1"));
    let checkpoint = grow(&log, 5);
    let honest = String::from_utf8(request(&log, &checkpoint, 0)).unwrap();
    let refused = |body: &str, code: &str, status: u16| {
        let refusal = witness.add_checkpoint(body.as_bytes(), NOW).unwrap_err();
        assert_eq!((refusal.code(), refusal.status()), (code, status), "{body}");
        assert!(fs::read_dir(state.path()).unwrap().next().is_none(), "a refusal leaves no state");
    };
    for wrong in [
        "",
        "old 0",
        "old 0\n\n",
        "old 00\n\nx",
        "old -1\n\nx",
        &honest.replace("old 0", "old 6"),
        &honest.replace("old 0", "old +0"),
        &honest.replace("old 0\n", "old 0\nAAAA\n"),
        &honest.replace("old 0\n", &"old 0\n".repeat(2)),
    ] {
        let code = if wrong == "old 0\n\n" || wrong.ends_with("\n\nx") && wrong.starts_with("old 0\n") {
            ("unknown_origin", 404)
        } else {
            ("malformed", 400)
        };
        refused(wrong, code.0, code.1);
    }
    refused(&honest.replace(ORIGIN, "zlm.example.pl/log"), "unknown_origin", 404);
    let thief = Checkpoint::sign(&Signer::new(ORIGIN, &[66; 32]).unwrap(), 5, [1; 32]);
    refused(&format!("old 0\n\n{}", thief.note()), "signature", 403);
    let proof = tree::sha256(b"no proof");
    refused(&honest.replace("old 0\n", &format!("old 0\n{}\n", data_encoding::BASE64.encode(&proof))), "proof", 422);
    assert!(witness.add_checkpoint(honest.as_bytes(), NOW).is_ok());
}

#[test]
fn a_witness_never_signs_a_fork() {
    let dirs: [_; 3] = std::array::from_fn(|_| tempfile::tempdir().unwrap());
    let witness = witness(dirs[1].path(), "w.pl/1");
    let log = open(dirs[0].path());
    grow(&log, 8);
    cosign(&log, &[&witness]);
    let fork = open(dirs[2].path());
    // The salts differ, so these are other trees over the same payloads.
    let same_size = grow(&fork, 8);
    let Err(Refusal::Fork { size: 8, known, offered }) = witness.add_checkpoint(&request(&fork, &same_size, 8), NOW)
    else {
        panic!("no fork seen")
    };
    assert!(
        known != offered
            && Checkpoint::open(&known, fork.vkey()).is_ok()
            && Checkpoint::open(&offered, fork.vkey()).is_ok()
    );
    assert_eq!(submit(&fork, &same_size, &witness, 8), Err(SubmitError::Fork));
    let longer = grow(&fork, 9);
    assert!(matches!(witness.add_checkpoint(&request(&fork, &longer, 8), NOW), Err(Refusal::Proof)));
    assert_eq!(submit(&fork, &longer, &witness, 0), Err(SubmitError::Refused { status: 422 }));
    assert!(submit(&log, &grow(&log, 9), &witness, 8).is_ok(), "the honest log goes on");
}

#[test]
fn a_witness_never_signs_a_rollback_and_the_log_learns_of_it() {
    let (dir, state, backup) =
        (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let witness = witness(state.path(), "w.pl/1");
    closed(dir.path(), 5);
    image(dir.path(), backup.path());
    let log = open(dir.path());
    grow(&log, 8);
    cosign(&log, &[&witness]);
    let known = Checkpoint::open(&witness.newest(ORIGIN).unwrap().unwrap(), log.vkey()).unwrap();
    drop(log);

    let restored = open(backup.path());
    let checkpoint = restored.newest_checkpoint();
    let refusal = witness.add_checkpoint(&request(&restored, &checkpoint, 0), NOW).unwrap_err();
    assert!(matches!(refusal, Refusal::Conflict { known: 8 }), "{refusal:?}");
    assert_eq!(refusal.body(), "8\n");
    assert_eq!(submit(&restored, &checkpoint, &witness, 0), Err(SubmitError::Ahead { known: 8 }));

    // Rolled back with a restored backup: held against what the witness kept it stops, and stays stopped.
    assert!(matches!(restored.hold_against(&known), Err(Fault::Shorter { size: 5, signed: 8 })));
    assert!(restored.append_blocking(&payload(5)).is_err() && restored.checkpoint_blocking().is_err());
    assert!(restored.health().is_err());
    drop(restored);
    assert!(matches!(Log::open(config(backup.path())), Err(Fault::Shorter { size: 5, signed: 8 })));
    assert!(matches!(verify_dir(backup.path(), None, None, |_| ()), Err(Fault::Shorter { size: 5, signed: 8 })));

    // It goes on under another name that says what is missing.
    let next = tempfile::tempdir().unwrap();
    let again = |origin| Config { origin, ..config(next.path()) };
    assert!(matches!(succeed(backup.path(), &known, again(ORIGIN), "dpo"), Err(SucceedError::Fault(_))));
    assert!(matches!(
        succeed(dir.path(), &known, again("mops.example.pl/log2"), "dpo"),
        Err(SucceedError::NothingMissing)
    ));
    let (log, receipt) = succeed(backup.path(), &known, again("mops.example.pl/log2"), "dpo").unwrap();
    let first = log.read(0).unwrap().unwrap().payload.unwrap();
    assert_eq!((receipt.index(), &first["event"]), (0, &"log.continued".into()));
    assert_eq!(
        (&first["lost_from"], &first["lost_until"], &first["previous_origin"]),
        (&5.into(), &8.into(), &ORIGIN.into())
    );
    drop(log);
    assert!(matches!(
        succeed(backup.path(), &known, again("mops.example.pl/log2"), "dpo"),
        Err(SucceedError::NotEmpty)
    ));
}

#[test]
fn a_log_rewritten_with_its_own_key_is_found_by_whoever_kept_a_checkpoint() {
    let (dir, state, forged) =
        (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let witness = witness(state.path(), "w.pl/1");
    let log = open(dir.path());
    grow(&log, 6);
    let kept = cosign(&log, &[&witness]);
    drop(log);
    let rewritten = open(forged.path());
    for number in [0, 1, 3, 4, 5, 6] {
        drop(rewritten.append_blocking(&payload(number)).unwrap());
    }
    drop(rewritten);
    assert!(verify(forged.path()).is_ok(), "by itself it is faultless");
    let vkey = open(dir.path()).vkey().clone();
    let against = Against { log: Some(&vkey), known: std::slice::from_ref(&kept), ..Against::default() };
    let against = verify_against(forged.path(), against, None, |_| ());
    assert!(matches!(against, Err(Fault::Rewritten { signed: 6 })), "{against:?}");
    let log = open(forged.path());
    assert!(matches!(log.hold_against(&kept), Err(Fault::Rewritten { signed: 6 })));
    drop(log);
    assert!(matches!(Log::open(config(forged.path())), Err(Fault::Rewritten { signed: 6 })));
}

#[test]
fn cosignatures_of_keys_made_for_the_occasion_count_for_nothing_against_trusted_ones() {
    let dirs: [_; 4] = std::array::from_fn(|_| tempfile::tempdir().unwrap());
    let made_up = [witness(dirs[1].path(), "a.pl/witness"), witness(dirs[2].path(), "b.pl/witness")];
    let log = open(dirs[0].path());
    grow(&log, 6);
    cosign(&log, &[&made_up[0], &made_up[1]]);
    let given = dirs[3].path().join("export");
    crate::export(&log, &given, &crate::Filter::default(), 7).unwrap();
    let (seed, other) = (tree::sha256(b"the witness that the manifest lists"), made_up[1].vkey().clone());
    let real = Signer::witness("a.pl/witness", &seed).unwrap().vkey().clone();
    let by = |witnesses: Option<&[Vkey]>| {
        let against = Against { witnesses, ..Against::default() };
        let report = verify_against(dirs[0].path(), against, None, |_| ()).map(|report| report.witnesses);
        let exported = crate::verify_export(&given, against, |_, _| (), |_| ()).map(|exported| exported.witnesses);
        let names = |witnesses: Vec<(Vkey, u64)>| {
            witnesses.into_iter().map(|(key, _)| key.name().to_owned()).collect::<Vec<_>>()
        };
        [report.map(names), exported.map(names)]
    };
    // By their own keys they are flawless.
    for named in by(None) {
        assert_eq!(named.unwrap(), ["a.pl/witness", "b.pl/witness"]);
    }
    for trusted in [std::slice::from_ref(&real), &[]] {
        for refused in by(Some(trusted)) {
            let strangers = |source| matches!(source, NoteError::Strangers);
            assert!(matches!(&refused, Err(Fault::Checkpoint { source, .. }) if strangers(*source)), "{refused:?}");
        }
    }
    for named in by(Some(&[real, other])) {
        assert_eq!(named.unwrap(), ["b.pl/witness"], "who is not trusted is not named");
    }
    drop(log);
}

#[test]
fn a_lying_witness_is_not_believed() {
    let (dir, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (log, honest) = (open(dir.path()), witness(state.path(), "w.pl/1"));
    let checkpoint = grow(&log, 5);
    let liar = Signer::witness("w.pl/1", &[66; 32]).unwrap();
    let mut submission = Submission::new(checkpoint.clone(), honest.vkey().clone(), 0);
    let other = Checkpoint::sign(&Signer::new(ORIGIN, &SIGNING_KEY).unwrap(), 5, [1; 32]);
    let own = Signer::witness("w.pl/1", &tree::sha256(b"w.pl/1")).unwrap();
    for lie in
        [liar.cosign(&checkpoint, NOW), own.cosign(&other, NOW), "— w.pl/1 AAAA\n".into(), String::new(), "\n".into()]
    {
        assert!(matches!(submission.answer(200, lie.as_bytes()), Err(SubmitError::Answer(_))), "{lie}");
    }
    // A size that nobody cosigned: asked once more, not for ever.
    assert_eq!(submission.answer(409, b"3\n"), Ok(Step::Again));
    assert_eq!(submission.answer(409, b"4\n"), Err(SubmitError::Refused { status: 409 }));
    let mut forged = checkpoint.clone();
    forged.add_cosignature(&liar.cosign(&checkpoint, NOW), liar.vkey()).unwrap();
    assert!(matches!(log.keep_cosigned(&forged, &[honest.vkey().clone()]), Err(Fault::Checkpoint { .. })));
    assert!(matches!(log.keep_cosigned(&checkpoint, &[honest.vkey().clone()]), Err(Fault::Checkpoint { .. })));
    assert_eq!(log.published_checkpoint().note(), checkpoint.note());
}

#[test]
fn a_witness_remembers_before_it_answers() {
    let (dir, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (log, disk) = (open(dir.path()), Faulty::default());
    let restart = || {
        let witness = Witness::open_on(Arc::new(disk.clone()), state.path(), "w.pl/1", &[9; 32]).unwrap();
        witness.trust([log.vkey().clone()]);
        witness
    };
    let (five, witness) = (grow(&log, 5), restart());
    for fails in [Fails::Write, Fails::Sync] {
        disk.set(fails);
        let refusal = witness.add_checkpoint(&request(&log, &five, 0), NOW).unwrap_err();
        assert_eq!((refusal.code(), refusal.status()), ("state", 503));
    }
    disk.set(Fails::Nothing);
    let before = disk.syncs();
    assert!(witness.add_checkpoint(&request(&log, &five, 0), NOW).is_ok());
    assert!(disk.syncs() > before);
    let six = grow(&log, 6);
    let after_restart = restart();
    assert!(matches!(after_restart.add_checkpoint(&request(&log, &six, 0), NOW), Err(Refusal::Conflict { known: 5 })));
    assert!(after_restart.add_checkpoint(&request(&log, &six, 5), NOW).is_ok());
    // A witness whose memory is damaged refuses: forgetting would let a fork in.
    let path = files(state.path()).remove(0);
    let honest = fs::read(&path).unwrap();
    for position in 0..honest.len() {
        let mut bytes = honest.clone();
        bytes[position] ^= 1;
        fs::write(&path, bytes).unwrap();
        let refusal = restart().add_checkpoint(&request(&log, &six, 6), NOW);
        // The log's own signature is not what its state rests on: the key may have changed.
        let text = String::from_utf8_lossy(&honest[..position]).matches('\n').count();
        assert!(text == 4 || matches!(refusal, Err(Refusal::State(_))), "byte {position}: {refusal:?}");
    }
}

#[test]
fn a_flipped_bit_in_tiles_cosignatures_or_keys_is_found_and_named() {
    let (dir, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (log, witness) = (open(dir.path()), witness(state.path(), "w.pl/1"));
    grow(&log, 300);
    cosign(&log, &[&witness]);
    grow(&log, 301);
    drop(log);
    let seen: Vec<_> =
        files(dir.path()).into_iter().filter(|path| !path.starts_with(dir.path().join("records"))).collect();
    // vkey, checkpoint, cosigned, witnesses; at level 0 a full tile and two edges, the same of entries; level 1.
    assert_eq!(seen.len(), 4 + 3 + 3 + 1, "{seen:?}");
    for path in seen {
        let honest = fs::read(&path).unwrap();
        for position in (0..honest.len()).step_by(1 + honest.len() / 200) {
            let mut bytes = honest.clone();
            bytes[position] ^= 1 << (position % 8);
            fs::write(&path, bytes).unwrap();
            let fault = verify_dir(dir.path(), None, None, |_| ()).unwrap_err();
            // A name in `witnesses` that changed makes the cosignature one of nobody's.
            let named = [path.file_name().unwrap().to_str().unwrap(), "cosigned"]
                .iter()
                .any(|name| fault.to_string().contains(name));
            assert!(named, "{} byte {position}: {fault}", path.display());
            if let Fault::Tile { offset, .. } = fault {
                assert_eq!(offset, position as u64);
            }
        }
        fs::write(&path, honest).unwrap();
    }
    // A tile that is gone is written anew at open.
    fs::remove_file(dir.path().join("tile/0/000")).unwrap();
    assert!(verify(dir.path()).is_err());
    drop(open(dir.path()));
    assert!(verify_dir(dir.path(), None, Some(&PAYLOAD_KEY), |_| ()).is_ok());
}
