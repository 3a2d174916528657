//! What the kernel counted for processes, and where they may run.

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context;

/// A server that has used no tick for so long has nothing left to do.
const QUIET: Duration = Duration::from_millis(100);
/// The kernel's `USER_HZ`.
const TICK: Duration = Duration::from_millis(10);
/// Some never rest; they are measured as they are.
const QUIET_WITHIN: Duration = Duration::from_secs(5);

pub struct Measured {
    pids: Vec<u32>,
    cpu_at_begin: f64,
    began_at: Instant,
}

/// A process that says in its first line where it listens; on core 0, ended when this is dropped.
pub struct Server {
    pub address: SocketAddr,
    child: Child,
}

impl Measured {
    pub fn begin(pids: Vec<u32>) -> Self {
        Self { cpu_at_begin: cpu_seconds(&pids), pids, began_at: Instant::now() }
    }

    /// CPU seconds, all threads, user and system; and seconds on the clock.
    pub fn so_far(&self) -> (f64, f64) {
        (cpu_seconds(&self.pids) - self.cpu_at_begin, self.began_at.elapsed().as_secs_f64())
    }

    pub fn resident_bytes(&self) -> u64 {
        let resident = |pid| {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
            let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
            let kib: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
            kib * 1_024
        };
        self.pids.iter().map(resident).sum()
    }
}

impl Server {
    pub fn start(command: &mut Command) -> anyhow::Result<Self> {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let mut line = String::new();
        let output = child.stdout.take().expect("its output");
        BufReader::new(output).read_line(&mut line)?;
        let mut server = Self { address: ([0; 4], 0).into(), child };
        server.address = line.trim().parse().context("it does not say where it listens")?;
        Ok(server)
    }

    /// This program in another role.
    pub fn start_own(role: &str, argument: usize) -> anyhow::Result<Self> {
        let program = std::env::current_exe()?;
        let mut command = pinned(0, &program.display().to_string());
        Self::start(command.args([role, &argument.to_string()]))
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Puts a byte into its input.
    pub fn nudge(&mut self, byte: u8) -> anyhow::Result<()> {
        Ok(self.child.stdin.as_mut().expect("piped").write_all(&[byte])?)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// All threads of these run on `core` alone from now on. One that has ended is no matter here.
pub fn pin_to(core: usize, pids: &[u32]) {
    for pid in pids {
        let words = ["-acp", &core.to_string(), &pid.to_string()];
        let _status = Command::new("taskset").args(words).output().expect("taskset");
    }
}

/// `program` as a command that runs on `core` alone and does not outlive this process.
pub fn pinned(core: usize, program: &str) -> Command {
    let mut command = Command::new("taskset");
    command.args(["-c", &core.to_string(), "setpriv", "--pdeathsig", "TERM", program]);
    command
}

/// Asks it to end, and waits until it has.
pub fn end(child: &mut Child) {
    let _ = Command::new("kill").arg(child.id().to_string()).status();
    let _ = child.wait();
}

/// Waits until these use no CPU any more, for some seconds at most.
pub async fn quiet(measured: &Measured) {
    let deadline = Instant::now() + QUIET_WITHIN;
    let mut before = measured.so_far().0;
    while Instant::now() < deadline {
        tokio::time::sleep(QUIET).await;
        let now = measured.so_far().0;
        if now - before < TICK.as_secs_f64() {
            return;
        }
        before = now;
    }
}

/// What every thread has had of a CPU, to the nanosecond: the first field of its `schedstat`. A thread
/// that ends takes its share along.
fn cpu_seconds(pids: &[u32]) -> f64 {
    let threads = |pid| std::fs::read_dir(format!("/proc/{pid}/task")).expect("it runs").flatten();
    let of_thread = |thread: std::fs::DirEntry| {
        let schedstat = std::fs::read_to_string(thread.path().join("schedstat")).ok()?;
        schedstat.split(' ').next()?.parse::<f64>().ok()
    };
    pids.iter().flat_map(threads).filter_map(of_thread).sum::<f64>() / 1e9
}
