//! The host's clocks and what `/proc` tells about a process: CPU time, memory, limits.

use std::io;

/// Returns CLOCK_MONOTONIC in nanoseconds: the same clock in every process of this host.
#[must_use]
#[inline]
pub fn now_ns() -> u64 {
    read_clock(libc::CLOCK_MONOTONIC)
}

/// Returns the CPU time that the calling thread has used, in nanoseconds.
#[must_use]
pub fn thread_cpu_ns() -> u64 {
    read_clock(libc::CLOCK_THREAD_CPUTIME_ID)
}

fn read_clock(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` outlives the call; both clocks exist on every Linux, so the call cannot fail.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Returns how many files this process may have open, after raising the soft limit to the hard one.
///
/// # Errors
/// What the kernel said.
pub fn raise_file_limit() -> io::Result<u32> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` outlives both calls.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) < 0 {
            return Err(io::Error::last_os_error());
        }
        limit.rlim_cur = limit.rlim_max;
        if libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(u32::try_from(limit.rlim_cur).unwrap_or(u32::MAX))
}

/// Returns the CPU time of all threads of a process in nanoseconds, as the scheduler accounts it.
///
/// `stat` would count in ticks of 10 ms. A thread that has ended is no longer counted.
///
/// # Errors
/// If there is no such process, or this kernel does not tell (`CONFIG_SCHED_INFO`).
pub fn cpu_ns(pid: u32) -> io::Result<u64> {
    let mut total = 0;
    for task in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        // A thread may end between the listing and the reading.
        if let Ok(text) = std::fs::read_to_string(task?.path().join("schedstat")) {
            let run_ns = text.split(' ').next().and_then(|field| field.parse::<u64>().ok());
            total += run_ns.ok_or(io::ErrorKind::InvalidData)?;
        }
    }
    Ok(total)
}

/// Returns the private memory of a process in bytes: the `Anonymous` pages that it has touched.
///
/// # Errors
/// If there is no such process, or it is not ours to look at.
pub fn anonymous_bytes(pid: u32) -> io::Result<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("Anonymous:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")).and_then(|kib| kib.parse::<u64>().ok());
    kib.map(|kib| kib * 1024).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// Returns the bytes in the kernel's object caches, whole host.
///
/// # Errors
/// If the caller may not read `/proc/slabinfo` (root only).
pub fn slab_bytes() -> io::Result<u64> {
    let text = std::fs::read_to_string("/proc/slabinfo")?;
    let active = |line: &str| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let objects: u64 = fields.next()?.parse().ok()?;
        let object_bytes: u64 = fields.nth(1)?.parse().ok()?;
        Some(objects * object_bytes)
    };
    Ok(text.lines().skip(2).filter_map(active).sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The clocks and the CPU account of this very process move forward when it works.
    #[test]
    fn time_passes() {
        let (wall, thread, process) = (now_ns(), thread_cpu_ns(), cpu_ns(std::process::id()).unwrap());
        while thread_cpu_ns() < thread + 30_000_000 {}
        assert!(now_ns() >= wall + 30_000_000);
        assert!(cpu_ns(std::process::id()).unwrap() >= process + 20_000_000);
        assert!(cpu_ns(u32::MAX).is_err());
    }

    /// Memory that is touched shows.
    #[test]
    fn memory_shows() {
        let before = anonymous_bytes(std::process::id()).unwrap();
        let touched = std::hint::black_box(vec![1u8; 64 << 20]);
        assert!(anonymous_bytes(std::process::id()).unwrap() >= before + (60 << 20));
        drop(touched);
    }
}
