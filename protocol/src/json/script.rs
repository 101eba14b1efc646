//! JSON as a script: names of callbacks, and what stands around a value in JSONP.
//!
//! Owns the rule that keeps a callback a name. What stands between [`jsonp_start`] and [`JSONP_END`] is JSON whose strings
//! [`script_string`](super::script_string) wrote, so that it is safe also where a browser takes the answer for HTML.

use crate::write::Writer;

/// The longest name of a callback, in bytes.
pub const CALLBACK_BYTES_MAX: usize = 64;

/// The callback of a forever frame that names none.
pub const DEFAULT_CALLBACK: &str = "parent.corecast";

/// What ends a JSONP answer.
pub const JSONP_END: &str = ");";

/// Says whether `name` may be called: `[A-Za-z_$][A-Za-z0-9_$.]{0,63}`. Such a name can refer to a function, but can hold no
/// code. It need not make sense: `a..b` is an error in the script of the page that asked for it, and nowhere else.
pub fn valid_callback(name: &str) -> bool {
    let [first, rest @ ..] = name.as_bytes() else {
        return false;
    };
    name.len() <= CALLBACK_BYTES_MAX
        && (first.is_ascii_alphabetic() || matches!(first, b'_' | b'$'))
        && rest.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$' | b'.'))
}

/// Says whether `name` may be called by a forever frame: a plain name, of the frame itself, or `parent.` and one, of the page
/// around it. A longer path would reach what the page never meant to be called: `parent.document.write` is a function, too.
pub fn valid_frame_callback(name: &str) -> bool {
    let plain = name.strip_prefix("parent.").unwrap_or(name);
    name.len() <= CALLBACK_BYTES_MAX && valid_callback(plain) && !plain.contains('.')
}

/// Writes what begins a JSONP answer, `/**/callback(`. The comment keeps the answer's first bytes ours: no callback makes a
/// file of another kind of it (Flash once took such answers for its own).
///
/// # Panics
/// If the callback is not [valid](valid_callback): a caller that forgets to look would let a page run anything.
pub fn jsonp_start(w: &mut Writer<'_>, callback: &str) {
    assert!(valid_callback(callback), "the caller has checked the callback");
    w.text("/**/");
    w.text(callback);
    w.byte(b'(');
}
