//! The fuzz bodies over the hand-made corpus and deterministic mutations of it, on stable.

#[path = "../../fuzz/runner.rs"]
mod runner;

use corecast_protocol::fuzz;

macro_rules! targets {
    ($($(#[$doc:meta])* $target:ident)*) => {$(
        $(#[$doc])*
        #[test]
        fn $target() {
            runner::run(stringify!($target), fuzz::$target);
        }
    )*};
}

targets! {
    /// A request head reads the same however it is cut.
    head
    /// A credential is found where it is looked for, and nowhere else.
    credential
    /// A response head reads the same however it is cut.
    response
    /// What a proxy says reads the same however it is cut, and in both versions.
    proxy
    /// A chunked body reads the same however it is cut.
    chunked
    /// A stream of frames reads the same however it is cut.
    decoder
    /// A line that was read, and written again, reads the same.
    line
    /// A published line survives the way through JSON.
    publish_line
    /// What is accepted as a topic obeys the rules and survives encoding.
    topic
    /// A pattern matches what a naive matcher says, and the more it matches, the less specific it is.
    pattern
    /// Cursors and start positions survive writing and reading.
    cursor
    /// Percent-decoding undoes encoding, in place and out of place.
    percent
    /// A payload comes out of an event as it went in, but for its line ends.
    sse
    /// A payload is one part, for who counts and for who searches.
    multipart
    /// A payload in a script stays text, a callback a name.
    script
    /// What proxies wrote is found, whatever stands before it.
    forwarded
    /// Parts of a snapshot that were read are written again as they were.
    snapshot
    /// Of records, what is shown and made is one, and the patch between two leads from one to the other.
    record
    /// Whatever is a selector evaluates, in whatever record, and its negation says the opposite.
    selector
    /// What a client would like does not depend on what else it would like.
    prefer
}
