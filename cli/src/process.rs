//! This program as a process: how its servers listen and are told to stop, and how it is a child, started, asked for its
//! addresses, stopped and waited for.

use crate::exit::Failure;
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};
use std::fs::OpenOptions;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::net::TcpListener;
use tokio::process::{Child, ChildStdin, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

const START: Duration = Duration::from_mins(1);
const STOP: Duration = Duration::from_secs(20);
/// Between two looks at one that is dropped.
const LOOK: Duration = Duration::from_millis(10);

/// The line a server prints on standard output once it listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listening {
    /// The listener for members.
    pub peers: SocketAddr,
    /// The listener for the institution's own applications.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local: Option<SocketAddr>,
}

/// Does work off the network threads.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Failure> {
    tokio::task::spawn_blocking(work).await.map_err(|e| Failure::new("internal", e))
}

/// Binds an address of the configuration.
pub(crate) async fn bind(key: &str, address: SocketAddr) -> Result<TcpListener, Failure> {
    TcpListener::bind(address).await.map_err(|e| {
        let code = if e.kind() == std::io::ErrorKind::AddrInUse { "address_in_use" } else { "config" };
        Failure::new(code, format!("`{key}`: cannot listen on {address}: {e}"))
    })
}

/// Ends when the program is told to: SIGINT, SIGTERM, or its parent gone.
pub(crate) fn until_stopped(until_stdin_closes: bool) -> CancellationToken {
    let stop = CancellationToken::new();
    let told = stop.clone();
    tokio::spawn(async move {
        let terminated = async {
            match signal(SignalKind::terminate()) {
                Ok(mut signal) => drop(signal.recv().await),
                Err(_) => std::future::pending().await,
            }
        };
        let orphaned = async {
            if !until_stdin_closes {
                return std::future::pending().await;
            }
            let mut sink = Vec::new();
            // Nobody writes there: it ends when the parent does.
            let _end = tokio::io::stdin().read_to_end(&mut sink).await;
        };
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            () = terminated => {}
            () = orphaned => {}
        }
        told.cancel();
    });
    stop
}

/// A server process. Dropped, it is told to stop and waited for, and killed only if that takes too long; it also stops by
/// itself when we are gone, for its standard input closes.
pub struct Process {
    /// For messages.
    pub name: String,
    /// Where it listens.
    pub listening: Listening,
    running: Running,
    program: PathBuf,
    arguments: Vec<String>,
    log: PathBuf,
}

impl Process {
    /// Starts `program arguments… --until-stdin-closes` with its log in `log`, and waits until it listens.
    ///
    /// # Errors
    /// What it wrote last, if it does not come up.
    pub async fn start(name: &str, program: &Path, arguments: &[&str], log: &Path) -> Result<Self, Failure> {
        let arguments: Vec<String> = arguments.iter().map(|a| (*a).to_owned()).collect();
        let (running, listening) = spawn(name, program, &arguments, log).await?;
        Ok(Process {
            name: name.to_owned(),
            listening,
            running,
            program: program.to_owned(),
            arguments,
            log: log.to_owned(),
        })
    }

    /// Its process id, while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.running.child.id()
    }

    /// Lets it finish what it does and waits; kills it if that takes too long.
    ///
    /// # Errors
    /// The operating system's.
    pub async fn stop(&mut self) -> Result<(), Failure> {
        drop(self.running.stdin.take());
        if tokio::time::timeout(STOP, self.running.child.wait()).await.is_err() {
            self.kill().await?;
        }
        Ok(())
    }

    /// `kill -9`, and waits.
    ///
    /// # Errors
    /// The operating system's.
    pub async fn kill(&mut self) -> Result<(), Failure> {
        Ok(self.running.child.kill().await?)
    }

    /// Starts it again with the same arguments.
    ///
    /// # Errors
    /// As [`Process::start`].
    pub async fn restart(&mut self) -> Result<(), Failure> {
        (self.running, self.listening) = spawn(&self.name, &self.program, &self.arguments, &self.log).await?;
        Ok(())
    }
}

/// What runs, from its first moment on.
struct Running {
    child: Child,
    stdin: Option<ChildStdin>,
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.stdin.take());
        // None once it was waited for.
        let pid = self.child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        let Some(pid) = pid else { return };
        let _gone = kill_process(pid, Signal::TERM);
        for _ in 0..STOP.as_millis() / LOOK.as_millis() {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(LOOK);
        }
    }
}

async fn spawn(name: &str, program: &Path, arguments: &[String], log: &Path) -> Result<(Running, Listening), Failure> {
    let log_file = OpenOptions::new().create(true).append(true).open(log)?;
    let mut child = Command::new(program)
        .args(arguments)
        .arg("--until-stdin-closes")
        // As in deploy/systemd: fewer heaps keep less of what a bulk import once needed.
        .env("MALLOC_ARENA_MAX", "4")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(log_file)
        // Ctrl-C at the terminal goes to us alone; we stop our children in order.
        .process_group(0)
        .kill_on_drop(true)
        .spawn()?;
    let died = || Failure::new("internal", format!("{name} did not start; its log ends:\n{}", tail(log)));
    let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
    let running = Running { child, stdin };
    let stdout = stdout.ok_or_else(died)?;
    let mut lines = BufReader::new(stdout).lines();
    let first = tokio::time::timeout(START, lines.next_line()).await.map_err(|_| died())??;
    let listening = first.and_then(|line| serde_json::from_str(&line).ok()).ok_or_else(died)?;
    // Nothing else is printed there; draining keeps the pipe open.
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    Ok((running, listening))
}

fn tail(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines.get(lines.len().saturating_sub(5)..).unwrap_or_default().join("\n")
}
