//! What TCP may hold and how many may knock at once.

use crate::amount::grouped;
use crate::check::{Ask, Check, Cure, Finding, Memory, Verdict};
use crate::host::{Host, Unknown};
use crate::needs;

/// Page size on x86-64, in bytes: `tcp_mem` counts in pages.
const PAGE_BYTES: u64 = 4_096;

/// Bytes of a `tcp_sock` (slabinfo, Linux 6.18): what an orphan holds at least.
const TCP_SOCK_BYTES: u64 = 2_368;

/// Bytes of a request that waits for the last packet of its handshake (slabinfo, Linux 6.18).
const REQUEST_BYTES: u64 = 320;

/// Bytes the kernel holds for an accepted socket (benches/LOG.md).
const SOCKET_BYTES: u64 = 3_616;

/// Bytes of an entry of connection tracking (slabinfo, Linux 6.18), and of its place in the hash.
const TRACKED_BYTES: u64 = 256 + 8;

/// Default of `net.core.somaxconn` since Linux 5.4.
const SOMAXCONN_DEFAULT: u64 = 4_096;

/// Ports in the default range, 32768 to 60999.
const PORTS_DEFAULT: u64 = 28_232;

pub(super) const CHECKS: &[Check] = &[
    Check {
        name: "net.ipv4.tcp_mem",
        what: "What all TCP sockets together may buffer, in pages of 4 KiB: relaxed below, pressed above, at most",
        place: "/proc/sys/net/ipv4/tcp_mem",
        rule: "at most: a page for each connection, but no more than a quarter of the memory; pressed at two thirds of it",
        why: "A socket with unacknowledged bytes is charged a page at least, an idle one nothing. A message to everyone puts \
              a page on each connection whose acknowledgement is on its way. Above the second number the kernel shrinks \
              everybody's buffers, above the third it drops: one flood of slow readers squeezes all.",
        source: "Documentation/networking/ip-sysctl.rst, tcp(7)",
        cost: "4 KiB for each connection with bytes on their way; nothing for idle ones",
        cure: Cure::Limit,
        look: tcp_mem,
    },
    Check {
        name: "net.ipv4.tcp_wmem",
        what: "The send buffer of a socket in bytes: least, at first, at most",
        place: "/proc/sys/net/ipv4/tcp_wmem, tcp_mem",
        rule: "4096 16384 and at most so much that one connection in a hundred may be stuck at it within tcp_mem",
        why: "A reader that stopped holds up to the third number in the kernel; with the default of 4 MiB a few hundred of \
              them use up what all sockets may have. The engine caps the unsent part at 128 KiB (TCP_NOTSENT_LOWAT), so \
              what is left is what the peer's window lets out. The first number stays 4096: it is granted even under \
              pressure.",
        source: "Documentation/networking/ip-sysctl.rst",
        cost: "of tcp_mem, only for what is unsent or unacknowledged",
        cure: Cure::ByHand("sysctl -w net.ipv4.tcp_wmem=\"4096 16384 MAX\" (apply never lowers a value)"),
        look: tcp_wmem,
    },
    Check {
        name: "net.ipv4.tcp_rmem",
        what: "The receive buffer of a socket in bytes: least, at first, at most",
        place: "/proc/sys/net/ipv4/tcp_rmem",
        rule: "the first number 4096 or more; the rest does not matter to subscribers",
        why: "The second number is the window a new peer is offered, not memory that is taken: the engine takes bytes out at \
              once, and stops only for publishers it cannot serve. Their bytes then stay here, up to the third number.",
        source: "Documentation/networking/ip-sysctl.rst",
        cost: "of tcp_mem, only for what was not read yet",
        cure: Cure::Limit,
        look: tcp_rmem,
    },
    Check {
        name: "net.core.somaxconn",
        what: "Connections that may wait for accept, per listener, and the engine has one on each shard",
        place: "/proc/sys/net/core/somaxconn",
        rule: "connections / shards, between 4,096 and 65,535",
        why: "When everybody reconnects, connections come faster than they are accepted. A full queue drops SYNs, and each \
              of those clients waits 1 s, then 3 s: the rush takes longer and is less smooth. The engine asks for 65,535.",
        source: "listen(2), Documentation/networking/ip-sysctl.rst",
        cost: "3.6 KB for each connection that waits",
        cure: Cure::Limit,
        look: somaxconn,
    },
    Check {
        name: "net.ipv4.tcp_max_syn_backlog",
        what: "Handshakes that may be under way, per listener, while SYN cookies are off",
        place: "/proc/sys/net/ipv4/tcp_max_syn_backlog, tcp_syncookies",
        rule: "as somaxconn; not looked at while tcp_syncookies is 1, the default",
        why: "With SYN cookies the kernel looks at somaxconn alone, and goes on without a record of the handshake when that \
              is reached. Without them, the last quarter of this number is kept for peers it already knows.",
        source: "tcp_conn_request() in net/ipv4/tcp_input.c",
        cost: "320 bytes for each handshake under way",
        cure: Cure::Limit,
        look: syn_backlog,
    },
    Check {
        name: "net.ipv4.tcp_max_orphans",
        what: "Sockets that nobody holds any more but that have not ended",
        place: "/proc/sys/net/ipv4/tcp_max_orphans",
        rule: "connections",
        why: "When the engine stops, all its connections become orphans until their peers have agreed. Above this number they \
              are reset instead: a client then sees an error, not an end, and what was on its way to it is lost (its \
              cursor brings it back).",
        source: "Documentation/networking/ip-sysctl.rst",
        cost: "2.4 KB an orphan, and its unsent bytes, which count against tcp_mem; by the kernel's words up to 64 KB each",
        cure: Cure::Limit,
        look: orphans,
    },
    Check {
        name: "net.ipv4.ip_local_port_range",
        what: "Ports for connections this host opens itself",
        place: "/proc/sys/net/ipv4/ip_local_port_range",
        rule: "at least the default of 28,232 ports; more for a proxy or a load generator",
        why: "The engine opens no connections. A proxy or a generator does, and each of its connections to one address and \
              port takes one port of one source address: beyond that, give it more addresses on either side. A wider range \
              may collide with services that listen in it (ip_local_reserved_ports).",
        source: "ip(7), Documentation/networking/ip-sysctl.rst",
        cost: "nothing",
        cure: Cure::Limit,
        look: ports,
    },
    Check {
        name: "net.ipv4.tcp_ehash_entries",
        what: "Buckets of the table in which every packet finds its socket",
        place: "/proc/sys/net/ipv4/tcp_ehash_entries",
        rule: "connections / 4, rounded up to a power of two",
        why: "A packet walks the chain of its bucket, and each step is likely a cache miss. By default there are at most \
              524,288 buckets: 10 million sockets make chains of 19. It can only be set at boot.",
        source: "Documentation/admin-guide/kernel-parameters.txt (thash_entries), ip-sysctl.rst",
        cost: "8 bytes a bucket",
        cure: Cure::ByHand("thash_entries=NUMBER on the kernel's command line, and a reboot"),
        look: hash_buckets,
    },
    Check {
        name: "net.ipv4.tcp_slow_start_after_idle",
        what: "Whether a connection that was quiet starts slowly again",
        place: "/proc/sys/net/ipv4/tcp_slow_start_after_idle",
        rule: "0",
        why: "A subscriber is quiet most of the time. With 1, its window falls back to ten segments after each pause, so a \
              replay or a large message takes more round trips. With 0, a burst goes out at the pace of the last one.",
        source: "RFC 2861, Documentation/networking/ip-sysctl.rst",
        cost: "nothing",
        cure: Cure::ByHand(
            "sysctl -w net.ipv4.tcp_slow_start_after_idle=0 (apply raises limits and turns no switches)",
        ),
        look: slow_start,
    },
    Check {
        name: "net.netfilter.nf_conntrack_max",
        what: "Connections that the firewall keeps track of",
        place: "/proc/sys/net/netfilter/nf_conntrack_max, nf_conntrack_count",
        rule: "1.25 x connections where connections are tracked; better, exempt the port (notrack)",
        why: "A full table drops the packets of new connections, with `nf_conntrack: table full` in the kernel's log. Tracking \
              also costs CPU for every packet. Where no rule asks for tracking, the kernel does none.",
        source: "Documentation/networking/nf_conntrack-sysctl.rst",
        cost: "264 bytes for each tracked connection",
        cure: Cure::Limit,
        look: tracking,
    },
];

fn tcp_mem(host: &Host, ask: &Ask) -> Result<Finding, Unknown> {
    let path = "proc/sys/net/ipv4/tcp_mem";
    let found: [u64; 3] = host.numbers(path)?;
    let quarter = host.memory_bytes()? / PAGE_BYTES / 4;
    let most = ask.connections.min(quarter);
    let verdict = if found[2] < most { Verdict::Slow } else { Verdict::Ok };
    let wanted = [found[0].max(most / 2), found[1].max(most / 3 * 2), found[2].max(most)];
    let finding = Finding::new(verdict, spaced(&found), format!("{} at most", grouped(most)))
        .costing(Memory::AtMost(most * PAGE_BYTES))
        .setting(spaced(&wanted));
    Ok(match most < ask.connections {
        true => finding.noting("a quarter of the memory: not every connection can have a page on its way at once"),
        false => finding,
    })
}

fn tcp_wmem(host: &Host, ask: &Ask) -> Result<Finding, Unknown> {
    let found: [u64; 3] = host.numbers("proc/sys/net/ipv4/tcp_wmem")?;
    let all: [u64; 3] = host.numbers("proc/sys/net/ipv4/tcp_mem")?;
    let all_bytes = all[2].saturating_mul(PAGE_BYTES);
    // Whole segments of 16 KiB are easier to read; below the unsent part's own cap it would only cut throughput.
    let stuck = ask.connections.div_ceil(100);
    let most = (all_bytes / stuck / 16_384 * 16_384).max(needs::NOTSENT_BYTES);
    let fits = found[0] >= 4_096 && found[2] <= most;
    let verdict = if fits { Verdict::Ok } else { Verdict::Slow };
    let finding = Finding::new(verdict, spaced(&found), format!("4096 16384 {most} or less"));
    let finding = finding.costing(Memory::AtMost(found[2].min(most).saturating_mul(stuck)));
    Ok(match fits {
        true => finding,
        false => finding.noting(format!(
            "{} readers that stopped could fill what all TCP sockets may buffer",
            grouped(all_bytes / found[2].max(1))
        )),
    })
}

fn tcp_rmem(host: &Host, _: &Ask) -> Result<Finding, Unknown> {
    let found: [u64; 3] = host.numbers("proc/sys/net/ipv4/tcp_rmem")?;
    let verdict = if found[0] < 4_096 { Verdict::Slow } else { Verdict::Ok };
    let wanted = found.map(|number| number.max(4_096));
    Ok(Finding::new(verdict, spaced(&found), "4096 and up").setting(spaced(&wanted)))
}

fn waiting(ask: &Ask) -> u64 {
    ask.connections.div_ceil(ask.shards.max(1)).clamp(SOMAXCONN_DEFAULT, needs::BACKLOG)
}

fn somaxconn(host: &Host, ask: &Ask) -> Result<Finding, Unknown> {
    let wanted = waiting(ask);
    let found = host.number("proc/sys/net/core/somaxconn")?;
    let cost = Memory::AtMost(wanted * ask.shards * SOCKET_BYTES);
    Ok(Finding::at_least(Verdict::Slow, found, wanted).costing(cost).setting(wanted.to_string()))
}

fn syn_backlog(host: &Host, ask: &Ask) -> Result<Finding, Unknown> {
    let wanted = waiting(ask);
    let found = host.number("proc/sys/net/ipv4/tcp_max_syn_backlog")?;
    let cookies: u32 = host.number("proc/sys/net/ipv4/tcp_syncookies")?;
    let worse = if cookies == 0 { Verdict::Slow } else { Verdict::Ok };
    let finding = Finding::at_least(worse, found, wanted).costing(Memory::AtMost(wanted * ask.shards * REQUEST_BYTES));
    Ok(match cookies != 0 && found < wanted {
        true => finding.noting(format!("not looked at while tcp_syncookies is {cookies}")),
        false => finding.setting(wanted.to_string()),
    })
}

fn orphans(host: &Host, ask: &Ask) -> Result<Finding, Unknown> {
    let found = host.number("proc/sys/net/ipv4/tcp_max_orphans")?;
    let wanted = ask.connections.min(i32::MAX as u64);
    Ok(Finding::at_least(Verdict::Slow, found, wanted)
        .costing(Memory::AtMost(wanted * TCP_SOCK_BYTES))
        .setting(wanted.to_string()))
}

fn ports(host: &Host, ask: &Ask) -> Result<Finding, Unknown> {
    let path = "proc/sys/net/ipv4/ip_local_port_range";
    let [first, last] = host.numbers(path)?;
    if first > last || last > 65_535 {
        return Err(Unknown(format!("/{path} holds `{first} {last}`, no range of ports")));
    }
    let ports = last - first + 1;
    let verdict = if ports < PORTS_DEFAULT { Verdict::Slow } else { Verdict::Ok };
    let finding = Finding::new(verdict, format!("{first} {last}"), format!("{} ports", grouped(PORTS_DEFAULT)));
    let pairs = grouped(ask.connections.div_ceil(ports));
    Ok(finding.setting(format!("{} {}", first.min(32_768), last.max(60_999))).noting(format!(
        "the server needs none; a generator or proxy here needs {pairs} pairs of addresses for as many"
    )))
}

fn hash_buckets(host: &Host, ask: &Ask) -> Result<Finding, Unknown> {
    // Negative in a network namespace that uses the table of the first one.
    let found = host.number::<i64>("proc/sys/net/ipv4/tcp_ehash_entries")?.unsigned_abs();
    let wanted = (ask.connections / 4).max(1).checked_next_power_of_two().unwrap_or(u64::MAX);
    let chain = ask.connections as f64 / found.max(1) as f64;
    let finding = Finding::at_least(Verdict::Slow, found, wanted).costing(Memory::Takes(wanted.saturating_mul(8)));
    Ok(if found < wanted { finding.noting(format!("chains of {chain:.1} sockets on average")) } else { finding })
}

fn slow_start(host: &Host, _: &Ask) -> Result<Finding, Unknown> {
    let found: u32 = host.number("proc/sys/net/ipv4/tcp_slow_start_after_idle")?;
    Ok(Finding::new(if found == 0 { Verdict::Ok } else { Verdict::Slow }, found.to_string(), "0"))
}

fn tracking(host: &Host, ask: &Ask) -> Result<Finding, Unknown> {
    let path = "proc/sys/net/netfilter/nf_conntrack_max";
    if !host.path(path).exists() && host.path("proc/sys/net/core").exists() {
        return Ok(Finding::new(Verdict::Ok, "not loaded", "-"));
    }
    let found: u64 = host.number(path)?;
    let wanted = ask.connections.saturating_add(ask.connections.div_ceil(4));
    let tracked: Result<u64, Unknown> = host.number("proc/sys/net/netfilter/nf_conntrack_count");
    if found < wanted && tracked == Ok(0) {
        return Ok(Finding::new(Verdict::Ok, grouped(found), grouped(wanted))
            .noting("too low, but nothing is tracked now: it matters only if a rule of the firewall asks for it"));
    }
    Ok(Finding::at_least(Verdict::Low, found, wanted)
        .costing(Memory::AtMost(wanted.saturating_mul(TRACKED_BYTES)))
        .setting(wanted.to_string()))
}

fn spaced(numbers: &[u64]) -> String {
    numbers.iter().map(u64::to_string).collect::<Vec<_>>().join(" ")
}
