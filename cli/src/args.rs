//! The command line.

use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

/// Share data between city institutions without a central database: consent-checked queries between nodes, a blind
/// registry of pseudonyms, a log that shows what was done.
#[derive(Debug, Parser)]
#[command(name = "ogniwo", version, propagate_version = true, after_help = EXAMPLES)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// Print one JSON document on standard output instead of text.
    #[arg(long, global = true)]
    pub json: bool,
}

const EXAMPLES: &str = "\
Examples:
  ogniwo demo                                 found a federation of four units here and see it work
  ogniwo node run --config /etc/ogniwo/node.toml
  ogniwo node import --config node.toml --mapping mops.toml extract.csv
  ogniwo node enrol --config node.toml        publish pseudonyms of new clients
  ogniwo audit verify /var/lib/ogniwo/data/log

Exit codes: 0 done, 2 usage, 3 configuration, 4 key, 5 extract, 6 address in use, 7 manifest, 8 registry,
9 unavailable, 10 refused, 11 verification, 12 in use or not running, 13 storage, 14 certificate,
15 a person decides, 1 anything else.";

/// The parts of the program.
#[derive(Debug, Subcommand)]
#[expect(clippy::large_enum_variant, reason = "one value a run")]
pub enum Command {
    /// An institution's node: run it, import, enrol, ask.
    #[command(subcommand)]
    Node(NodeCommand),
    /// The registry of pseudonyms, and the manifest.
    #[command(subcommand)]
    Registry(RegistryCommand),
    /// The federation's certificate authority.
    #[command(subcommand)]
    Certs(CertsCommand),
    /// The log: verify, search, export, report.
    #[command(subcommand)]
    Audit(AuditCommand),
    /// The policy library and an institution's own policies.
    #[command(subcommand)]
    Policy(PolicyCommand),
    /// Agreements with other institutions: draft, sign, revoke.
    #[command(subcommand)]
    Agreement(AgreementCommand),
    /// Residents' consents.
    #[command(subcommand)]
    Consent(ConsentCommand),
    /// Questions of peers that a person here decides.
    #[command(subcommand)]
    Approve(ApproveCommand),
    /// What must or must not be answered about a resident.
    #[command(subcommand)]
    Flag(FlagCommand),
    /// Emergency access, and its review.
    #[command(subcommand)]
    Emergency(EmergencyCommand),
    /// Found a federation of four units in a fresh directory, show what it does, and stay up.
    #[command(after_help = "Examples:\n  ogniwo demo\n  ogniwo demo --once --json --extracts exports")]
    Demo(DemoArgs),
    /// Print a completion script for a shell.
    #[command(after_help = "Example:\n  ogniwo completions bash > /etc/bash_completion.d/ogniwo")]
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

/// Which node.
#[derive(Debug, Args)]
pub struct NodeConfig {
    /// The node's configuration.
    #[arg(long, value_name = "FILE", default_value = "/etc/ogniwo/node.toml", env = "OGNIWO_NODE_CONFIG")]
    pub config: PathBuf,
}

/// Node commands.
#[derive(Debug, Subcommand)]
pub enum NodeCommand {
    /// Make a new node's directories, keys and certificate request; overwrites nothing.
    #[command(after_help = "Example:\n  ogniwo node init --config node.toml --csr pup.csr --keys pup-keys.json")]
    Init {
        /// Which node.
        #[command(flatten)]
        node: NodeConfig,
        /// Where to write the certificate request (PKCS#10, PEM).
        #[arg(long, value_name = "FILE", default_value = "node.csr")]
        csr: PathBuf,
        /// Where to write the public keys for the manifest (JSON).
        #[arg(long, value_name = "FILE", default_value = "node-keys.json")]
        keys: PathBuf,
    },
    /// Make a certificate request for a new TLS key; the old key stays in use until the certificate is there.
    #[command(after_help = "Example:\n  ogniwo node renew --config node.toml --csr pup.csr --key pup.key.new")]
    Renew {
        /// Which node.
        #[command(flatten)]
        node: NodeConfig,
        /// Where to write the certificate request (PKCS#10, PEM).
        #[arg(long, value_name = "FILE", default_value = "node.csr")]
        csr: PathBuf,
        /// Where to write the new private key; move it to the configured place together with the certificate.
        #[arg(long, value_name = "FILE", default_value = "node.key.new")]
        key: PathBuf,
    },
    /// Serve other members and the institution's applications.
    #[command(after_help = "Example:\n  ogniwo node run --config /etc/ogniwo/node.toml")]
    Run {
        /// Which node.
        #[command(flatten)]
        node: NodeConfig,
        /// Stop when standard input closes, for a parent process.
        #[arg(long, hide = true)]
        until_stdin_closes: bool,
    },
    /// Check configuration, keys, certificate and policies without starting.
    #[command(after_help = "Example:\n  ogniwo node check-config --config node.toml")]
    CheckConfig {
        /// Which node.
        #[command(flatten)]
        node: NodeConfig,
    },
    /// Say how a running node is.
    #[command(
        after_help = "Examples:\n  ogniwo node status --config node.toml\n  ogniwo node status --json | jq .clients"
    )]
    Status {
        /// Which node.
        #[command(flatten)]
        node: NodeConfig,
    },
    /// Fetch manifest, revocation list and what the registry noticed now.
    #[command(after_help = "Example:\n  ogniwo node refresh --config node.toml")]
    Refresh {
        /// Which node.
        #[command(flatten)]
        node: NodeConfig,
    },
    /// Hand out the manifest the node goes by, with the officers' signatures it checked.
    #[command(
        after_help = "Examples:\n  ogniwo node manifest --out manifest.json\n  ogniwo registry manifest show manifest.json"
    )]
    Manifest {
        /// Which node.
        #[command(flatten)]
        node: NodeConfig,
        /// Where to write it; to standard output if not said.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Import an extract by a mapping file; works without any other machine.
    #[command(
        after_help = "Examples:\n  ogniwo node import --mapping mops.toml mops.csv --dry-run\n  ogniwo node import --mapping mops.toml mops.csv --full"
    )]
    Import {
        /// Which node.
        #[command(flatten)]
        node: NodeConfig,
        /// The mapping file.
        #[arg(long, value_name = "FILE")]
        mapping: PathBuf,
        /// The extract, CSV.
        extract: PathBuf,
        /// Where to list refused rows (line, column, reason; no values), in a dry run too; without it in the data directory,
        /// but of a dry run nowhere. A file that is no such list is not replaced.
        #[arg(long, value_name = "FILE")]
        rejects: Option<PathBuf>,
        /// The extract is the whole truth: remove and unenrol who is not in it.
        #[arg(long, conflicts_with = "delta")]
        full: bool,
        /// With --full: remove even more than a fifth of the residents.
        #[arg(long, requires = "full")]
        remove_many: bool,
        /// The extract has additions only: keep the rows that are there.
        #[arg(long)]
        delta: bool,
        /// Read, check and count what an import would do; change nothing.
        #[arg(long)]
        dry_run: bool,
    },
    /// Give new clients their pseudonyms and publish them at the registry; goes on where it stopped.
    #[command(after_help = "Example:\n  ogniwo node enrol --config node.toml")]
    Enrol {
        /// Which node.
        #[command(flatten)]
        node: NodeConfig,
    },
    /// Remove imported records past the days that `retention` of the configuration gives them, as the node does every day.
    #[command(after_help = "Example:\n  ogniwo node retention --config node.toml --dry-run")]
    Retention {
        /// Which node.
        #[command(flatten)]
        node: NodeConfig,
        /// Count only; remove nothing.
        #[arg(long)]
        dry_run: bool,
    },
    /// Register a resident who is a client soon, before there are records: for two weeks others can be asked about them.
    #[command(
        after_help = "Example:\n  ogniwo node newcomer --token-file token --reason application --text 'wniosek z 21.11.' < pesel"
    )]
    Newcomer {
        /// How to reach the node.
        #[command(flatten)]
        api: ApiArgs,
        /// An identity document instead of a PESEL: its type and issuing country, as PASSPORT,UKR. Either number is typed at a
        /// prompt or read from standard input.
        #[arg(long, value_name = "TYPE,COUNTRY")]
        document: Option<String>,
        /// What makes the resident a client soon.
        #[arg(long, value_parser = ["application", "referral", "emergency"])]
        reason: String,
        /// The same in your words; stays in this institution's log.
        #[arg(long)]
        text: String,
        /// Reference of the case, if there is one already.
        #[arg(long)]
        case: Option<String>,
    },
    /// Turn numbers that nobody has into the indexes that officers plant at the registry, to notice who guesses.
    #[command(
        after_help = "Example:\n  ogniwo node honeypots numbers.txt --out description.json\n  ogniwo registry honeypots draft description.json"
    )]
    Honeypots {
        /// Which node.
        #[command(flatten)]
        node: NodeConfig,
        /// A file with a PESEL a line, of nobody; `-` for standard input.
        numbers: PathBuf,
        /// Under which key, by its epoch; the one in use if not said.
        #[arg(long)]
        epoch: Option<u32>,
        /// Where to write the description.
        #[arg(long, value_name = "FILE", default_value = "description.json")]
        out: PathBuf,
    },
    /// Take a resident back from the registry, whose records stay here; or everybody, before leaving the federation.
    #[command(
        after_help = "Examples:\n  ogniwo node unenrol --token-file token --local-number M/17 --reason 'sprawa zamknięta'\n  ogniwo node unenrol --token-file token --undo --local-number M/17 --reason 'nowy wniosek'\n  ogniwo node unenrol --all"
    )]
    Unenrol {
        /// How to reach the node.
        #[command(flatten)]
        api: ApiArgs,
        /// Whom. The PESEL is typed at a prompt or read from standard input.
        #[command(flatten)]
        resident: ResidentArgs,
        /// Why; stays in this institution's log.
        #[arg(long, required_unless_present = "all")]
        reason: Option<String>,
        /// Let the next `enrol` publish the resident again.
        #[arg(long)]
        undo: bool,
        /// Everybody; whoever runs the node may do this, without a token.
        #[arg(long, conflicts_with_all = ["undo", "reason", "local_number", "document"])]
        all: bool,
    },
    /// Count the clients shared with other units, through the registry alone.
    #[command(
        after_help = "Examples:\n  ogniwo node shared --config node.toml\n  ogniwo node shared --diff --csv changes.csv"
    )]
    Shared {
        /// Which node.
        #[command(flatten)]
        node: NodeConfig,
        /// Also list them by this unit's own client numbers.
        #[arg(long)]
        list: bool,
        /// Also say what changed since the last run.
        #[arg(long)]
        diff: bool,
        /// Write the clients (with --diff: the changes) for the caseworkers' system, by this unit's own client numbers. Who has
        /// none, or has gone, has a line with an empty one.
        #[arg(long, value_name = "FILE")]
        csv: Option<PathBuf>,
    },
    /// Ask other units about a client. The PESEL is typed at a prompt or read from standard input.
    #[command(
        after_help = "Example:\n  ogniwo node ask --token-file token --query q02 --purpose social-welfare-eligibility-assessment \\\n    --mandate ups-105 --case MOPS/2026/17 --reason \"wniosek o zasiłek\" < pesel\n  ogniwo node ask --token-file token --query q09 --expect person.surname --purpose social-welfare-eligibility-assessment \\\n    --mandate ups-105 --case MOPS/2026/17 --reason \"zgodność danych\""
    )]
    Ask(Box<AskArgs>),
    /// Show what came of an earlier question; what waited for a person is fetched once that person decided.
    #[command(
        after_help = "Exits with 15 while somebody at a holder has still to decide.\nExample:\n  ogniwo node answer --token-file token ID"
    )]
    Answer {
        /// How to reach the node.
        #[command(flatten)]
        api: ApiArgs,
        /// The query's id, as `ask` printed it.
        #[arg(allow_hyphen_values = true)]
        id: String,
    },
    /// Hold a share of the pseudonym key: its birth, and new shares of it.
    #[command(subcommand)]
    Keyholder(KeyholderCommand),
    /// One resident's data here, for the data-protection officer.
    #[command(subcommand)]
    Resident(ResidentCommand),
}

/// Resident commands. The PESEL is typed at a prompt or read from standard input.
#[derive(Debug, Subcommand)]
pub enum ResidentCommand {
    /// Show what is on file (GDPR art. 15); sealed fields are not shown. Recorded.
    #[command(
        after_help = "Example:\n  ogniwo node resident show --token-file token --reason 'wniosek 17/2026' < pesel"
    )]
    Show {
        /// How to reach the node.
        #[command(flatten)]
        api: ApiArgs,
        /// Whose.
        #[command(flatten)]
        resident: ResidentArgs,
        /// Why; stays in the log.
        #[arg(long)]
        reason: String,
    },
    /// Restrict the processing (GDPR art. 18), or lift that: nothing is answered, nothing removed by its age. Recorded.
    #[command(
        after_help = "Examples:\n  ogniwo node resident restrict --token-file token --reason 'wniosek 19/2026' < pesel\n  ogniwo node resident restrict --token-file token --reason 'wniosek 19/2026' --lift --resident-informed < pesel"
    )]
    Restrict {
        /// How to reach the node.
        #[command(flatten)]
        api: ApiArgs,
        /// Whose.
        #[command(flatten)]
        resident: ResidentArgs,
        /// Why; stays in the log.
        #[arg(long)]
        reason: String,
        /// The restriction ends.
        #[arg(long, requires = "resident_informed")]
        lift: bool,
        /// The resident was told before the restriction ends (art. 18(3)).
        #[arg(long, requires = "lift")]
        resident_informed: bool,
    },
    /// Erase what is on file (GDPR art. 17). Recorded; the next `enrol` takes back what is published.
    #[command(
        after_help = "Example:\n  ogniwo node resident erase --token-file token --reason 'wniosek 18/2026' --no-exception-applies < pesel"
    )]
    Erase {
        /// How to reach the node.
        #[command(flatten)]
        api: ApiArgs,
        /// Whose.
        #[command(flatten)]
        resident: ResidentArgs,
        /// Why the resident may have it; stays in the log.
        #[arg(long)]
        reason: String,
        /// You checked art. 17(3): no legal duty to keep the data, no archive, no claim.
        #[arg(long, required = true)]
        no_exception_applies: bool,
        /// Erase the payloads of the log's entries about the resident as well; their places in its tree stay.
        #[arg(long, requires = "no_proof_needed")]
        log_entries: bool,
        /// You checked that none of those entries is needed as proof, of a consent or against a claim.
        #[arg(long, requires = "log_entries")]
        no_proof_needed: bool,
    },
}

/// Key holder commands.
#[derive(Debug, Subcommand)]
pub enum KeyholderCommand {
    /// Invite to a ceremony and join it: the birth of a key, or new shares of one (same holders, others, more, fewer).
    #[command(
        after_help = "Examples:\n  ogniwo node keyholder invite --epoch 1 --threshold 2 mops pup css\n  ogniwo node keyholder invite --epoch 1 mops pup zlm        # css hands over to zlm\n  ogniwo node keyholder invite --epoch 2 --threshold 2 --in-days 30 mops pup zlm"
    )]
    Invite {
        /// Which node.
        #[command(flatten)]
        node: NodeConfig,
        /// The epoch to be born, or whose shares to renew if the manifest has it.
        #[arg(long)]
        epoch: u32,
        /// How many holders must answer; for a birth.
        #[arg(long)]
        threshold: Option<u16>,
        /// For new shares, who of the old holders deals; as many as must answer.
        #[arg(long, value_delimiter = ',', value_name = "MEMBER")]
        dealers: Vec<protocol::MemberId>,
        /// In how many days the key comes into use; at once, if not said.
        #[arg(long, value_name = "DAYS")]
        in_days: Option<u32>,
        /// Who shall hold a share afterwards.
        #[arg(required = true, value_name = "MEMBER")]
        holders: Vec<protocol::MemberId>,
    },
    /// Join a ceremony we were invited to, once its digest is compared; the node does the rest by itself.
    #[command(after_help = "Example:\n  ogniwo node keyholder join 3q2-7w --out epoch-1.json")]
    Join {
        /// Which node.
        #[command(flatten)]
        node: NodeConfig,
        /// The ceremony, as `status` shows it.
        #[arg(allow_hyphen_values = true)]
        session: String,
        /// Wait for the end and print the signed epoch.
        #[arg(long)]
        wait: bool,
        /// Wait for the end and write the signed epoch, for the officers' next manifest.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Say how ceremonies stand: who is waited for, what to compare, what came of them.
    #[command(after_help = "Example:\n  ogniwo node keyholder status --config node.toml")]
    Status {
        /// Which node.
        #[command(flatten)]
        node: NodeConfig,
    },
    /// Leave a ceremony and erase all of it here; the others cannot end it without us.
    #[command(after_help = "Example:\n  ogniwo node keyholder abandon 3q2-7w")]
    Abandon {
        /// Which node.
        #[command(flatten)]
        node: NodeConfig,
        /// The ceremony.
        #[arg(allow_hyphen_values = true)]
        session: String,
    },
}

/// How to reach a node's local API.
#[derive(Debug, Args)]
pub struct ApiArgs {
    /// The node's configuration, for the API's address and certificate.
    #[command(flatten)]
    pub node: NodeConfig,
    /// The API's address, if not the configured one.
    #[arg(long, value_name = "URL")]
    pub api: Option<String>,
    /// Certificates to trust for it, if not the configured ones.
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// The caller's token; without it $`OGNIWO_TOKEN`.
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
}

/// Whom a request is about.
#[derive(Debug, Args)]
pub struct ResidentArgs {
    /// This institution's own client number, instead of a PESEL.
    #[arg(long, value_name = "NUMBER")]
    pub local_number: Option<String>,
    /// An identity document instead of a PESEL: its type and issuing country, as PASSPORT,UKR. The number is typed.
    #[arg(long, value_name = "TYPE,COUNTRY", conflicts_with = "local_number")]
    pub document: Option<String>,
}

/// How what a resident takes home is printed.
#[derive(Debug, Args)]
pub struct PrintArgs {
    /// The language.
    #[arg(long, value_parser = ["pl", "en", "uk"], default_value = "pl")]
    pub language: String,
    /// HTML instead of text.
    #[arg(long)]
    pub html: bool,
}

impl PrintArgs {
    /// As the node's API takes it.
    pub(crate) fn query(&self) -> String {
        format!("language={}&html={}", self.language, self.html)
    }
}

/// A question.
#[derive(Debug, Args)]
pub struct AskArgs {
    /// How to reach the node.
    #[command(flatten)]
    pub api: ApiArgs,
    /// About whom.
    #[command(flatten)]
    pub resident: ResidentArgs,
    /// Query type, as q02; several may be given.
    #[arg(long, required = true)]
    pub query: Vec<protocol::QueryType>,
    /// Whom to ask; everyone who may answer, if not said.
    #[arg(long)]
    pub holder: Option<protocol::MemberId>,
    /// Fields asked; all of the query type, if not said.
    #[arg(long, value_delimiter = ',')]
    pub fields: Vec<protocol::FieldId>,
    /// What for.
    #[arg(long)]
    pub purpose: protocol::Purpose,
    /// Basis: a consent's id.
    #[arg(long, conflicts_with = "mandate", allow_hyphen_values = true)]
    pub consent: Option<String>,
    /// Basis: a mandate of the library.
    #[arg(long)]
    pub mandate: Option<String>,
    /// Basis: an emergency you opened and confirmed.
    #[arg(long, conflicts_with_all = ["mandate", "consent"], allow_hyphen_values = true)]
    pub emergency: Option<String>,
    /// Verify queries: fields whose values are compared; the values come from a prompt or, a line each after the
    /// resident's, from standard input.
    #[arg(long, value_name = "FIELD", value_delimiter = ',')]
    pub expect: Vec<protocol::FieldId>,
    /// Reference of the open case.
    #[arg(long)]
    pub case: Option<String>,
    /// Why, in your words; stays in this institution's log.
    #[arg(long)]
    pub reason: String,
}

/// Registry commands.
#[derive(Debug, Subcommand)]
pub enum RegistryCommand {
    /// Make a new registry's directory, keys and certificate request; overwrites nothing.
    #[command(
        after_help = "Example:\n  ogniwo registry init --config registry.toml --csr registry.csr --keys registry-keys.json"
    )]
    Init {
        /// Which registry.
        #[command(flatten)]
        registry: RegistryConfig,
        /// Where to write the certificate request (PKCS#10, PEM).
        #[arg(long, value_name = "FILE", default_value = "registry.csr")]
        csr: PathBuf,
        /// Where to write the public keys for the manifest (JSON).
        #[arg(long, value_name = "FILE", default_value = "registry-keys.json")]
        keys: PathBuf,
    },
    /// Serve members.
    #[command(after_help = "Example:\n  ogniwo registry run --config /etc/ogniwo/registry.toml")]
    Run {
        /// Which registry.
        #[command(flatten)]
        registry: RegistryConfig,
        /// Stop when standard input closes, for a parent process.
        #[arg(long, hide = true)]
        until_stdin_closes: bool,
    },
    /// Check configuration, keys and certificate without starting.
    #[command(after_help = "Example:\n  ogniwo registry check-config --config registry.toml")]
    CheckConfig {
        /// Which registry.
        #[command(flatten)]
        registry: RegistryConfig,
    },
    /// Ask the running registry how it is, and what each member could try.
    #[command(
        after_help = "Examples:\n  ogniwo registry status --config registry.toml\n  ogniwo registry status --at https://registry.lodz.example:8443 --json"
    )]
    Status {
        /// Which registry.
        #[command(flatten)]
        registry: RegistryConfig,
        /// Its address, where it is not the one it listens on.
        #[arg(long, value_name = "URL")]
        at: Option<String>,
    },
    /// Move the index from one engine to the other while the registry is stopped; goes on where it stopped.
    #[command(
        after_help = "Examples:\n  ogniwo registry migrate --from embedded --to postgres --dry-run\n  ogniwo registry migrate --from embedded --to postgres"
    )]
    Migrate {
        /// Which registry.
        #[command(flatten)]
        registry: RegistryConfig,
        /// The engine that has the index.
        #[arg(long)]
        from: IndexEngine,
        /// The engine that is to have it.
        #[arg(long)]
        to: IndexEngine,
        /// Open both and count; write nothing.
        #[arg(long)]
        dry_run: bool,
    },
    /// Say that the registry's data came from a backup: it starts closed until members confirm what it knows.
    #[command(after_help = "Example:\n  ogniwo registry restored --config registry.toml")]
    Restored {
        /// Which registry.
        #[command(flatten)]
        registry: RegistryConfig,
    },
    /// Let a log that came back from a backup go on under a new name, once enough officers confirm that entries are lost.
    /// The registry must be stopped.
    #[command(
        subcommand,
        after_help = "Example:\n  ogniwo registry continue-after-restore draft --config registry.toml --out loss.json\n  ogniwo registry continue-after-restore sign loss.json --key officer.key\n  ogniwo registry continue-after-restore confirmed loss.json --config registry.toml"
    )]
    ContinueAfterRestore(LossCommand),
    /// Export the registry's own log, in clear and with what proves it, for `audit verify` and `audit search --export`.
    /// Recorded; the registry must be stopped.
    #[command(after_help = "Example:\n  ogniwo registry log --config registry.toml --into november")]
    Log {
        /// Which registry.
        #[command(flatten)]
        registry: RegistryConfig,
        /// The directory to make.
        #[arg(long, value_name = "DIR")]
        into: PathBuf,
    },
    /// Indexes that stand for nobody: draw up, sign, plant.
    #[command(subcommand)]
    Honeypots(HoneypotCommand),
    /// The manifest: draw up, sign, show, publish.
    #[command(subcommand)]
    Manifest(ManifestCommand),
    /// Make an officer's signing key.
    #[command(after_help = "Example:\n  ogniwo registry officer officer.key")]
    Officer {
        /// Where to write it (mode 0600); its public half is printed.
        path: PathBuf,
    },
}

/// Where an index is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum IndexEngine {
    /// The file in the data directory.
    Embedded,
    /// The database of `[index.postgres]`.
    Postgres,
}

/// Commands about lost entries of the registry's log.
#[derive(Debug, Subcommand)]
pub enum LossCommand {
    /// Say which log lost entries, and what members cosigned of it; for the officers to sign.
    #[command(
        after_help = "Example:\n  ogniwo registry continue-after-restore draft --config registry.toml --out loss.json"
    )]
    Draft {
        /// Which registry.
        #[command(flatten)]
        registry: RegistryConfig,
        /// Where to write it.
        #[arg(long, value_name = "FILE", default_value = "loss.json")]
        out: PathBuf,
    },
    /// Add an officer's signature: the entries are lost, and the log may go on without them.
    #[command(after_help = "Example:\n  ogniwo registry continue-after-restore sign loss.json --key officer.key")]
    Sign {
        /// The document.
        loss: PathBuf,
        /// The officer's key.
        #[arg(long, value_name = "FILE")]
        key: PathBuf,
    },
    /// Let the log go on, with as many officers' signatures as a manifest needs.
    #[command(
        after_help = "Example:\n  ogniwo registry continue-after-restore confirmed loss.json --config registry.toml"
    )]
    Confirmed {
        /// The document.
        loss: PathBuf,
        /// Which registry.
        #[command(flatten)]
        registry: RegistryConfig,
    },
}

/// Honeypot commands.
#[derive(Debug, Subcommand)]
pub enum HoneypotCommand {
    /// Make an unsigned document of a JSON description, as `ogniwo node honeypots` writes it: realm, issued, epoch, indexes
    /// to plant and to remove.
    #[command(after_help = "Example:\n  ogniwo registry honeypots draft description.json --out honeypots.json")]
    Draft {
        /// The description.
        description: PathBuf,
        /// Where to write it.
        #[arg(long, value_name = "FILE", default_value = "honeypots.json")]
        out: PathBuf,
    },
    /// Add an officer's signature.
    #[command(after_help = "Example:\n  ogniwo registry honeypots sign honeypots.json --key officer.key")]
    Sign {
        /// The document.
        honeypots: PathBuf,
        /// The officer's key.
        #[arg(long, value_name = "FILE")]
        key: PathBuf,
    },
    /// Bring a signed document to the registry; any member may.
    #[command(
        after_help = "Example:\n  ogniwo registry honeypots plant honeypots.json --registry https://registry.lodz.example:8443 --tls /etc/ogniwo/tls"
    )]
    Plant {
        /// The document.
        honeypots: PathBuf,
        /// The registry's address.
        #[arg(long, value_name = "URL")]
        registry: String,
        /// A directory with cert.pem, key.pem, root.pem and crl.pem of a member.
        #[arg(long, value_name = "DIR")]
        tls: PathBuf,
    },
}

/// Which registry.
#[derive(Debug, Args)]
pub struct RegistryConfig {
    /// The registry's configuration.
    #[arg(long, value_name = "FILE", default_value = "/etc/ogniwo/registry.toml", env = "OGNIWO_REGISTRY_CONFIG")]
    pub config: PathBuf,
}

/// Manifest commands.
#[derive(Debug, Subcommand)]
pub enum ManifestCommand {
    /// Make an unsigned manifest of a JSON description, checked for contradictions.
    #[command(after_help = "Example:\n  ogniwo registry manifest draft description.json --out manifest.json")]
    Draft {
        /// The description.
        description: PathBuf,
        /// Where to write it.
        #[arg(long, value_name = "FILE", default_value = "manifest.json")]
        out: PathBuf,
    },
    /// Make the unsigned successor of a manifest: with the results of key ceremonies, days of destruction, members that
    /// join, leave or follow others, and agreements.
    #[command(
        after_help = "Examples:\n  ogniwo registry manifest next manifest.json --epoch epoch-2.json --destroy 1=2027-01-31\n  ogniwo registry manifest next manifest.json --name zlm='Zarząd Lokali Miejskich'\n  ogniwo registry manifest next manifest.json --member zbl.json --agreement zbl-mops.json --succession zlm=zbl   # renamed, or merged into zbl\n  ogniwo registry manifest next manifest.json --member cus.json --agreement cus-pup.json --succession css=css,cus # split\n  ogniwo registry manifest next manifest.json --leave zlm                    # once its follower has enrolled"
    )]
    Next(Box<NextArgs>),
    /// Add an officer's signature.
    #[command(
        after_help = "Examples:\n  ogniwo registry manifest sign manifest.json --key officer.key\n  ogniwo registry manifest sign manifest-next.json --key officer.key --after manifest.json   # who is no officer in the next one"
    )]
    Sign {
        /// The manifest.
        manifest: PathBuf,
        /// The officer's key.
        #[arg(long, value_name = "FILE")]
        key: PathBuf,
        /// The manifest in force, if its officers are others: they sign the next one too.
        #[arg(long, value_name = "FILE")]
        after: Option<PathBuf>,
    },
    /// Show what a manifest says, who signed it, and its fingerprint.
    #[command(after_help = "Example:\n  ogniwo registry manifest show manifest.json")]
    Show {
        /// The manifest.
        manifest: PathBuf,
    },
    /// Bring a signed manifest to the registry; any member may.
    #[command(
        after_help = "Example:\n  ogniwo registry manifest publish manifest.json --registry https://registry.lodz.example:8443 --tls /etc/ogniwo/tls"
    )]
    Publish {
        /// The manifest.
        manifest: PathBuf,
        /// The registry's address.
        #[arg(long, value_name = "URL")]
        registry: String,
        /// A directory with cert.pem, key.pem, root.pem and crl.pem of a member.
        #[arg(long, value_name = "DIR")]
        tls: PathBuf,
    },
}

/// What is to change from one manifest to the next.
#[derive(Debug, Args)]
pub struct NextArgs {
    /// The manifest to follow.
    pub manifest: PathBuf,
    /// A signed epoch, as `ogniwo node keyholder join --out` writes it; may be repeated.
    #[arg(long, value_name = "FILE")]
    pub epoch: Vec<PathBuf>,
    /// When a key's shares and names are destroyed, as 1=2027-01-31; may be repeated.
    #[arg(long, value_name = "EPOCH=DATE", value_parser = crate::manifest_next::destruction)]
    pub destroy: Vec<(protocol::Epoch, protocol::Timestamp)>,
    /// A key that was destroyed and is listed no more, by its epoch, so that its holders may leave; not the newest. May be
    /// repeated.
    #[arg(long, value_name = "EPOCH")]
    pub forget: Vec<u32>,
    /// An agreement that both parties signed; may be repeated.
    #[arg(long, value_name = "FILE")]
    pub agreement: Vec<PathBuf>,
    /// A party's revocation, as `ogniwo agreement revoke --out` writes it; may be repeated.
    #[arg(long, value_name = "FILE")]
    pub revocation: Vec<PathBuf>,
    /// The policy library that members go by from then on; each sets `library` in its configuration to a copy.
    #[arg(long, value_name = "DIR")]
    pub library: Option<PathBuf>,
    /// A member that joins, or has other keys, addresses, quotas or another duty desk (JSON, as `show --json` has members); may be repeated.
    #[arg(long, value_name = "FILE")]
    pub member: Vec<PathBuf>,
    /// A member's name for people; may be repeated.
    #[arg(long, value_name = "MEMBER=NAME", value_parser = crate::manifest_next::name)]
    pub name: Vec<(protocol::MemberId, String)>,
    /// Who has a member's tasks from now on; several for a split, itself among them if it goes on. May be repeated.
    #[arg(long, value_name = "MEMBER=MEMBER,…", value_parser = crate::manifest_next::succession)]
    pub succession: Vec<(protocol::MemberId, std::collections::BTreeSet<protocol::MemberId>)>,
    /// A member that is none any more, with all its agreements; may be repeated.
    #[arg(long, value_name = "MEMBER")]
    pub leave: Vec<protocol::MemberId>,
    /// For how many days it holds.
    #[arg(long, default_value_t = 30)]
    pub days: u32,
    /// Where to write it.
    #[arg(long, value_name = "FILE", default_value = "manifest-next.json")]
    pub out: PathBuf,
}

/// Certificate authority commands.
#[derive(Debug, Subcommand)]
pub enum CertsCommand {
    /// Make the root and the issuing authority. Carry `root/` offline afterwards.
    #[command(after_help = "Example:\n  ogniwo certs init --dir ca --realm lodz.example")]
    Init {
        /// The authority's directory.
        #[arg(long, value_name = "DIR")]
        dir: PathBuf,
        /// The federation's name.
        #[arg(long)]
        realm: protocol::Realm,
    },
    /// Sign a member's certificate request: 90 days.
    #[command(after_help = "Example:\n  ogniwo certs sign --dir ca --member pup pup.csr --out pup.pem")]
    Sign {
        /// The authority's directory.
        #[arg(long, value_name = "DIR")]
        dir: PathBuf,
        /// Whose it is.
        #[arg(long)]
        member: protocol::MemberId,
        /// The request (PKCS#10, PEM).
        csr: PathBuf,
        /// Where to write the certificate with its chain; standard output, if not said.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Sign a new request of a member that has a valid certificate.
    #[command(after_help = "Example:\n  ogniwo certs renew --dir ca --member pup pup.csr --out pup.pem")]
    Renew {
        /// The authority's directory.
        #[arg(long, value_name = "DIR")]
        dir: PathBuf,
        /// Whose it is.
        #[arg(long)]
        member: protocol::MemberId,
        /// The request (PKCS#10, PEM).
        csr: PathBuf,
        /// Where to write the certificate with its chain; standard output, if not said.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Revoke certificates and write a new revocation list.
    #[command(after_help = "Example:\n  ogniwo certs revoke --dir ca --member pup --reason key-compromise")]
    Revoke {
        /// The authority's directory.
        #[arg(long, value_name = "DIR")]
        dir: PathBuf,
        /// Every certificate of this member.
        #[arg(long, conflicts_with = "serial", required_unless_present = "serial")]
        member: Option<protocol::MemberId>,
        /// The certificate with this serial number.
        #[arg(long)]
        serial: Option<String>,
        /// Why.
        #[arg(long, value_enum, default_value_t = RevocationReason::Unspecified)]
        reason: RevocationReason,
    },
    /// Write a new revocation list; each is valid for 24 hours.
    #[command(after_help = "Example:\n  ogniwo certs crl --dir ca")]
    Crl {
        /// The authority's directory.
        #[arg(long, value_name = "DIR")]
        dir: PathBuf,
    },
    /// List certificates and what they are worth now.
    #[command(after_help = "Example:\n  ogniwo certs show --dir ca")]
    Show {
        /// The authority's directory.
        #[arg(long, value_name = "DIR")]
        dir: PathBuf,
    },
}

/// Why a certificate is revoked (RFC 5280 §5.3.1).
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum RevocationReason {
    /// Not said.
    Unspecified,
    /// The key may be in other hands.
    KeyCompromise,
    /// The member changed its name or place.
    AffiliationChanged,
    /// Replaced by a newer certificate.
    Superseded,
    /// The member left.
    CessationOfOperation,
    /// The member was shut out.
    PrivilegeWithdrawn,
}

/// Log commands.
#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// Verify a log's directory or an export offline: every record, the tree, signatures and cosignatures.
    #[command(
        after_help = "Examples:\n  ogniwo audit verify /var/lib/ogniwo/data/log\n  ogniwo audit verify export --manifest manifest.json --since checkpoint-of-pup"
    )]
    Verify(VerifyArgs),
    /// Print what a node cosigned of the others' logs, as signed notes: what `audit verify --since` holds a log against.
    #[command(
        after_help = "Examples:\n  ogniwo audit witnessed --token-file token > cosigned-by-pup\n  ogniwo audit witnessed --log mops --dir /var/lib/ogniwo/data\n  ogniwo audit verify export-of-mops --manifest manifest.json --since cosigned-by-pup"
    )]
    Witnessed(WitnessedArgs),
    /// Find entries: live with a data-protection officer's token, or in an export. A search is itself recorded.
    #[command(
        after_help = "Examples:\n  ogniwo audit search --token-file token --resident < pesel\n  ogniwo audit search --token-file token --peer pup --decision deny --from 2026-11-01\n  ogniwo audit search --token-file token --staff jan --confirm-token-file other\n  ogniwo audit search --token-file token --start 1234 --limit 1\n  ogniwo audit search --token-file token --stream siem --from 2026-11-01 --json\n  ogniwo audit search --export bundle --event query.denied"
    )]
    Search(SearchArgs),
    /// Fetch entries with everything that proves them, as a directory that verifies anywhere. Recorded.
    #[command(after_help = "Example:\n  ogniwo audit export --token-file token --from 2026-11-01 --into november")]
    Export(ExportArgs),
    /// Make a report: live with an officer's token, or of an export.
    #[command(
        after_help = "Examples:\n  ogniwo audit report R2 --token-file token --resident --form html --out lista.html < pesel\n  ogniwo audit report R8 --export november --form csv --semicolon\n  ogniwo audit report R4 --token-file token --peer pup --aware 2026-11-21T08:30:00Z\n  ogniwo audit report R9 --token-file mine --confirm-token-file colleagues --staff jan.kowalski"
    )]
    Report(ReportArgs),
    /// Tell whom a pseudonymous id of the log stands for: a user, or a resident's file. Recorded.
    #[command(
        after_help = "Examples:\n  ogniwo audit who --token-file token --user ID --reason 'skarga 3/2026'\n  ogniwo audit who --token-file token --file ID --reason 'naruszenie 1/2026'"
    )]
    Who(WhoArgs),
    /// Compare the log with a peer's: what stands on one side only, or otherwise on each. The node does so every day.
    #[command(after_help = "Example:\n  ogniwo audit reconcile --token-file token --peer pup --from 2026-11-01")]
    Reconcile(ReconcileArgs),
    /// Look for accesses that no case, consent, approval or pattern explains. The node does so every day.
    #[command(
        after_help = "Examples:\n  ogniwo audit anomalies --token-file token\n  ogniwo audit anomalies --token-file token --from 2026-11-01 --until 2026-12-01"
    )]
    Anomalies(AnomaliesArgs),
    /// List what was found, or say what a finding came to.
    #[command(
        after_help = "Examples:\n  ogniwo audit review --token-file token\n  ogniwo audit review --token-file token ID --explained --note 'restart of their node'"
    )]
    Review(ReviewArgs),
    /// Let a log that came back from a backup go on under a new name, once the officer confirms that entries are lost.
    /// The node must be stopped.
    #[command(after_help = "Example:\n  ogniwo audit continue-after-restore --config node.toml --token-file token")]
    ContinueAfterRestore(ContinueArgs),
}

/// What to verify.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// The log's directory, or an export.
    pub dir: PathBuf,
    /// The key the log must be of, as in its `vkey` file; without it the file's own is believed.
    #[arg(long)]
    pub vkey: Option<String>,
    /// The federation's manifest: the log must be of a key it lists, cosigned by members it lists. Without it whoever
    /// made the directory may have made up the witnesses too.
    #[arg(long, value_name = "FILE")]
    pub manifest: Option<PathBuf>,
    /// A checkpoint of this log that somebody else kept, alone or among those of other logs as `audit witnessed` prints
    /// them: the log must have grown from it, and only what came after the newest is read. May be given again.
    #[arg(long, value_name = "FILE")]
    pub since: Vec<PathBuf>,
    /// With --manifest, take a log that no member vouches for, or of which the newest cosignature is over an hour old
    /// though entries came after it: a copy of one that had no witnesses, or of one made at that time.
    #[arg(long, requires = "manifest")]
    pub uncosigned: bool,
}

/// What a node cosigned.
#[derive(Debug, Args)]
pub struct WitnessedArgs {
    /// The node to ask, and the officer's token.
    #[command(flatten)]
    pub api: ApiArgs,
    /// Only this log, by its origin, or those of this member.
    #[arg(long, value_name = "NAME")]
    pub log: Option<String>,
    /// Read it from the data directory of a node or registry, or a copy of it, instead of asking.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["api", "ca", "token_file"])]
    pub dir: Option<PathBuf>,
}

/// Which entries.
#[derive(Debug, Args)]
pub struct FilterArgs {
    /// About one resident: the PESEL is typed at a prompt or read from standard input. Live only.
    #[arg(long)]
    pub resident: bool,
    /// By this institution's own client number, or an identity document, instead. Live only.
    #[command(flatten)]
    pub who: ResidentArgs,
    /// A resident by the file id in the entries.
    #[arg(long, allow_hyphen_values = true, conflicts_with_all = ["resident", "local_number", "document"])]
    pub file: Option<String>,
    /// The event, as query.answered; docs/AUDIT.md has all.
    #[arg(long)]
    pub event: Option<String>,
    /// A member of staff by the identity provider's name. Live only.
    #[arg(long, conflicts_with = "user")]
    pub staff: Option<String>,
    /// A user by the pseudonymous id in the entries; also what others did on the user's behalf.
    #[arg(long, allow_hyphen_values = true)]
    pub user: Option<String>,
    /// A terminal of this institution by the identity provider's name. Live only.
    #[arg(long, value_name = "NAME", conflicts_with = "terminal")]
    pub terminal_name: Option<String>,
    /// A terminal by what stands for it in the entries.
    #[arg(long, value_name = "ID", allow_hyphen_values = true)]
    pub terminal: Option<String>,
    /// A member on either side.
    #[arg(long)]
    pub peer: Option<String>,
    /// The purpose.
    #[arg(long)]
    pub purpose: Option<String>,
    /// The basis, its kind (consent, mandate, emergency) or a consent's id.
    #[arg(long, allow_hyphen_values = true)]
    pub basis: Option<String>,
    /// A case by its reference. Live only.
    #[arg(long)]
    pub case: Option<String>,
    /// permit or deny, also of one holder among several; mixed: some answered and some refused. Of a restriction restricted
    /// or lifted, of a finding open, explained or confirmed.
    #[arg(long)]
    pub decision: Option<String>,
    /// A request by its digest: the same on both sides.
    #[arg(long, allow_hyphen_values = true)]
    pub request: Option<String>,
    /// A peer's message key by its id, or its TLS certificate by its SHA-256, as in the entries of what it asked.
    #[arg(long, allow_hyphen_values = true)]
    pub key: Option<String>,
    /// From this day (2026-11-21, in Warsaw) or moment (2026-11-21T12:00:00Z) on.
    #[arg(long)]
    pub from: Option<String>,
    /// Until before this day or moment.
    #[arg(long)]
    pub until: Option<String>,
}

/// A search.
#[derive(Debug, Args)]
pub struct SearchArgs {
    /// How to reach the node.
    #[command(flatten)]
    pub api: ApiArgs,
    /// Which entries.
    #[command(flatten)]
    pub filter: FilterArgs,
    /// Search this export instead of a node.
    #[arg(long, value_name = "DIR")]
    pub export: Option<PathBuf>,
    /// The federation's manifest: the export must be of a key it lists, cosigned by members it lists.
    #[arg(long, value_name = "FILE", requires = "export")]
    pub manifest: Option<PathBuf>,
    /// From this entry on, by its number; with --limit 1 that entry alone.
    #[arg(long, default_value_t = 0)]
    pub start: u64,
    /// Entries at most.
    #[arg(long, default_value_t = 1_000)]
    pub limit: u64,
    /// For whom: only what the catalogue lets these see of each entry.
    #[arg(long, value_enum, default_value = "dpo")]
    pub stream: LogStream,
    /// Why; stays in the log. By one user or terminal this or --confirm-token-file is needed, and without the latter
    /// another officer is told of the search.
    #[arg(long)]
    pub reason: Option<String>,
    /// Another officer's token, who confirms; then nobody has to review it afterwards.
    #[arg(long, value_name = "FILE", conflicts_with = "export")]
    pub confirm_token_file: Option<PathBuf>,
}

/// Who reads what leaves a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogStream {
    /// The data-protection officer.
    Dpo,
    /// Those who keep the machines running: no residents, users, cases or words.
    Operations,
    /// A security monitor: users, but no residents, cases or words.
    Siem,
}

/// An id of the log.
#[derive(Debug, Args)]
pub struct WhoArgs {
    /// How to reach the node.
    #[command(flatten)]
    pub api: ApiArgs,
    /// A user of this institution, as entries have it.
    #[arg(
        long,
        value_name = "ID",
        allow_hyphen_values = true,
        required_unless_present = "file",
        conflicts_with = "file"
    )]
    pub user: Option<String>,
    /// A resident's file, as entries have it.
    #[arg(long, value_name = "ID", allow_hyphen_values = true)]
    pub file: Option<String>,
    /// Why; stays in the log.
    #[arg(long)]
    pub reason: String,
}

/// An export.
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// How to reach the node.
    #[command(flatten)]
    pub api: ApiArgs,
    /// Which entries; the tree is exported whole.
    #[command(flatten)]
    pub filter: FilterArgs,
    /// The federation's manifest: the log must be of a key it lists, cosigned by members it lists.
    #[arg(long, value_name = "FILE")]
    pub manifest: Option<PathBuf>,
    /// The directory to make.
    #[arg(long, value_name = "DIR")]
    pub into: PathBuf,
    /// Why; stays in the log. By one user or terminal this or --confirm-token-file is needed, and without the latter
    /// another officer is told of the export.
    #[arg(long)]
    pub reason: Option<String>,
    /// Another officer's token, who confirms; then nobody has to review it afterwards.
    #[arg(long, value_name = "FILE")]
    pub confirm_token_file: Option<PathBuf>,
}

/// A report.
#[derive(Debug, Args)]
pub struct ReportArgs {
    /// Which.
    #[arg(value_enum)]
    pub kind: crate::report::Kind,
    /// How to reach the node.
    #[command(flatten)]
    pub api: ApiArgs,
    /// About which entries.
    #[command(flatten)]
    pub filter: FilterArgs,
    /// R4: when the institution became aware of the breach, as --from; from then on the 72 hours run.
    #[arg(long, value_name = "TIME")]
    pub aware: Option<String>,
    /// Of this export instead of a node's log.
    #[arg(long, value_name = "DIR")]
    pub export: Option<PathBuf>,
    /// The federation's manifest: the log must be of a key it lists, cosigned by members it lists; also for members'
    /// names and agreements (R3, R11).
    #[arg(long, value_name = "FILE")]
    pub manifest: Option<PathBuf>,
    /// R3: an earlier manifest of the federation; the report says what came and went since.
    #[arg(long, value_name = "FILE", requires = "manifest")]
    pub against: Option<PathBuf>,
    /// Language.
    #[arg(long, value_enum, default_value = "pl")]
    pub lang: crate::report::Lang,
    /// How it is written.
    #[arg(long, value_enum, default_value = "text")]
    pub form: Form,
    /// CSV with semicolons, for Polish spreadsheets.
    #[arg(long)]
    pub semicolon: bool,
    /// Where to; standard output, if not said.
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Another officer's token, who confirms: needed for R9; by one user or terminal nobody has to review it afterwards.
    #[arg(long, value_name = "FILE")]
    pub confirm_token_file: Option<PathBuf>,
    /// The key the log must be of.
    #[arg(long)]
    pub vkey: Option<String>,
    /// Why; stays in the log.
    #[arg(long)]
    pub reason: Option<String>,
}

/// How a report is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Form {
    /// For reading.
    Text,
    /// JSON.
    Json,
    /// CSV, UTF-8 with a byte order mark.
    Csv,
    /// A page to print.
    Html,
    /// A resident's list as Estonia's findUsage has it (JSON).
    FindUsage,
    /// FHIR R4 `AuditEvent`s after IHE BALP (JSON).
    Fhir,
}

/// A comparison.
#[derive(Debug, Args)]
pub struct ReconcileArgs {
    /// How to reach the node.
    #[command(flatten)]
    pub api: ApiArgs,
    /// With whom.
    #[arg(long)]
    pub peer: protocol::MemberId,
    /// From this day or moment on; a day before the end, if not said.
    #[arg(long)]
    pub from: Option<String>,
    /// Until before this day or moment; five minutes ago, if not said.
    #[arg(long)]
    pub until: Option<String>,
}

/// A look for what nothing explains.
#[derive(Debug, Args)]
pub struct AnomaliesArgs {
    /// How to reach the node.
    #[command(flatten)]
    pub api: ApiArgs,
    /// From this day or moment on; a day before the end, if not said. Days are judged whole.
    #[arg(long)]
    pub from: Option<String>,
    /// Until before this day or moment; now, if not said.
    #[arg(long)]
    pub until: Option<String>,
}

/// A review.
#[derive(Debug, Args)]
pub struct ReviewArgs {
    /// How to reach the node.
    #[command(flatten)]
    pub api: ApiArgs,
    /// The finding; all are listed, if not said.
    #[arg(allow_hyphen_values = true)]
    pub id: Option<String>,
    /// It has an explanation.
    #[arg(long, requires_all = ["id", "note"], conflicts_with = "confirmed")]
    pub explained: bool,
    /// It is what it looks like.
    #[arg(long, requires_all = ["id", "note"])]
    pub confirmed: bool,
    /// Why.
    #[arg(long, requires = "id")]
    pub note: Option<String>,
    /// List from this finding on.
    #[arg(long, value_name = "ID", allow_hyphen_values = true, conflicts_with = "id")]
    pub start: Option<String>,
    /// Findings listed at most.
    #[arg(long, default_value_t = 1_000, value_parser = at_least_one)]
    pub limit: usize,
}

fn at_least_one(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|limit| *limit > 0).ok_or_else(|| "a number from 1 on".to_owned())
}

/// Going on after a restored backup.
#[derive(Debug, Args)]
pub struct ContinueArgs {
    /// The node's configuration and the officer's token.
    #[command(flatten)]
    pub api: ApiArgs,
}

/// Policy commands.
#[derive(Debug, Subcommand)]
pub enum PolicyCommand {
    /// Validate a library strictly and run its examples; with a directory, also an institution's own policies.
    #[command(after_help = "Example:\n  ogniwo policy check --local /etc/ogniwo/policies --examples own.toml")]
    Check {
        /// The rules.
        #[command(flatten)]
        rules: RuleArgs,
        /// More examples that must hold, written as a library's `examples.toml`.
        #[arg(long, value_name = "FILE")]
        examples: Option<PathBuf>,
        /// The library released last: this one must permit no more, unless its `bundle.toml` says that it does.
        #[arg(long, value_name = "DIR")]
        against: Option<PathBuf>,
    },
    /// Add an officer's signature to a library's `release.json`: this version may be used in the federation.
    #[command(after_help = "Example:\n  ogniwo policy release library-2 --manifest manifest.json --key officer.key")]
    Release {
        /// The library; it is checked first.
        #[arg(value_name = "DIR")]
        library: PathBuf,
        /// The federation's manifest: whose officer signs.
        #[arg(long, value_name = "FILE")]
        manifest: PathBuf,
        /// The officer's key.
        #[arg(long, value_name = "FILE")]
        key: PathBuf,
    },
    /// Say of each example why it is allowed or denied: every step with what it saw.
    #[command(after_help = "Example:\n  ogniwo policy explain question.toml --local /etc/ogniwo/policies")]
    Explain {
        /// Examples, written as a library's `examples.toml`; their outcomes may be missing.
        #[arg(value_name = "FILE")]
        examples: PathBuf,
        /// The rules.
        #[command(flatten)]
        rules: RuleArgs,
    },
    /// Say why a running node answered or refused a past request, by the request's SHA-256 as in both sides' logs.
    #[command(
        after_help = "Example:\n  ogniwo policy past --token-file token 47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU"
    )]
    Past {
        /// How to reach the node.
        #[command(flatten)]
        api: ApiArgs,
        /// SHA-256 of the request, base64url.
        #[arg(allow_hyphen_values = true)]
        request: String,
    },
    /// Print a running node's past decisions, without residents or users, as `simulate` reads them.
    #[command(after_help = "Example:\n  ogniwo policy recorded --from 1772319600 > decisions.jsonl")]
    Recorded {
        /// How to reach the node.
        #[command(flatten)]
        api: ApiArgs,
        /// Not before this moment (seconds since 1970).
        #[arg(long)]
        from: Option<i64>,
        /// Not after this moment (seconds since 1970).
        #[arg(long)]
        to: Option<i64>,
    },
    /// Decide recorded decisions again by a draft: what it would open, close, widen and narrow.
    #[command(after_help = "Example:\n  ogniwo policy simulate --draft library-2 decisions.jsonl")]
    Simulate {
        /// Recorded decisions, one JSON object a line.
        #[arg(value_name = "FILE")]
        recorded: PathBuf,
        /// The draft library.
        #[arg(long, value_name = "DIR")]
        draft: PathBuf,
        /// The institution's own `forbid` policies beside the draft; those of --local, if not said.
        #[arg(long, value_name = "DIR")]
        draft_local: Option<PathBuf>,
        /// The rules in use.
        #[command(flatten)]
        rules: RuleArgs,
    },
    /// Write a library's table of contents anew: the digests of its files as they are.
    #[command(after_help = "Example:\n  ogniwo policy bundle library-2 && ogniwo policy check --library library-2")]
    Bundle {
        /// The library.
        #[arg(value_name = "DIR")]
        library: PathBuf,
    },
    /// List query types, mandates, consent and agreement templates of a library, and what a manifest calls it.
    #[command(after_help = "Examples:\n  ogniwo policy show\n  ogniwo policy show --json | jq .mandates")]
    Show {
        /// A library instead of the program's own.
        #[arg(long, value_name = "DIR")]
        library: Option<PathBuf>,
    },
}

/// Which rules are meant.
#[derive(Debug, Args)]
pub struct RuleArgs {
    /// A library instead of the program's own.
    #[arg(long, value_name = "DIR")]
    pub library: Option<PathBuf>,
    /// A directory of the institution's own `forbid` policies.
    #[arg(long, value_name = "DIR")]
    pub local: Option<PathBuf>,
}

/// Consent commands.
#[derive(Debug, Subcommand)]
pub enum ConsentCommand {
    /// Record a resident's consent. The PESEL is typed at a prompt or read from standard input.
    #[command(
        after_help = "Example:\n  ogniwo consent record --token-file token --template instead-of-certificate --module labour-status \\\n    --recipient mops --purpose social-welfare-eligibility-assessment --evidence scan.pdf < pesel"
    )]
    Record {
        /// How to reach the node.
        #[command(flatten)]
        api: ApiArgs,
        /// Whose.
        #[command(flatten)]
        resident: ResidentArgs,
        /// The template the resident signed.
        #[arg(long)]
        template: String,
        /// Who may receive.
        #[arg(long)]
        recipient: protocol::MemberId,
        /// What for.
        #[arg(long, required = true)]
        purpose: Vec<protocol::Purpose>,
        /// For how many days; the template's longest, if not said.
        #[arg(long)]
        days: Option<u32>,
        /// What was answered.
        #[command(flatten)]
        answer: AnswerArgs,
    },
    /// Note that a resident was asked; the answer is recorded later with `answer`.
    #[command(
        after_help = "Example:\n  ogniwo consent request --token-file token --local-number M/17 --template instead-of-certificate \\\n    --recipient mops --purpose social-welfare-eligibility-assessment"
    )]
    Request {
        /// How to reach the node.
        #[command(flatten)]
        api: ApiArgs,
        /// Whom.
        #[command(flatten)]
        resident: ResidentArgs,
        /// The template.
        #[arg(long)]
        template: String,
        /// Who may receive.
        #[arg(long)]
        recipient: protocol::MemberId,
        /// What for.
        #[arg(long, required = true)]
        purpose: Vec<protocol::Purpose>,
        /// For how many days; the template's longest, if not said.
        #[arg(long)]
        days: Option<u32>,
    },
    /// Record the answer to a consent that was asked for.
    #[command(
        after_help = "Example:\n  ogniwo consent answer --token-file token ID --module labour-status --evidence scan.pdf"
    )]
    Answer {
        /// How to reach the node.
        #[command(flatten)]
        api: ApiArgs,
        /// The consent's id.
        #[arg(allow_hyphen_values = true)]
        id: String,
        /// What was answered.
        #[command(flatten)]
        answer: AnswerArgs,
    },
    /// Ask again before or after a consent ended: a new one, to the current text, which ends the old one.
    #[command(
        after_help = "Example:\n  ogniwo consent renew --token-file token ID --module labour-status --evidence scan.pdf"
    )]
    Renew {
        /// How to reach the node.
        #[command(flatten)]
        api: ApiArgs,
        /// The consent's id.
        #[arg(allow_hyphen_values = true)]
        id: String,
        /// What was answered.
        #[command(flatten)]
        answer: AnswerArgs,
    },
    /// Withdraw a consent, wholly or in part: final, at once.
    #[command(
        after_help = "Examples:\n  ogniwo consent withdraw --token-file token ID\n  ogniwo consent withdraw --token-file token ID --module labour-status\n  ogniwo consent withdraw --token-file token ID --elsewhere < pesel"
    )]
    Withdraw {
        /// How to reach the node.
        #[command(flatten)]
        api: ApiArgs,
        /// The consent's id.
        #[arg(allow_hyphen_values = true)]
        id: String,
        /// Only these modules.
        #[arg(long, value_delimiter = ',')]
        module: Vec<String>,
        /// How the resident said it.
        #[arg(long, value_parser = METHODS, default_value = "counter_paper")]
        method: String,
        /// It was recorded at another member. The resident is named by PESEL, at a prompt, or by --local-number.
        #[arg(long)]
        elsewhere: bool,
        /// Whose; only with --elsewhere.
        #[command(flatten)]
        resident: ResidentArgs,
    },
    /// Print what the resident takes home.
    #[command(
        after_help = "Example:\n  ogniwo consent receipt --token-file token ID --language uk --html > receipt.html"
    )]
    Receipt {
        /// How to reach the node.
        #[command(flatten)]
        api: ApiArgs,
        /// The consent's id.
        #[arg(allow_hyphen_values = true)]
        id: String,
        /// How it is printed.
        #[command(flatten)]
        print: PrintArgs,
    },
    /// Print a consent as JSON-LD (ISO/IEC TS 27560, DPV).
    #[command(after_help = "Example:\n  ogniwo consent export --token-file token ID > consent.jsonld")]
    Export {
        /// How to reach the node.
        #[command(flatten)]
        api: ApiArgs,
        /// The consent's id.
        #[arg(allow_hyphen_values = true)]
        id: String,
    },
    /// End a consent that the resident did not withdraw.
    #[command(
        after_help = "Example:\n  ogniwo consent revoke --token-file token ID --cause death --text 'akt zgonu 17/2026'"
    )]
    Revoke {
        /// How to reach the node.
        #[command(flatten)]
        api: ApiArgs,
        /// The consent's id.
        #[arg(allow_hyphen_values = true)]
        id: String,
        /// Why it ends.
        #[arg(long, value_parser = ["death", "court", "representative"])]
        cause: String,
        /// What it is proven by; stays in this institution's log.
        #[arg(long)]
        text: String,
    },
    /// List a resident's consents recorded here, newest first.
    #[command(after_help = "Example:\n  ogniwo consent list --token-file token --local-number M/17")]
    List {
        /// How to reach the node.
        #[command(flatten)]
        api: ApiArgs,
        /// Whose.
        #[command(flatten)]
        resident: ResidentArgs,
    },
    /// Show a consent recorded here.
    #[command(after_help = "Example:\n  ogniwo consent show --token-file token ID")]
    Show {
        /// How to reach the node.
        #[command(flatten)]
        api: ApiArgs,
        /// The consent's id.
        #[arg(allow_hyphen_values = true)]
        id: String,
    },
}

/// How a resident can say something.
const METHODS: [&str; 5] = ["counter_paper", "counter_tablet", "portal", "phone_recorded", "epuap"];

/// What a resident answered.
#[derive(Debug, Args)]
pub struct AnswerArgs {
    /// Modules given; all others are refused.
    #[arg(long, value_delimiter = ',')]
    pub module: Vec<String>,
    /// Modules refused in so many words.
    #[arg(long, value_delimiter = ',')]
    pub refused: Vec<String>,
    /// Who answered.
    #[arg(long, value_parser = ["resident", "guardian", "attorney"], default_value = "resident")]
    pub acting: String,
    /// What another guardian gave; only what all give is given. Once for each.
    #[arg(long, value_name = "MODULES")]
    pub other_guardian: Vec<String>,
    /// How it was answered.
    #[arg(long, value_parser = METHODS, default_value = "counter_paper")]
    pub method: String,
    /// In which language the resident read it.
    #[arg(long, value_parser = ["pl", "en", "uk"], default_value = "pl")]
    pub language: String,
    /// The signed paper's scan; only its SHA-256 is recorded.
    #[arg(long, value_name = "FILE")]
    pub evidence: PathBuf,
}

/// Agreement commands.
#[derive(Debug, Subcommand)]
pub enum AgreementCommand {
    /// Make an unsigned agreement of a JSON description of its terms, or of a template of the program's library.
    #[command(after_help = "The terms: id, version, asker, holder, queries, fields, purposes, queries_per_day, \
        [queries_per_user_per_day], [hours: day, from_minute, to_minute], [mode: automatic or human], valid_from, valid_to \
        (seconds since 1970).\nExamples:\n  ogniwo agreement draft terms.json --out mops-pup.json\n  \
        ogniwo agreement draft --template mops-pup --asker mops --holder pup --out mops-pup.json")]
    Draft {
        /// The description.
        #[arg(required_unless_present = "template", conflicts_with = "template")]
        description: Option<PathBuf>,
        /// A template (`ogniwo policy show`); it holds from now on.
        #[arg(long, requires = "asker", requires = "holder")]
        template: Option<String>,
        /// Who asks.
        #[arg(long, value_name = "MEMBER")]
        asker: Option<protocol::MemberId>,
        /// Who answers.
        #[arg(long, value_name = "MEMBER")]
        holder: Option<protocol::MemberId>,
        /// Where to write it.
        #[arg(long, value_name = "FILE", default_value = "agreement.json")]
        out: PathBuf,
    },
    /// Show an agreement's terms and who signed.
    #[command(after_help = "Example:\n  ogniwo agreement show mops-pup.json")]
    Show {
        /// The agreement.
        agreement: PathBuf,
    },
    /// Sign for this institution by its running node, which refuses terms it does not know. Recorded.
    #[command(after_help = "Example:\n  ogniwo agreement sign --config node.toml mops-pup.json")]
    Sign {
        /// Which node.
        #[command(flatten)]
        node: NodeConfig,
        /// The agreement; the signature is added to it.
        agreement: PathBuf,
    },
    /// End an agreement by this institution's word alone: here at once, at the other party as soon as it is reached.
    #[command(after_help = "Example:\n  ogniwo agreement revoke mops-pup@1 --out over.json")]
    Revoke {
        /// Which node.
        #[command(flatten)]
        node: NodeConfig,
        /// Id and version, as `ogniwo node status` shows them.
        #[arg(value_name = "ID@VERSION", value_parser = crate::agreement_command::reference)]
        agreement: protocol::agreement::AgreementRef,
        /// Where to write the signed word for the officers.
        #[arg(long, value_name = "FILE", default_value = "revocation.json")]
        out: PathBuf,
    },
}

/// Approval commands.
#[derive(Debug, Subcommand)]
pub enum ApproveCommand {
    /// List questions that wait, and those decided in the last days.
    #[command(after_help = "Example:\n  ogniwo approve list --token-file token")]
    List {
        /// How to reach the node.
        #[command(flatten)]
        api: ApiArgs,
    },
    /// Show one: who asks what about whom, why, on which basis.
    #[command(after_help = "Example:\n  ogniwo approve show --token-file token ID")]
    Show {
        /// How to reach the node.
        #[command(flatten)]
        api: ApiArgs,
        /// Its id.
        #[arg(allow_hyphen_values = true)]
        id: String,
    },
    /// Approve one, wholly or in part.
    #[command(after_help = "Example:\n  ogniwo approve grant --token-file token ID --fields pup.status")]
    Grant {
        /// How to reach the node.
        #[command(flatten)]
        api: ApiArgs,
        /// Its id.
        #[arg(allow_hyphen_values = true)]
        id: String,
        /// Only these fields.
        #[arg(long, value_delimiter = ',')]
        fields: Vec<protocol::FieldId>,
    },
    /// Refuse one, with a reason that stays here.
    #[command(after_help = "Example:\n  ogniwo approve refuse --token-file token ID --reason 'sprawa zakończona'")]
    Refuse {
        /// How to reach the node.
        #[command(flatten)]
        api: ApiArgs,
        /// Its id.
        #[arg(allow_hyphen_values = true)]
        id: String,
        /// Why; stays in this institution.
        #[arg(long)]
        reason: String,
    },
}

/// Flag commands.
#[derive(Debug, Subcommand)]
pub enum FlagCommand {
    /// Set flags on a resident: from then on they decide what peers are told.
    #[command(after_help = "Example:\n  ogniwo flag set --local-number M/17 objected --reason 'letter of 2 March'")]
    Set(FlagArgs),
    /// Lift a resident's flags.
    #[command(
        after_help = "Example:\n  ogniwo flag clear --token-file token --local-number M/17 objected --reason 'sprzeciw wycofany'"
    )]
    Clear(ClearArgs),
    /// Show a resident's flags.
    #[command(after_help = "Example:\n  ogniwo flag show --token-file token --local-number M/17")]
    Show {
        /// How to reach the node.
        #[command(flatten)]
        api: ApiArgs,
        /// About whom.
        #[command(flatten)]
        resident: ResidentArgs,
    },
}

/// A change of flags.
#[derive(Debug, Args)]
pub struct FlagArgs {
    /// How to reach the node.
    #[command(flatten)]
    pub api: ApiArgs,
    /// About whom.
    #[command(flatten)]
    pub resident: ResidentArgs,
    /// The flags.
    #[arg(required = true, value_parser = ["restricted", "unlisted", "deceased", "objected", "minor", "ward", "do_not_contact", "unenrolled"])]
    pub flag: Vec<String>,
    /// Why; stays in this institution's log.
    #[arg(long)]
    pub reason: String,
}

/// A lifting of flags. A restriction is not lifted so: `ogniwo node resident restrict --lift`.
#[derive(Debug, Args)]
pub struct ClearArgs {
    /// How to reach the node.
    #[command(flatten)]
    pub api: ApiArgs,
    /// About whom.
    #[command(flatten)]
    pub resident: ResidentArgs,
    /// The flags; `restricted` is lifted by `ogniwo node resident restrict --lift`.
    #[arg(required = true, value_parser = ["unlisted", "deceased", "objected", "minor", "ward", "do_not_contact", "unenrolled"])]
    pub flag: Vec<String>,
    /// Why; stays in this institution's log.
    #[arg(long)]
    pub reason: String,
}

/// Emergency commands.
#[derive(Debug, Subcommand)]
pub enum EmergencyCommand {
    /// Declare danger to a resident; it serves once you confirm it.
    #[command(
        after_help = "Example:\n  ogniwo emergency open --token-file token --local-number M/17 --reason life --text 'nie otwiera od 3 dni'"
    )]
    Open {
        /// How to reach the node.
        #[command(flatten)]
        api: ApiArgs,
        /// Who is in danger.
        #[command(flatten)]
        resident: ResidentArgs,
        /// One of the library's reasons: life, health, child, missing.
        #[arg(long)]
        reason: String,
        /// What happened; stays in this institution.
        #[arg(long)]
        text: String,
    },
    /// Confirm it a second time: then `ogniwo node ask --emergency ID`.
    #[command(after_help = "Example:\n  ogniwo emergency confirm --token-file token ID")]
    Confirm {
        /// How to reach the node.
        #[command(flatten)]
        api: ApiArgs,
        /// Its id.
        #[arg(allow_hyphen_values = true)]
        id: String,
    },
    /// The data-protection officer's queue.
    #[command(after_help = "Example:\n  ogniwo emergency list --token-file officer")]
    List {
        /// How to reach the node.
        #[command(flatten)]
        api: ApiArgs,
    },
    /// Review one, with its outcome; of one taken here, say whether the resident is told.
    #[command(
        after_help = "Examples:\n  ogniwo emergency review --token-file officer ID --outcome justified --text 'interwencja 12/2026' --informed letter\n  ogniwo emergency review --token-file officer ID --outcome justified --text 'interwencja 12/2026' --not-informed 'list trafiłby do sprawcy'"
    )]
    Review {
        /// How to reach the node.
        #[command(flatten)]
        api: ApiArgs,
        /// Its id.
        #[arg(allow_hyphen_values = true)]
        id: String,
        /// What was found.
        #[arg(long, value_parser = ["justified", "unjustified"])]
        outcome: String,
        /// Why; stays in this institution.
        #[arg(long)]
        text: String,
        /// The resident is told this way.
        #[arg(long, value_parser = ["letter", "in_person", "electronic"], conflicts_with = "not_informed")]
        informed: Option<String>,
        /// The resident is not told, for this reason; stays in this institution.
        #[arg(long, value_name = "WHY")]
        not_informed: Option<String>,
    },
    /// Print what tells the resident of one that was reviewed.
    #[command(
        after_help = "Example:\n  ogniwo emergency letter --token-file officer ID --language uk --html > letter.html"
    )]
    Letter {
        /// How to reach the node.
        #[command(flatten)]
        api: ApiArgs,
        /// Its id.
        #[arg(allow_hyphen_values = true)]
        id: String,
        /// How it is printed.
        #[command(flatten)]
        print: PrintArgs,
    },
}

/// The demo.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// End after the story instead of staying up.
    #[arg(long)]
    pub once: bool,
    /// Read mops.csv, pup.csv, css.csv and zlm.csv here instead of the shipped cut.
    #[arg(long, value_name = "DIR")]
    pub extracts: Option<PathBuf>,
    /// Found the federation here, in a fresh directory that stays; otherwise in a temporary one that goes.
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    /// Ids of the log are base64url, and one in 64 begins with a hyphen.
    #[test]
    fn an_id_that_begins_with_a_hyphen_is_no_option() {
        for line in [
            "ogniwo audit who --token-file token --reason skarga --user -5_f7",
            "ogniwo audit who --token-file token --reason skarga --file -5_f7",
            "ogniwo audit search --token-file token --key -5_f7",
        ] {
            let understood = Cli::try_parse_from(words(line));
            assert!(understood.is_ok(), "{line}: {}", understood.unwrap_err());
        }
    }

    /// The words of an example as a shell would hand them over; only what stands before a redirection or a pipe.
    fn words(example: &str) -> Vec<String> {
        let (mut words, mut word, mut quote) = (Vec::new(), String::new(), None);
        for c in example.chars().chain([' ']) {
            match (quote, c) {
                (None, '\'' | '"') => quote = Some(c),
                (Some(open), _) if open == c => quote = None,
                (None, '<' | '>' | '|' | '#' | '&') => break,
                (None, ' ') if word.is_empty() => {}
                (None, ' ') => words.push(std::mem::take(&mut word)),
                _ => word.push(c),
            }
        }
        words
    }

    #[test]
    fn every_command_has_an_example_that_is_understood() {
        let mut pending = vec![(Cli::command(), String::new())];
        let mut seen = 0;
        while let Some((command, path)) = pending.pop() {
            pending.extend(command.get_subcommands().map(|c| (c.clone(), format!("{path} {}", c.get_name()))));
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            let help = help.replace("\\\n", " ");
            if command.has_subcommands() {
                continue;
            }
            let examples: Vec<&str> = help.lines().map(str::trim).filter(|line| line.starts_with("ogniwo ")).collect();
            assert!(!examples.is_empty(), "ogniwo{path} has no example");
            for example in examples {
                let understood = Cli::try_parse_from(words(example));
                assert!(understood.is_ok(), "{example}: {}", understood.unwrap_err());
                seen += 1;
            }
        }
        assert!(seen > 80, "only {seen} examples were found");
    }
}
