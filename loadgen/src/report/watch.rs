//! Watching the server from outside while a run lasts: its CPU time, memory and threads, and the kernel's memory.
//!
//! Owns nothing of the server's. What may not be read is left out, and said once in the report's notes.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::process::now_ns;
use crate::report::kernel::{KernelMemory, KernelUse};
use crate::report::listener;
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

impl Look {
    /// Keeps the CPU time of this look, and takes everything else from one after things have settled: what a phase cost
    /// ends with it, but what is in buffers on its last instant is not what its connections take.
    #[must_use]
    pub fn settled(self, later: Look) -> Look {
        Look { cpu_ns: self.cpu_ns, ..later }
    }
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

    /// Watches the process that was named, or else the one that listens there, if it is on this host and can be told.
    #[must_use]
    pub fn find(named: Option<u32>, connect: &[SocketAddr]) -> Watch {
        let mut watch = Watch::new(named);
        if named.is_none() {
            watch.find_listener(connect);
        }
        watch
    }

    fn find_listener(&mut self, connect: &[SocketAddr]) {
        match listener::process(&self.proc, connect) {
            Ok(pid) if pid == std::process::id() => {
                self.note("the server is in this very process: what it used cannot be told apart".to_owned());
            }
            Ok(pid) => self.pid = Some(pid),
            Err(why) => self.note(format!("the server process is not looked at: {why}")),
        }
    }

    /// Returns the process that is watched.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.pid
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
        let cpu_ns = cpu_ns(&self.proc, pid);
        let status = status(&self.proc, pid);
        let exact = private_bytes(&self.proc, pid);
        let kernel = KernelMemory::read(&self.proc);
        if let Err(error) = &cpu_ns {
            self.note(format!("CPU time of the server is not told: cannot look at process {pid}: {error}"));
        }
        if let Err(error) = &status {
            self.note(format!("memory of the server is not told: cannot look at process {pid}: {error}"));
        }
        if let Err(error) = &kernel {
            self.note(format!("kernel memory is not told: cannot read /proc/slabinfo: {error}"));
        }
        let (status_bytes, threads) = status.map_or((None, None), |(bytes, threads)| (Some(bytes), Some(threads)));
        Look {
            cpu_ns: cpu_ns.ok(),
            // The status line lags behind by what each core has not told yet; the exact sum may be forbidden.
            resident_bytes: exact.ok().or(status_bytes),
            threads,
            kernel: kernel.ok(),
        }
    }

    /// Looks at what is told once a second.
    #[must_use]
    pub fn gauge(&self, connections: u32) -> Gauge {
        Gauge {
            connections,
            generator_cpu_ns: cpu_ns(&self.proc, std::process::id()).unwrap_or(0),
            server_cpu_ns: self.pid.and_then(|pid| cpu_ns(&self.proc, pid).ok()),
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

/// Returns the CPU time of all threads of a process in nanoseconds, as the scheduler accounts it: `stat` would count in
/// ticks of 10 ms. A thread that has ended is no longer counted.
fn cpu_ns(proc: &Path, pid: u32) -> io::Result<u64> {
    let mut total = 0;
    for task in std::fs::read_dir(proc.join(format!("{pid}/task")))? {
        // A thread may end between the listing and the reading.
        if let Ok(text) = std::fs::read_to_string(task?.path().join("schedstat")) {
            let run_ns = text.split(' ').next().and_then(|field| field.parse::<u64>().ok());
            total += run_ns.ok_or(io::ErrorKind::InvalidData)?;
        }
    }
    Ok(total)
}

/// Returns a process's private memory in bytes, to within some pages a core, and its threads.
fn status(proc: &Path, pid: u32) -> io::Result<(u64, u32)> {
    let text = std::fs::read_to_string(proc.join(format!("{pid}/status")))?;
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
    let text = std::fs::read_to_string(proc.join(format!("{pid}/smaps_rollup")))?;
    let line = text.lines().find_map(|line| line.strip_prefix("Anonymous:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")).and_then(|kib| kib.trim().parse::<u64>().ok());
    kib.map(|kib| kib * 1024).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// A made-up `/proc` in a folder of its own, which goes with it.
#[cfg(test)]
#[derive(Debug)]
pub(crate) struct FakeProc(PathBuf);

#[cfg(test)]
impl FakeProc {
    pub(crate) fn new() -> FakeProc {
        use std::sync::atomic::{AtomicU32, Ordering};
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("fake-proc-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        FakeProc(std::env::temp_dir().join(name))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn put(&self, name: &str, text: &str) {
        let path = self.0.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    pub(crate) fn link(&self, name: &str, target: &str) {
        let path = self.0.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::os::unix::fs::symlink(target, path).unwrap();
    }
}

#[cfg(test)]
impl Drop for FakeProc {
    fn drop(&mut self) {
        // A folder that never was written to is not there.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(proc: &FakeProc, run_ns: u64, kib: u64) {
        proc.put("77/task/77/schedstat", &format!("{run_ns} 5 6\n"));
        proc.put("77/task/78/schedstat", "1000 5 6\n");
        proc.put("77/status", "Name:\tserver\nRssAnon:\t   1000 kB\nThreads:\t2\n");
        proc.put("77/smaps_rollup", &format!("00-ff ---p [rollup]\nRss: 9 kB\nAnonymous:          {kib} kB\n"));
        proc.put("slabinfo", "slabinfo - version: 2.1\n#\nTCP 1 1 100 1 1\n");
        proc.put("net/sockstat", "TCP: inuse 1 mem 1\n");
    }

    fn watch(proc: &FakeProc) -> Watch {
        Watch { proc: proc.path().to_owned(), ..Watch::new(Some(77)) }
    }

    /// What a process used between two looks is told: all threads' CPU time, memory before and after, threads.
    #[test]
    fn use_is_the_difference() {
        let proc = FakeProc::new();
        process(&proc, 5_000, 2_000);
        let mut watch = watch(&proc);
        let before = watch.look();
        process(&proc, 9_000, 3_000);
        let after = watch.look();
        let (server, kernel) = watch.between(&before, &after);
        let (before_bytes, after_bytes) = (Some(2_000 << 10), Some(3_000 << 10));
        let expected = ServerUse {
            pid: 77,
            cpu_ns: 4_000,
            resident_bytes_before: before_bytes,
            resident_bytes_after: after_bytes,
            threads: Some(2),
        };
        assert_eq!(server, Some(expected));
        assert_eq!((kernel.unwrap().grown_bytes(), watch.notes().len()), (0, 0));
        let gauge = watch.gauge(5);
        assert_eq!((gauge.server_cpu_ns, gauge.server_resident_bytes), (Some(10_000), Some(1_000 << 10)));
    }

    /// A look after things have settled counts for memory, and not for CPU time.
    #[test]
    fn settled_memory() {
        let proc = FakeProc::new();
        process(&proc, 5_000, 2_000);
        let mut watch = watch(&proc);
        let before = watch.look();
        let ended = watch.look();
        process(&proc, 8_000, 1_000);
        let after = ended.settled(watch.look());
        let (server, _) = watch.between(&before, &after);
        let server = server.unwrap();
        assert_eq!((server.cpu_ns, server.resident_bytes_after), (0, Some(1_000 << 10)));
    }

    /// What may not be read is left out and said once; the rest is told.
    #[test]
    fn what_may_not_be_read_is_said() {
        let proc = FakeProc::new();
        process(&proc, 5_000, 2_000);
        std::fs::remove_file(proc.path().join("slabinfo")).unwrap();
        std::fs::remove_file(proc.path().join("77/smaps_rollup")).unwrap();
        let mut watch = watch(&proc);
        let (server, kernel) = (watch.look(), watch.look());
        let (server, kernel) = watch.between(&server, &kernel);
        assert_eq!(server.unwrap().resident_bytes_after, Some(1_000 << 10), "from the status line");
        assert_eq!(kernel, None);
        assert!(watch.notes().len() == 1 && watch.notes()[0].contains("slabinfo"), "{:?}", watch.notes());
        let mut gone = Watch { pid: Some(78), ..watch };
        let (before, after) = (gone.look(), gone.look());
        assert_eq!(gone.between(&before, &after), (None, None));
        assert!(gone.notes().iter().any(|note| note.contains("process 78")), "{:?}", gone.notes());
    }

    /// A server in this very process is found, and not looked at.
    #[test]
    fn own_process_is_not_watched() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let watch = Watch::find(None, &[listener.local_addr().unwrap()]);
        assert_eq!(watch.pid(), None);
        assert!(watch.notes()[0].contains("this very process"), "{:?}", watch.notes());
    }
}
