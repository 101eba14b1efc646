//! Dialects: how a message looks on the wire. Plain numbers, so that the hot path has no dynamic calls.

use corecast_protocol::dialect::{forever_frame, json, line, multipart, payload, sse, stream};
use corecast_protocol::message::Message;
use corecast_protocol::ws::deflate::Window;

/// What a message is made into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// A WebSocket frame of the payload.
    Payload,
    /// A WebSocket frame of the line protocol.
    Line,
    /// A server-sent event with its cursor.
    Sse,
    /// A server-sent event without: the reader has several topics, and one cursor for all of them.
    SseShared,
    /// A server-sent event with its cursor, whose data is an object that says everything.
    SseEnveloped,
    /// The same without its cursor.
    SseSharedEnveloped,
    /// A line of NDJSON.
    Stream,
    /// A part of `multipart/x-mixed-replace`.
    Multipart,
    /// A script for a page in a frame.
    ForeverFrame,
    /// A JSON object, for the answer of a long poll.
    Object,
}

impl Shape {
    /// Says whether it is a server-sent event.
    pub(super) fn is_sse(self) -> bool {
        matches!(self, Shape::Sse | Shape::SseShared | Shape::SseEnveloped | Shape::SseSharedEnveloped)
    }

    /// Says whether it is the answer to a request that goes on and on.
    pub(super) fn is_stream(self) -> bool {
        !matches!(self, Shape::Payload | Shape::Line | Shape::Object)
    }

    /// Says whether it is a server-sent event without its cursor, so that the connection is told one for all its topics.
    pub(super) fn is_shared(self) -> bool {
        matches!(self, Shape::SseShared | Shape::SseSharedEnveloped)
    }
}

/// What a shape is wrapped into on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coding {
    /// Nothing.
    Plain,
    /// Chunks of HTTP/1.1.
    Chunked,
    /// Pieces of one gzip stream, in chunks of HTTP/1.1.
    Gzip,
    /// Compressed WebSocket messages, whose compression looks back so far.
    Deflate(Window),
}

/// A shape, and what it is wrapped into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Dialect {
    /// What a message is made into.
    pub(super) shape: Shape,
    /// What that is wrapped into.
    pub(super) coding: Coding,
}

impl Dialect {
    /// Returns the dialect of a shape in a coding.
    pub(super) const fn new(shape: Shape, coding: Coding) -> Dialect {
        Dialect { shape, coding }
    }

    /// Says whether it is sent in chunks.
    pub(super) fn chunked(self) -> bool {
        matches!(self.coding, Coding::Chunked | Coding::Gzip)
    }

    /// Returns the length of the message in bytes, as it is before compression.
    #[must_use]
    pub(super) fn encoded_len(self, message: &Message<'_>) -> usize {
        let chunked = self.coding == Coding::Chunked;
        match (self.shape, chunked) {
            (Shape::Payload, _) => payload::encoded_len(message),
            (Shape::Line, _) => line::encoded_len(message),
            (Shape::Object, _) => json::encoded_len(message),
            (Shape::Sse, false) => sse::encoded_len(message),
            (Shape::Sse, true) => sse::encoded_len_chunked(message),
            (Shape::SseShared, false) => sse::encoded_len_without_id(message),
            (Shape::SseShared, true) => sse::encoded_len_without_id_chunked(message),
            (Shape::SseEnveloped, false) => sse::encoded_len_enveloped(message),
            (Shape::SseEnveloped, true) => sse::encoded_len_enveloped_chunked(message),
            (Shape::SseSharedEnveloped, false) => sse::encoded_len_enveloped_without_id(message),
            (Shape::SseSharedEnveloped, true) => sse::encoded_len_enveloped_without_id_chunked(message),
            (Shape::Stream, false) => stream::encoded_len(message),
            (Shape::Stream, true) => stream::encoded_len_chunked(message),
            (Shape::Multipart, false) => multipart::encoded_len(message),
            (Shape::Multipart, true) => multipart::encoded_len_chunked(message),
            (Shape::ForeverFrame, false) => forever_frame::encoded_len(message),
            (Shape::ForeverFrame, true) => forever_frame::encoded_len_chunked(message),
        }
    }

    /// Encodes the message, as it is before compression, into the front of `out`, which is at least `encoded_len` long.
    pub(super) fn encode(self, message: &Message<'_>, out: &mut [u8]) -> usize {
        let chunked = self.coding == Coding::Chunked;
        match (self.shape, chunked) {
            (Shape::Payload, _) => payload::encode(message, out),
            (Shape::Line, _) => line::encode(message, out),
            (Shape::Object, _) => json::encode(message, out),
            (Shape::Sse, false) => sse::encode(message, out),
            (Shape::Sse, true) => sse::encode_chunked(message, out),
            (Shape::SseShared, false) => sse::encode_without_id(message, out),
            (Shape::SseShared, true) => sse::encode_without_id_chunked(message, out),
            (Shape::SseEnveloped, false) => sse::encode_enveloped(message, out),
            (Shape::SseEnveloped, true) => sse::encode_enveloped_chunked(message, out),
            (Shape::SseSharedEnveloped, false) => sse::encode_enveloped_without_id(message, out),
            (Shape::SseSharedEnveloped, true) => sse::encode_enveloped_without_id_chunked(message, out),
            (Shape::Stream, false) => stream::encode(message, out),
            (Shape::Stream, true) => stream::encode_chunked(message, out),
            (Shape::Multipart, false) => multipart::encode(message, out),
            (Shape::Multipart, true) => multipart::encode_chunked(message, out),
            (Shape::ForeverFrame, false) => forever_frame::encode(message, out),
            (Shape::ForeverFrame, true) => forever_frame::encode_chunked(message, out),
        }
    }
}
