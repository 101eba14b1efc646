//! What the kernel lets the process have: io_uring, descriptors, memory.

use crate::amount::{bytes_text, grouped};
use crate::check::{Ask, Check, Cure, Finding, Memory, Verdict};
use crate::constants::Constants;
use crate::host::{Host, Unknown};
use crate::needs;

/// Number of `CAP_IPC_LOCK` (capabilities(7)).
const CAP_IPC_LOCK: u32 = 14;
/// Number of `CAP_SYS_ADMIN`.
const CAP_SYS_ADMIN: u32 = 21;

/// First kernel with the sysctl `kernel.io_uring_disabled`.
const IO_URING_DISABLED_SINCE: (u32, u32) = (6, 6);

/// Files of the host that are not connections: libraries, logs, other services. A wide guess.
const OTHER_FILES: u64 = 100_000;

/// Part of the memory that the engine takes for messages unless `--memory` says otherwise: a quarter.
const MESSAGES_PART: u64 = 4;

pub(super) const CHECKS: &[Check] = &[
    Check {
        name: "kernel",
        what: "The release of Linux",
        place: "/proc/sys/kernel/osrelease",
        rule: "6.1 or newer",
        why: "The engine's ring is set up with SINGLE_ISSUER (6.0) and DEFER_TASKRUN (6.1); older kernels refuse them. \
              Newer is better: io_uring has had many repairs since.",
        source: "io_uring_setup(2)",
        cost: "nothing",
        cure: Cure::ByHand("install a newer kernel"),
        look: kernel,
    },
    Check {
        name: "kernel.io_uring_disabled",
        what: "Who may use io_uring: 0 everybody, 1 one group, 2 nobody",
        place: "/proc/sys/kernel/io_uring_disabled, /proc/PID/status",
        rule: "0; or 1, with the process in kernel.io_uring_group or with CAP_SYS_ADMIN",
        why: "Without io_uring there is no engine. Distributions that switch it off do so because it has had more than its \
              share of bugs: with 1 and a group, only the engine's user has it.",
        source: "Documentation/admin-guide/sysctl/kernel.rst",
        cost: "nothing",
        cure: Cure::ByHand(
            "sysctl -w kernel.io_uring_disabled=0, or 1 and kernel.io_uring_group (apply leaves it alone)",
        ),
        look: io_uring_disabled,
    },
    Check {
        name: "seccomp",
        what: "A filter of system calls around the process",
        place: "/proc/PID/status",
        rule: "none, or one that lets io_uring_setup, io_uring_enter and io_uring_register pass",
        why: "Docker, containerd and Kubernetes filter io_uring by default. Whether a filter does cannot be read anywhere; \
              `corecast check` tries.",
        source: "seccomp(2), docs/operating.md",
        cost: "nothing",
        cure: Cure::ByHand("see docs/operating.md, Containers"),
        look: seccomp,
    },
    Check {
        name: "shards",
        what: "Shards, one per core unless `--shards` says otherwise",
        place: "/proc/PID/status",
        rule: "1.1 x connections / 1,048,576 or more, and at most 256",
        why: "An accepted connection is a direct descriptor, an entry in a table of its shard's ring, and the kernel makes \
              no table longer than 1,048,576. The tenth above is room for the hash that spreads connections over shards. \
              More shards than cores share them as threads do: that is for room, not for speed.",
        source: "IORING_MAX_FIXED_FILES in io_uring/rsrc.h",
        cost: "per shard 9 MiB of buffers and rings, and 256 KiB for each pair of shards",
        cure: Cure::ByHand("more cores, or --shards"),
        look: shards,
    },
    Check {
        name: "RLIMIT_NOFILE",
        what: "The hard limit of open files, which is also the limit of each shard's table",
        place: "/proc/PID/limits",
        rule: "per shard: 1.1 x connections / shards; at least 64 + 16 x shards",
        why: "A direct descriptor does not count against this limit, but the kernel registers no table longer than it. So \
              connections = shards x the least of the limit and 1,048,576, and where it cannot be raised, more shards \
              help. The engine raises its soft limit to the hard limit itself. The limits of a shell are not those of a \
              service: --pid looks at a running one.",
        source: "io_uring_register(2), docs/operating.md",
        cost: "8 bytes for each entry of the tables",
        cure: Cure::ByHand("LimitNOFILE= in the unit, ulimit -n in the shell, or more --shards"),
        look: files,
    },
    Check {
        name: "RLIMIT_MEMLOCK",
        what: "The limit of locked memory",
        place: "/proc/PID/limits, /proc/PID/status",
        rule: "512 KiB + 1 MiB x shards; twice that to restart without a pause; none with CAP_IPC_LOCK",
        why: "Kernels count the memory of io_uring against it, per user, and give it back a moment after the process has \
              ended. Measured: 860 KiB a shard on Linux 6.18.",
        source: "io_uring_setup(2), docs/operating.md",
        cost: "the rings themselves, about 860 KiB a shard",
        cure: Cure::ByHand("LimitMEMLOCK= in the unit, ulimit -l in the shell"),
        look: locked,
    },
    Check {
        name: "fs.nr_open",
        what: "The highest RLIMIT_NOFILE that can be set at all",
        place: "/proc/sys/fs/nr_open",
        rule: "what RLIMIT_NOFILE should be; the default of 1,048,576 is as much as a shard can use",
        why: "A unit that asks for a higher LimitNOFILE than this fails, or gets less.",
        source: "Documentation/admin-guide/sysctl/fs.rst",
        cost: "nothing",
        cure: Cure::Limit,
        look: nr_open,
    },
    Check {
        name: "fs.file-max",
        what: "Open files of the whole host",
        place: "/proc/sys/fs/file-max",
        rule: "connections + 100,000",
        why: "Every socket is a file to the kernel, direct descriptor or not. Above this number accept fails with ENFILE, \
              except for processes with CAP_SYS_ADMIN.",
        source: "Documentation/admin-guide/sysctl/fs.rst",
        cost: "192 bytes a file, which are counted under memory",
        cure: Cure::Limit,
        look: file_max,
    },
    Check {
        name: "memory",
        what: "The memory of the host, or of the process's control group if that is less",
        place: "/proc/meminfo, /proc/PID/cgroup, memory.max",
        rule: "connections x 4.1 KB and what the shards take, in three quarters of it: a quarter is for messages",
        why: "An idle connection costs the kernel 3.9 KB (its socket 2.4 KB of that) and the engine 0.2 KB. Of the rest the \
              engine takes a quarter of all memory for histories and frame logs, unless --memory says otherwise. \
              Socket memory counts against a control group.",
        source: "benches/LOG.md, `corecast plan`",
        cost: "what is wanted",
        cure: Cure::ByHand("more memory, fewer connections, or a smaller --memory"),
        look: memory,
    },
    Check {
        name: "vm.overcommit_memory",
        what: "Whether reserved memory must exist: 0 and 1 no, 2 yes",
        place: "/proc/sys/vm/overcommit_memory",
        rule: "0 or 1",
        why: "The engine reserves its message memory at start and commits pages when they are first written. With 2, all \
              of it counts at once against the commit limit, and a start can fail with half of the memory free.",
        source: "Documentation/mm/overcommit-accounting.rst",
        cost: "nothing",
        cure: Cure::ByHand("sysctl -w vm.overcommit_memory=0, or a --memory that fits (apply leaves it alone)"),
        look: overcommit,
    },
];

fn release(host: &Host) -> Result<(String, (u32, u32)), Unknown> {
    let release = host.text("proc/sys/kernel/osrelease")?;
    let mut parts = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    match (parts.next(), parts.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => Ok((release, (major, minor))),
        _ => Err(Unknown("/proc/sys/kernel/osrelease holds no version".to_owned())),
    }
}

fn kernel(host: &Host, _: &Ask) -> Result<Finding, Unknown> {
    let (release, version) = release(host)?;
    let verdict = if version < needs::KERNEL_MIN { Verdict::Low } else { Verdict::Ok };
    Ok(Finding::new(verdict, release, format!("{}.{}", needs::KERNEL_MIN.0, needs::KERNEL_MIN.1)))
}

fn io_uring_disabled(host: &Host, _: &Ask) -> Result<Finding, Unknown> {
    let disabled: u32 = match host.number("proc/sys/kernel/io_uring_disabled") {
        Ok(disabled) => disabled,
        // Before there was such a switch, it was on for everybody.
        Err(_) if release(host).is_ok_and(|(_, version)| version < IO_URING_DISABLED_SINCE) => {
            return Ok(Finding::new(Verdict::Ok, "no such switch", "0"));
        }
        Err(unknown) => return Err(unknown),
    };
    match disabled {
        0 => Ok(Finding::new(Verdict::Ok, "0", "0")),
        1 => {
            let group: i64 = host.number("proc/sys/kernel/io_uring_group")?;
            let (groups, gids) = (host.status("Groups")?, host.status("Gid")?);
            let member = groups.split_ascii_whitespace().chain(gids.split_ascii_whitespace());
            let member = member.filter_map(|id| id.parse::<i64>().ok()).any(|id| id == group);
            let allowed = member || host.capable(CAP_SYS_ADMIN)?;
            let verdict = if allowed { Verdict::Ok } else { Verdict::Low };
            Ok(Finding::new(verdict, "1", "0").noting(format!(
                "io_uring is for group {group}, and this process is {}",
                if allowed { "allowed" } else { "not in it" }
            )))
        }
        other => Ok(Finding::new(Verdict::Low, other.to_string(), "0").noting("io_uring is switched off on this host")),
    }
}

fn seccomp(host: &Host, _: &Ask) -> Result<Finding, Unknown> {
    match host.status("Seccomp")?.as_str() {
        "0" => Ok(Finding::new(Verdict::Ok, "none", "none")),
        "1" => Ok(Finding::new(Verdict::Low, "strict", "none").noting("only read, write and exit are allowed")),
        _ => Ok(Finding::new(Verdict::Unknown, "a filter", "none or open")
            .noting("a filter is active: `corecast check` tries whether io_uring passes it")),
    }
}

fn shards(host: &Host, ask: &Ask) -> Result<Finding, Unknown> {
    let wanted = needs::with_spare(ask.connections).div_ceil(needs::SLOTS_MAX);
    let bytes = needs::shard_bytes(ask.shards, host.cpus()?.len() as u64);
    if wanted > needs::SHARDS_MAX || ask.shards > needs::SHARDS_MAX {
        let most = needs::SHARDS_MAX;
        return Ok(Finding::new(Verdict::Low, grouped(ask.shards), grouped(wanted))
            .noting(format!("one engine runs at most {most} shards"))
            .costing(Memory::Takes(bytes)));
    }
    Ok(Finding::at_least(Verdict::Low, ask.shards, wanted).costing(Memory::Takes(bytes)))
}

fn files(host: &Host, ask: &Ask) -> Result<Finding, Unknown> {
    let (_, hard) = host.limits("Max open files")?;
    let own = needs::DESCRIPTORS_BASE + needs::DESCRIPTORS_PER_SHARD * ask.shards;
    // More than one table holds is a matter of shards, not of files.
    let wanted = ask.per_shard().min(needs::SLOTS_MAX).max(own);
    let slots = hard.min(needs::SLOTS_MAX);
    let finding = Finding::at_least(Verdict::Low, hard, wanted)
        .costing(Memory::Takes(8 * ask.per_shard().min(needs::SLOTS_MAX) * ask.shards));
    if hard >= wanted {
        return Ok(finding);
    }
    let room = grouped(slots.saturating_mul(ask.shards));
    let enough = needs::with_spare(ask.connections).div_ceil(slots.max(1));
    let instead = match hard >= own && enough <= needs::SHARDS_MAX {
        true => format!("; with the limit as it is, --shards {enough} would hold them"),
        false => String::new(),
    };
    Ok(finding.noting(format!("{} shards of {} hold {room}{instead}", ask.shards, grouped(slots))))
}

fn locked(host: &Host, ask: &Ask) -> Result<Finding, Unknown> {
    let needed = needs::LOCKED_BYTES_MIN + needs::LOCKED_BYTES_PER_SHARD * ask.shards;
    let (soft, _) = host.limits("Max locked memory")?;
    let free = host.capable(CAP_IPC_LOCK).unwrap_or(false);
    let wanted = if free { needs::LOCKED_BYTES_MIN } else { 2 * needed };
    let verdict = match soft {
        soft if soft >= wanted => Verdict::Ok,
        soft if soft >= needed => Verdict::Slow,
        _ => Verdict::Low,
    };
    let kib = |bytes: u64| match bytes {
        u64::MAX => "unlimited".to_owned(),
        bytes => format!("{} KiB", grouped(bytes >> 10)),
    };
    let finding = Finding::new(verdict, kib(soft), kib(wanted));
    let finding = finding.costing(Memory::Takes(needs::LOCKED_BYTES_PER_SHARD * ask.shards));
    Ok(match verdict {
        Verdict::Slow => finding.noting("enough to start; a restart right after a stop may find too little"),
        _ if free => finding.noting("this process has CAP_IPC_LOCK and is hardly counted; the service may be"),
        _ => finding,
    })
}

fn nr_open(host: &Host, ask: &Ask) -> Result<Finding, Unknown> {
    let wanted = ask.per_shard().min(needs::SLOTS_MAX);
    let found = host.number("proc/sys/fs/nr_open")?;
    Ok(Finding::at_least(Verdict::Low, found, wanted).setting(wanted.to_string()))
}

fn file_max(host: &Host, ask: &Ask) -> Result<Finding, Unknown> {
    let wanted = ask.connections.saturating_add(OTHER_FILES);
    let found = host.number("proc/sys/fs/file-max")?;
    Ok(Finding::at_least(Verdict::Low, found, wanted).setting(wanted.to_string()))
}

fn memory(host: &Host, ask: &Ask) -> Result<Finding, Unknown> {
    let (ram, group) = (host.memory_bytes()?, host.group_memory_bytes());
    let found = group.map_or(ram, |group| group.min(ram));
    let constants = Constants::shipped();
    let each = constants.user_bytes_per_connection.value + constants.kernel_bytes_per_connection();
    let connections = (ask.connections as f64 * each) as u64;
    let taken = connections.saturating_add(needs::shard_bytes(ask.shards, host.cpus()?.len() as u64));
    let wanted = taken.saturating_add(taken / (MESSAGES_PART - 1));
    let verdict = if found < wanted { Verdict::Low } else { Verdict::Ok };
    let finding = Finding::new(verdict, bytes_text(found), bytes_text(wanted)).costing(Memory::Takes(taken));
    Ok(if found < ram { finding.noting("the limit of a control group") } else { finding })
}

fn overcommit(host: &Host, _: &Ask) -> Result<Finding, Unknown> {
    let found: u32 = host.number("proc/sys/vm/overcommit_memory")?;
    let verdict = if found > 1 { Verdict::Slow } else { Verdict::Ok };
    Ok(Finding::new(verdict, found.to_string(), "0 or 1"))
}
