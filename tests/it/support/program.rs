//! One run of the binary. It inherits no variable that is a setting.

use std::net::SocketAddr;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use blockcast::config::Config;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpSocket;
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

/// For whatever a test waits for; far above what it takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// What to run.
pub struct Program {
    command: Command,
    file: Option<tempfile::NamedTempFile>,
}

/// A program that runs. What it prints is read when asked for: none of these prints more than a
/// pipe holds before it is read. Killed when dropped.
pub struct Running {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: Option<BufReader<ChildStdout>>,
    stderr: BufReader<ChildStderr>,
    _file: Option<tempfile::NamedTempFile>,
}

/// How a program ended, and what it printed that was not read before.
#[derive(Debug)]
pub struct Ended {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

impl Program {
    pub fn new<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_blockcast"));
        command.args(arguments).env_clear().kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Self { command, file: None }
    }

    /// The same behind another program, which runs what stands behind its own words.
    pub fn behind(self, words: &[&str]) -> Self {
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).arg(self.command.as_std().get_program());
        command.args(self.command.as_std().get_args()).env_clear().kill_on_drop(true);
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        for (name, value) in self.command.as_std().get_envs() {
            command.env(name, value.expect("nothing is taken away"));
        }
        Self { command, file: self.file }
    }

    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    /// Under this configuration, as a file; its URIs, which a print masks, in the environment.
    pub fn config(mut self, config: &Config) -> Self {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        std::fs::write(file.path(), config.to_toml()).expect("written");
        let uris: Vec<_> = config.amqp.uris.iter().map(|uri| uri.expose()).collect();
        self.command.env("BLOCKCAST_CONFIG", file.path());
        self.command.env("BLOCKCAST_AMQP__URIS", uris.join(","));
        self.file = Some(file);
        self
    }

    pub fn start(mut self) -> Running {
        let mut child = self.command.spawn().expect("started");
        Running {
            stdin: child.stdin.take(),
            stdout: child.stdout.take().map(BufReader::new),
            stderr: BufReader::new(child.stderr.take().expect("stderr is a pipe")),
            child,
            _file: self.file,
        }
    }

    /// Runs it, with nothing on stdin, to its end.
    pub async fn run(self) -> Ended {
        self.start().ended().await
    }
}

impl Running {
    /// Writes all of stdin; it ends when this program is waited for.
    pub async fn write(&mut self, bytes: &[u8]) {
        let stdin = self.stdin.as_mut().expect("stdin is open until the end is waited for");
        timeout(PATIENCE, stdin.write_all(bytes)).await.expect("taken in time").expect("written");
    }

    /// The next line on stdout.
    pub async fn line(&mut self) -> String {
        line(self.stdout.as_mut().expect("stdout is not closed")).await
    }

    /// Waits until there is something on stdout, and leaves it there.
    pub async fn begins_a_line(&mut self) {
        let stdout = self.stdout.as_mut().expect("stdout is not closed");
        let begun = timeout(PATIENCE, stdout.fill_buf()).await;
        assert!(!begun.expect("a line in time").expect("read").is_empty(), "the output ended");
    }

    /// The next line on stderr that begins with `start`; those before it are passed over.
    pub async fn says(&mut self, start: &str) -> String {
        loop {
            let line = line(&mut self.stderr).await;
            if line.starts_with(start) {
                return line;
            }
        }
    }

    /// Lines on stderr that begin with each of these, in any order; others are passed over.
    pub async fn says_each(&mut self, starts: &[&str]) {
        let mut starts = starts.to_vec();
        while !starts.is_empty() {
            let line = line(&mut self.stderr).await;
            starts.retain(|start| !line.starts_with(start));
        }
    }

    /// Nobody reads stdout from now on.
    pub fn close_stdout(&mut self) {
        self.stdout = None;
    }

    /// Sends `INT`, `TERM` or `KILL`.
    pub async fn signal(&self, name: &str) {
        let pid = self.child.id().expect("it runs").to_string();
        let sent = Command::new("kill").args(["-s", name, &pid]).status().await.expect("kill");
        assert!(sent.success(), "the process is there");
    }

    pub async fn ended(mut self) -> Ended {
        drop(self.stdin.take());
        let stdout = async {
            match self.stdout.take() {
                Some(mut stdout) => rest(&mut stdout).await,
                None => String::new(),
            }
        };
        let all = async { tokio::join!(stdout, rest(&mut self.stderr), self.child.wait()) };
        let (stdout, stderr, status) = timeout(PATIENCE, all).await.expect("it ends in time");
        Ended { status: status.expect("waited"), stdout, stderr }
    }
}

impl Ended {
    /// Fails the test, with all that was printed, on any other exit code.
    #[track_caller]
    pub fn with_code(self, code: i32) -> Self {
        assert_eq!(self.status.code(), Some(code), "{self:#?}");
        self
    }

    /// Fails the test unless stderr has all these words.
    #[track_caller]
    pub fn telling(self, words: &[&str]) -> Self {
        for word in words {
            assert!(self.stderr.contains(word), "no {word:?} in {self:#?}");
        }
        self
    }
}

/// An address at which nobody listens; kept from others as long as the socket is.
pub fn unanswered() -> (TcpSocket, SocketAddr) {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_reuseaddr(true).expect("set"); // the test itself may listen there later
    socket.bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a free port");
    let address = socket.local_addr().expect("its address");
    (socket, address)
}

async fn line(source: &mut (impl AsyncBufReadExt + Unpin)) -> String {
    let mut line = String::new();
    let read = timeout(PATIENCE, source.read_line(&mut line)).await;
    assert_ne!(read.expect("a line in time").expect("read"), 0, "the output ended");
    line.trim_end_matches('\n').to_owned()
}

async fn rest(source: &mut (impl AsyncRead + Unpin)) -> String {
    let mut text = String::new();
    source.read_to_string(&mut text).await.expect("text");
    text
}
