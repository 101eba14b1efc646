//! A tree of patterns, which finds those that match a topic by a walk over its segments.
//!
//! ```text
//!   (root) ─prices─▶ ( ) ─eur─▶ ( here: prices/eur )
//!                     │ ╰─ + ─▶ ( here: prices/+ )
//!                     ╰ rest: prices/#
//! ```
//!
//! Owns: nodes, and the number that each pattern has. Unlike the rules' table it changes while the engine runs, one path at a time. A walk
//! visits at most one node for each pattern and segment.

use std::collections::BTreeMap;

use corecast_protocol::topic::is_system;

use crate::shard::memory::slab::Slab;

const NONE: u32 = u32::MAX;
const ROOT: u32 = 0;

/// What an entry among the names of a node takes besides its text, about, in bytes.
const NAME_BYTES: u64 = 48;

/// What a beginning of patterns leads to.
#[derive(Debug)]
struct Node {
    names: BTreeMap<Box<str>, u32>,
    /// Where `+` leads.
    one: u32,
    /// The pattern that ends here.
    here: u32,
    /// The pattern that has a `#` next.
    rest: u32,
}

impl Node {
    fn new() -> Node {
        Node { names: BTreeMap::new(), one: NONE, here: NONE, rest: NONE }
    }

    fn is_idle(&self) -> bool {
        self.names.is_empty() && self.one == NONE && self.here == NONE && self.rest == NONE
    }
}

/// Patterns, each with a number.
#[derive(Debug)]
pub(in crate::shard) struct Tree {
    nodes: Slab<Node>,
    /// Bytes of the names of nodes.
    name_bytes: u64,
    /// Where a walk is, and where it will be.
    at: Vec<u32>,
    next: Vec<u32>,
}

impl Tree {
    /// Makes one without patterns.
    #[must_use]
    pub(in crate::shard) fn new() -> Tree {
        Tree { nodes: Slab::new(), name_bytes: 0, at: Vec::new(), next: Vec::new() }
    }

    /// Returns the bytes of memory that it holds.
    #[must_use]
    pub(in crate::shard) fn bytes(&self) -> u64 {
        self.nodes.bytes() + self.name_bytes
    }

    /// Finds the number of a sound pattern.
    #[must_use]
    pub(in crate::shard) fn find(&self, pattern: &str) -> Option<u32> {
        let mut node = self.nodes.get(ROOT as usize)?;
        for segment in pattern.split('/') {
            let at = match segment {
                "#" => return Some(node.rest).filter(|rest| *rest != NONE),
                "+" => node.one,
                name => *node.names.get(name)?,
            };
            node = self.nodes.get(at as usize)?;
        }
        Some(node.here).filter(|here| *here != NONE)
    }

    /// Adds a sound pattern that is not there, with its number.
    pub(in crate::shard) fn insert(&mut self, pattern: &str, number: u32) {
        if self.nodes.len() == 0 {
            self.nodes.insert(Node::new());
        }
        let mut at = ROOT;
        for segment in pattern.split('/') {
            if segment == "#" {
                self.nodes[at as usize].rest = number;
                return;
            }
            let node = &self.nodes[at as usize];
            let known = if segment == "+" { node.one } else { node.names.get(segment).copied().unwrap_or(NONE) };
            at = if known != NONE {
                known
            } else {
                let made = u32::try_from(self.nodes.insert(Node::new())).expect("fewer nodes than 2^32");
                let node = &mut self.nodes[at as usize];
                if segment == "+" {
                    node.one = made;
                } else {
                    node.names.insert(segment.into(), made);
                    self.name_bytes += NAME_BYTES + segment.len() as u64;
                }
                made
            };
        }
        self.nodes[at as usize].here = number;
    }

    /// Takes a pattern out that is there.
    pub(in crate::shard) fn remove(&mut self, pattern: &str) {
        let mut path = vec![ROOT];
        for segment in pattern.split('/').filter(|segment| *segment != "#") {
            let node = &self.nodes[path[path.len() - 1] as usize];
            path.push(if segment == "+" { node.one } else { node.names[segment] });
        }
        let last = &mut self.nodes[path[path.len() - 1] as usize];
        if pattern == "#" || pattern.ends_with("/#") {
            last.rest = NONE;
        } else {
            last.here = NONE;
        }
        let mut segments = pattern.split('/').filter(|segment| *segment != "#");
        while path.len() > 1 {
            let (at, segment) = (path.pop().unwrap_or(ROOT), segments.next_back().unwrap_or_default());
            if !self.nodes[at as usize].is_idle() {
                return;
            }
            self.nodes.remove(at as usize);
            let parent = &mut self.nodes[path[path.len() - 1] as usize];
            if segment == "+" {
                parent.one = NONE;
            } else {
                parent.names.remove(segment);
                self.name_bytes -= NAME_BYTES + segment.len() as u64;
            }
        }
    }

    /// Puts the numbers of the patterns that match a sound topic into `found`, from the smallest on.
    pub(in crate::shard) fn matching(&mut self, topic: &str, found: &mut Vec<u32>) {
        found.clear();
        if self.nodes.len() == 0 {
            return;
        }
        let (mut at, mut next) = (std::mem::take(&mut self.at), std::mem::take(&mut self.next));
        at.clear();
        at.push(ROOT);
        // What begins with `+` or `#` does not match the engine's own topics.
        let mut wild = !is_system(topic);
        for segment in topic.split('/') {
            next.clear();
            for node in at.drain(..) {
                let node = &self.nodes[node as usize];
                if wild {
                    found.extend(Some(node.rest).filter(|rest| *rest != NONE));
                    next.extend(Some(node.one).filter(|one| *one != NONE));
                }
                next.extend(node.names.get(segment));
            }
            wild = true;
            std::mem::swap(&mut at, &mut next);
        }
        for node in &at {
            let Node { here, rest, .. } = self.nodes[*node as usize];
            found.extend([here, rest].into_iter().filter(|number| *number != NONE));
        }
        found.sort_unstable();
        (self.at, self.next) = (at, next);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use corecast_protocol::pattern;

    fn random(seed: &mut u64) -> usize {
        *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (*seed >> 33) as usize
    }

    /// Whatever patterns come and go, those that the tree finds for a topic are those that match it, one by one; and each is found by
    /// its text as long as it is there. When all have gone, nothing is left but the root.
    #[test]
    fn like_a_list() {
        let segments = ["a", "b", "ab", "+", "#", "$sys"];
        let mut seed = 7;
        let draw = |seed: &mut u64| -> String {
            let count = 1 + random(seed) % 4;
            let drawn: Vec<&str> = (0..count).map(|_| segments[random(seed) % segments.len()]).collect();
            drawn.join("/")
        };
        let (mut tree, mut list) = (Tree::new(), BTreeMap::<String, u32>::new());
        let mut found = Vec::new();
        let (mut hits, mut most) = (0, 0);
        for number in 0..60_000 {
            let text = draw(&mut seed);
            if !random(&mut seed).is_multiple_of(3) {
                if pattern::validate(&text).is_ok() && pattern::is_pattern(&text) {
                    assert_eq!(tree.find(&text), list.get(&text).copied());
                    match list.remove(&text) {
                        Some(_) => tree.remove(&text),
                        None => {
                            tree.insert(&text, number);
                            list.insert(text, number);
                        }
                    }
                }
                continue;
            }
            if corecast_protocol::topic::validate_subscribe(&text).is_ok() {
                tree.matching(&text, &mut found);
                let matching = list.iter().filter(|(pattern, _)| pattern::matches(pattern, &text));
                let mut expected: Vec<u32> = matching.map(|(_, number)| *number).collect();
                expected.sort_unstable();
                assert_eq!(found, expected, "{text}");
                (hits, most) = (hits + found.len(), most.max(found.len()));
            }
        }
        assert!(hits > 10_000 && most > 8, "the test is too tame: {hits}, {most}");
        for text in list.keys() {
            tree.remove(text);
        }
        assert_eq!((tree.nodes.len(), tree.name_bytes), (1, 0));
    }
}
