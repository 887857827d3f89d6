//! The program, run by a test as by its user.

use std::io::Write as _;
use std::process::{Command, Stdio};
use tests::program;

/// What became of one run of the program.
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs the program with `input` on standard input; trace is off, so that standard error has its messages alone.
pub(crate) fn ogniwo_typing(input: &str, arguments: &[&str]) -> Ran {
    let mut child = Command::new(program())
        .args(arguments)
        .env("OGNIWO_LOG", "off")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program");
    // Who does not read its standard input may be gone already.
    let _unread = child.stdin.take().expect("a pipe").write_all(input.as_bytes());
    let output = child.wait_with_output().expect("an end");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    Ran { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

pub(crate) fn ogniwo(arguments: &[&str]) -> Ran {
    ogniwo_typing("", arguments)
}

impl Ran {
    #[track_caller]
    pub(crate) fn succeeded(self) -> String {
        assert_eq!(self.code, Some(0), "{}", self.stderr);
        self.stdout
    }

    /// Failed with `code` and one message, which names `named`.
    #[track_caller]
    pub(crate) fn failed(&self, code: i32, named: &str) {
        assert_eq!(self.code, Some(code), "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        assert_eq!(self.stdout, "");
        assert!(self.stderr.starts_with("error: "), "{}", self.stderr);
        assert_eq!(self.stderr.matches("error: ").count(), 1, "{}", self.stderr);
        assert_eq!(self.stderr.matches("\n next: ").count(), 1, "{}", self.stderr);
        assert!(self.stderr.contains(named), "{named} is not in: {}", self.stderr);
        assert!(!self.stderr.contains("OGNIWO_LOG"), "an unexpected failure: {}", self.stderr);
    }
}
