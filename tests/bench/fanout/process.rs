//! What the kernel counted for a process, and where it may run.

use std::process::Command;
use std::time::Instant;

/// `sysconf(_SC_CLK_TCK)` on every Linux that Rust runs on.
const TICKS_PER_SECOND: f64 = 100.0;

pub struct Measured {
    pid: u32,
    cpu_at_begin: f64,
    began_at: Instant,
}

impl Measured {
    pub fn begin(pid: u32) -> Self {
        Self { pid, cpu_at_begin: cpu_seconds(pid), began_at: Instant::now() }
    }

    /// CPU seconds, all threads, user and system; and seconds on the clock.
    pub fn so_far(&self) -> (f64, f64) {
        (cpu_seconds(self.pid) - self.cpu_at_begin, self.began_at.elapsed().as_secs_f64())
    }

    pub fn resident_bytes(&self) -> u64 {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.pid)).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
        let kib: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
        kib * 1_024
    }
}

pub fn pin_self_to(core: usize) {
    let pid = std::process::id().to_string();
    let pinned = Command::new("taskset").args(["-acp", &core.to_string(), &pid]).output();
    assert!(pinned.expect("taskset").status.success());
}

/// `program` as a command that runs on `core` alone.
pub fn pinned(core: usize, program: &str) -> Command {
    let mut command = Command::new("taskset");
    command.args(["-c", &core.to_string(), program]);
    command
}

/// Fields 14 and 15 of proc_pid_stat(5), counted behind the name, which may hold anything.
fn cpu_seconds(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
    let after_name = stat.rsplit_once(") ").expect("a name").1;
    let ticks: f64 = after_name
        .split(' ')
        .skip(11)
        .take(2)
        .map(|field| field.parse::<f64>().expect("ticks"))
        .sum();
    ticks / TICKS_PER_SECOND
}
