use super::*;
use audit::{AddCheckpoint, Config, Refusal, Submission};
use protocol::SigningKey;
use serde_json::Value;
use std::path::PathBuf;

const MOPS: u8 = 1;
const PUP: u8 = 2;

fn log(dir: &Path, origin: &str, seed: u8) -> Log {
    let (signing_key, payload_key) = (&[seed; 32], &[seed; 32]);
    Log::open(Config { dir, origin, signing_key, payload_key, now: Box::new(|| 1) }).unwrap()
}

fn circle(dir: &Path, me: &str, seed: u8) -> Circle {
    let realm: Realm = "lodz.example".parse().unwrap();
    let me: MemberId = me.parse().unwrap();
    let log = log(&dir.join(format!("{me}-log")), &format!("{realm}/{me}"), seed);
    let clock = Clock::manual(Timestamp(1_000));
    let circle = Circle::open(&dir.join(format!("{me}-witness")), (&realm, &me), &[seed + 100; 32], log, clock);
    let circle = circle.unwrap();
    for (member, seed) in [("mops", MOPS), ("pup", PUP)] {
        let key = SigningKey::from_seed(&[seed; 32]).unwrap().public();
        circle.standing().members.insert(member.parse().unwrap(), vec![key]);
    }
    circle
}

fn body(log: &Log, witness: &Circle, old: u64) -> Vec<u8> {
    let checkpoint = log.checkpoint_blocking().unwrap();
    Submission::new(checkpoint, witness.witness.vkey().clone(), old).body(log).unwrap()
}

fn copied(from: &Path, to: &Path) -> PathBuf {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().flatten() {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copied(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
    to.to_owned()
}

fn alarms(circle: &Circle) -> Vec<Value> {
    circle.log.iter(0).map(|entry| entry.unwrap().payload.unwrap()).collect()
}

#[test]
fn a_log_belongs_to_the_member_it_names() {
    let dir = tempfile::tempdir().unwrap();
    let circle = circle(dir.path(), "mops", MOPS);
    let owner = |origin: &str| circle.owner(origin).map(|owner| owner.to_string());
    for (origin, expected) in [
        ("lodz.example/pup", Some("pup")),
        ("lodz.example/pup/2", Some("pup")),
        ("lodz.example/registry/east-1", Some("registry")),
        ("lodz.example/pup/witness", None),
        ("lodz.example/pup/2/3", None),
        ("lodz.example/pup/", None),
        ("lodz.example", None),
        ("lodz.example.org/pup", None),
        ("", None),
    ] {
        assert_eq!(owner(origin).as_deref(), expected, "{origin}");
    }
}

#[test]
fn a_member_witnesses_what_the_member_signed_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let (mops, pup) = (circle(dir.path(), "mops", MOPS), circle(dir.path(), "pup", PUP));
    let _receipt = mops.log.append_blocking(&serde_json::json!({ "event": "node.started", "time": 1 })).unwrap();
    assert!(pup.cosign(&body(&mops.log, &pup, 0)).is_ok());
    // Another member's key under this member's name.
    let foreign = log(&dir.path().join("foreign"), "lodz.example/mops", PUP);
    assert!(matches!(pup.cosign(&body(&foreign, &pup, 0)), Err(Refusal::Signature)));
    let stranger = log(&dir.path().join("stranger"), "lodz.example/css", 9);
    assert!(matches!(pup.cosign(&body(&stranger, &pup, 0)), Err(Refusal::UnknownOrigin)));
    assert!(matches!(pup.cosign(b"old x"), Err(Refusal::Malformed)));
    // Logs that went on for others, up to a bound.
    for number in 2..=MAX_LOGS + 1 {
        let next = log(&dir.path().join(number.to_string()), &format!("lodz.example/mops/{number}"), MOPS);
        assert_eq!(pup.cosign(&body(&next, &pup, 0)).is_ok(), number <= MAX_LOGS, "{number}");
    }
    assert_eq!(alarms(&pup), Vec::<Value>::new());
}

#[test]
fn a_rollback_and_a_fork_are_recorded_once_with_what_was_cosigned() {
    let dir = tempfile::tempdir().unwrap();
    let (mops, pup) = (circle(dir.path(), "mops", MOPS), circle(dir.path(), "pup", PUP));
    let entry = |number: u64| serde_json::json!({ "event": "node.started", "time": number });
    let _receipt = mops.log.append_blocking(&entry(1)).unwrap();
    let before = mops.log.checkpoint_blocking().unwrap();
    let backup = copied(&dir.path().join("mops-log"), &dir.path().join("backup"));
    let _receipt = mops.log.append_blocking(&entry(2)).unwrap();
    assert!(pup.cosign(&body(&mops.log, &pup, 0)).is_ok());
    let known = pup.witness.newest("lodz.example/mops").unwrap().unwrap();

    let rolled_back = AddCheckpoint { old: 1, proof: vec![], checkpoint: before.note().to_owned() }.body();
    for _twice in 0..2 {
        assert!(matches!(pup.cosign(&rolled_back), Err(Refusal::Conflict { known: 2 })));
    }
    let restored = log(&backup, "lodz.example/mops", MOPS);
    let _receipt = restored.append_blocking(&entry(3)).unwrap();
    assert!(matches!(pup.cosign(&body(&restored, &pup, 0)), Err(Refusal::Fork { size: 2, .. })));

    let said: Vec<_> = alarms(&pup).iter().map(|alarm| alarm["detail"].as_str().unwrap().to_owned()).collect();
    assert_eq!(said, ["fewer entries than were cosigned", "two trees of one size"]);
    assert!(alarms(&pup).iter().all(|alarm| alarm["event"] == "witness.alarm" && alarm["known"] == known.as_str()));
}

#[test]
fn a_checkpoint_is_believed_that_grew_from_what_was_cosigned() {
    let dir = tempfile::tempdir().unwrap();
    let (mops, pup) = (circle(dir.path(), "mops", MOPS), circle(dir.path(), "pup", PUP));
    let append = |log: &Log, from: u64, until: u64| {
        (from..until).for_each(|n| drop(log.append_blocking(&serde_json::json!({ "n": n })).unwrap()));
    };
    append(&pup.log, 0, 3);
    let member: MemberId = "pup".parse().unwrap();
    assert!(mops.cosigned_of(&member).unwrap().is_empty());
    mops.cosign(&body(&pup.log, &mops, 0)).unwrap();
    let cosigned = mops.cosigned_of(&member).unwrap();
    assert_eq!(cosigned["lodz.example/pup"].size(), 3);
    append(&pup.log, 3, 5);
    let (new, proof) = (pup.log.checkpoint_blocking().unwrap(), pup.log.prove_consistency(3, 5).unwrap().unwrap());
    let believed = |member: &MemberId, note: &str, proof: &[Hash]| mops.believe(member, note, proof, &cosigned);
    assert_eq!(believed(&member, new.note(), &proof).map(|new| new.size()), Some(5));
    assert!(believed(&member, new.note(), &[]).is_none(), "nothing shows that it grew");
    assert!(believed(&"mops".parse().unwrap(), new.note(), &proof).is_none(), "another's");
    assert!(believed(&"css".parse().unwrap(), new.note(), &proof).is_none(), "nobody's");
    // Made for the occasion: another tree, under the log's own signature.
    let made = log(&dir.path().join("made"), "lodz.example/pup", PUP);
    append(&made, 10, 15);
    let (other, proof) = (made.checkpoint_blocking().unwrap(), made.prove_consistency(3, 5).unwrap().unwrap());
    assert!(believed(&member, other.note(), &proof).is_none());
    // Signed by another key.
    let foreign = log(&dir.path().join("foreign"), "lodz.example/pup", MOPS);
    append(&foreign, 0, 5);
    assert!(believed(&member, foreign.checkpoint_blocking().unwrap().note(), &[]).is_none());
}
