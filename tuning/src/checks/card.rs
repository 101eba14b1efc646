//! Network cards: whether the cores that run shards also get the packets.

use std::collections::BTreeSet;

use crate::amount::grouped;
use crate::check::{Ask, Check, Cure, Finding, Memory, Verdict};
use crate::host::{self, Card, Host, Unknown};
use crate::needs;

/// Bytes of a small packet in the kernel: sk_buff 256 and its small head 576 (slabinfo, Linux 6.18).
const PACKET_BYTES: u64 = 832;

pub(super) const CHECKS: &[Check] = &[
    Check {
        name: "net.core.netdev_max_backlog",
        what: "Packets that may wait for a core when another core hands them over (RPS) or on loopback",
        place: "/proc/sys/net/core/netdev_max_backlog, /proc/net/softnet_stat",
        rule: "8,192 where packets are handed over: twice what one submit of a shard can send",
        why: "A card with a queue per core does not use this queue at all. With RPS, and on loopback, one submit of a shard \
              can put 4,096 packets into it at once, and what does not fit is dropped and sent again later. The second \
              column of /proc/net/softnet_stat counts those.",
        source: "Documentation/admin-guide/sysctl/net.rst, scaling.rst",
        cost: "about 0.8 KB a waiting packet and core",
        cure: Cure::Limit,
        look: backlog,
    },
    Check {
        name: "rx-queues",
        what: "Receive queues of the network card, against shards and cores",
        place: "/sys/class/net/*/queues",
        rule: "one for each shard, but no more than cores",
        why: "The card spreads connections over its queues by hash, and the core of a queue does the TCP work of its packets. \
              With fewer queues than shards some cores do that work for others, and every packet crosses.",
        source: "Documentation/networking/scaling.rst (RSS)",
        cost: "the rings of a queue: 0.5-4 MB each (estimate: 1,024 entries of up to 4 KiB)",
        cure: Cure::ByHand("ethtool -L IFACE combined NUMBER; see tuning/nic.md"),
        look: queues,
    },
    Check {
        name: "irq-affinity",
        what: "The cores that the card's interrupts go to",
        place: "/sys/class/net/*/device/msi_irqs, /proc/irq/*/effective_affinity_list",
        rule: "as many different cores as there are queues, those of the shards",
        why: "Interrupts on one core make it do the network work of all. irqbalance moves them about; for fixed shards fix \
              the interrupts too, and stop irqbalance or exempt the card from it.",
        source: "Documentation/core-api/irq/irq-affinity.rst, scaling.rst",
        cost: "nothing",
        cure: Cure::ByHand("write a core's number to /proc/irq/N/smp_affinity_list; see tuning/nic.md"),
        look: interrupts,
    },
    Check {
        name: "rps",
        what: "Receive packet steering: software that hands packets over to other cores",
        place: "/sys/class/net/*/queues/rx-*/rps_cpus",
        rule: "0 with a queue for each shard; all of the shards' cores with fewer queues",
        why: "It does what more queues would do, at the price of an interrupt between cores for each batch. With enough queues \
              it only moves packets away from the core they came to.",
        source: "Documentation/networking/scaling.rst (RPS)",
        cost: "nothing; see netdev_max_backlog",
        cure: Cure::ByHand("write a mask of cores to /sys/class/net/IFACE/queues/rx-N/rps_cpus; see tuning/nic.md"),
        look: receive_steering,
    },
    Check {
        name: "xps",
        what: "Transmit packet steering: which core uses which send queue",
        place: "/sys/class/net/*/queues/tx-*/xps_cpus",
        rule: "every queue has its cores, where there is more than one queue",
        why: "Two cores that send through one queue share its lock and its cache lines. Most drivers set this up by \
              themselves; a queue without any core means that nothing is set.",
        source: "Documentation/networking/scaling.rst (XPS)",
        cost: "nothing",
        cure: Cure::ByHand("write a mask of cores to /sys/class/net/IFACE/queues/tx-N/xps_cpus; see tuning/nic.md"),
        look: send_steering,
    },
];

fn cards(host: &Host) -> Result<Vec<Card>, Unknown> {
    let cards = host.cards();
    match cards.is_empty() {
        true => Err(Unknown("no network card is seen here: only virtual interfaces, or no /sys".to_owned())),
        false => Ok(cards),
    }
}

/// Queues a card should have.
fn queues_wanted(host: &Host, ask: &Ask) -> Result<u64, Unknown> {
    Ok(ask.shards.min(host.cpus()?.len() as u64).max(1))
}

/// Says whether any receive queue of a card hands packets over.
fn steers(host: &Host, card: &str) -> Result<bool, Unknown> {
    let folder = format!("sys/class/net/{card}/queues");
    let mut steers = false;
    for queue in host.names(&folder).iter().filter(|queue| queue.starts_with("rx-")) {
        steers |= host::mask_names_any(&host.text(&format!("{folder}/{queue}/rps_cpus"))?)?;
    }
    Ok(steers)
}

fn backlog(host: &Host, _: &Ask) -> Result<Finding, Unknown> {
    let found: u64 = host.number("proc/sys/net/core/netdev_max_backlog")?;
    let stat = host.text("proc/net/softnet_stat")?;
    let dropped = stat.lines().map(|line| {
        let column = line.split_ascii_whitespace().nth(1);
        column.and_then(|hex| u32::from_str_radix(hex, 16).ok()).map(u64::from)
    });
    let bad = || Unknown("/proc/net/softnet_stat is not what it should be".to_owned());
    let dropped = dropped.sum::<Option<u64>>().ok_or_else(bad)?;
    let interfaces = host.names("sys/class/net");
    let handed_over = interfaces.iter().any(|interface| steers(host, interface).unwrap_or(false));
    let wanted = 2 * needs::SUBMISSIONS;
    let used = handed_over || dropped > 0;
    let worse = if used { Verdict::Slow } else { Verdict::Ok };
    let cores = stat.lines().count() as u64;
    let finding = Finding::at_least(worse, found, wanted)
        .costing(Memory::AtMost(wanted * cores * PACKET_BYTES))
        .setting(wanted.to_string());
    Ok(match used {
        true => finding.noting(format!("{} packets dropped since the host started", grouped(dropped))),
        false if found < wanted => finding.noting("nothing is handed over and nothing was dropped"),
        false => finding,
    })
}

fn queues(host: &Host, ask: &Ask) -> Result<Finding, Unknown> {
    let wanted = queues_wanted(host, ask)?;
    let cards = cards(host)?;
    let short = cards.iter().any(|card| card.receive_queues < wanted);
    let found = cards.iter().map(|card| format!("{} {}", card.name, card.receive_queues));
    let found = found.collect::<Vec<_>>().join(", ");
    Ok(Finding::new(if short { Verdict::Slow } else { Verdict::Ok }, found, grouped(wanted)))
}

fn interrupts(host: &Host, ask: &Ask) -> Result<Finding, Unknown> {
    let (mut found, mut crowded) = (Vec::new(), false);
    let mut most = 1;
    for card in cards(host)? {
        // A virtio card is a device on a device: the interrupts belong to the lower one.
        let folder =
            ["device/msi_irqs", "device/../msi_irqs"].map(|path| format!("sys/class/net/{}/{path}", card.name));
        let numbers = folder.iter().map(|folder| host.names(folder)).find(|names| !names.is_empty());
        let numbers = numbers.ok_or_else(|| Unknown(format!("the interrupts of {} are not listed", card.name)))?;
        let mut cores = BTreeSet::new();
        for number in &numbers {
            let effective =
                host.text(&format!("proc/irq/{number}/effective_affinity_list")).and_then(|t| host::list(&t));
            let allowed = || host.text(&format!("proc/irq/{number}/smp_affinity_list")).and_then(|t| host::list(&t));
            // Some interrupts of a card are for nothing but its configuration, and go nowhere.
            cores.extend(effective.or_else(|_| allowed()).unwrap_or_default());
        }
        if cores.is_empty() {
            return Err(Unknown(format!("/proc/irq does not say where the interrupts of {} go", card.name)));
        }
        let wanted = card.receive_queues.min(queues_wanted(host, ask)?).max(1);
        most = most.max(wanted);
        crowded |= (cores.len() as u64) < wanted;
        found.push(format!("{} on {}", card.name, cores_text(cores.len() as u64)));
    }
    let verdict = if crowded { Verdict::Slow } else { Verdict::Ok };
    Ok(Finding::new(verdict, found.join(", "), cores_text(most)))
}

fn cores_text(number: u64) -> String {
    if number == 1 { "1 core".to_owned() } else { format!("{number} cores") }
}

fn receive_steering(host: &Host, ask: &Ask) -> Result<Finding, Unknown> {
    let wanted = queues_wanted(host, ask)?;
    let (mut found, mut wrong, mut short) = (Vec::new(), false, false);
    for card in cards(host)? {
        let steers = steers(host, &card.name)?;
        let few = card.receive_queues < wanted;
        wrong |= steers != few;
        short |= few;
        found.push(format!("{} {}", card.name, if steers { "on" } else { "off" }));
    }
    let verdict = if wrong { Verdict::Slow } else { Verdict::Ok };
    Ok(Finding::new(verdict, found.join(", "), if short { "on: fewer queues than shards" } else { "off" }))
}

fn send_steering(host: &Host, _: &Ask) -> Result<Finding, Unknown> {
    let (mut found, mut unset) = (Vec::new(), false);
    for card in cards(host)? {
        if card.transmit_queues < 2 {
            found.push(format!("{} has one queue", card.name));
            continue;
        }
        let folder = format!("sys/class/net/{}/queues", card.name);
        let mut set = 0u64;
        for queue in host.names(&folder).iter().filter(|queue| queue.starts_with("tx-")) {
            set += u64::from(host::mask_names_any(&host.text(&format!("{folder}/{queue}/xps_cpus"))?)?);
        }
        unset |= set < card.transmit_queues;
        found.push(format!("{} {set} of {}", card.name, card.transmit_queues));
    }
    let verdict = if unset { Verdict::Slow } else { Verdict::Ok };
    Ok(Finding::new(verdict, found.join(", "), "all queues"))
}
