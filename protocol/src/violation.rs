//! What a peer can do wrong: one name per rule broken.
//!
//! Owns the names, their English, and how each is answered over HTTP and over WebSocket. Needing more bytes is not a
//! violation, and neither is a refusal (full, forbidden): those are the engine's to say.

use core::fmt;

use crate::proxy::ProxyError;
use crate::topic::TopicError;
use crate::ws::close;

/// Names the rule of the wire that a peer broke.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Violation {
    /// The head is longer than the caller allows.
    HeadTooLarge,
    /// The head has more than [`HEADERS_MAX`](crate::http::head::HEADERS_MAX) header lines.
    TooManyHeaders,
    /// The target is longer than the head may be (RFC 9112 section 3).
    TargetTooLong,
    /// The method is longer than the head may be (RFC 9112 section 3).
    MethodTooLong,
    /// The first line is not `method SP target SP version` (RFC 9112 section 3).
    BadRequestLine,
    /// The first line of a response is not `version SP status SP reason` (RFC 9112 section 4).
    BadStatusLine,
    /// The version is neither HTTP/1.0 nor HTTP/1.1.
    UnsupportedVersion,
    /// The request target is none of the forms that its method allows (RFC 9112 section 3.2).
    BadTarget,
    /// A header name is not a token, or a space stands before the colon (RFC 9112 section 5.1).
    BadHeaderName,
    /// A header value holds a control character (RFC 9110 section 5.5).
    BadHeaderValue,
    /// A header that this crate reads holds something other than ASCII.
    HeaderNotAscii,
    /// A header that may stand once stands twice.
    DuplicateHeader,
    /// A header line is continued on the next line (RFC 9112 section 5.2).
    FoldedHeader,
    /// A line feed stands without a carriage return before it (RFC 9112 section 2.2).
    BareLineFeed,
    /// A carriage return stands without a line feed after it (RFC 9112 section 2.2).
    BareCarriageReturn,
    /// Both Content-Length and Transfer-Encoding are given (RFC 9112 section 6.3).
    BothLengths,
    /// Content-Length is given twice, even if equal (RFC 9112 section 6.3).
    DuplicateContentLength,
    /// Content-Length is not a plain decimal number below 2^64 (RFC 9110 section 8.6).
    BadContentLength,
    /// Transfer-Encoding names a coding before `chunked` (RFC 9112 section 6.1).
    UnsupportedTransferEncoding,
    /// Transfer-Encoding does not end with `chunked`, or says it twice, or is malformed (RFC 9112 section 6.3).
    BadTransferEncoding,
    /// Transfer-Encoding is given with HTTP/1.0 (RFC 9112 section 6.1).
    TransferEncodingOnHttp10,
    /// An HTTP/1.1 request names no Host (RFC 9112 section 3.2).
    MissingHost,
    /// Host is given twice (RFC 9112 section 3.2).
    DuplicateHost,
    /// Host is empty, or neither a name nor an address, with or without a port (RFC 3986 section 3.2.2).
    BadHost,
    /// Expect asks for something other than `100-continue` (RFC 9110 section 10.1.1).
    UnsupportedExpectation,
    /// A chunk's size line or the line end after its data is malformed (RFC 9112 section 7.1).
    BadChunk,
    /// A line of the trailer section is no field line (RFC 9112 section 7.1.2).
    BadTrailer,
    /// The extensions of a chunk are longer than this crate accepts.
    ChunkExtensionTooLong,
    /// The trailer section of a chunked body is longer than this crate accepts.
    TrailerTooLong,
    /// A `%` is not followed by two hexadecimal digits (RFC 3986 section 2.1).
    BadEscape,
    /// A value is longer than the room there is for it.
    ValueTooLong,
    /// A topic's name breaks a rule.
    BadTopic(TopicError),
    /// What a proxy says of its client before the first byte breaks a rule.
    BadProxyHeader(ProxyError),
    /// A cursor is not 8 hexadecimal digits, `-`, and a decimal number.
    BadCursor,
    /// A start position is not `latest`, `live`, `earliest`, `-N` or a cursor.
    BadSince,
    /// An event name is not 1 to 64 visible ASCII characters.
    BadEvent,
    /// An event name begins with what is the engine's own, [`RESERVED_EVENTS`](crate::message::RESERVED_EVENTS).
    ReservedEvent,
    /// A key is empty, longer than [`KEY_BYTES_MAX`](crate::message::KEY_BYTES_MAX), or holds a control character.
    BadKey,
    /// What a message does to the value of its key is no [`Op`](crate::message::Op).
    BadOp,
    /// The name of a producer is not 1 to 64 visible ASCII characters.
    BadProducer,
    /// The number of a producer's message is not 1 to 2^63 - 1.
    BadNumber,
    /// A producer comes without a number, or a number without a producer.
    HalfNumbered,
    /// A callback of a forever frame is neither a name nor `parent.` and a name.
    BadFrameCallback,
    /// A callback's name breaks the rule of [`valid_callback`](crate::json::valid_callback).
    BadCallback,
    /// A line of the line protocol makes no sense.
    BadLine,
    /// The request does not ask for an upgrade to WebSocket (RFC 6455 section 4.2.1).
    MissingUpgrade,
    /// The upgrade request is not a GET with HTTP/1.1 (RFC 6455 section 4.2.1).
    BadUpgradeMethod,
    /// Sec-WebSocket-Key is not 16 bytes in base64 (RFC 6455 section 4.2.1).
    BadWebSocketKey,
    /// Sec-WebSocket-Version is not 13 (RFC 6455 section 4.2.1).
    BadWebSocketVersion,
    /// Sec-WebSocket-Extensions or Sec-WebSocket-Protocol breaks its grammar (RFC 6455 sections 4.1 and 9.1).
    BadWebSocketOffer,
    /// A server's answer does not complete the WebSocket handshake (RFC 6455 section 4.1).
    BadHandshakeAnswer,
    /// A reserved bit of a frame is set (RFC 6455 section 5.2).
    ReservedBits,
    /// A frame has an opcode that nobody defined (RFC 6455 section 5.2).
    ReservedOpcode,
    /// A client sent a frame without a mask (RFC 6455 section 5.1).
    UnmaskedFrame,
    /// A server sent a frame with a mask (RFC 6455 section 5.1).
    MaskedFrame,
    /// A control frame is fragmented (RFC 6455 section 5.5).
    FragmentedControl,
    /// A control frame has more than 125 bytes (RFC 6455 section 5.5).
    ControlTooLong,
    /// A continuation came with no message under way (RFC 6455 section 5.4).
    UnexpectedContinuation,
    /// A new message came while another was under way (RFC 6455 section 5.4).
    ExpectedContinuation,
    /// A frame's length is not encoded in the fewest bytes, or is above 2^63 (RFC 6455 section 5.2).
    BadLengthEncoding,
    /// Text is not UTF-8 (RFC 6455 section 8.1).
    NotUtf8,
    /// A message is larger than the caller allows.
    MessageTooLarge,
    /// A message was begun, and did not come to its end in time.
    MessageTooSlow,
    /// A close frame holds a code that may not be sent (RFC 6455 section 7.4).
    BadCloseCode,
    /// A close frame holds one byte (RFC 6455 section 5.5.1).
    BadClosePayload,
    /// A compressed message is not what compressing gives (RFC 7692 section 7.2.2).
    BadDeflate,
}

impl Violation {
    /// Says in English what was wrong, fit for an error body or a close reason (at most 123 bytes).
    pub const fn text(self) -> &'static str {
        self.row().0
    }

    /// Says which HTTP status answers it (400 to 505).
    pub const fn status(self) -> u16 {
        self.row().1
    }

    /// Says which WebSocket close code answers it (RFC 6455 section 7.4.1).
    pub const fn close_code(self) -> u16 {
        self.row().2
    }

    const fn row(self) -> (&'static str, u16, u16) {
        use close::{INVALID, POLICY, PROTOCOL, TOO_BIG};
        match self {
            Self::HeadTooLarge => ("the request head is too large", 431, PROTOCOL),
            Self::TooManyHeaders => ("the request head has too many headers", 431, PROTOCOL),
            Self::TargetTooLong => ("the request target is too long", 414, PROTOCOL),
            Self::MethodTooLong => ("the method is not known", 501, PROTOCOL),
            Self::BadRequestLine => ("the request line is malformed", 400, PROTOCOL),
            Self::BadStatusLine => ("the status line is malformed", 502, PROTOCOL),
            Self::UnsupportedVersion => ("only HTTP/1.0 and HTTP/1.1 are spoken here", 505, PROTOCOL),
            Self::BadTarget => ("the request target is malformed", 400, PROTOCOL),
            Self::BadHeaderName => ("a header name is malformed", 400, PROTOCOL),
            Self::BadHeaderValue => ("a header value is malformed", 400, PROTOCOL),
            Self::HeaderNotAscii => ("a header value is not ASCII", 400, PROTOCOL),
            Self::DuplicateHeader => ("a header that may stand once stands twice", 400, PROTOCOL),
            Self::FoldedHeader => ("a header is folded over two lines", 400, PROTOCOL),
            Self::BareLineFeed => ("a line ends in LF without CR", 400, PROTOCOL),
            Self::BareCarriageReturn => ("a CR stands without LF", 400, PROTOCOL),
            Self::BothLengths => ("both Content-Length and Transfer-Encoding are given", 400, PROTOCOL),
            Self::DuplicateContentLength => ("Content-Length is given twice", 400, PROTOCOL),
            Self::BadContentLength => ("Content-Length is not a number", 400, PROTOCOL),
            Self::UnsupportedTransferEncoding => ("the only transfer coding is \"chunked\"", 501, PROTOCOL),
            Self::BadTransferEncoding => ("Transfer-Encoding does not end with \"chunked\", once", 400, PROTOCOL),
            Self::TransferEncodingOnHttp10 => ("HTTP/1.0 has no Transfer-Encoding", 400, PROTOCOL),
            Self::MissingHost => ("the Host header is missing", 400, PROTOCOL),
            Self::DuplicateHost => ("the Host header is given twice", 400, PROTOCOL),
            Self::BadHost => ("the Host header is malformed", 400, PROTOCOL),
            Self::UnsupportedExpectation => ("only \"Expect: 100-continue\" is understood", 417, PROTOCOL),
            Self::BadChunk => ("the chunked body is malformed", 400, PROTOCOL),
            Self::BadTrailer => ("a trailer line is malformed", 400, PROTOCOL),
            Self::ChunkExtensionTooLong => ("a chunk extension is too long", 400, PROTOCOL),
            Self::TrailerTooLong => ("the trailer section is too long", 431, PROTOCOL),
            Self::BadEscape => ("a % is not followed by two hexadecimal digits", 400, POLICY),
            Self::ValueTooLong => ("a value is too long", 400, POLICY),
            Self::BadTopic(error) => (error.text(), 400, POLICY),
            Self::BadProxyHeader(error) => (error.text(), 400, PROTOCOL),
            Self::BadCursor => ("the cursor is malformed", 400, POLICY),
            Self::BadSince => ("since is not latest, live, earliest, -N or a cursor", 400, POLICY),
            Self::BadEvent => ("an event name is 1 to 64 visible ASCII characters", 400, POLICY),
            Self::ReservedEvent => ("event names that begin with corecast- belong to the engine", 400, POLICY),
            Self::BadKey => ("a key has 1 to 255 bytes and no control characters", 400, POLICY),
            Self::BadOp => ("op is put, merge or delete", 400, POLICY),
            Self::BadProducer => ("a producer is 1 to 64 visible ASCII characters", 400, POLICY),
            Self::BadNumber => ("the number of a producer's message is 1 to 9223372036854775807", 400, POLICY),
            Self::HalfNumbered => ("a producer and the number of its message come together", 400, POLICY),
            Self::BadCallback => {
                ("a callback is 1 to 64 of A-Z a-z 0-9 _ $ . and starts with no digit or dot", 400, POLICY)
            }
            Self::BadFrameCallback => {
                ("the callback of a forever-frame is a name, or parent. and a name, of A-Z a-z 0-9 _ $", 400, POLICY)
            }
            Self::BadLine => ("the line is malformed", 400, POLICY),
            Self::MissingUpgrade => ("this needs an upgrade to WebSocket", 426, PROTOCOL),
            Self::BadUpgradeMethod => ("a WebSocket upgrade is a GET with HTTP/1.1", 400, PROTOCOL),
            Self::BadWebSocketKey => ("Sec-WebSocket-Key is not 16 bytes in base64", 400, PROTOCOL),
            Self::BadWebSocketVersion => ("Sec-WebSocket-Version is not 13", 426, PROTOCOL),
            Self::BadWebSocketOffer => ("a subprotocol or extension that is offered is malformed", 400, PROTOCOL),
            Self::BadHandshakeAnswer => ("the answer does not complete the WebSocket handshake", 502, PROTOCOL),
            Self::ReservedBits => ("a reserved bit is set", 400, PROTOCOL),
            Self::ReservedOpcode => ("the opcode is reserved", 400, PROTOCOL),
            Self::UnmaskedFrame => ("a client must mask its frames", 400, PROTOCOL),
            Self::MaskedFrame => ("a server must not mask its frames", 400, PROTOCOL),
            Self::FragmentedControl => ("a control frame is fragmented", 400, PROTOCOL),
            Self::ControlTooLong => ("a control frame has more than 125 bytes", 400, PROTOCOL),
            Self::UnexpectedContinuation => ("a continuation without a message to continue", 400, PROTOCOL),
            Self::ExpectedContinuation => ("a new message inside a fragmented one", 400, PROTOCOL),
            Self::BadLengthEncoding => ("the length is not encoded in the fewest bytes", 400, PROTOCOL),
            Self::NotUtf8 => ("the text is not UTF-8", 400, INVALID),
            Self::MessageTooLarge => ("the message is too large", 413, TOO_BIG),
            Self::MessageTooSlow => ("the message did not arrive in time", 408, POLICY),
            Self::BadCloseCode => ("the close code may not be sent", 400, PROTOCOL),
            Self::BadClosePayload => ("a close frame holds no byte or at least two", 400, PROTOCOL),
            Self::BadDeflate => ("a compressed message does not decompress", 400, INVALID),
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl core::error::Error for Violation {}

impl From<ProxyError> for Violation {
    fn from(error: ProxyError) -> Self {
        Self::BadProxyHeader(error)
    }
}

impl From<TopicError> for Violation {
    fn from(error: TopicError) -> Self {
        Self::BadTopic(error)
    }
}
