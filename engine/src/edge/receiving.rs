//! Receiving: records are opened where they stand, when the shard asks for what came.

use super::alert::{CLOSE_NOTIFY, Fault, USER_CANCELED};
use super::front::Front;
use super::record::{self, ALERT, DATA, HANDSHAKE, Version};
use super::{Edge, SHORT_BYTES};
use crate::io::driver::{Completion, Driver, Lent, Slot};

/// The buffer of what came before the shard asked: behind a handshake, or behind a PROXY header.
pub(super) const LEFT_OVER: Lent = Lent { id: u16::MAX, len: 0 };

/// What a record means.
enum Meaning {
    Text,
    Nothing,
    End,
}

impl Edge {
    /// Makes text of what came from a connection with a front, in `self.text`.
    pub(super) fn open<D: Driver>(&mut self, driver: &mut D, slot: Slot, lent: Lent) {
        self.text.clear();
        let place = self.place(slot) as usize;
        match self.fronts.get_mut(place) {
            Some(Front::Plain(rest)) => {
                self.text.append(rest);
                if let Some(Front::Plain(buffer)) = self.take(slot) {
                    self.give_back(buffer);
                }
                if lent != LEFT_OVER {
                    self.text.extend_from_slice(driver.received(slot, lent));
                }
            }
            Some(Front::Sealed(_)) => {
                let before = self.unfinished_of(slot);
                let opened = self.open_records(driver, slot, lent);
                self.recount(slot, before);
                if let Err(fault) = opened {
                    self.break_off(driver, slot, fault);
                }
            }
            _ => {}
        }
    }

    fn open_records<D: Driver>(&mut self, driver: &mut D, slot: Slot, lent: Lent) -> Result<(), Fault> {
        let place = self.place(slot) as usize;
        let Some(Front::Sealed(sealed)) = self.fronts.get_mut(place) else { return Ok(()) };
        if sealed.ended {
            return Ok(()); // Nothing behind its last word is believed.
        }
        let carried = sealed.busy.as_mut().map(|busy| std::mem::take(&mut busy.carry)).unwrap_or_default();
        let mut carry = carried;
        let came: &mut [u8] = if lent == LEFT_OVER { &mut [] } else { driver.received(slot, lent) };
        let bytes: &mut [u8] = if carry.is_empty() {
            came
        } else {
            carry.extend_from_slice(came);
            &mut carry
        };
        let mut at = 0;
        while let Some(len) = record::frame(&bytes[at..], Some(sealed.keys.version))? {
            let found = sealed.keys.open(&mut bytes[at..at + len]);
            let record = &bytes[at..at + len];
            at += len;
            let (kind, range) = found?;
            let meaning = match kind {
                DATA => {
                    self.text.extend_from_slice(&record[range]);
                    Meaning::Text
                }
                ALERT => match record[range] {
                    [_, CLOSE_NOTIFY] => Meaning::End,
                    [_, USER_CANCELED] => Meaning::Nothing,
                    _ => return Err(Fault::TheirAlert),
                },
                // It must be the last of its record, as what comes behind it has other keys.
                HANDSHAKE if sealed.keys.version == Version::Tls13 => match record[range] {
                    [24, 0, 0, 1, asks @ 0..=1] => {
                        sealed.keys.update_receiving();
                        sealed.owes_update |= asks == 1;
                        Meaning::Nothing
                    }
                    _ => return Err(Fault::Unexpected),
                },
                // Nothing is agreed upon anew in TLS 1.2.
                _ => return Err(Fault::Unexpected),
            };
            if let Meaning::End = meaning {
                sealed.ended = true;
                self.said.push_back(Completion::PeerEnded { slot });
                at = bytes.len();
                break;
            }
        }
        if at < bytes.len() {
            if bytes.len() - at > SHORT_BYTES && self.unfinished_bytes > self.unfinished_bytes_max {
                return Err(Fault::TooMuchUnfinished);
            }
            let mut buffer = self.spare.pop().unwrap_or_default();
            buffer.extend_from_slice(&bytes[at..]);
            sealed.unfinished(&mut self.unused).carry = buffer;
        } else {
            sealed.tidy(&mut self.unused);
        }
        self.give_back(carry);
        Ok(())
    }
}
