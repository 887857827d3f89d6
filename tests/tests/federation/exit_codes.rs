//! The program as its users run it: each mistake ends in one clear message with the next step and its own exit code,
//! and changes nothing.

use crate::ran::{Ran, ogniwo, ogniwo_typing};
use cli::found::{Founded, found};
use cli::process::Process;
use cli::wire::local_url;
use protocol::{SignedManifest, SigningKey};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tempfile::TempDir;
use tests::{Harness, Options, RESIDENTS, member, plan, program, write_extracts};
use transport::Clock;

/// A federation founded on the disk, nothing of it running.
struct Site {
    dir: TempDir,
    founded: Founded,
}

impl Site {
    fn new() -> Self {
        transport::install().expect("cryptography works");
        let dir = tempfile::tempdir().expect("a directory");
        let founded = found(&dir.path().join("federation"), plan(&Options::default()), Clock::system().now());
        Site { founded: founded.expect("a federation"), dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.founded.dir.join(name)
    }

    /// Writes a configuration beside the one named, changed.
    fn changed(&self, config: &str, from: &str, to: &str) -> String {
        let text = std::fs::read_to_string(self.path(config)).expect("a configuration");
        assert!(text.contains(from), "{from} is not in {config}");
        let path = self.path(config).with_extension("changed.toml");
        std::fs::write(&path, text.replacen(from, to, 1)).expect("a configuration");
        text_of(&path)
    }

    /// Every file with its content.
    fn snapshot(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut files = BTreeMap::new();
        collect(&self.founded.dir, &mut files);
        files
    }
}

fn collect(dir: &Path, files: &mut BTreeMap<PathBuf, Vec<u8>>) {
    for entry in std::fs::read_dir(dir).expect("a directory").flatten() {
        let path = entry.path();
        let kind = entry.file_type().expect("a kind");
        if kind.is_dir() {
            collect(&path, files);
        } else if kind.is_file() {
            files.insert(path.clone(), std::fs::read(&path).expect("a file"));
        }
    }
}

fn text_of(path: &Path) -> String {
    path.to_str().expect("UTF-8").to_owned()
}

fn mapping(unit: &str) -> String {
    format!("{}/../deploy/mappings/{unit}.toml", env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn a_wrong_configuration_is_named_by_key() {
    let site = Site::new();
    let cases = [
        ("mops/node.toml", "node", "data = ", "surprise = 1\ndata = ", "surprise"),
        ("mops/node.toml", "node", "member = \"mops\"", "member = \"MOPS\"", "member"),
        ("mops/node.toml", "node", "data = ", "peer_deadline_seconds = 0\ndata = ", "peer_deadline_seconds"),
        ("mops/node.toml", "node", "[peers]", "[retention.B5]\ndays = 0\nsources = [\"pomost\"]\n[peers]", "retention"),
        ("mops/node.toml", "node", "[peers]", "[anomalies]\nlook_back_days = 0\n[peers]", "anomalies.look_back_days"),
        ("mops/node.toml", "node", "listen = \"127.0.0.1:0\"", "listen = \"nowhere\"", "listen"),
        ("mops/node.toml", "node", "manifest_fingerprint = \"", "manifest_fingerprint = \"x", "manifest_fingerprint"),
        ("registry/registry.toml", "registry", "data = ", "surprise = 1\ndata = ", "surprise"),
        ("registry/registry.toml", "registry", "listen = \"127.0.0.1:0\"", "listen = 7", "listen"),
        ("registry/registry.toml", "registry", "cache_mib = 64", "cache_mib = 0", "cache_mib"),
    ];
    for (config, part, from, to, key) in cases {
        let path = site.changed(config, from, to);
        let before = site.snapshot();
        for command in ["check-config", "run"] {
            ogniwo(&[part, command, "--config", &path]).failed(3, key);
        }
        assert_eq!(site.snapshot(), before, "{key}");
    }
    let missing = text_of(&site.path("mops/missing.toml"));
    ogniwo(&["node", "run", "--config", &missing]).failed(3, "missing.toml");
    ogniwo(&["registry", "run", "--config", &missing]).failed(3, "missing.toml");
}

#[test]
fn a_mapping_or_extract_that_cannot_serve_is_refused_whole() {
    let site = Site::new();
    let config = text_of(&site.path("pup/node.toml"));
    let extracts = site.dir.path();
    write_extracts(extracts, RESIDENTS);
    let extract = text_of(&extracts.join("pup.csv"));
    let import = |mapping: &str, extract: &str, more: &[&str]| {
        let mut arguments = vec!["node", "import", "--config", &config, "--mapping", mapping, extract, "--json"];
        arguments.extend(more);
        arguments.retain(|a| !more.contains(&"text") || *a != "--json" && *a != "text");
        ogniwo(&arguments)
    };
    let clients = |ran: Ran| -> (u64, u64) {
        let summary: Value = serde_json::from_str(&ran.succeeded()).expect("a summary");
        (summary["clients"].as_u64().expect("a count"), summary["new"].as_u64().expect("a count"))
    };
    let truth = RESIDENTS.iter().filter(|r| r.at("pup")).count() as u64;
    assert_eq!(clients(import(&mapping("pup"), &extract, &[])), (truth, truth));

    let good = std::fs::read_to_string(mapping("pup")).expect("a mapping");
    let cases = [
        ("unknown field", good.replace("\"pup.status\"", "\"pup.nonsense\""), "pup.nonsense"),
        ("unknown key", format!("surprise = 1\n{good}"), "surprise"),
        ("column missing", good.replace("\"status\" =", "\"stan\" ="), "stan"),
        ("not TOML", "[[".to_owned(), "mapping"),
    ];
    let bad = extracts.join("bad.toml");
    for (case, text, named) in cases {
        std::fs::write(&bad, text).expect("a mapping");
        let ran = import(&text_of(&bad), &extract, &["text"]);
        assert_eq!(ran.code, Some(5), "{case}: {}", ran.stderr);
        ran.failed(5, named);
        // With --full, a refused mapping must not count as an extract with nobody in it.
        import(&text_of(&bad), &extract, &["--full", "text"]).failed(5, named);
    }
    import(&mapping("pup"), &text_of(&extracts.join("none.csv")), &["text"]).failed(5, "none.csv");
    import(&text_of(&extracts.join("none.toml")), &extract, &["text"]).failed(5, "none.toml");
    // Another unit's extract, in another encoding and with other columns.
    import(&mapping("pup"), &text_of(&extracts.join("mops.csv")), &["--full", "text"]).failed(5, "");
    assert_eq!(clients(import(&mapping("pup"), &extract, &[])), (truth, 0), "nobody was lost");
}

#[test]
fn a_missing_or_wrong_key_opens_nothing_and_harms_nothing() {
    use std::os::unix::fs::PermissionsExt as _;
    let site = Site::new();
    let node = text_of(&site.path("mops/node.toml"));
    let registry = text_of(&site.path("registry/registry.toml"));
    for (part, config) in [("node", &node), ("registry", &registry)] {
        ogniwo(&[part, "check-config", "--config", config]).succeeded();
    }
    let secrets = [
        ("node", &node, site.path("mops/credentials/storage.key")),
        ("registry", &registry, site.path("registry/credentials/storage.key")),
        ("registry", &registry, site.path("registry/credentials/pepper.key")),
    ];
    for (part, config, secret) in secrets {
        let right = std::fs::read(&secret).expect("a key");
        let refused = |what: &str| {
            let before = site.snapshot();
            for command in ["check-config", "run"] {
                let ran = ogniwo(&[part, command, "--config", config]);
                assert_eq!(ran.code, Some(4), "{what} {}: {}", secret.display(), ran.stderr);
                ran.failed(4, "");
            }
            assert_eq!(site.snapshot(), before, "{what}");
        };
        std::fs::remove_file(&secret).expect("removed");
        refused("missing");
        keyring::create_private(&secret, &[b'7'; 64]).expect("a key");
        refused("another");
        std::fs::write(&secret, b"not a key").expect("a file");
        refused("no key");
        std::fs::write(&secret, &right).expect("a key");
        std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o644)).expect("a mode");
        refused("exposed");
        std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600)).expect("a mode");
        ogniwo(&[part, "check-config", "--config", config]).succeeded();
    }
}

#[test]
fn a_certificate_of_another_is_found_before_anything_is_made() {
    let site = Site::new();
    let right = text_of(&site.path("mops/node.toml"));
    // The log is of one member for good: neither one that is not there yet nor one that is may be touched.
    for node in ["new", "used"] {
        for (from, to) in [("member = \"mops\"", "member = \"pup\""), ("realm = \"test.", "realm = \"tset.")] {
            let wrong = site.changed("mops/node.toml", from, to);
            let before = site.snapshot();
            for command in ["check-config", "run"] {
                ogniwo(&["node", command, "--config", &wrong]).failed(14, "`member` and `realm`");
            }
            assert_eq!(site.snapshot(), before, "a {node} node, {to}");
        }
        ogniwo(&["node", "check-config", "--config", &right]).succeeded();
    }
}

#[test]
fn a_wrong_passphrase_opens_nothing() {
    let site = Site::new();
    let path = |name: &str| text_of(&site.path(name));
    let passphrase = "correct horse battery staple\n";
    let text = std::fs::read_to_string(site.path("mops/node.toml")).expect("a configuration");
    let text = text
        .replace("credential = \"credentials/storage.key\"", "passphrase = true")
        .replace("data = \"data\"", "data = \"other\"")
        .replace("tls/cert.pem", "tls/cert-other.pem")
        .replace("tls/key.pem", "tls/key-other.pem");
    let config = path("mops/other.toml");
    std::fs::write(&config, text).expect("a configuration");
    let (csr, keys, certificate) =
        (path("mops/other.csr"), path("mops/other-keys.json"), path("mops/tls/cert-other.pem"));
    ogniwo_typing(passphrase, &["node", "init", "--config", &config, "--csr", &csr, "--keys", &keys]).succeeded();
    ogniwo(&["certs", "sign", "--dir", &path("ca"), "--member", "mops", &csr, "--out", &certificate]).succeeded();
    let check = ["node", "check-config", "--config", &config];
    ogniwo_typing(passphrase, &check).succeeded();
    let before = site.snapshot();
    ogniwo_typing("correct horse battery stapler\n", &check).failed(4, "");
    ogniwo_typing("short\n", &check).failed(4, "12 characters");
    ogniwo_typing("", &check).failed(4, "");
    // Made once: a second init would lose everything sealed under the first keys.
    let again = ogniwo_typing(passphrase, &["node", "init", "--config", &config, "--csr", &csr, "--keys", &keys]);
    assert_eq!(again.code, Some(12), "{}", again.stderr);
    assert_eq!(site.snapshot(), before);
    ogniwo_typing(passphrase, &check).succeeded();
    // With its salt lost no passphrase is right, and another salt would make none so.
    let salt = site.path("mops/other/passphrase.json");
    let kept = std::fs::read(&salt).expect("the salt");
    std::fs::remove_file(&salt).expect("removed");
    let before = site.snapshot();
    ogniwo_typing(passphrase, &check).failed(4, "passphrase.json");
    ogniwo_typing(passphrase, &check).failed(4, "backup");
    let again = ogniwo_typing(passphrase, &["node", "init", "--config", &config, "--csr", &csr, "--keys", &keys]);
    assert_eq!(again.code, Some(12), "{}", again.stderr);
    assert_eq!(site.snapshot(), before);
    std::fs::write(&salt, kept).expect("the salt");
    ogniwo_typing(passphrase, &check).succeeded();
}

#[test]
fn a_taken_port_is_named_by_its_key() {
    let site = Site::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let listen = format!("listen = \"{}\"", taken.local_addr().expect("an address"));
    let peers = site.changed("mops/node.toml", "listen = \"127.0.0.1:0\"", &listen);
    let before = site.snapshot();
    ogniwo(&["node", "run", "--config", &peers]).failed(6, "`peers.listen`");
    assert_eq!(site.snapshot(), before);
    let text = std::fs::read_to_string(site.path("mops/node.toml")).expect("a configuration");
    let (head, tail) = text.split_once("[local]").expect("a section");
    let local = text_of(&site.path("mops/local.toml"));
    let tail = tail.replace("listen = \"127.0.0.1:0\"", &listen);
    std::fs::write(&local, format!("{head}[local]{tail}")).expect("a configuration");
    ogniwo(&["node", "run", "--config", &local]).failed(6, "`local.listen`");
    let registry = site.changed("registry/registry.toml", "listen = \"127.0.0.1:0\"", &listen);
    ogniwo(&["registry", "run", "--config", &registry]).failed(6, "`listen`");
}

#[test]
fn what_needs_a_running_node_says_that_none_runs() {
    let site = Site::new();
    let config = text_of(&site.path("mops/node.toml"));
    let before = site.snapshot();
    for command in ["status", "refresh", "manifest", "enrol", "shared", "retention"] {
        ogniwo(&["node", command, "--config", &config]).failed(12, "no node runs");
    }
    let session = "AAAAAAAAAAAAAAAAAAAAAA";
    for keyholder in [
        &["invite", "--epoch", "1", "--threshold", "2", "mops", "pup", "css"] as &[&str],
        &["join", session],
        &["status"],
        &["abandon", session],
    ] {
        let arguments = [&["node", "keyholder"], keyholder, &["--config", &config]].concat();
        ogniwo(&arguments).failed(12, "no node runs");
    }
    ogniwo(&["node", "keyholder", "join", "short", "--config", &config]).failed(3, "22 characters");
    // Who is no client yet has no number here.
    let newcomer = ["node", "newcomer", "--local-number", "M/1", "--reason", "application", "--text", "x"];
    assert_eq!(ogniwo(&newcomer).code, Some(2));
    assert_eq!(site.snapshot(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_without_a_manifest_says_why_and_what_to_do() {
    let site = Site::new();
    let nowhere = "https://127.0.0.1:1";
    let config = site.changed("mops/node.toml", "data = ", &format!("registry = \"{nowhere}\"\ndata = "));
    let trace = site.path("mops.log");
    let node = Process::start("mops", &program(), &["node", "run", "--config", &config], &trace).await;
    let mut node = node.expect("a node");
    let status = |more: &[&str]| ogniwo(&[&["node", "status", "--config", &config], more].concat()).succeeded();
    // It has asked three times when it says so, half a second and a second apart.
    let document = loop {
        let document: Value = serde_json::from_str(&status(&["--json"])).expect("JSON");
        if document["unrefreshed"]["attempts"].as_u64().is_some_and(|attempts| attempts >= 3) {
            break document;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    };
    assert_eq!(document["unrefreshed"]["code"], "registry_unavailable", "{document}");
    let cause = format!("the registry cannot be reached at {nowhere}");
    assert!(status(&[]).contains(&cause), "{}", status(&[]));
    ogniwo(&["node", "manifest", "--config", &config]).failed(9, "no manifest");
    for command in ["enrol", "shared"] {
        let ran = ogniwo(&["node", command, "--config", &config]);
        ran.failed(9, &cause);
        ran.failed(9, "ogniwo node refresh");
    }
    let token = site.path("token");
    let idp = site.founded.identity_provider(&member("mops")).expect("its keys");
    std::fs::write(&token, idp.token("jan", &["caseworker"], Clock::system().now()).expect("a token")).expect("a file");
    let (api, token) = (local_url(node.listening.local.expect("a local API")), text_of(&token));
    let ask = ["node", "ask", "--config", &config, "--api", &api, "--token-file", &token, "--query", "q02"];
    let more = ["--holder", "pup", "--purpose", "social-welfare-eligibility-assessment", "--reason", "test"];
    let asked = [ask.as_slice(), &more].concat();
    ogniwo_typing(&format!("{}\n", RESIDENTS[0].pesel), &asked).failed(9, &cause);
    let mistaken = ogniwo(&[asked.as_slice(), &["--consent", "nothing-like-it"]].concat());
    mistaken.failed(3, "22 base64url characters");
    assert!(!mistaken.stderr.contains("nothing-like-it"), "{}", mistaken.stderr);
    node.stop().await.expect("an end");
    let trace = std::fs::read_to_string(&trace).expect("a trace");
    assert_eq!(trace.matches("no new manifest").count(), 1, "once for one cause: {trace}");
}

#[test]
fn a_manifest_that_others_signed_is_refused() {
    let site = Site::new();
    let file = |name: &str, manifest: &SignedManifest| {
        let path = site.dir.path().join(name);
        std::fs::write(&path, serde_json::to_vec(manifest).expect("JSON")).expect("a manifest");
        text_of(&path)
    };
    let mut forged = SignedManifest::draft(&site.founded.manifest.read().expect("a manifest")).expect("a draft");
    for seed in 1..=2 {
        forged.sign(&SigningKey::from_seed(&[seed; 32]).expect("a key"));
    }
    let tls = text_of(&site.path("registry/tls"));
    let publish = |manifest: &str| {
        ogniwo(&["registry", "manifest", "publish", manifest, "--registry", "https://127.0.0.1:1", "--tls", &tls])
    };
    publish(&file("forged.json", &forged)).failed(7, "");
    let shown = ogniwo(&["registry", "manifest", "show", &file("forged.json", &forged), "--json"]).succeeded();
    let shown: Value = serde_json::from_str(&shown).expect("JSON");
    assert_eq!(shown["acceptable"], false, "{shown}");
    // A good one gets past that, to the registry that is not there.
    publish(&file("good.json", &site.founded.manifest)).failed(8, "127.0.0.1:1");
    std::fs::write(site.dir.path().join("text.json"), "[]").expect("a file");
    publish(&text_of(&site.dir.path().join("text.json"))).failed(7, "text.json");
    publish(&text_of(&site.dir.path().join("nothing.json"))).failed(3, "nothing.json");
}

#[test]
fn officers_alone_sign_and_count() {
    let site = Site::new();
    let path = |name: &str| text_of(&site.dir.path().join(name));
    let keep = |name: &str, document: Value| {
        std::fs::write(site.dir.path().join(name), document.to_string()).expect("a file");
        path(name)
    };
    let drafted = |manifest| json!(SignedManifest::draft(manifest).expect("a draft"));
    let sign = |manifest: &str, key: &str, more: &[&str]| {
        ogniwo(&[&["registry", "manifest", "sign", manifest, "--key", key], more].concat())
    };
    let shown = |manifest: &str| ogniwo(&["registry", "manifest", "show", manifest]).succeeded();
    let (officer, stranger) = (text_of(&site.path("officers/mops.key")), path("stranger.key"));
    ogniwo(&["registry", "officer", &stranger]).succeeded();
    let held = site.founded.manifest.read().expect("a manifest");

    let draft = keep("draft.json", drafted(&held));
    sign(&draft, &stranger, &[]).failed(3, "no officer's");
    assert!(shown(&draft).contains("signed by 0 of the 2 officers needed: not enough"), "{}", shown(&draft));
    assert!(sign(&draft, &officer, &[]).succeeded().contains("1 of the 2 officers"));
    assert_eq!(shown(&draft).matches("signed by").count(), 1, "{}", shown(&draft));
    // Put there by hand it does not count either.
    let mut forged = SignedManifest::draft(&held).expect("a draft");
    forged.sign(&SigningKey::from_seed(&[1; 32]).expect("a key"));
    assert!(shown(&keep("forged.json", json!(forged))).contains("signed by 0 of the 2"));

    // Whoever is an officer no more in the next manifest signs it as one of the manifest in force.
    let mut next = held.clone();
    next.version += 1;
    next.officers.keys.retain(|officer| officer.member != member("mops"));
    let next = keep("next.json", drafted(&next));
    let force = keep("force.json", json!(site.founded.manifest));
    sign(&next, &officer, &[]).failed(3, "--after");
    sign(&next, &officer, &["--after", &force]).succeeded();

    let mut over = held;
    over.expires = over.issued + -1;
    let (described, out) = (keep("over.json", json!(over)), path("out.json"));
    ogniwo(&["registry", "manifest", "draft", &described, "--out", &out]).failed(3, "`expires`");
}

/// The manifest in force, as the node of `config` hands it out, as the federation keeps it, and what `next` makes of it.
fn the_manifest_in_force(harness: &Harness, config: &str) {
    let handed = text_of(&harness.home().join("handed.json"));
    ogniwo(&["node", "manifest", "--config", config, "--out", &handed]).succeeded();
    let printed = ogniwo(&["node", "manifest", "--config", config]).succeeded();
    let newest = &harness.federation.founded.manifest;
    for text in [printed, std::fs::read_to_string(&handed).expect("a file")] {
        assert_eq!(&serde_json::from_str::<SignedManifest>(&text).expect("a manifest"), newest);
    }
    let kept = text_of(&harness.home().join("manifest.json"));
    let shown = ogniwo(&["registry", "manifest", "show", &kept]).succeeded();
    for word in [newest.fingerprint().as_str(), "generation 1, in use from", "operated by", "a day"] {
        assert!(shown.contains(word), "{word}: {shown}");
    }
    // The only key is destroyed neither in the past nor with nothing in its place.
    let out = text_of(&harness.home().join("next.json"));
    for (day, why) in [("2020-01-01", "past"), ("2099-01-01", "no other key")] {
        let destroy = format!("1={day}");
        let next = ["registry", "manifest", "next", &kept, "--destroy", &destroy, "--out", &out];
        ogniwo(&next).failed(3, why);
    }
    ogniwo(&["registry", "manifest", "next", &kept, "--forget", "2", "--out", &out]).failed(3, "no epoch 2");
    ogniwo(&["registry", "manifest", "next", &kept, "--forget", "1", "--out", &out]).failed(7, "the newest stays");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_federation_refuses_by_its_own_codes() {
    let mut harness = Harness::with(Options { processes: true, ..Options::default() }).await;
    harness.fill().await;
    let config = |unit: &str| text_of(&harness.federation.founded.node_config(&member(unit)));
    let mops = config("mops");

    // A second program on the same data, and a look at data in use.
    let (second, listening) = (mops.replace("node.toml", "second.toml"), "listen = \"127.0.0.1:0\"\n");
    let text = std::fs::read_to_string(&mops).expect("a configuration");
    let free: String = text
        .lines()
        .map(|line| if line.starts_with("listen") { listening.to_owned() } else { format!("{line}\n") })
        .collect();
    std::fs::write(&second, free).expect("a configuration");
    ogniwo(&["node", "run", "--config", &second]).failed(12, "");
    ogniwo(&["node", "check-config", "--config", &second]).failed(12, "");
    ogniwo(&["node", "run", "--config", &mops]).failed(6, "`peers.listen`");
    ogniwo(&["node", "status", "--config", &mops]).succeeded();

    the_manifest_in_force(&harness, &mops);

    // A question with a mistake in it, and one that is refused.
    let token = harness.home().join("token");
    std::fs::write(&token, harness.federation.token(&member("mops"), "jan", &["caseworker"]).expect("a token"))
        .expect("a file");
    let token = text_of(&token);
    let address = harness.federation.nodes[&member("mops")].listening().local.expect("a local API");
    let api = local_url(address);
    let ask = |pesel: &str, token: &str| {
        let purpose = "social-welfare-eligibility-assessment";
        let question = ["node", "ask", "--config", &mops, "--api", &api, "--token-file", token, "--query", "q02"];
        let more = ["--holder", "pup", "--purpose", purpose, "--reason", "test"];
        ogniwo_typing(&format!("{pesel}\n"), &[question.as_slice(), &more].concat())
    };
    let shared = RESIDENTS.iter().find(|r| r.units == "mops+pup").expect("planted");
    let denied = ask(shared.pesel, &token);
    assert_eq!(denied.code, Some(10), "{}", denied.stderr);
    assert!(denied.stdout.contains("basis_missing"), "{}", denied.stdout);
    ask("80010300036", &token).failed(3, "PESEL");
    std::fs::write(harness.home().join("no-token"), "nonsense").expect("a file");
    ask(shared.pesel, &text_of(&harness.home().join("no-token"))).failed(10, "");
    ask(shared.pesel, "/nonexistent/token").failed(3, "/nonexistent/token");

    // The registry goes.
    let forged_by_others = {
        let mut manifest = harness.federation.founded.manifest.read().expect("a manifest");
        manifest.version += 1;
        let keys: Vec<_> = (1..=3).map(|seed| SigningKey::from_seed(&[seed; 32]).expect("a key")).collect();
        for (officer, key) in manifest.officers.keys.iter_mut().zip(&keys) {
            officer.key = key.public();
        }
        let mut signed = SignedManifest::draft(&manifest).expect("a draft");
        for key in &keys {
            signed.sign(key);
        }
        signed
    };
    let forged = harness.home().join("forged.json");
    std::fs::write(&forged, serde_json::to_vec(&forged_by_others).expect("JSON")).expect("a file");
    let (forged, tls) = (text_of(&forged), text_of(&harness.home().join("registry/tls")));
    let url = harness.federation.registry_url();
    let publish = ["registry", "manifest", "publish", &forged, "--registry", &url, "--tls", &tls];
    ogniwo(&publish).failed(7, "refuse");
    harness.federation.registry.stop().await.expect("stopped");
    ogniwo(&["node", "shared", "--config", &mops]).failed(8, "registry");
    ogniwo(&["node", "refresh", "--config", &mops]).failed(8, "registry");
    ogniwo(&publish).failed(8, &url);
    harness.federation.registry.restart().await.expect("started");
    ogniwo(&["node", "shared", "--config", &mops]).succeeded();

    // The key holders go: enough of them.
    for unit in ["pup", "css"] {
        harness.federation.nodes.get_mut(&member(unit)).expect("a node").stop().await.expect("stopped");
    }
    write_extracts(&harness.extracts(), &[tests::Resident { pesel: "80011600165", units: "mops", sealed: false }]);
    let extract = text_of(&harness.extracts().join("mops.csv"));
    let import = ogniwo(&["node", "import", "--config", &mops, "--mapping", &mapping("mops"), &extract, "--json"]);
    let summary: Value = serde_json::from_str(&import.succeeded()).expect("a summary");
    assert_eq!(summary["new"], 1, "{summary}");
    ogniwo(&["node", "enrol", "--config", &mops]).failed(9, "key holders");
    for unit in ["pup", "css"] {
        harness.federation.nodes.get_mut(&member(unit)).expect("a node").restart().await.expect("started");
    }
    ogniwo(&["node", "enrol", "--config", &mops]).succeeded();

    // The manifest's time is over; the next one opens the federation again.
    let now = Clock::system().now();
    let short = harness.federation.founded.next_manifest(now, |next| next.expires = now + 3).expect("a manifest");
    harness.federation.publish(&short).await.expect("published");
    loop {
        let status: node::NodeStatus =
            harness.federation.admin(&member("mops")).get("/status").await.expect("a status");
        if status.state == "manifest_expired" {
            break;
        }
        assert_eq!(status.state, "ready");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    ogniwo(&["node", "shared", "--config", &mops]).failed(7, "manifest_expired");
    ogniwo(&["node", "enrol", "--config", &mops]).failed(7, "manifest_expired");
    ask(shared.pesel, &token).failed(7, "");
    let next = harness.federation.founded.next_manifest(Clock::system().now(), |_| {}).expect("a manifest");
    harness.federation.publish(&next).await.expect("published");
    ogniwo(&["node", "shared", "--config", &mops]).succeeded();
}

#[test]
fn a_tampered_log_is_found() {
    let site = Site::new();
    let config = text_of(&site.path("mops/node.toml"));
    let shipped = |path: &str| format!("{}/../deploy/{path}", env!("CARGO_MANIFEST_DIR"));
    let (mapping, extract) = (shipped("mappings/mops.toml"), shipped("demo/mops.csv"));
    ogniwo(&["node", "import", "--config", &config, "--mapping", &mapping, &extract]).succeeded();
    let log = site.path("mops/data/log");
    let verify = || ogniwo(&["audit", "verify", &text_of(&log)]);
    verify().succeeded();
    let vkey = std::fs::read_to_string(site.path("mops/data/log/vkey")).expect("a key");
    ogniwo(&["audit", "verify", &text_of(&log), "--vkey", vkey.trim()]).succeeded();
    let records = log.join("records/0000000000");
    let good = std::fs::read(&records).expect("records");
    let mut bad = good.clone();
    let middle = bad.len() / 2;
    bad[middle] ^= 1;
    std::fs::write(&records, &bad).expect("written");
    let files = || {
        let mut files = BTreeMap::new();
        collect(&log, &mut files);
        files
    };
    let before = files();
    verify().failed(11, "record");
    // The node will not open over it either, and leaves it as it is.
    ogniwo(&["node", "run", "--config", &config]).failed(13, "log");
    assert_eq!(files(), before);
    std::fs::write(&records, &good).expect("written");
    verify().succeeded();
    ogniwo(&["audit", "verify", &text_of(&site.path("nowhere"))]).failed(3, "nowhere");
    ogniwo(&["audit", "verify", &text_of(&log), "--vkey", "nonsense"]).failed(3, "");
}

#[test]
fn the_demo_takes_no_directory_that_has_something_in_it() {
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::create_dir(dir.path().join("extracts")).expect("a directory");
    std::fs::write(dir.path().join("extracts/mops.csv"), "mine").expect("a file");
    let files = || {
        let mut files = BTreeMap::new();
        collect(dir.path(), &mut files);
        files
    };
    let before = files();
    ogniwo(&["demo", "--once", "--dir", &text_of(dir.path())]).failed(3, "not empty");
    assert_eq!(files(), before);
    let extracts = text_of(&dir.path().join("extracts"));
    ogniwo(&["demo", "--once", "--extracts", &extracts]).failed(5, "pup.csv");
    assert_eq!(files(), before);
}

#[test]
fn every_subcommand_explains_itself() {
    let mut pending = vec![Vec::<String>::new()];
    let mut seen = 0;
    while let Some(path) = pending.pop() {
        let arguments: Vec<&str> = path.iter().map(String::as_str).chain(["--help"]).collect();
        let help = ogniwo(&arguments).succeeded();
        let about = help.lines().next().unwrap_or_default();
        assert!(about.len() > 10 && !about.starts_with("Usage"), "{path:?} does not say what it does:\n{help}");
        assert!(help.contains("Usage: ogniwo"), "{path:?}:\n{help}");
        assert!(!path.is_empty() || help.contains("Examples:"), "{help}");
        seen += 1;
        let Some((_, commands)) = help.split_once("\nCommands:\n") else { continue };
        for line in commands.lines().take_while(|line| !line.is_empty()) {
            let indented = line.strip_prefix("  ").filter(|rest| !rest.starts_with(' '));
            let Some(name) = indented.and_then(|rest| rest.split_whitespace().next()) else { continue };
            if name != "help" {
                pending.push(path.iter().cloned().chain([name.to_owned()]).collect());
            }
        }
    }
    assert!(seen > 35, "only {seen} subcommands were found");
}

#[test]
fn version_completions_and_usage() {
    assert!(ogniwo(&["--version"]).succeeded().starts_with("ogniwo "));
    for shell in ["bash", "zsh", "fish"] {
        assert!(ogniwo(&["completions", shell]).succeeded().contains("keyholder"), "{shell}");
    }
    for wrong in [["nonsense", ""], ["node", "nonsense"], ["certs", "--nonsense"]] {
        let ran = ogniwo(&wrong);
        assert_eq!(ran.code, Some(2), "{}", ran.stderr);
        assert!(ran.stdout.is_empty() && ran.stderr.starts_with("error: "), "{}", ran.stderr);
    }
}

#[test]
fn a_failure_in_json_is_one_object() {
    let site = Site::new();
    let changed = site.changed("mops/node.toml", "data = ", "surprise = 1\ndata = ");
    let config = text_of(&site.path("mops/node.toml"));
    let nowhere = text_of(&site.path("nowhere"));
    let cases: [(&[&str], i64, &str); 4] = [
        (&["--json", "node", "check-config", "--config", &changed], 3, "config"),
        (&["node", "status", "--config", &config, "--json"], 12, "not_running"),
        (&["audit", "verify", &nowhere, "--json"], 3, "value"),
        (&["registry", "manifest", "show", &nowhere, "--json"], 3, "value"),
    ];
    for (arguments, exit, code) in cases {
        let ran = ogniwo(arguments);
        assert_eq!((ran.code, ran.stdout.as_str()), (i32::try_from(exit).ok(), ""), "{arguments:?}: {}", ran.stderr);
        let failure: Value = serde_json::from_str(&ran.stderr).expect("one object");
        assert_eq!((&failure["exit"], &failure["error"]), (&exit.into(), &code.into()), "{failure}");
        for key in ["message", "next_step"] {
            assert!(failure[key].as_str().is_some_and(|text| !text.is_empty()), "{failure}");
        }
    }
}

/// Processes whose command line names `dir`.
fn processes_of(dir: &Path) -> Vec<String> {
    let needle = text_of(dir);
    std::fs::read_dir("/proc")
        .expect("processes")
        .flatten()
        .filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok())
        .map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
        .filter(|line| line.contains(&needle))
        .collect()
}

#[test]
fn ctrl_c_ends_the_demo_and_leaves_nothing() {
    // While it founds, while it works, and while it stays up; and where the story alone was wanted.
    for (stage, more, code) in [
        ("1. Founding", None, 0),
        ("2. ", None, 0),
        ("The federation stays up", None, 0),
        ("1. Founding", Some("--once"), 130),
        ("2. ", Some("--once"), 130),
    ] {
        let temporary = tempfile::tempdir().expect("a directory");
        let mut demo = Command::new(program())
            .arg("demo")
            .args(more)
            .env("TMPDIR", temporary.path())
            .env("OGNIWO_LOG", "off")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program");
        let mut lines = BufReader::new(demo.stdout.take().expect("a pipe")).lines().map_while(Result::ok);
        if !lines.any(|line| line.contains(stage)) {
            let mut why = String::new();
            demo.stderr.take().expect("a pipe").read_to_string(&mut why).expect("text");
            panic!("the demo never came to {stage:?}: {why}");
        }
        if stage.starts_with("The federation") {
            assert_eq!(processes_of(temporary.path()).len(), 5, "a registry and four nodes");
        }
        let pid = i32::try_from(demo.id()).ok().and_then(rustix::process::Pid::from_raw).expect("a process id");
        rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("a signal");
        lines.for_each(drop);
        let mut stderr = String::new();
        demo.stderr.take().expect("a pipe").read_to_string(&mut stderr).expect("text");
        let ended = demo.wait().expect("an end");
        assert_eq!(ended.code(), Some(code), "at {stage:?}: {stderr}");
        assert_eq!(stderr.contains("interrupted"), code == 130, "at {stage:?}: {stderr}");
        assert!(code == 130 || stderr.is_empty(), "at {stage:?}: {stderr}");
        assert_eq!(processes_of(temporary.path()), Vec::<String>::new(), "at {stage:?}");
        let left: Vec<_> = std::fs::read_dir(temporary.path()).expect("a directory").flatten().collect();
        assert!(left.is_empty(), "at {stage:?}: {left:?}");
    }
}

#[test]
fn an_interrupted_demo_stops_its_nodes_in_order() {
    let home = tempfile::tempdir().expect("a directory");
    let mut demo = Command::new(program())
        .args(["demo", "--once", "--dir"])
        .arg(home.path())
        .env("OGNIWO_LOG", "off")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the program");
    let mut lines = BufReader::new(demo.stdout.take().expect("a pipe")).lines().map_while(Result::ok);
    assert!(lines.any(|line| line.starts_with("2. ")), "the demo never came to its second step");
    let pid = i32::try_from(demo.id()).ok().and_then(rustix::process::Pid::from_raw).expect("a process id");
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("a signal");
    lines.for_each(drop);
    assert_eq!(demo.wait().expect("an end").code(), Some(130));
    for unit in ["mops", "pup", "css", "zlm"] {
        let log = tests::log_of(&home.path().join("federation").join(unit).join("node.toml"));
        let last = log.last().expect("entries");
        assert_eq!((last.event(), &last.payload["detail"]), ("node.closed", &json!("stopped")), "{unit}");
    }
}

#[test]
fn certificates_from_request_to_revocation() {
    let site = Site::new();
    let dir = site.dir.path();
    let path = |name: &str| text_of(&dir.join(name));
    let ca = path("authority");
    let run = |arguments: &[&str]| -> Value {
        serde_json::from_str(&ogniwo(&[arguments, &["--json"]].concat()).succeeded()).expect("JSON")
    };
    let init = ["certs", "init", "--dir", &ca, "--realm", "test.ogniwo.example"];
    let made = run(&init);
    let shown = || run(&["certs", "show", "--dir", &ca]);
    assert_eq!(shown()["root_sha256"], made["root_sha256"]);
    assert_eq!(shown()["certificates"], json!([]));
    let first_list = shown()["crl_number"].as_u64().expect("a number");
    ogniwo(&init).failed(14, "another place");

    // A node of its own makes the request; the key stays there.
    let config = path("node.toml");
    let text = std::fs::read_to_string(site.path("mops/node.toml")).expect("a configuration");
    std::fs::write(&config, text.replace("member = \"mops\"", "member = \"newcomer\"")).expect("a configuration");
    let (csr, keys, certificate) = (path("node.csr"), path("keys.json"), path("cert.pem"));
    ogniwo(&["node", "init", "--config", &config, "--csr", &csr, "--keys", &keys]).failed(3, "make the directory");
    std::fs::create_dir(dir.join("credentials")).expect("a directory");
    ogniwo(&["node", "init", "--config", &config, "--csr", &csr, "--keys", &keys]).succeeded();
    assert!(!std::fs::read_to_string(&csr).expect("a request").contains("PRIVATE"));

    let give = |how: &str, csr: &str, who: &str| {
        ogniwo(&["certs", how, "--dir", &ca, "--member", who, csr, "--out", &certificate])
    };
    give("renew", &csr, "newcomer").failed(14, "newcomer");
    give("sign", &csr, "mops").failed(14, "");
    give("sign", &path("nothing.csr"), "newcomer").failed(3, "nothing.csr");
    std::fs::write(dir.join("text.csr"), "no request").expect("a file");
    give("sign", &path("text.csr"), "newcomer").failed(14, "");
    assert_eq!(shown()["certificates"].as_array().map(Vec::len), Some(0), "a refused request leaves no trace");
    give("sign", &csr, "newcomer").succeeded();
    let pem = std::fs::read_to_string(&certificate).expect("a certificate");
    assert_eq!(pem.matches("BEGIN CERTIFICATE").count(), 2, "leaf and issuing authority");

    let (renewed, key) = (path("renewed.csr"), path("key.new"));
    ogniwo(&["node", "renew", "--config", &config, "--csr", &renewed, "--key", &key]).succeeded();
    give("renew", &renewed, "newcomer").succeeded();
    assert_ne!(std::fs::read_to_string(&certificate).expect("a certificate"), pem);
    let certificates = shown()["certificates"].clone();
    let status = |n: usize| shown()["certificates"][n]["status"].clone();
    assert_eq!(certificates.as_array().map(Vec::len), Some(2));
    assert_eq!(certificates[0]["spiffe"], "spiffe://test.ogniwo.example/member/newcomer");
    assert_eq!((status(0), status(1)), ("valid".into(), "valid".into()));

    let serial = certificates[0]["serial"].as_str().expect("a serial number");
    let revoked = run(&["certs", "revoke", "--dir", &ca, "--serial", serial, "--reason", "superseded"]);
    assert_eq!(revoked["number"], first_list + 1);
    assert_eq!((status(0), status(1)), ("revoked".into(), "valid".into()));
    let list = || std::fs::read_to_string(dir.join("authority/crl.pem")).expect("a list");
    let first = list();
    assert!(first.contains("BEGIN X509 CRL"));
    assert_eq!(run(&["certs", "crl", "--dir", &ca])["number"], first_list + 2);
    assert_ne!(list(), first);
    assert_eq!(run(&["certs", "revoke", "--dir", &ca, "--member", "newcomer"])["number"], first_list + 3);
    assert_eq!((status(0), status(1)), ("revoked".into(), "revoked".into()));
    give("renew", &renewed, "newcomer").failed(14, "newcomer");
    ogniwo(&["certs", "revoke", "--dir", &ca, "--member", "nobody"]).failed(14, "");
    assert_eq!(shown()["crl_number"], first_list + 3, "a refused revocation makes no list");
}
