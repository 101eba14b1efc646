//! Cross-site scripting: what a publisher writes and what a page asks for must never become code or markup, in a forever frame
//! and in JSONP.

use corecast_protocol::dialect::{forever_frame, json as object};
use corecast_protocol::line::GapReason;
use corecast_protocol::{Cursor, Gap, Message, Writer, is_text, json};
use proptest::prelude::*;

/// Texts that have broken out of scripts somewhere.
const ATTACKS: &[&str] = &[
    "</script><script>alert(1)</script>",
    "</SCRIPT ><img src=x onerror=alert(1)>",
    "</script\t/x>",
    "<!--<script>",
    "<!-- <script> -->",
    "--><script>alert(1)</script>",
    "]]><script>alert(1)</script>",
    "<![CDATA[",
    "&lt;/script&gt;",
    "&quot;);alert(1);//",
    "\");alert(1);//",
    "\\\");alert(1);//",
    "\\",
    "\\u003c/script>",
    "'-alert(1)-'",
    "${alert(1)}`",
    "\u{2028}alert(1)\u{2029}",
    "\n\r\nalert(1)",
    "\0</scr\0ipt>",
    "\u{feff}</script>",
    "+ADw-script+AD4-alert(1)",
    "\u{1b}$B</script>\u{1b}(B",
    "*/alert(1)/*",
    "CWS\u{7}\u{e}000",
    "<\u{e2}/script>",
    "\u{7f}\u{80}\u{9f}\u{fffe}\u{1ffff}",
];

/// Names that would be more than a name.
const BAD_CALLBACKS: &[&str] = &[
    "",
    "1",
    ".a",
    "a b",
    "a;",
    "a(",
    "a)",
    "a(alert)(1);//",
    "alert(1)//",
    "a\n",
    "a\r\n\r\nX",
    "\na",
    "a\0",
    "a\u{2028}",
    "</script>",
    "a</script>",
    "<!--",
    "a[0]",
    "a['b']",
    "a\"",
    "a'",
    "a`b`",
    "a=b",
    "a+b",
    "a,b",
    "a/b",
    "a/**/",
    "a\\u0028",
    "a&b",
    "a%28",
    "a-b",
    "a:b",
    "a?b",
    "a{b",
    "a}",
    "é",
    "aé",
    "a\u{200c}",
    "a#",
    "a@b",
    "*/a",
    " a",
    "a ",
];

const AT: Cursor = Cursor { epoch: 0x1a2b_3c4d, seq: 17 };

fn written(write: impl FnOnce(&mut Writer<'_>)) -> String {
    let mut out = vec![0; 8192];
    let mut w = Writer::new(&mut out);
    write(&mut w);
    let len = w.finish().expect("there is room");
    out.truncate(len);
    String::from_utf8(out).expect("scripts are UTF-8")
}

/// Asserts that nothing in `json` means anything to HTML, XML or old JavaScript.
fn assert_inert(json: &str) {
    let live = |c: char| matches!(c, '<' | '>' | '&' | '\u{2028}' | '\u{2029}') || (c < ' ');
    assert!(!json.contains(live), "{json:?}");
}

fn frame(message: &Message<'_>) -> String {
    let mut out = vec![0; forever_frame::encoded_len(message)];
    assert_eq!(forever_frame::encode(message, &mut out), out.len());
    String::from_utf8(out).expect("a frame is UTF-8")
}

/// What the script hands to the callback, as it stands there.
fn argument(frame: &str) -> &str {
    frame.strip_prefix("<script>c(").and_then(|rest| rest.strip_suffix(")</script>\n")).expect("one script")
}

fn check(topic: &str, event: Option<&str>, payload: &[u8]) {
    let message = Message { topic, cursor: AT, event, payload, text: is_text(payload), ..Default::default() };
    let frame = frame(&message);
    let inside = argument(&frame);
    assert_inert(inside);
    let found = json::publish_line(&mut inside.as_bytes().to_vec()).map(|line| line.data.to_vec());
    assert_eq!(found, Ok(payload.to_vec()));
    // JSONP says the same.
    let mut out = vec![0; object::script_encoded_len(&message)];
    assert_eq!(object::encode_script(&message, &mut out), out.len());
    assert_eq!(out, inside.as_bytes());
}

/// Every attack, as payload, as topic and as part of a binary payload, comes to the callback as the text it is.
#[test]
fn attacks_stay_text() {
    for attack in ATTACKS {
        check("t", None, attack.as_bytes());
        check("t", None, &[attack.as_bytes(), b"\xff"].concat());
        check("t", None, &[b"\xc0\xbc/script>", attack.as_bytes()].concat());
        let topic: String = attack.chars().filter(|c| !c.is_control() && !"+#*/$".contains(*c)).collect();
        if !topic.is_empty() {
            check(&topic, None, b"");
        }
        let event: String = attack.chars().filter(char::is_ascii_graphic).take(64).collect();
        if !event.is_empty() {
            check("t", Some(&event), b"");
        }
        let gap = Gap { topic: attack, from: AT, to: AT, count: u64::MAX, reason: GapReason::Overflow, of: "" };
        let told = written(|w| forever_frame::gap(w, &gap));
        assert_inert(argument(&told));
        assert_eq!(argument(&told), format!("{{\"gap\":{}}}", written(|w| json::script_gap(w, &gap))));
        assert_eq!(written(|w| json::gap(w, &gap)).len(), json::gap_len(&gap));
        let told = written(|w| forever_frame::refused(w, attack, attack));
        assert_inert(argument(&told));
        assert_eq!(
            argument(&told),
            format!("{{\"refused\":{}}}", written(|w| json::script_refused(w, attack, attack)))
        );
        assert_eq!(written(|w| json::refused(w, attack, attack)).len(), json::refused_len(attack, attack));
    }
}

/// A message, a gap and a refusal, as bytes.
#[test]
fn frames_are_written() {
    let message = Message {
        topic: "a&b",
        cursor: AT,
        event: Some("<e>"),
        payload: b"</script>",
        text: true,
        ..Default::default()
    };
    assert_eq!(
        frame(&message),
        "<script>c({\"topic\":\"a\\u0026b\",\"cursor\":\"1a2b3c4d-17\",\"event\":\"\\u003ce\\u003e\",\
         \"data\":\"\\u003c/script\\u003e\"})</script>\n"
    );
    let gap = Gap { topic: "t", from: AT, to: AT, count: 0, reason: GapReason::Epoch, of: "" };
    assert_eq!(
        written(|w| forever_frame::gap(w, &gap)),
        "<script>c({\"gap\":{\"topic\":\"t\",\"from\":\"1a2b3c4d-17\",\"to\":\"1a2b3c4d-17\",\"count\":0,\
         \"reason\":\"epoch\"}})</script>\n"
    );
    assert_eq!(
        written(|w| forever_frame::refused(w, "full", "a<b")),
        "<script>c({\"refused\":{\"name\":\"full\",\"text\":\"a\\u003cb\"}})</script>\n"
    );
}

/// The prologue calls the callback by name at each message, takes the script away, and is long enough to be shown.
#[test]
fn the_prologue_is_written() {
    let longest = "a".repeat(json::CALLBACK_BYTES_MAX);
    for callback in [json::DEFAULT_CALLBACK, "a", "parent.$1", &longest] {
        let page = written(|w| forever_frame::prologue(w, callback));
        assert!(page.starts_with("<!DOCTYPE html><html lang=\"en\"><head><meta charset=\"utf-8\">"));
        let call = format!("s&&s.parentNode.removeChild(s);{callback}(m)}}</script>\n<!--");
        assert!(page.contains(&call), "{page}");
        assert!(page.ends_with(" -->\n"));
        assert_eq!((page.matches("<script").count(), page.matches("</script>").count()), (1, 1));
        assert!((1024..=forever_frame::PROLOGUE_BYTES_MAX).contains(&page.len()));
    }
    assert_eq!(written(|w| forever_frame::prologue(w, &longest)).len(), forever_frame::PROLOGUE_BYTES_MAX);
}

/// What may be a callback (PROTOCOL "Subscribe over HTTP"), at its borders.
#[test]
fn callbacks_are_names() {
    let (longest, too_long) = ("a".repeat(64), "a".repeat(65));
    for good in ["a", "A", "_", "$", "parent.corecast", "$1._a.B9", "a..b", "a.", &longest] {
        assert!(json::valid_callback(good), "{good}");
        let answer = written(|w| {
            json::jsonp_start(w, good);
            w.text("[]");
            w.text(json::JSONP_END);
        });
        assert_eq!(answer, format!("/**/{good}([]);"));
    }
    for bad in BAD_CALLBACKS.iter().chain(ATTACKS).chain([&&too_long[..]]) {
        assert!(!json::valid_callback(bad), "{bad:?}");
    }
}

/// A forever frame calls a function of its own or of the page around it, by its name, and reaches for nothing inside of either:
/// `parent.document.write` could be asked for once.
#[test]
fn frames_call_plain_names_only() {
    for good in ["a", "_", "$", "corecast", json::DEFAULT_CALLBACK, "parent.$1", "parents", "parent"] {
        assert!(json::valid_frame_callback(good), "{good}");
    }
    let (longest, too_long) = (format!("parent.{}", "a".repeat(57)), format!("parent.{}", "a".repeat(58)));
    assert!(json::valid_frame_callback(&longest) && !json::valid_frame_callback(&too_long));
    for bad in [
        "parent.document.write",
        "document.write",
        "top.location.assign",
        "top.corecast",
        "window.corecast",
        "opener.corecast",
        "parent.parent.corecast",
        "parent..corecast",
        "parent.",
        "parent.1",
        "Parent.a",
        "a..b",
        "a.",
        ".a",
        "",
    ]
    .iter()
    .chain(BAD_CALLBACKS)
    .chain(ATTACKS)
    {
        assert!(!json::valid_frame_callback(bad), "{bad:?}");
    }
}

/// A caller that did not look at the callback does not get to write it.
#[test]
fn bad_callbacks_are_never_written() {
    let refused =
        |write: fn(&mut Writer<'_>, &str)| std::panic::catch_unwind(|| written(|w| write(w, "alert(1)//"))).is_err();
    assert!(refused(json::jsonp_start));
    assert!(refused(forever_frame::prologue));
}

proptest! {
    /// Any text at all stays text.
    #[test]
    fn any_text_stays_text(payload in "[<>&/!\\-\\[\\]\"\\\\'a-z\u{2028}\u{2029}\u{0}-\u{1f}é]{0,60}|\\PC{0,40}") {
        check("t", None, payload.as_bytes());
    }

    /// Any bytes at all, too.
    #[test]
    fn any_bytes_stay_bytes(payload in prop::collection::vec(any::<u8>(), 0..200)) {
        check("t", None, &payload);
    }

    /// A script's strings are as long as was counted, and plain JSON to any reader.
    #[test]
    fn script_strings_are_exact(text in any::<String>()) {
        let script = written(|w| json::script_string(w, &text));
        prop_assert_eq!(script.len(), json::script_escaped_len(&text));
        let plain = written(|w| json::string(w, &text));
        prop_assert_eq!(script, plain.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026"));
    }

    /// The rule for callbacks agrees with the naive reading of its pattern.
    #[test]
    fn callbacks_agree_with_the_pattern(name in "[a-c$_.0-2A (<é]{0,4}|[a.]{60,70}") {
        let mut characters = name.chars();
        let first = characters.next().is_some_and(|c| c.is_ascii_alphabetic() || "_$".contains(c));
        let rest = characters.all(|c| c.is_ascii_alphanumeric() || "_$.".contains(c));
        prop_assert_eq!(json::valid_callback(&name), first && rest && name.len() <= 64);
    }
}
