//! What is kept, and read by an engine of another time.

use super::bounded;
use crate::snapshot::{HEAD_BYTES, Reader, Record, head, key_len, message_head, topic_head};

/// A snapshot: as it is, and behind a head that is right. What is found is written again as it was, and a part is the same wherever what follows
/// it is cut.
pub fn snapshot(data: &[u8]) {
    let data = bounded(data);
    let mut reader = Reader::default();
    match reader.head(data) {
        Ok(Some((found, len))) => {
            // An older version is read as this one.
            let written = head(found);
            assert_eq!((&written[..8], &written[12..]), (&data[..8], &data[12..len]));
            records(reader, &data[len..]);
        }
        Ok(None) => assert!(data.len() < HEAD_BYTES),
        Err(_) => assert!(reader.record(data).is_err(), "a head comes first"),
    }
    records(Reader::behind_the_head(), data);
}

fn records(mut reader: Reader, mut rest: &[u8]) {
    loop {
        let before = reader;
        let Ok(Some((record, len))) = reader.record(rest) else { return };
        let bytes = &rest[..len];
        match record {
            Record::Topic(topic) => {
                let head = topic_head(&topic);
                assert_eq!(bytes.split_at(head.len()), (&head[..], topic.name.as_bytes()));
            }
            Record::Message(message) => {
                let head = message_head(&message);
                let (found, content) = bytes.split_at(head.len());
                assert_eq!(found, head);
                let (event, rest) = content.split_at(message.event.len());
                let rest = rest.strip_prefix(key_len(&message).as_slice()).expect("the key has its length before it");
                let (key, payload) = rest.split_at(message.key.len());
                assert_eq!((event, key, payload), (message.event.as_bytes(), message.key.as_bytes(), message.payload));
            }
            Record::End(_) => assert!(reader.is_over()),
        }
        for cut in 0..len {
            let mut again = before;
            assert!(!matches!(again.record(&bytes[..cut]), Ok(Some(_))), "a part of a part is none");
        }
        let mut again = before;
        assert_eq!(again.record(bytes), Ok(Some((record, len))));
        rest = &rest[len..];
    }
}
