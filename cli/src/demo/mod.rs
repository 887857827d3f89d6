//! `ogniwo demo`: founds a federation of four units, tells its story in short steps, then stays up for trying.

mod extracts;
mod people;
mod report;
mod story;

use crate::args::DemoArgs;
use crate::exit::Failure;
use crate::federation::Federation;
use crate::output::Output;
use extracts::Extracts;
use report::Report;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;
use tokio::signal::unix::{SignalKind, signal};

const REFRESH_TOKENS: Duration = Duration::from_mins(5);

pub(crate) async fn run(arguments: DemoArgs, output: &Output) -> Result<(), Failure> {
    // Before anything is made: from here on Ctrl-C and a plain kill end in order.
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let home = Home::new(arguments.dir)?;
    let extracts = match &arguments.extracts {
        Some(dir) => Extracts::given(dir, home.path())?,
        None => Extracts::shipped(home.path())?,
    };
    let done = tokio::select! {
        told = tell(&extracts, home.path(), arguments.once, output) => Ok(told),
        _ = interrupt.recv() => Err(()),
        _ = terminate.recv() => Err(()),
    };
    // Whatever ended the story, its processes ended in order when it was dropped.
    match done {
        Ok(told) => told,
        // Who wants the story alone has not got it.
        Err(()) if arguments.once => Err(Failure::new("interrupted", "the demo was interrupted before its end")),
        Err(()) => Ok(()),
    }
}

async fn tell(extracts: &Extracts, home: &Path, once: bool, output: &Output) -> Result<(), Failure> {
    let program = std::env::current_exe()?;
    let mut report = Report::default();
    let mut federation = story::found(&program, &home.join("federation"), extracts, output).await?;
    let told = story::tell(&mut federation, extracts, &mut report, output).await;
    if told.is_ok() && output.is_json() {
        output.result(&report, String::new);
    }
    if told.is_ok() && !once {
        stay_up(&federation, output).await?;
    }
    federation.stop().await?;
    told
}

/// Prints what can be tried, and keeps the tokens fresh until Ctrl-C.
async fn stay_up(federation: &Federation, output: &Output) -> Result<(), Failure> {
    let dir = &federation.founded.dir;
    let mops = story::unit("mops")?;
    let config = federation.founded.node_config(&mops).display().to_string();
    output.say(format!(
        "\nThe federation stays up; Ctrl-C ends it. In another terminal try:\n\
         \n  {program} node status --config {config}\
         \n  {program} node shared --config {config} --list | head\
         \n  {program} node ask --config {config} --token-file {mops}/caseworker.token \\\
         \n    --query q01 --purpose social-welfare-provision --mandate ups-105 --case MOPS/2026/1 --reason \"rozmowa\"\
         \n\nas the data-protection officer of mops:\n\
         \n  {program} audit search --config {config} --token-file {mops}/dpo.token --event query.outcome\
         \n  {program} audit report R10 --config {config} --token-file {mops}/dpo.token --manifest {dir}/manifest.json\
         \n  {program} audit reconcile --config {config} --token-file {mops}/dpo.token --peer pup\
         \n\nas anybody with a copy of a log, and of the manifest:\n\
         \n  {program} audit verify {dir}/pup/data/log --manifest {dir}/manifest.json\
         \n  {program} registry manifest show {dir}/manifest.json\
         \n  {program} policy show",
        program = crate::program(),
        mops = dir.join("mops").display(),
        dir = dir.display(),
    ));
    let callers = [("jan.pracownik", "caseworker"), ("iod", "dpo")];
    loop {
        for (user, role) in callers {
            let token = federation.token(&mops, user, &[role])?;
            keyring::write_atomically(&dir.join(format!("mops/{role}.token")), token.as_bytes())?;
        }
        tokio::time::sleep(REFRESH_TOKENS).await;
    }
}

/// Where the federation lives: a directory that stays, or a temporary one that goes.
enum Home {
    Kept(PathBuf),
    Temporary(TempDir),
}

impl Home {
    fn new(dir: Option<PathBuf>) -> Result<Self, Failure> {
        match dir {
            Some(dir) => {
                if std::fs::read_dir(&dir).is_ok_and(|mut entries| entries.next().is_some()) {
                    return Err(Failure::new(
                        "value",
                        format!("{} is not empty: choose a fresh directory", dir.display()),
                    ));
                }
                std::fs::create_dir_all(&dir)?;
                Ok(Home::Kept(dir.canonicalize()?))
            }
            None => Ok(Home::Temporary(tempfile::Builder::new().prefix("ogniwo-demo-").tempdir()?)),
        }
    }

    fn path(&self) -> &Path {
        match self {
            Home::Kept(path) => path,
            Home::Temporary(dir) => dir.path(),
        }
    }
}
