//! The kernel's memory: object caches by name, and TCP's buffers.
//!
//! It is the whole host's. The difference between two looks, with nothing else going on, is what the connections made
//! meanwhile cost, at both of their ends when both are on this host.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// Caches that are told by name; the growth of the others is told in one sum.
const CACHES_MAX: usize = 12;

/// Name of that sum.
const OTHERS: &str = "others";

/// Bytes of a page, the unit of TCP's buffers. 4,096 on every machine that this program is built for.
const PAGE_BYTES: u64 = 4096;

/// The kernel's memory at a moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KernelMemory {
    /// Live objects and bytes of each cache; all `kmalloc` caches count by their own name.
    caches: BTreeMap<String, (u64, u64)>,
    tcp_sockets: u64,
    tcp_buffer_bytes: u64,
}

/// How one cache changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheUse {
    /// The cache's name in `/proc/slabinfo`.
    pub name: String,
    /// Live objects before.
    pub objects_before: u64,
    /// Live objects after.
    pub objects_after: u64,
    /// Their bytes before.
    pub bytes_before: u64,
    /// Their bytes after.
    pub bytes_after: u64,
}

/// How the kernel's memory changed in a phase. Whole host: both ends of a loopback connection are in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KernelUse {
    /// Caches that changed most, and the others as a sum.
    pub caches: Vec<CacheUse>,
    /// TCP sockets that were in use before.
    pub tcp_sockets_before: u64,
    /// TCP sockets in use after.
    pub tcp_sockets_after: u64,
    /// Bytes in TCP's send and receive buffers before.
    pub tcp_buffer_bytes_before: u64,
    /// Bytes in TCP's send and receive buffers after.
    pub tcp_buffer_bytes_after: u64,
}

impl KernelMemory {
    /// Reads `slabinfo` and `net/sockstat` below a `/proc`.
    ///
    /// # Errors
    /// Mostly that only root may read `slabinfo`.
    pub fn read(proc: &Path) -> io::Result<KernelMemory> {
        let mut caches = BTreeMap::new();
        let slabs = std::fs::read_to_string(proc.join("slabinfo"))?;
        for line in slabs.lines().skip(2) {
            let mut fields = line.split_ascii_whitespace();
            let (Some(name), Some(objects), _, Some(object_bytes)) =
                (fields.next(), fields.next(), fields.next(), fields.next())
            else {
                continue;
            };
            let number = |field: &str| field.parse::<u64>().map_err(|_| io::Error::from(io::ErrorKind::InvalidData));
            let (objects, object_bytes) = (number(objects)?, number(object_bytes)?);
            caches.insert(name.to_owned(), (objects, objects * object_bytes));
        }
        let sockets = std::fs::read_to_string(proc.join("net/sockstat"))?;
        let tcp = sockets.lines().find_map(|line| line.strip_prefix("TCP:")).unwrap_or_default();
        let fields: Vec<&str> = tcp.split_ascii_whitespace().collect();
        let value = |name: &str| {
            let found = fields.chunks_exact(2).find(|pair| pair[0] == name);
            found.and_then(|pair| pair[1].parse::<u64>().ok()).unwrap_or(0)
        };
        // IPv6 sockets are counted in a file of their own, which need not be there; their buffers are in `mem` above.
        let sockets6 = std::fs::read_to_string(proc.join("net/sockstat6")).unwrap_or_default();
        let inuse6 = sockets6.lines().find_map(|line| line.strip_prefix("TCP6: inuse ")?.trim().parse::<u64>().ok());
        Ok(KernelMemory {
            caches,
            tcp_sockets: value("inuse") + inuse6.unwrap_or(0),
            tcp_buffer_bytes: value("mem") * PAGE_BYTES,
        })
    }
}

impl KernelUse {
    /// Compares two looks.
    #[must_use]
    pub fn between(before: &KernelMemory, after: &KernelMemory) -> KernelUse {
        let none = (0, 0);
        let mut caches: Vec<CacheUse> = after
            .caches
            .iter()
            .map(|(name, (objects_after, bytes_after))| {
                let (objects_before, bytes_before) = *before.caches.get(name).unwrap_or(&none);
                CacheUse {
                    name: name.clone(),
                    objects_before,
                    objects_after: *objects_after,
                    bytes_before,
                    bytes_after: *bytes_after,
                }
            })
            .collect();
        caches.sort_by_key(|cache| std::cmp::Reverse(cache.bytes_after.abs_diff(cache.bytes_before)));
        let mut others =
            CacheUse { name: OTHERS.to_owned(), objects_before: 0, objects_after: 0, bytes_before: 0, bytes_after: 0 };
        for cache in caches.drain(CACHES_MAX.min(caches.len())..) {
            others.objects_before += cache.objects_before;
            others.objects_after += cache.objects_after;
            others.bytes_before += cache.bytes_before;
            others.bytes_after += cache.bytes_after;
        }
        caches.retain(|cache| cache.bytes_after != cache.bytes_before);
        caches.push(others);
        KernelUse {
            caches,
            tcp_sockets_before: before.tcp_sockets,
            tcp_sockets_after: after.tcp_sockets,
            tcp_buffer_bytes_before: before.tcp_buffer_bytes,
            tcp_buffer_bytes_after: after.tcp_buffer_bytes,
        }
    }

    /// Returns by how many bytes all caches and TCP's buffers together grew.
    #[must_use]
    pub fn grown_bytes(&self) -> i64 {
        let caches = self.caches.iter().map(|cache| cache.bytes_after as i64 - cache.bytes_before as i64);
        caches.sum::<i64>() + self.tcp_buffer_bytes_after as i64 - self.tcp_buffer_bytes_before as i64
    }
}
