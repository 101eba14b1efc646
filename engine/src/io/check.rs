//! Whether this host can run the engine: what is wrong, and what to do about it.
//!
//! Owns: the facts that matter and the judgement over them, apart from each other: judging is a pure function, tested
//! with made-up facts. Touches: /proc, resource limits, one throw-away ring. Never: changes anything but this
//! process's own soft file limit.
//!
//! Why the unsafe is sound: each call passes a pointer to a local of the type that it fills or reads.
#![allow(unsafe_code)]

use std::fmt;
use std::fs;
use std::io;
use std::thread;

use io_uring::{IoUring, Probe, opcode};

/// Oldest kernel with `DEFER_TASKRUN` (Linux 6.1).
pub const KERNEL_MIN: (u32, u32) = (6, 1);

/// Locked memory that the rings of one shard are counted as without `CAP_IPC_LOCK`: about 860 KiB on Linux 6.18, ours
/// and glommio's three, rounded up; in bytes.
pub const LOCKED_BYTES_PER_SHARD: u64 = 1 << 20;

/// Locked memory that glommio wants before it makes an executor (glommio 0.9, `sys/uring.rs`), in bytes.
pub const LOCKED_BYTES_MIN: u64 = 512 << 10;

/// Descriptors a shard needs besides its connections: its ring, its bell and its copy, glommio's rings and eventfds.
pub const DESCRIPTORS_PER_SHARD: u64 = 16;

/// Descriptors the process needs besides its shards: standard streams, admin listener, logs, tools.
pub const DESCRIPTORS_BASE: u64 = 64;

/// Why the engine cannot start on this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartError {
    /// What is wrong.
    pub cause: String,
    /// What to do about it.
    pub cure: String,
}

impl StartError {
    fn new(cause: impl Into<String>, cure: impl Into<String>) -> StartError {
        StartError { cause: cause.into(), cure: cure.into() }
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n  cure: {}", self.cause, self.cure)
    }
}

impl std::error::Error for StartError {}

/// Makes a start error of what the kernel said when the engine tried to `what`.
#[must_use]
pub fn fault(what: &str, error: &io::Error) -> StartError {
    let cure = match error.raw_os_error() {
        Some(libc::EMFILE | libc::ENFILE) => "raise the limit of open files (ulimit -n, LimitNOFILE=)",
        Some(libc::ENOMEM) => "give it more memory, or ask for less with --memory, --connections or --shards",
        _ => "run `corecast check`, and see the log of the kernel (dmesg)",
    };
    StartError::new(format!("cannot {what}: {error}"), cure)
}

/// Makes a start error of what the kernel said when a thread was to be started.
#[must_use]
pub fn no_thread(name: &str, error: &io::Error) -> StartError {
    let cure = match error.raw_os_error() {
        Some(libc::EAGAIN) => "raise the limit of threads (ulimit -u, TasksMax=, the control group's pids.max)",
        _ => "give it more memory, or ask for less with --memory, --connections or --shards",
    };
    StartError::new(format!("the thread {name} cannot be started: {error}"), cure)
}

/// Finds out whether so many threads can be started, by starting them; they do nothing, and are gone when this returns.
///
/// # Errors
/// Which one could not be started, and how many there have to be.
pub fn judge_threads(count: usize) -> Result<(), StartError> {
    let (over, is_over) = crossbeam_channel::bounded::<()>(0);
    thread::scope(|scope| {
        // Dropped on the way out, which is what the threads wait for.
        let _over = over;
        (0..count).try_for_each(|number| {
            let is_over = is_over.clone();
            let wait = move || is_over.recv().unwrap_or_default();
            thread::Builder::new().spawn_scoped(scope, wait).map(|_| ()).map_err(|error| {
                let StartError { cause, cure } = no_thread(&format!("{} of {count}", number + 1), &error);
                StartError { cause: format!("{cause}; the engine needs {count} besides its first"), cure }
            })
        })
    })
}

/// What the judgement is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The kernel's release, as `uname -r` prints it.
    pub release: String,
    /// `kernel.io_uring_disabled`: 0 allowed, 1 for a group only, 2 for nobody. `None` before Linux 6.6.
    pub io_uring_disabled: Option<u32>,
    /// Error number of making a ring as the engine does; `None` if it worked.
    pub setup_errno: Option<i32>,
    /// Operations this kernel's io_uring lacks, by name.
    pub missing: Vec<&'static str>,
    /// Limit of locked memory, in bytes.
    pub locked_bytes: u64,
    /// The limit does not count what rings lock (`CAP_IPC_LOCK`).
    pub locks_freely: bool,
    /// Limit of open files.
    pub files: u64,
    /// Shards to be started.
    pub shards: u32,
    /// Connections wished for, over all shards; 0 takes what there is.
    pub connections: u64,
}

/// Judges whether the engine can run.
///
/// # Errors
/// The first thing that is wrong, with its cure; the deepest cause first, so that curing it is progress.
pub fn judge(facts: &Facts) -> Result<(), StartError> {
    let (major, minor) = KERNEL_MIN;
    let Some(version) = version(&facts.release) else {
        let cause = format!("the kernel's release `{}` cannot be read as a version", facts.release);
        return Err(StartError::new(cause, format!("run Linux {major}.{minor} or newer")));
    };
    if version < KERNEL_MIN {
        let cause = format!("Linux {} is too old: io_uring lacks what the engine needs", facts.release);
        return Err(StartError::new(cause, format!("run Linux {major}.{minor} or newer")));
    }
    match facts.io_uring_disabled {
        Some(2) => {
            let cause = "io_uring is switched off on this host (kernel.io_uring_disabled = 2)";
            return Err(StartError::new(cause, "as root: sysctl -w kernel.io_uring_disabled=0"));
        }
        Some(1) if facts.setup_errno == Some(libc::EPERM) => {
            let cause =
                "io_uring is allowed to one group only (kernel.io_uring_disabled = 1), and this process is not in it";
            let cure = "as root: sysctl -w kernel.io_uring_disabled=0, or put this user into the group of \
                        kernel.io_uring_group, or grant CAP_SYS_ADMIN";
            return Err(StartError::new(cause, cure));
        }
        _ => {}
    }
    match facts.setup_errno {
        None => {}
        Some(errno @ (libc::EPERM | libc::ENOSYS | libc::EACCES)) => {
            let cause = format!(
                "io_uring is forbidden to this process ({}) though the kernel allows it: a seccomp profile does that, \
                 as in Docker, containerd and Podman by default",
                io::Error::from_raw_os_error(errno)
            );
            let cure = "allow io_uring_setup, io_uring_enter and io_uring_register in the container's seccomp profile: \
                        docker run --security-opt seccomp=PROFILE.json (unconfined, to try it out)";
            return Err(StartError::new(cause, cure));
        }
        Some(libc::ENOMEM) => {
            let cause = "there is not enough memory for an io_uring, or too little may be locked";
            return Err(StartError::new(cause, "free memory, or raise ulimit -l (LimitMEMLOCK=)"));
        }
        Some(errno) => {
            let cause = format!("io_uring cannot be set up: {}", io::Error::from_raw_os_error(errno));
            return Err(StartError::new(cause, "run a mainline kernel of 6.1 or newer, not an emulation of one"));
        }
    }
    if !facts.missing.is_empty() {
        let cause = format!("this kernel's io_uring lacks {}", facts.missing.join(", "));
        return Err(StartError::new(cause, format!("run a mainline kernel of {major}.{minor} or newer")));
    }
    let locked_bytes = match facts.locks_freely {
        true => LOCKED_BYTES_MIN,
        false => LOCKED_BYTES_MIN + LOCKED_BYTES_PER_SHARD * u64::from(facts.shards),
    };
    if facts.locked_bytes < locked_bytes {
        let (found, wanted) = (facts.locked_bytes >> 10, locked_bytes >> 10);
        let cause = format!("only {found} KiB of memory may be locked; {} shards need {wanted}", facts.shards);
        let cure = format!("ulimit -l {wanted}, or LimitMEMLOCK={}M in the service's unit", wanted.div_ceil(1024));
        return Err(StartError::new(cause, cure));
    }
    judge_files(facts)
}

fn judge_files(facts: &Facts) -> Result<(), StartError> {
    let shards = u64::from(facts.shards);
    let own = DESCRIPTORS_BASE + DESCRIPTORS_PER_SHARD * shards;
    if facts.files < own {
        let cause = format!("only {} files may be open; {shards} shards need {own} for themselves", facts.files);
        return Err(StartError::new(cause, files_cure(own)));
    }
    // A connection is no open file of the process, but one shard's table may not be larger than the limit.
    let per_shard = facts.connections.div_ceil(shards.max(1));
    if per_shard > u64::from(super::ring::SLOTS_MAX) {
        let most = super::ring::SLOTS_MAX;
        let cause = format!("{} connections are {per_shard} per shard; one holds at most {most}", facts.connections);
        let needed = facts.connections.div_ceil(u64::from(most));
        return Err(StartError::new(cause, format!("start at least {needed} shards (--shards {needed})")));
    }
    if per_shard > facts.files {
        let cause = format!(
            "{} connections are {per_shard} per shard, but the limit of open files, which bounds a shard's table, is {}",
            facts.connections, facts.files
        );
        let needed = facts.connections.div_ceil(facts.files);
        let cure = format!("{}; or start more shards (--shards {needed})", files_cure(per_shard));
        return Err(StartError::new(cause, cure));
    }
    Ok(())
}

fn files_cure(needed: u64) -> String {
    format!("ulimit -n {needed}, or LimitNOFILE={needed} in the service's unit")
}

fn version(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// Returns the version of the running kernel; `0.0` if its release says none.
pub(super) fn kernel() -> io::Result<(u32, u32)> {
    Ok(version(&release()?).unwrap_or_default())
}

fn release() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/osrelease")?.trim().to_owned())
}

/// Collects the facts of this host and process, for so many shards and connections.
///
/// # Errors
/// What the kernel said to a question that always has an answer.
pub fn gather(shards: u32, connections: u64) -> io::Result<Facts> {
    let disabled = fs::read_to_string("/proc/sys/kernel/io_uring_disabled").ok();
    let (setup_errno, missing) = match trial_ring() {
        Ok(ring) => (None, missing_operations(&ring)),
        Err(error) => (Some(error.raw_os_error().unwrap_or(libc::EIO)), Vec::new()),
    };
    Ok(Facts {
        release: release()?,
        io_uring_disabled: disabled.and_then(|text| text.trim().parse().ok()),
        setup_errno,
        missing,
        locked_bytes: limit(libc::RLIMIT_MEMLOCK)?.rlim_cur,
        locks_freely: locks_freely(&fs::read_to_string("/proc/self/status")?),
        files: limit(libc::RLIMIT_NOFILE)?.rlim_cur,
        shards,
        connections,
    })
}

/// Reads from `/proc/self/status` whether this process has `CAP_IPC_LOCK`, capability number 14.
fn locks_freely(status: &str) -> bool {
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    effective.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).is_some_and(|set| set & (1 << 14) != 0)
}

/// Raises the process's limit of open files as far as it may; returns what it is now.
///
/// # Errors
/// What the kernel said.
pub fn raise_file_limit() -> io::Result<u64> {
    let mut limit = limit(libc::RLIMIT_NOFILE)?;
    if limit.rlim_cur < limit.rlim_max {
        limit.rlim_cur = limit.rlim_max;
        // SAFETY: the pointer is to a readable local of the type the call reads.
        if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) } < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(limit.rlim_cur)
}

/// Returns a resource limit of this process.
pub(super) fn limit(resource: libc::__rlimit_resource_t) -> io::Result<libc::rlimit> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the pointer is to a local of the type the call fills.
    if unsafe { libc::getrlimit(resource, &raw mut limit) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(limit)
}

fn trial_ring() -> io::Result<IoUring> {
    // The flags of the real rings: each of them may be what a kernel refuses.
    IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_coop_taskrun()
        .setup_taskrun_flag()
        .setup_submit_all()
        .build(8)
}

fn missing_operations(ring: &IoUring) -> Vec<&'static str> {
    let mut probe = Probe::new();
    if ring.submitter().register_probe(&mut probe).is_err() {
        return vec!["the list of its operations"];
    }
    let needed = [
        (opcode::Accept::CODE, "accept"),
        (opcode::Recv::CODE, "recv"),
        (opcode::Send::CODE, "send"),
        (opcode::PollAdd::CODE, "poll"),
        (opcode::AsyncCancel::CODE, "cancel"),
        (opcode::Shutdown::CODE, "shutdown"),
        (opcode::Close::CODE, "close"),
        (opcode::Timeout::CODE, "timeout"),
        (opcode::TimeoutUpdate::CODE, "timeout update"),
        (opcode::Read::CODE, "read"),
        (opcode::FilesUpdate::CODE, "files update"),
        (opcode::Connect::CODE, "connect"),
    ];
    needed.into_iter().filter(|(code, _)| !probe.is_supported(*code)).map(|(_, name)| name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Facts {
        Facts {
            release: "6.18.44-fc-v657".to_owned(),
            io_uring_disabled: Some(0),
            setup_errno: None,
            missing: Vec::new(),
            locked_bytes: 8 << 20,
            locks_freely: false,
            files: 20_000,
            shards: 2,
            connections: 0,
        }
    }

    /// Every reason not to start names its cause and its cure; the table holds one row per reason.
    #[test]
    fn reasons() {
        type Spoil = fn(&mut Facts);
        let rows: [(Spoil, &str, &str); 17] = [
            (|f| f.release = "6.0.19-generic".into(), "too old", "6.1 or newer"),
            (|f| f.release = "5.15.0-91".into(), "too old", "6.1 or newer"),
            (|f| f.release = "unknown".into(), "cannot be read", "6.1 or newer"),
            (|f| f.io_uring_disabled = Some(2), "switched off", "sysctl -w"),
            (
                |f| (f.io_uring_disabled, f.setup_errno) = (Some(1), Some(libc::EPERM)),
                "one group only",
                "io_uring_group",
            ),
            (|f| f.setup_errno = Some(libc::EPERM), "seccomp", "docker run"),
            (|f| f.setup_errno = Some(libc::ENOSYS), "seccomp", "docker run"),
            (|f| (f.io_uring_disabled, f.setup_errno) = (None, Some(libc::EPERM)), "seccomp", "docker run"),
            (|f| f.setup_errno = Some(libc::ENOMEM), "not enough memory", "LimitMEMLOCK"),
            (|f| f.setup_errno = Some(libc::EINVAL), "cannot be set up", "mainline"),
            (|f| f.missing = vec!["recv", "send"], "lacks recv, send", "mainline"),
            (|f| f.locked_bytes = 64 << 10, "only 64 KiB", "LimitMEMLOCK=3M"),
            (|f| f.shards = 10, "10 shards need 10752", "LimitMEMLOCK=11M"),
            (|f| (f.locks_freely, f.locked_bytes) = (true, 64 << 10), "2 shards need 512", "LimitMEMLOCK=1M"),
            (|f| f.files = 80, "only 80 files", "LimitNOFILE=96"),
            (|f| f.connections = 100_000, "50000 per shard", "--shards 5"),
            (|f| (f.files, f.connections) = (1 << 30, 3_000_000), "at most 1048576", "--shards 3"),
        ];
        for (number, (spoil, cause, cure)) in rows.into_iter().enumerate() {
            let mut facts = good();
            spoil(&mut facts);
            let error = judge(&facts).expect_err(cause);
            assert!(error.cause.contains(cause), "row {number}: {error}");
            assert!(error.cure.contains(cure), "row {number}: {error}");
            let text = error.to_string();
            assert!(text.contains(&error.cause) && text.contains(&error.cure), "{text}");
        }
    }

    /// Good hosts pass: the floor kernel, a restricted sysctl we are allowed by, as many connections as tables hold.
    #[test]
    fn good_hosts() {
        assert_eq!(judge(&good()), Ok(()));
        for release in ["6.1.0", "6.10-rc1", "7.0.0-custom", "10.2"] {
            assert_eq!(judge(&Facts { release: release.into(), ..good() }), Ok(()), "{release}");
        }
        assert_eq!(judge(&Facts { io_uring_disabled: Some(1), ..good() }), Ok(()));
        assert_eq!(judge(&Facts { connections: 40_000, ..good() }), Ok(()));
    }

    /// As many threads as can be started are; too many are told with their number, and none is left.
    #[test]
    fn threads() {
        assert_eq!(judge_threads(8), Ok(()));
        let error = no_thread("3 of 8", &io::Error::from_raw_os_error(libc::EAGAIN));
        assert!(error.cause.contains("3 of 8") && error.cure.contains("TasksMax="), "{error}");
    }

    /// The facts of the host these tests run on can be gathered, and are good enough to have run them.
    #[test]
    fn this_host() {
        let facts = gather(1, 0).unwrap();
        assert_eq!(judge(&facts), Ok(()), "{facts:?}");
        assert!(raise_file_limit().unwrap() >= facts.files);
    }
}
