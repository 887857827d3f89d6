//! A private PostgreSQL server for tests and benchmarks: its own data directory, reached by a Unix socket alone, gone when
//! dropped. Needs Debian's package `postgresql`, not its service.

use crate::config::PostgresConfig;
use std::ffi::OsStr;
use std::io;
use std::os::unix::fs::{MetadataExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;

/// A server of a data directory of its own.
#[derive(Debug)]
pub struct Cluster {
    dir: TempDir,
    programs: PathBuf,
    server: Option<Child>,
    settings: Vec<String>,
}

/// Why there is no server.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// The programs are not installed.
    #[error("PostgreSQL is missing: install Debian's package `postgresql` (./check does)")]
    Missing,
    /// A program failed.
    #[error("{0} failed")]
    Failed(String),
    /// The system refused.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Between two looks at a server that is starting.
const PAUSE: Duration = Duration::from_millis(50);
const PATIENCE: usize = 600;

impl Cluster {
    /// Makes a cluster and starts it. `settings` are `name=value`.
    ///
    /// # Errors
    /// [`ClusterError`].
    pub fn start(settings: &[&str]) -> Result<Self, ClusterError> {
        let cluster = Self::prepare(settings)?;
        cluster
            .run("initdb", ["-D", "data", "-U", "registry", "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync"])?;
        let mut cluster = cluster;
        cluster.restart()?;
        Ok(cluster)
    }

    /// A standby that follows `primary`, named `name` there.
    ///
    /// # Errors
    /// [`ClusterError`].
    pub fn standby(primary: &Cluster, name: &str, settings: &[&str]) -> Result<Self, ClusterError> {
        let mut cluster = Self::prepare(settings)?;
        let source = format!("host={} user=registry application_name={name}", primary.socket().display());
        cluster.run("pg_basebackup", ["-D", "data", "-d", &source, "-X", "stream", "-c", "fast", "-R", "--no-sync"])?;
        cluster.restart()?;
        Ok(cluster)
    }

    /// Starts the server again after [`Cluster::kill`].
    ///
    /// # Errors
    /// [`ClusterError`].
    pub fn restart(&mut self) -> Result<(), ClusterError> {
        let mut command = self.command("postgres");
        command.args(["-D", "data", "-k"]).arg(self.socket()).args(["-c", "listen_addresses="]);
        command.args(self.settings.iter().flat_map(|setting| ["-c", setting]));
        let log = std::fs::File::options().create(true).append(true).open(self.dir.path().join("server.log"))?;
        self.server = Some(command.stdout(Stdio::null()).stderr(log).spawn()?);
        for _ in 0..PATIENCE {
            let asked = self.command("pg_isready").arg("-q").arg("-h").arg(self.socket()).status()?;
            if asked.success() {
                return Ok(());
            }
            std::thread::sleep(PAUSE);
        }
        let log = std::fs::read_to_string(self.dir.path().join("server.log")).unwrap_or_default();
        Err(ClusterError::Failed(format!("the start of the server:\n{log}")))
    }

    /// Ends the server as a power cut would end it: all its processes at once, nothing written.
    ///
    /// # Errors
    /// The system's.
    pub fn kill(&mut self) -> Result<(), ClusterError> {
        if let Some(mut server) = self.server.take() {
            self.run("pg_ctl", ["stop", "-s", "-D", "data", "-m", "immediate"])?;
            server.wait()?;
        }
        Ok(())
    }

    /// Makes a standby the primary.
    ///
    /// # Errors
    /// [`ClusterError`].
    pub fn promote(&self) -> Result<(), ClusterError> {
        self.run("pg_ctl", ["promote", "-s", "-w", "-D", "data"])
    }

    /// Runs SQL as the superuser; returns what it prints, unaligned.
    ///
    /// # Errors
    /// [`ClusterError`].
    pub fn sql(&self, sql: &str) -> Result<String, ClusterError> {
        let mut command = self.command("psql");
        command.args(["-XqtA", "-v", "ON_ERROR_STOP=1", "-U", "registry", "-d", "postgres", "-c", sql, "-h"]);
        let output = command.arg(self.socket()).output()?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
        }
        Err(ClusterError::Failed(format!("{sql}: {}", String::from_utf8_lossy(&output.stderr))))
    }

    /// Where its socket is.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("s")
    }

    /// Where its data are.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// How a registry reaches `database` on it.
    #[must_use]
    pub fn settings(&self, database: &str) -> PostgresConfig {
        PostgresConfig {
            url: format!("host={} user=registry dbname={database}", self.socket().display()),
            password: None,
            root: None,
            connections: 8,
            require_standby: false,
        }
    }

    fn prepare(settings: &[&str]) -> Result<Self, ClusterError> {
        let programs = programs().ok_or(ClusterError::Missing)?;
        // A socket's path must be short, whatever TMPDIR is.
        let dir = tempfile::Builder::new().prefix("ogniwo-pg").tempdir_in("/tmp")?;
        let settings = settings.iter().map(|setting| (*setting).to_owned()).collect();
        let cluster = Cluster { dir, programs, server: None, settings };
        std::fs::create_dir(cluster.socket())?;
        if let Some((user, group)) = unprivileged()? {
            for path in [cluster.dir.path(), &cluster.socket()] {
                chown(path, Some(user), Some(group))?;
            }
        }
        Ok(cluster)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.programs.join(program));
        command.current_dir(self.dir.path()).env_clear().env("PATH", "/usr/bin:/bin").stdin(Stdio::null());
        // PostgreSQL refuses to run as root.
        if let Ok(Some((user, group))) = unprivileged() {
            command.uid(user).gid(group);
        }
        command
    }

    fn run(&self, program: &str, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Result<(), ClusterError> {
        let output = self.command(program).args(arguments).output()?;
        if output.status.success() {
            return Ok(());
        }
        Err(ClusterError::Failed(format!("{program}: {}", String::from_utf8_lossy(&output.stderr))))
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // Nobody is left to tell; the directory goes with the next line's end.
        let _ = self.kill();
    }
}

/// The newest version installed, where Debian puts it.
fn programs() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?;
    let number = |path: &Path| path.file_name()?.to_str()?.parse::<u32>().ok();
    let newest = versions.filter_map(|entry| Some(entry.ok()?.path())).max_by_key(|path| number(path))?.join("bin");
    newest.join("postgres").exists().then_some(newest)
}

/// For root: the user and group to run as instead.
fn unprivileged() -> io::Result<Option<(u32, u32)>> {
    if std::fs::metadata("/proc/self")?.uid() != 0 {
        return Ok(None);
    }
    let users = std::fs::read_to_string("/etc/passwd")?;
    let ids = |name: &str| {
        let line = users.lines().find(|line| line.split(':').next() == Some(name))?;
        let mut fields = line.split(':').skip(2);
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    };
    let user = ids("postgres").or_else(|| ids("nobody"));
    user.map(Some).ok_or_else(|| io::Error::other("no user to run PostgreSQL as"))
}
