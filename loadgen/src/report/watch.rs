//! Watching the server from outside while a run lasts: its CPU time, memory and threads, and the kernel's memory.
//!
//! Owns nothing of the server's. What may not be read is left out, and said once in the report's notes.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::process::{cpu_ns, now_ns};
use crate::report::kernel::{KernelMemory, KernelUse};
use crate::report::series::{Gauge, Gauges};

/// What the server process used in a phase.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerUse {
    /// Its number.
    pub pid: u32,
    /// CPU time, user and system, of all threads, in nanoseconds.
    pub cpu_ns: u64,
    /// Private memory (anonymous pages) before, if it may be read.
    pub resident_bytes_before: Option<u64>,
    /// Private memory after.
    pub resident_bytes_after: Option<u64>,
    /// Threads after.
    pub threads: Option<u32>,
}

/// What was to be seen at a moment.
#[derive(Clone, Debug, Default)]
pub struct Look {
    cpu_ns: Option<u64>,
    resident_bytes: Option<u64>,
    threads: Option<u32>,
    kernel: Option<KernelMemory>,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Watch {
    proc: PathBuf,
    pid: Option<u32>,
    notes: Vec<String>,
}

impl Watch {
    /// Watches a process, or nothing.
    #[must_use]
    pub fn new(pid: Option<u32>) -> Watch {
        Watch { proc: PathBuf::from("/proc"), pid, notes: Vec::new() }
    }

    /// Returns what could not be read, and why.
    #[must_use]
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Looks at everything, before and after a phase. Takes a few milliseconds when the server has much memory.
    pub fn look(&mut self) -> Look {
        let Some(pid) = self.pid else {
            return Look::default();
        };
        let status = status(&self.proc, pid);
        let rollup = private_bytes(&self.proc, pid);
        let kernel = KernelMemory::read(&self.proc);
        if let Err(error) = &kernel {
            self.note(format!("kernel memory is not told: cannot read /proc/slabinfo: {error}"));
        }
        if let Err(error) = &status {
            self.note(format!("memory of the server is not told: cannot look at process {pid}: {error}"));
        }
        let (status_bytes, threads) = status.map_or((None, None), |(bytes, threads)| (Some(bytes), Some(threads)));
        Look {
            cpu_ns: cpu_ns(pid).ok(),
            // The status line lags behind by what each core has not told yet; the exact sum may be forbidden.
            resident_bytes: rollup.ok().or(status_bytes),
            threads,
            kernel: kernel.ok(),
        }
    }

    /// Looks at what is told once a second.
    #[must_use]
    pub fn gauge(&self, connections: u32) -> Gauge {
        Gauge {
            connections,
            generator_cpu_ns: cpu_ns(std::process::id()).unwrap_or(0),
            server_cpu_ns: self.pid.and_then(|pid| cpu_ns(pid).ok()),
            server_resident_bytes: self.pid.and_then(|pid| Some(status(&self.proc, pid).ok()?.0)),
        }
    }

    /// Begins a series of gauges.
    #[must_use]
    pub fn gauges(&self, start_ns: u64, connections: u32) -> Gauges {
        Gauges::new(start_ns, self.gauge(connections))
    }

    /// Looks if a second is over; cheap otherwise.
    pub fn tick(&self, gauges: &mut Gauges, connections: u32) {
        let now_ns = now_ns();
        if gauges.due(now_ns) {
            gauges.look(now_ns, self.gauge(connections));
        }
    }

    /// Returns what the server and the kernel used between two looks.
    #[must_use]
    pub fn between(&self, before: &Look, after: &Look) -> (Option<ServerUse>, Option<KernelUse>) {
        let server = self.pid.zip(before.cpu_ns.zip(after.cpu_ns)).map(|(pid, (cpu_before, cpu_after))| ServerUse {
            pid,
            cpu_ns: cpu_after.saturating_sub(cpu_before),
            resident_bytes_before: before.resident_bytes,
            resident_bytes_after: after.resident_bytes,
            threads: after.threads,
        });
        let kernel = before.kernel.as_ref().zip(after.kernel.as_ref());
        (server, kernel.map(|(before, after)| KernelUse::between(before, after)))
    }

    fn note(&mut self, note: String) {
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }
}

/// Returns a process's private memory in bytes, to within some pages a core, and its threads.
fn status(proc: &Path, pid: u32) -> io::Result<(u64, u32)> {
    let text = std::fs::read_to_string(proc.join(pid.to_string()).join("status"))?;
    let value = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().trim_end_matches("kB").trim_end().parse::<u64>().ok()
    };
    let found = value("RssAnon:").zip(value("Threads:"));
    let (kib, threads) = found.ok_or(io::ErrorKind::InvalidData)?;
    Ok((kib * 1024, threads as u32))
}

/// Returns a process's private memory in bytes, exactly.
fn private_bytes(proc: &Path, pid: u32) -> io::Result<u64> {
    let text = std::fs::read_to_string(proc.join(pid.to_string()).join("smaps_rollup"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("Anonymous:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")).and_then(|kib| kib.trim().parse::<u64>().ok());
    kib.map(|kib| kib * 1024).ok_or_else(|| io::ErrorKind::InvalidData.into())
}
