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

/// Name of the sum of what has nothing to do with connections.
const FILES_AND_PROCESSES: &str = "files and processes";

/// Parts of the names of caches that hold files, processes and disks: what they do meanwhile has nothing to do with
/// connections. `dentry`, `filp` and `kmalloc` serve sockets as well as files, and are counted for connections.
const OF_OTHERS: [&str; 32] = [
    "anon_vma",
    "bdev_cache",
    "bio",
    "biovec",
    "blkdev",
    "btrfs",
    "buffer_head",
    "cred_jar",
    "ext4",
    "fat_",
    "files_cache",
    "fs_cache",
    "fuse",
    "jbd2",
    "kernfs",
    "khugepaged",
    "maple_node",
    "mm_struct",
    "names_cache",
    "nfs",
    "overlay",
    "ovl_",
    "proc_",
    "radix_tree_node",
    "shmem_inode",
    "sighand_cache",
    "signal_cache",
    "squashfs",
    "task_",
    "vm_area",
    "vmap_area",
    "xfs",
];

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
    /// The cache's name in `/proc/slabinfo`. Caches that the kernel has merged go by one of their names.
    pub name: String,
    /// It may hold something of a connection.
    pub of_connections: bool,
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

impl CacheUse {
    /// Returns by how many objects it grew.
    #[must_use]
    pub fn grown_objects(&self) -> i64 {
        self.objects_after as i64 - self.objects_before as i64
    }

    /// Returns by how many bytes it grew.
    #[must_use]
    pub fn grown_bytes(&self) -> i64 {
        self.bytes_after as i64 - self.bytes_before as i64
    }
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
        let cache = |(name, (objects_after, bytes_after)): (&String, &(u64, u64))| {
            let (objects_before, bytes_before) = before.caches.get(name).copied().unwrap_or_default();
            CacheUse {
                name: name.clone(),
                of_connections: !OF_OTHERS.iter().any(|part| name.contains(part)),
                objects_before,
                objects_after: *objects_after,
                bytes_before,
                bytes_after: *bytes_after,
            }
        };
        let mut caches: Vec<CacheUse> = after.caches.iter().map(cache).collect();
        caches.sort_by_key(|cache| (!cache.of_connections, std::cmp::Reverse(cache.grown_bytes().unsigned_abs())));
        let few = caches.iter().filter(|cache| cache.of_connections).count().min(CACHES_MAX);
        let others = caches.split_off(few);
        caches.retain(|cache| cache.bytes_after != cache.bytes_before);
        for (name, of_connections) in [(OTHERS, true), (FILES_AND_PROCESSES, false)] {
            let of_kind = || others.iter().filter(|cache| cache.of_connections == of_connections);
            caches.push(CacheUse {
                name: name.to_owned(),
                of_connections,
                objects_before: of_kind().map(|cache| cache.objects_before).sum(),
                objects_after: of_kind().map(|cache| cache.objects_after).sum(),
                bytes_before: of_kind().map(|cache| cache.bytes_before).sum(),
                bytes_after: of_kind().map(|cache| cache.bytes_after).sum(),
            });
        }
        KernelUse {
            caches,
            tcp_sockets_before: before.tcp_sockets,
            tcp_sockets_after: after.tcp_sockets,
            tcp_buffer_bytes_before: before.tcp_buffer_bytes,
            tcp_buffer_bytes_after: after.tcp_buffer_bytes,
        }
    }

    /// Returns by how many bytes the caches that may hold something of a connection and TCP's buffers together grew.
    #[must_use]
    pub fn grown_bytes(&self) -> i64 {
        let caches = self.caches.iter().filter(|cache| cache.of_connections).map(CacheUse::grown_bytes);
        caches.sum::<i64>() + self.tcp_buffer_bytes_after as i64 - self.tcp_buffer_bytes_before as i64
    }

    /// Returns how a cache changed, if it did.
    #[must_use]
    pub fn cache(&self, name: &str) -> Option<&CacheUse> {
        self.caches.iter().find(|cache| cache.name == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::watch::FakeProc;

    const HEAD: &str = "slabinfo - version: 2.1\n# name <active_objs> <num_objs> <objsize> ...\n";

    fn read(slabs: &str, sockstat: &str) -> io::Result<KernelMemory> {
        let proc = FakeProc::new();
        proc.put("slabinfo", &format!("{HEAD}{slabs}"));
        proc.put("net/sockstat", sockstat);
        KernelMemory::read(proc.path())
    }

    /// What a thousand connections cost is told cache by cache; what builds and disks do meanwhile is set apart.
    #[test]
    fn growth_is_told_by_cache() {
        let before = "TCP 10 12 2368 13 8 : x\nfilp 50 60 192 21 1\next4_inode_cache 9 9 1000 1 1\nsame 5 5 8 1 1\n";
        let after = "TCP 2010 2012 2368 13 8 : x\nfilp 2050 2060 192 21 1\next4_inode_cache 99 99 1000 1 1\n\
                     same 5 5 8 1 1\nnew 3 3 10 1 1\n";
        let stat =
            |inuse: u64, mem: u64| format!("sockets: used 9\nTCP: inuse {inuse} orphan 0 tw 4 alloc 9 mem {mem}\n");
        let before = read(before, &stat(5, 1)).unwrap();
        let after = read(after, &stat(2005, 3)).unwrap();
        let told = KernelUse::between(&before, &after);
        let tcp = told.cache("TCP").unwrap();
        assert_eq!((tcp.grown_objects(), tcp.grown_bytes()), (2000, 2000 * 2368));
        assert_eq!(told.cache("same"), None, "what did not change is not told");
        let apart = told.cache("files and processes").unwrap();
        assert_eq!((apart.of_connections, apart.grown_bytes()), (false, 90_000));
        assert_eq!((told.tcp_sockets_before, told.tcp_sockets_after), (5, 2005));
        assert_eq!(told.grown_bytes(), 2000 * (2368 + 192) + 30 + 2 * 4096);
    }

    /// Many caches are told in one sum, and nothing is lost of it.
    #[test]
    fn small_changes_are_one_sum() {
        let slabs =
            |objects: u64| (1..=40).map(|n| format!("kmalloc-{n} {} 9 8 1 1\n", objects * n)).collect::<String>();
        let stat = "TCP: inuse 1 mem 1\n";
        let told = KernelUse::between(&read(&slabs(1), stat).unwrap(), &read(&slabs(3), stat).unwrap());
        assert_eq!(told.caches.len(), CACHES_MAX + 2);
        assert_eq!(told.caches[0].name, "kmalloc-40");
        assert_eq!(told.grown_bytes(), 8 * 2 * 40 * 41 / 2);
    }

    /// A `/proc` that may not be read, or does not look like one, is an error.
    #[test]
    fn unreadable_is_an_error() {
        assert!(KernelMemory::read(Path::new("/nonexistent")).is_err());
        assert!(read("TCP many 12 2368 13 8\n", "").is_err());
    }
}
