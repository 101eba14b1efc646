//! Homes: numbering and memory of the topics that are hashed to this shard.
//!
//! Owns: per topic its epoch, its history, and its audience (the shards with subscribers). A home without audience and
//! history does not exist, but for those that came from a snapshot and are awaited, for a while: their readers come back with cursors.
//! Homes with a history, and awaited ones, stand in a list by last use: when memory is short, the one that was used longest ago gives way first.

mod check;
mod dump;
mod journaled;
mod restore;
mod rows;
mod seen;

pub(in crate::shard) use dump::Came;
pub(in crate::shard) use journaled::Remembered;
pub(in crate::shard) use restore::Restoring;
pub(in crate::shard) use rows::{Taken, Valued};

use crate::io::memory::Memory;
use crate::mesh::{Content, Lost, Name, Standing, Start};
use crate::reach::{Mark, reach};
use crate::shard::limits::{Keeps, Limits};
use crate::shard::memory::few::Few;
use crate::shard::memory::pool::Owner;
use crate::shard::memory::slab::Slab;
use crate::shard::topic::chain::{Chain, Store, WIDE_MARK_BYTES};
use crate::shard::topic::member::{Member, Resolved};
use crate::shard::topic::names::{NamePlace, Names};
use crate::shard::topic::numbering::Numbering;
use crate::shard::topic::places::{ENTRY_BYTES, Places, half};
use crate::shard::topic::record::{self, RECORD_HEAD, TIME_BYTES};
use rows::Rows;

const NONE: u32 = u32::MAX;

/// Homes looked at for one that can be forgotten, when there are too many.
const FORGET_LOOKS_MAX: usize = 64;

/// Histories forgotten for one message at most: some 3 ms. If that is not enough it is refused, and the next one finds more room.
pub(in crate::shard) const FORGOTTEN_MAX: usize = 16 << 10;

/// Messages of one topic forgotten at once, some 100 µs: where limits were lowered there may be very many, and the rest goes next time.
const FORGOTTEN_AT_ONCE: usize = 4096;

/// A topic at home.
#[derive(Debug)]
pub(in crate::shard) struct Home {
    hash: u64,
    name: NamePlace,
    /// Random, so that cursors of an earlier life of the topic are recognised.
    pub(in crate::shard) epoch: u32,
    numbering: Numbering,
    /// Which terms hold for it, and since which change of the rules that is known.
    terms: u16,
    terms_of: u32,
    /// What it remembers: the nth message of the epoch has position n.
    history: Chain,
    /// Which of it are values, if it keeps such, or [`NONE`].
    table: u32,
    /// Payload bytes in the history.
    payload_bytes: u64,
    /// The audience.
    members: Few<Member>,
    /// Neighbours in the list by last use; `older == newer == NONE` and not `listed`: not in it.
    older: u32,
    newer: u32,
    listed: bool,
    /// It came from a snapshot, and its readers may be on their way.
    awaited: bool,
    /// A shard of its audience hears what was before with each message.
    wants_old: bool,
    /// Number of its newest message in the journal, 0 if that is older.
    journaled: u64,
    /// Which set of patterns matches it, as far as that is known.
    patterns: u32,
}

impl Home {
    /// Returns the bytes that it takes, with its name and its place in the table of names.
    fn cost(&self) -> u64 {
        (size_of::<Home>() + self.name.bytes() + ENTRY_BYTES) as u64
    }

    /// Returns the audience.
    #[must_use]
    pub(in crate::shard) fn members(&self) -> &[Member] {
        &self.members
    }

    /// Returns the audience, for changing how it hears.
    pub(in crate::shard) fn members_mut(&mut self) -> &mut [Member] {
        &mut self.members
    }

    /// Returns the number of the newest message, 0 before the first.
    #[must_use]
    pub(in crate::shard) fn head(&self, store: &Store) -> u64 {
        self.history.last(store)
    }

    /// Returns the position that the next message gets in the history.
    #[must_use]
    pub(in crate::shard) fn next(&self) -> u64 {
        self.history.next()
    }

    /// Says what it is, as far as a condition can depend on it.
    #[must_use]
    pub(in crate::shard) fn standing(&self, store: &Store) -> Standing {
        Standing { epoch: self.epoch, head: self.head(store), remembers: !self.history.is_empty() }
    }

    /// Forgets what is too old, keeping the newest message.
    pub(in crate::shard) fn forget_old(&mut self, store: &mut Store, memory: &Memory, keeps: Keeps, now_ms: u64) {
        for _ in 0..FORGOTTEN_AT_ONCE {
            if self.history.first() + 1 >= self.history.next() || self.table != NONE {
                break; // Values have no age.
            }
            let time = record::time(memory, self.history.start(store, memory, TIME_BYTES));
            if time + keeps.ms >= now_ms {
                break;
            }
            self.forget_first(store, memory);
        }
    }

    /// Returns how many messages of this epoch with larger numbers than this one are remembered no longer.
    fn forgotten_after(&self, number: u64) -> u64 {
        (self.history.first() - 1).saturating_sub(self.numbering.count(self.epoch, number))
    }

    /// Finds out where a replay starts.
    #[must_use]
    pub(in crate::shard) fn resolve(&self, store: &Store, memory: &Memory, start: Start) -> Resolved {
        let (first, next) = (self.history.first(), self.history.next());
        let behind = |epoch, seq| {
            if seq >= self.history.before() {
                return Resolved { first: self.history.position_after(store, memory, seq), lost: None };
            }
            let count = self.forgotten_after(seq);
            let lost = Lost { after_epoch: epoch, after_seq: seq, count, epoch_changed: false };
            Resolved { first, lost: Some(lost).filter(|_| count > 0) }
        };
        match start {
            Start::Latest => Resolved { first: first.max(next - 1), lost: None },
            Start::Live => Resolved { first: next, lost: None },
            Start::Earliest => Resolved { first, lost: None },
            Start::Last(n) => Resolved { first: first.max(next.saturating_sub(u64::from(n))), lost: None },
            // The cursor of a topic that did not exist yet: nothing was missed before its first message.
            Start::After { epoch: 0, seq: 0 } if first == 1 => Resolved { first, lost: None },
            Start::After { epoch, seq } if epoch != self.epoch || seq > self.head(store) => {
                let count = self.forgotten_after(0);
                Resolved { first, lost: Some(Lost { after_epoch: epoch, after_seq: seq, count, epoch_changed: true }) }
            }
            Start::After { epoch, seq } => behind(epoch, seq),
            Start::Behind(seq) => behind(self.epoch, seq),
        }
    }

    /// Returns the number of the message at a position that the history holds.
    #[must_use]
    pub(in crate::shard) fn number(&self, store: &Store, memory: &Memory, position: u64) -> u64 {
        self.history.number(store, memory, position)
    }

    /// Returns the number of the message before a position that the history holds, or before the next one to come.
    #[must_use]
    pub(in crate::shard) fn number_before(&self, store: &Store, memory: &Memory, position: u64) -> u64 {
        self.history.number_before(store, memory, position)
    }

    /// Returns the content of the message at a position that the history holds.
    #[must_use]
    pub(in crate::shard) fn content<'m>(&self, store: &Store, memory: &'m Memory, position: u64) -> Content<'m> {
        record::read(memory.bytes(self.history.record(store, memory, position)))
    }

    /// Returns the length of the payload of the message at a position in bytes, with its event name.
    #[must_use]
    pub(in crate::shard) fn content_len(&self, store: &Store, memory: &Memory, position: u64) -> usize {
        self.history.record(store, memory, position).len as usize - RECORD_HEAD
    }

    /// Forgets what is more than it may remember, keeping the newest message.
    fn forget_surplus(&mut self, store: &mut Store, memory: &Memory, keeps: Keeps) {
        let (messages_max, bytes_max) = (u64::from(keeps.messages), u64::from(keeps.bytes));
        for _ in 0..FORGOTTEN_AT_ONCE {
            let count = self.history.next() - self.history.first();
            if count <= 1 || count <= messages_max && self.payload_bytes <= bytes_max {
                break;
            }
            self.forget_first(store, memory);
        }
    }

    fn forget_first(&mut self, store: &mut Store, memory: &Memory) {
        self.payload_bytes -= u64::from(self.history.forget_first(store, memory)) - RECORD_HEAD as u64;
    }

    fn forget_history(&mut self, store: &mut Store) {
        self.history.clear(store);
        self.payload_bytes = 0;
    }
}

/// All homes of a shard.
#[derive(Debug)]
pub(in crate::shard) struct Homes {
    homes: Slab<Home>,
    tables: Slab<Rows>,
    names: Names,
    by_name: Places,
    /// Memory that lists of members hold.
    list_bytes: u64,
    /// Bytes of homes, of those with an audience, and of both with their names.
    read_bytes: u64,
    all_bytes: u64,
    oldest: u32,
    newest: u32,
    /// Topics with messages that were forgotten altogether.
    lives: u64,
    /// Where the search for old messages goes on.
    sweep: usize,
    /// Until when those that came from a snapshot are awaited, in milliseconds of the driver's clock.
    awaits_until_ms: u64,
    random: u64,
    /// Changes of the rules so far: homes look for their terms when they need them next.
    changes: u32,
    /// How new ones number their messages.
    pub(in crate::shard) numbering: Numbering,
}

impl Homes {
    /// Makes no homes yet; epochs are drawn from `seed`.
    #[must_use]
    pub(in crate::shard) fn new(seed: u64) -> Homes {
        Homes {
            homes: Slab::new(),
            tables: Slab::new(),
            names: Names::new(),
            by_name: Places::default(),
            list_bytes: 0,
            read_bytes: 0,
            all_bytes: 0,
            oldest: NONE,
            newest: NONE,
            lives: 0,
            sweep: 0,
            awaits_until_ms: 0,
            random: seed,
            changes: 1,
            numbering: Numbering::default(),
        }
    }

    /// Returns the bytes of memory that all of it holds besides histories: names, entries, lists, tables.
    #[must_use]
    pub(in crate::shard) fn bytes(&self) -> u64 {
        self.homes.bytes() + self.tables.bytes() + self.names.bytes() + self.by_name.bytes() + self.list_bytes
    }

    /// Returns the bytes of homes with an audience: of lists and entries, and with names.
    #[must_use]
    pub(in crate::shard) fn read_bytes(&self) -> u64 {
        self.read_bytes + self.list_bytes
    }

    /// Returns the bytes of homes without an audience: what histories cost besides blocks.
    #[must_use]
    pub(in crate::shard) fn unread_bytes(&self) -> u64 {
        self.all_bytes - self.read_bytes
    }

    /// Returns how many there are.
    #[must_use]
    pub(in crate::shard) fn len(&self) -> usize {
        self.homes.len()
    }

    /// Returns name, epoch and number of the newest message of every topic that has its home here.
    pub(in crate::shard) fn heads(&self, store: &Store) -> impl Iterator<Item = (&str, u32, u64)> {
        self.homes.iter().map(|(_, home)| (self.names.text(home.name), home.epoch, home.head(store)))
    }

    /// Returns a bound of the places that homes stand at.
    pub(in crate::shard) fn places(&self) -> usize {
        self.homes.bound()
    }

    /// Says whether any shard has subscribers of a topic.
    pub(in crate::shard) fn has_audience(&self, index: u32) -> bool {
        self.homes.get(index as usize).is_some_and(|home| !home.members.is_empty())
    }

    /// Returns name and hash of the home at a place, if there is one.
    pub(in crate::shard) fn name_at(&self, place: usize) -> Option<Name<'_>> {
        self.homes.get(place).map(|home| Name { hash: home.hash, text: self.names.text(home.name) })
    }

    /// Finds a home.
    #[must_use]
    pub(in crate::shard) fn find(&self, name: Name<'_>) -> Option<u32> {
        let same = |index: u32| {
            let home = &self.homes[index as usize];
            home.hash == name.hash && self.names.is(home.name, name.text)
        };
        self.by_name.find(half(name.hash), same)
    }

    /// Finds a home or makes it; `None` if there are too many and none can be forgotten.
    pub(in crate::shard) fn find_or_make(&mut self, name: Name<'_>, store: &mut Store, limits: &Limits) -> Option<u32> {
        if let Some(index) = self.find(name) {
            return Some(index);
        }
        if self.homes.len() >= limits.topics_max as usize && !self.forget_one(store) {
            return None;
        }
        Some(self.make(name))
    }

    /// Makes a home that is not there yet, whatever the bound says.
    pub(in crate::shard) fn make(&mut self, name: Name<'_>) -> u32 {
        let epoch = self.epoch_of(name);
        let home = Home {
            hash: name.hash,
            name: self.names.keep(name.text),
            epoch,
            numbering: self.numbering,
            terms: 0,
            terms_of: 0,
            history: Chain::new(Owner::History, 0),
            table: NONE,
            payload_bytes: 0,
            members: Few::new(),
            older: NONE,
            newer: NONE,
            listed: false,
            awaited: false,
            wants_old: false,
            journaled: 0,
            patterns: 0,
        };
        self.all_bytes += home.cost();
        let index = u32::try_from(self.homes.insert(home)).expect("fewer homes than 2^32");
        self.by_name.insert(half(name.hash), index);
        index
    }

    /// Rules have changed.
    pub(in crate::shard) fn rules_changed(&mut self) {
        // 0 is of homes that have not looked yet.
        self.changes = self.changes.checked_add(1).unwrap_or(1);
    }

    /// Returns what a home may remember.
    pub(in crate::shard) fn keeps(&mut self, index: u32, limits: &Limits) -> Keeps {
        let home = &mut self.homes[index as usize];
        if home.terms_of != self.changes {
            if home.terms_of != 0 {
                reach(Mark::TermsAgain);
            }
            home.terms_of = self.changes;
            home.terms = limits.rules.index_of(self.names.text(home.name));
        }
        limits.keeps(home.terms)
    }

    /// Says whether a home keeps values, as its terms say.
    #[inline]
    pub(in crate::shard) fn keeps_rows(&mut self, index: u32, limits: &Limits) -> bool {
        limits.rules.have_tables() && self.keeps(index, limits).mode.is_table()
    }

    /// Returns the epoch of a home.
    #[must_use]
    pub(in crate::shard) fn epoch_at(&self, index: u32) -> u32 {
        self.homes[index as usize].epoch
    }

    /// Returns the hash of the topic of a home.
    #[must_use]
    pub(in crate::shard) fn hash_at(&self, index: u32) -> u64 {
        self.homes[index as usize].hash
    }

    /// Returns a home.
    #[cfg(test)]
    pub(in crate::shard) fn home(&self, index: u32) -> &Home {
        &self.homes[index as usize]
    }

    /// Returns a home, if it still exists.
    pub(in crate::shard) fn home_mut(&mut self, index: u32) -> Option<&mut Home> {
        self.homes.get_mut(index as usize)
    }

    /// Adds a shard to the audience of a home.
    pub(in crate::shard) fn add_member(&mut self, index: u32, member: Member) {
        let Some(home) = self.homes.get_mut(index as usize) else { return };
        if home.members.is_empty() {
            self.read_bytes += home.cost();
        }
        self.list_bytes -= home.members.bytes();
        home.members.push(member);
        self.list_bytes += home.members.bytes();
    }

    /// A shard of the audience hears what was before with each value.
    pub(in crate::shard) fn wants_old(&mut self, index: u32, shard: usize, id: u32, generation: u32) {
        let Some(home) = self.homes.get_mut(index as usize) else { return };
        for member in &mut home.members[..] {
            home.wants_old = true;
            member.wants_old |= (member.shard as usize, member.id, member.generation) == (shard, id, generation);
        }
    }

    /// Says whether any shard hears what was before with each message.
    #[must_use]
    pub(in crate::shard) fn is_old_wanted(&self, index: u32) -> bool {
        self.homes[index as usize].wants_old
    }

    /// Copies the newest payload, if it is text and remembered; says whether it is.
    #[must_use]
    pub(in crate::shard) fn copy_newest(
        &self,
        index: u32,
        (store, memory): (&Store, &Memory),
        out: &mut Vec<u8>,
    ) -> bool {
        let home = &self.homes[index as usize];
        out.clear();
        if home.history.is_empty() {
            return false;
        }
        let newest = home.content(store, memory, home.history.next() - 1);
        out.extend_from_slice(newest.payload);
        newest.text
    }

    /// Takes a shard out of the audience of a home, if it stands there for this life of its topic; forgets a home that is idle then.
    pub(in crate::shard) fn remove_member(&mut self, index: u32, shard: usize, id: u32, generation: u32) {
        let Some(home) = self.homes.get_mut(index as usize) else { return };
        let is_it = |member: &Member| (member.shard as usize, member.id, member.generation) == (shard, id, generation);
        if let Some(place) = home.members.iter().position(is_it) {
            self.list_bytes -= home.members.bytes();
            home.members.swap_remove(place);
            home.wants_old = home.members.iter().any(|member| member.wants_old);
            self.list_bytes += home.members.bytes();
            if home.members.is_empty() {
                self.read_bytes -= home.cost();
            }
        }
        self.remove_if_idle(index);
    }

    /// Numbers a message and records it; returns its number, or `None` if there is no memory for it.
    pub(in crate::shard) fn record(
        &mut self,
        index: u32,
        content: Content<'_>,
        store: &mut Store,
        memory: &mut Memory,
        limits: &Limits,
        now_ms: u64,
    ) -> Option<u64> {
        let len = record::len_of(content)?;
        let keeps = self.keeps(index, limits);
        if self.homes[index as usize].table != NONE {
            self.fit(index, keeps, store);
        }
        let home = &self.homes[index as usize];
        let number = home.numbering.number(home.epoch, home.history.next());
        if !self.append(index, number, len, content, keeps, (store, memory), now_ms) {
            return None;
        }
        let home = &mut self.homes[index as usize];
        home.payload_bytes += (content.event.len() + content.payload.len()) as u64;
        home.forget_surplus(store, memory, keeps);
        home.forget_old(store, memory, keeps, now_ms);
        self.touch(index);
        Some(number)
    }

    /// Writes a record behind all of a history, and makes room for it; says false if there is no memory.
    #[allow(clippy::too_many_arguments)]
    fn append(
        &mut self,
        index: u32,
        number: u64,
        len: u32,
        content: Content<'_>,
        keeps: Keeps,
        (store, memory): (&mut Store, &mut Memory),
        now_ms: u64,
    ) -> bool {
        let home = &self.homes[index as usize];
        if !store.pool.has(len.saturating_add(WIDE_MARK_BYTES)) && !home.history.could_append(store, number, len) {
            return false; // However much were forgotten for it.
        }
        // Half of the memory is for what is on its way; histories share the other half.
        let bytes_max = store.pool.bytes_max() / 2;
        let mut forgotten = 0;
        while store.pool.used(Owner::History) + self.unread_bytes() + u64::from(len) > bytes_max
            && forgotten < FORGOTTEN_MAX
        {
            if !self.make_room(store, index) {
                break;
            }
            forgotten += 1;
        }
        let place = loop {
            let home = &mut self.homes[index as usize];
            let block_bytes = home.history.bytes().min(keeps.bytes);
            match home.history.append(store, memory, number, len, block_bytes) {
                Some(place) => break place,
                None if forgotten >= FORGOTTEN_MAX => return false,
                None if self.make_room(store, index) => forgotten += 1,
                None if self.homes[index as usize].history.is_empty() => return false,
                // Nobody else's is left: what its own topic said before gives way to it.
                None => self.forget_all(index, store),
            }
        };
        record::write(memory.bytes_mut(place), content, now_ms);
        true
    }

    /// Forgets a topic's history; returns its epoch and head.
    pub(in crate::shard) fn clear(&mut self, index: u32, store: &mut Store) -> (u32, u64) {
        let home = &mut self.homes[index as usize];
        let answer = (home.epoch, home.head(store));
        self.forget_all(index, store);
        self.await_no_more(index);
        answer
    }

    /// Forgets all that a home remembers.
    fn forget_all(&mut self, index: u32, store: &mut Store) {
        let home = &mut self.homes[index as usize];
        home.forget_history(store);
        if home.table != NONE {
            self.forget_rows(index, store);
        }
    }

    /// A home has no history any more, and is not awaited either.
    fn await_no_more(&mut self, index: u32) {
        self.homes[index as usize].awaited = false;
        self.unlist(index);
        self.remove_if_idle(index);
    }

    /// Removes a home that has neither audience nor history, and is not awaited.
    pub(in crate::shard) fn remove_if_idle(&mut self, index: u32) {
        let home = &self.homes[index as usize];
        if home.members.is_empty() && home.history.is_empty() && !home.awaited {
            self.unlist(index);
            let home = &self.homes[index as usize];
            let hash = home.hash;
            self.lives += u64::from(home.history.next() > 1);
            self.names.forget(home.name);
            self.all_bytes -= home.cost();
            self.by_name.remove(half(hash), index);
            self.drop_rows(index);
            self.homes.remove(index as usize);
        }
    }

    /// Forgets what is too old in the next `max` homes, going round.
    pub(in crate::shard) fn forget_old(
        &mut self,
        store: &mut Store,
        memory: &mut Memory,
        limits: &Limits,
        now_ms: u64,
        max: usize,
    ) {
        for _ in 0..max.min(self.homes.len()) {
            if self.sweep >= self.homes.bound() {
                self.sweep = 0;
            }
            if self.homes.get(self.sweep).is_some() {
                let keeps = self.keeps(self.sweep as u32, limits);
                if self.homes[self.sweep].table != NONE {
                    self.forget_deletions(self.sweep as u32, keeps, (store, memory), now_ms);
                }
                let home = &mut self.homes[self.sweep];
                home.forget_old(store, memory, keeps, now_ms);
                if home.awaited && now_ms > self.awaits_until_ms {
                    home.awaited = false;
                    if home.history.is_empty() {
                        self.await_no_more(self.sweep as u32);
                    }
                }
            }
            self.sweep += 1;
        }
    }

    /// Forgets the history of the home used longest ago, except `spared`; says whether there was one.
    pub(in crate::shard) fn make_room(&mut self, store: &mut Store, spared: u32) -> bool {
        let mut index = self.oldest;
        if index == spared && index != NONE {
            index = self.homes[index as usize].newer;
        }
        if index == NONE {
            return false;
        }
        reach(Mark::HistoryGaveWay);
        self.forget_all(index, store);
        self.await_no_more(index);
        true
    }

    /// Forgets the home used longest ago that has no audience, if one of the oldest has none; says whether it did.
    fn forget_one(&mut self, store: &mut Store) -> bool {
        let mut index = self.oldest;
        for _ in 0..FORGET_LOOKS_MAX {
            let Some(home) = self.homes.get_mut(index as usize) else { return false };
            let newer = home.newer;
            if home.members.is_empty() {
                reach(Mark::HomeForgotten);
                self.forget_all(index, store);
                self.await_no_more(index);
                return true;
            }
            index = newer;
        }
        false
    }

    fn touch(&mut self, index: u32) {
        if self.newest == index {
            return;
        }
        self.unlist(index);
        let home = &mut self.homes[index as usize];
        home.older = self.newest;
        home.newer = NONE;
        home.listed = true;
        match self.newest {
            NONE => self.oldest = index,
            newest => self.homes[newest as usize].newer = index,
        }
        self.newest = index;
    }

    fn unlist(&mut self, index: u32) {
        let home = &mut self.homes[index as usize];
        if !std::mem::take(&mut home.listed) {
            return;
        }
        let (older, newer) = (home.older, home.newer);
        match older {
            NONE => self.oldest = newer,
            older => self.homes[older as usize].newer = newer,
        }
        match newer {
            NONE => self.newest = older,
            newer => self.homes[newer as usize].older = older,
        }
    }

    /// Returns the epoch that a topic has, or will have.
    ///
    /// It is the same for a topic without messages however often it is forgotten and made again: the cursor of one who
    /// waits for its first message stays good. Once a topic with messages was forgotten, every new one is of a new life.
    /// Epoch 0 is the epoch of no topic.
    pub(in crate::shard) fn epoch_of(&self, name: Name<'_>) -> u32 {
        let mut state = self.random ^ name.hash ^ self.lives.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        ((crate::shard::random::random(&mut state) >> 32) as u32).max(1)
    }
}

#[cfg(test)]
mod tests;
