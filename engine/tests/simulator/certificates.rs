//! Client certificates: what one gives, once TLS has verified it and the authority has said what its names mean; and what it does not.

use corecast::grant::{Ask, Denial, Grant};
use corecast::shard::{Asks, Limits, Refusal};

use crate::authority::grant;
use crate::endings::{text, upgrade};
use crate::net::ConnId;
use crate::table::{Got, Table};

/// What the authority of these scenes says: names and tokens say what they give, and when that ends.
fn says(ask: &Ask, now_s: u64) -> Result<Grant, Denial> {
    let (Ask::Certificate(name) | Ask::Token(name)) = ask else { panic!("nothing else is asked: {ask:?}") };
    Ok(match &**name {
        "CN=writer" => grant("w", &["a/#"], &[]),
        "CN=both\nDNS=both.example" => grant("b", &["a/#"], &["a/#"]),
        "CN=short" => Grant { expires_s: now_s + 3, ..grant("s", &["a/#"], &["a/#"]) },
        "reader" => grant("r", &[], &["a/#"]),
        "CN=banned" => return Err(Denial::Forbidden("not from there")),
        _ => return Err(Denial::Invalid("nobody knows it")),
    })
}

fn table() -> Table {
    let asks = Asks { certificates: true, tokens: true, ..Asks::default() };
    Table::with_authority(Limits { asks, open: vec![false], ..Limits::default() }, Box::new(says))
}

fn request(words: &str, lines: &str) -> String {
    let body = if words.starts_with("POST") { "hello" } else { "" };
    format!("{words} HTTP/1.1\r\nHost: h\r\n{lines}Content-Length: {}\r\n\r\n{body}", body.len())
}

const BOTH: &str = "CN=both\nDNS=both.example";
const PUBLISH: &str = "POST /topics/a/x";
const READ: &str = "GET /topics/a/x";

fn statuses(table: &mut Table, conn: ConnId, requests: &[(&str, &str)]) -> Vec<u16> {
    let all: String = requests.iter().map(|(words, lines)| request(words, lines)).collect();
    table.say(conn, all).statuses()
}

/// A certificate gives what the authority says of its names, for all requests of its connection, and is asked about once, however many
/// connections show it. It gives nothing else, and nobody else anything.
#[test]
fn a_certificate_gives_a_grant() {
    let mut table = table();
    let conn = table.connect_as(BOTH);
    assert_eq!(
        statuses(&mut table, conn, &[(PUBLISH, ""), (READ, ""), ("GET /topics/b", ""), (PUBLISH, "")]),
        [200, 200, 403, 200]
    );
    let writer = table.connect_as("CN=writer");
    assert_eq!(statuses(&mut table, writer, &[(PUBLISH, ""), (READ, "")]), [200, 403]);
    let again = table.connect_as(BOTH);
    assert_eq!(statuses(&mut table, again, &[(READ, "")]), [200]);
    assert_eq!((table.authority().asked, table.shard().stats().questions), (2, 2));
    let nobody = table.connect();
    assert_eq!(statuses(&mut table, nobody, &[(PUBLISH, ""), (READ, "")]), [401, 401]);
    assert_eq!(table.shard().asks_still(), [0; 4]);
}

/// A WebSocket has what its certificate gives, and `AUTH` goes before that.
#[test]
fn websockets_have_it_too() {
    let mut table = table();
    let line = table.connect_as(BOTH);
    assert_eq!(table.say(line, upgrade("/ws")).statuses(), [101]);
    for (command, expected) in [
        ("SUB a/x id=1", "OK 1"),
        ("PUB a/x id=2\nhello", "OK 2"),
        ("PUB b id=3\nhello", "ERR 3 forbidden"),
        ("AUTH reader id=4", "OK 4"),
        ("PUB a/x id=5\nhello", "ERR 5 forbidden"),
    ] {
        let got = table.say(line, text(command)).text();
        assert!(got.contains(expected), "{command}: {got}");
    }
    let raw = table.connect_as("CN=writer");
    assert_eq!(table.say(raw, upgrade("/topics/a/x")).statuses(), [403], "to write is not to read");
}

/// What a request shows besides is what holds for it, and for no other; a certificate that nobody knows, or that is not let in, is none.
#[test]
fn tokens_go_before_certificates() {
    let mut table = table();
    let token = "Authorization: Bearer reader\r\n";
    let conn = table.connect_as(BOTH);
    assert_eq!(statuses(&mut table, conn, &[(PUBLISH, token), (READ, token), (PUBLISH, "")]), [403, 200, 200]);
    for names in ["CN=stranger", "CN=banned"] {
        let conn = table.connect_as(names);
        assert_eq!(statuses(&mut table, conn, &[(READ, ""), (READ, token), (READ, "")]), [401, 200, 401], "{names}");
    }
    assert_eq!(table.shard().asks_still(), [0; 4]);
}

/// What a certificate gives ends when the authority said it would: readers are told, and requests are refused from then on.
#[test]
fn what_it_gives_ends() {
    let mut table = table();
    let (reads, asks) = (table.connect_as("CN=short"), table.connect_as("CN=short"));
    let got = table.say(reads, request("GET /topics/a/x?transport=sse", ""));
    assert!(got.statuses() == [200] && !got.ended, "{}", got.text());
    assert_eq!(statuses(&mut table, asks, &[(PUBLISH, "")]), [200]);
    table.pass_ms(3_600);
    let got = table.read(reads);
    assert!(
        got.ended && got.text().contains(&format!("\"name\":\"{}\"", Refusal::Expired.row().name)),
        "{}",
        got.text()
    );
    let expired = |got: Got| got.statuses() == [401] && got.text().contains(Refusal::Expired.row().text);
    assert!(expired(table.say(asks, request(PUBLISH, ""))) && expired(table.say(asks, request(READ, ""))));
}

/// Nobody can say in time what it means: the request is told so, and the next one asks again: the certificate is not forgotten. It used
/// to be, and its client was nobody for as long as its connection stood.
#[test]
fn nobody_can_say_for_a_while() {
    let mut table = table();
    table.authority().thinks_us = u64::MAX;
    let conn = table.connect_as(BOTH);
    table.send(conn, request(READ, ""));
    table.pass_ms(4_000);
    assert_eq!(table.read(conn).bytes, b"");
    table.pass_ms(1_500);
    assert_eq!(table.read(conn).statuses(), [503]);
    table.authority().hurry();
    assert_eq!(statuses(&mut table, conn, &[(READ, ""), (PUBLISH, "")]), [200, 200]);
    assert_eq!(table.authority().asked, 1, "it was still being asked");
}

/// A certificate is its connection's: who comes into the same slot behind it, whether it was asked about or not, has nothing of it.
#[test]
fn the_next_in_its_slot_has_nothing_of_it() {
    let mut table = table();
    for shows in [true, false].repeat(200) {
        let conn = table.connect_as(BOTH);
        if shows {
            assert_eq!(statuses(&mut table, conn, &[(READ, "")]), [200]);
        } else {
            table.pass_ms(3);
        }
        table.reset(conn);
        table.pass_ms(3);
        let next = table.connect();
        assert_eq!(statuses(&mut table, next, &[(READ, "")]), [401]);
        table.reset(next);
        table.pass_ms(3);
    }
    assert_eq!(table.shard().asks_still(), [0; 4]);
}

/// Where certificates are not to say who somebody is, they are not asked about.
#[test]
fn only_where_it_is_wanted() {
    let asks = Asks { tokens: true, ..Asks::default() };
    let limits = Limits { asks, open: vec![false], ..Limits::default() };
    let mut table = Table::with_authority(limits, Box::new(says));
    let conn = table.connect_as(BOTH);
    assert_eq!(statuses(&mut table, conn, &[(READ, "")]), [401]);
    assert_eq!(table.authority().asked, 0);
}
