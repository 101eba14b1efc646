//! Processors and what the kernel does with them.

use crate::check::{Ask, Check, Cure, Finding, Verdict};
use crate::host::{self, Host, Unknown};
use crate::needs;

pub(super) const CHECKS: &[Check] = &[
    Check {
        name: "numa",
        what: "Memory nodes, and whether shards and card lie on the same",
        place: "/sys/devices/system/node, /sys/class/net/*/device/numa_node",
        rule: "one node; or all shards on the card's node",
        why: "A shard's memory is on the node of its core, as its pages are first written there. But packets arrive on the \
              card's node, and messages cross between shards: over the link between sockets each costs more, and its \
              bandwidth is shared. One engine per node, each with --cores and addresses of its own, avoids it.",
        source: "Documentation/admin-guide/mm/numa_memory_policy.rst",
        cost: "nothing",
        cure: Cure::ByHand("--cores with the cores of the card's node; see tuning/nic.md"),
        look: numa,
    },
    Check {
        name: "governor",
        what: "How the processor chooses its frequency",
        place: "/sys/devices/system/cpu/cpu*/cpufreq/scaling_governor",
        rule: "performance",
        why: "A shard is busy for microseconds and then rests. Governors that follow the load see little of it, and answer \
              the next burst at a low frequency.",
        source: "Documentation/admin-guide/pm/cpufreq.rst",
        cost: "nothing; it costs power",
        cure: Cure::ByHand("cpupower frequency-set -g performance"),
        look: governor,
    },
    Check {
        name: "c-states",
        what: "How deeply idle cores sleep, by the time they take to wake",
        place: "/sys/devices/system/cpu/cpu0/cpuidle/state*",
        rule: "no enabled state that takes longer than 50 µs to leave",
        why: "A shard that has nothing to do rests at once, or after a few microseconds. A deep state adds its time to wake \
              (often 100 µs and more) to the first message after a quiet moment.",
        source: "Documentation/admin-guide/pm/cpuidle.rst",
        cost: "nothing; it costs power",
        cure: Cure::ByHand("cpupower idle-set -D 50, or intel_idle.max_cstate= at boot"),
        look: idle_states,
    },
    Check {
        name: "thp",
        what: "Transparent huge pages",
        place: "/sys/kernel/mm/transparent_hugepage/enabled",
        rule: "madvise or never",
        why: "With `always`, the first byte written in a stretch of 2 MiB commits all of it. The engine's message memory is \
              written here and there as topics come and go, so its resident size grows ahead of its use, and the kernel \
              compacts memory to find huge pages, in the path of the write.",
        source: "Documentation/admin-guide/mm/transhuge.rst",
        cost: "with `always`, message memory is committed in steps of 2 MiB",
        cure: Cure::ByHand("echo madvise > /sys/kernel/mm/transparent_hugepage/enabled"),
        look: huge_pages,
    },
    Check {
        name: "mitigations",
        what: "Defences against the processor's own faults",
        place: "/sys/devices/system/cpu/vulnerabilities, /proc/cmdline",
        rule: "your decision: on where anything else runs on the host",
        why: "They make each entry into the kernel dearer. The engine enters once per turn for up to 4,096 sends, so they cost \
              it less than a server that makes a system call for each; measure before giving them up. Off is only for a \
              host on which everything is trusted.",
        source: "Documentation/admin-guide/hw-vuln/index.rst",
        cost: "nothing",
        cure: Cure::ByHand("mitigations= on the kernel's command line"),
        look: mitigations,
    },
];

fn numa(host: &Host, ask: &Ask) -> Result<Finding, Unknown> {
    let online = host::list(&host.text("sys/devices/system/node/online")?)?;
    if online.len() < 2 {
        return Ok(Finding::new(Verdict::Ok, "one node", "one node"));
    }
    let mut cores = host.cpus()?;
    cores.truncate(usize::try_from(ask.shards).unwrap_or(usize::MAX));
    let mut of_shards = Vec::new();
    for node in &online {
        let cpus = host.text(&format!("sys/devices/system/node/node{node}/cpulist"))?;
        // A node of memory alone has an empty list.
        let cpus = if cpus.is_empty() { Vec::new() } else { host::list(&cpus)? };
        if cores.iter().any(|core| cpus.contains(core)) {
            of_shards.push(*node);
        }
    }
    let cards = host.cards();
    let of_cards = cards.iter().filter_map(|card| {
        let node: i64 = host.number(&format!("sys/class/net/{}/device/numa_node", card.name)).ok()?;
        Some((card.name.clone(), u32::try_from(node).ok()?))
    });
    let apart: Vec<String> = of_cards.filter(|(_, node)| !of_shards.contains(node)).map(|(name, _)| name).collect();
    let split = of_shards.len() > 1;
    let verdict = if split || !apart.is_empty() { Verdict::Slow } else { Verdict::Ok };
    let found = format!("{} nodes, shards on {}", online.len(), of_shards.len());
    let finding = Finding::new(verdict, found, "shards on the card's node");
    Ok(match apart.is_empty() {
        true => finding,
        false => finding.noting(format!("{} is on a node without shards", apart.join(", "))),
    })
}

fn governor(host: &Host, _: &Ask) -> Result<Finding, Unknown> {
    let mut found: Vec<String> = Vec::new();
    for cpu in host.cpus()? {
        let path = format!("sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_governor");
        let governor = host
            .text(&path)
            .map_err(|unknown| Unknown(format!("{unknown}: in a virtual machine, its host decides")))?;
        if !found.contains(&governor) {
            found.push(governor);
        }
    }
    let good = found == ["performance"];
    Ok(Finding::new(if good { Verdict::Ok } else { Verdict::Slow }, found.join(", "), "performance"))
}

fn idle_states(host: &Host, _: &Ask) -> Result<Finding, Unknown> {
    let folder = "sys/devices/system/cpu/cpu0/cpuidle";
    let states = host.names(folder);
    let states: Vec<_> = states.iter().filter(|state| state.starts_with("state")).collect();
    if states.is_empty() {
        return Err(Unknown(format!("there is no /{folder}: in a virtual machine, its host decides")));
    }
    let mut deepest = (0, "none".to_owned());
    for state in states {
        let enabled = host.number::<u32>(&format!("{folder}/{state}/disable"))? == 0;
        let latency_us: u64 = host.number(&format!("{folder}/{state}/latency"))?;
        if enabled && latency_us > deepest.0 {
            deepest = (latency_us, host.text(&format!("{folder}/{state}/name"))?);
        }
    }
    let verdict = if deepest.0 > needs::WAKE_US_MAX { Verdict::Slow } else { Verdict::Ok };
    Ok(Finding::new(verdict, format!("{} {} µs", deepest.1, deepest.0), format!("{} µs", needs::WAKE_US_MAX)))
}

fn huge_pages(host: &Host, _: &Ask) -> Result<Finding, Unknown> {
    let path = "sys/kernel/mm/transparent_hugepage/enabled";
    let text = host.text(path)?;
    let chosen = text.split_once('[').and_then(|(_, rest)| Some(rest.split_once(']')?.0));
    let chosen = chosen.ok_or_else(|| Unknown(format!("/{path} names no choice")))?;
    let verdict = if chosen == "always" { Verdict::Slow } else { Verdict::Ok };
    Ok(Finding::new(verdict, chosen, "madvise or never"))
}

fn mitigations(host: &Host, _: &Ask) -> Result<Finding, Unknown> {
    let folder = "sys/devices/system/cpu/vulnerabilities";
    let names = host.names(folder);
    if names.is_empty() {
        return Err(Unknown(format!("there is no /{folder}")));
    }
    let says = |word: &str| {
        let of_it = |name: &&String| host.text(&format!("{folder}/{name}")).is_ok_and(|text| text.starts_with(word));
        names.iter().filter(of_it).count()
    };
    let (mitigated, vulnerable) = (says("Mitigation"), says("Vulnerable"));
    Ok(Finding::new(Verdict::Ok, format!("{mitigated} on, {vulnerable} open"), "your decision"))
}
