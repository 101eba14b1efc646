//! Dialects: how a message looks on the wire. Plain numbers, so that the hot path has no dynamic calls.

pub(in crate::shard) mod compress;
pub(in crate::shard) mod encode;
pub(in crate::shard) mod view;

use corecast_protocol::dialect::{forever_frame, json, line, multipart, ndjson, payload, sse};
use corecast_protocol::http::response;
use corecast_protocol::message::Message;
use corecast_protocol::ws::deflate::Window;

/// What a message is made into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::shard) enum Shape {
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
    Ndjson,
    /// A part of `multipart/x-mixed-replace`.
    Multipart,
    /// A script for a page in a frame.
    ForeverFrame,
    /// A JSON object, for the answer of a long poll.
    Object,
}

impl Shape {
    /// Says whether it is a server-sent event.
    pub(in crate::shard) fn is_sse(self) -> bool {
        matches!(self, Shape::Sse | Shape::SseShared | Shape::SseEnveloped | Shape::SseSharedEnveloped)
    }

    /// Says whether it is the answer to a request that goes on and on.
    pub(in crate::shard) fn is_stream(self) -> bool {
        !matches!(self, Shape::Payload | Shape::Line | Shape::Object)
    }

    /// Says whether it is a server-sent event without its cursor, so that the connection is told one for all its topics.
    pub(in crate::shard) fn is_shared(self) -> bool {
        matches!(self, Shape::SseShared | Shape::SseSharedEnveloped)
    }
}

/// What a shape is wrapped into on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::shard) enum Coding {
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
pub(in crate::shard) struct Dialect {
    /// What a message is made into.
    pub(in crate::shard) shape: Shape,
    /// What that is wrapped into.
    pub(in crate::shard) coding: Coding,
}

impl Dialect {
    /// Returns the dialect of a shape in a coding.
    pub(in crate::shard) const fn new(shape: Shape, coding: Coding) -> Dialect {
        Dialect { shape, coding }
    }

    /// Says whether its messages name their topic.
    pub(in crate::shard) fn names_topics(self) -> bool {
        self.shape != Shape::Payload
    }

    /// Says whether it is sent in chunks.
    pub(in crate::shard) fn chunked(self) -> bool {
        matches!(self.coding, Coding::Chunked | Coding::Gzip)
    }

    /// Returns the length of the message in bytes, as it is before compression.
    #[must_use]
    pub(in crate::shard) fn encoded_len(self, message: &Message<'_>) -> usize {
        let len = match self.shape {
            Shape::Payload => payload::encoded_len(message),
            Shape::Line => line::encoded_len(message),
            Shape::Sse => sse::encoded_len(message),
            Shape::SseShared => sse::encoded_len_without_id(message),
            Shape::SseEnveloped => sse::encoded_len_enveloped(message),
            Shape::SseSharedEnveloped => sse::encoded_len_enveloped_without_id(message),
            Shape::Ndjson => ndjson::encoded_len(message),
            Shape::Multipart => multipart::encoded_len(message),
            Shape::ForeverFrame => forever_frame::encoded_len(message),
            Shape::Object => json::encoded_len(message),
        };
        if self.coding == Coding::Chunked { response::chunk_len(len) } else { len }
    }

    /// Encodes the message, as it is before compression, into `out`, which is `encoded_len` long.
    pub(in crate::shard) fn encode(self, message: &Message<'_>, out: &mut [u8]) {
        if self.coding == Coding::Chunked {
            let bare = Dialect { coding: Coding::Plain, ..self };
            response::chunk(out, bare.encoded_len(message), |out| bare.encode(message, out));
            return;
        }
        match self.shape {
            Shape::Payload => payload::encode(message, out),
            Shape::Line => line::encode(message, out),
            Shape::Sse => sse::encode(message, out),
            Shape::SseShared => sse::encode_without_id(message, out),
            Shape::SseEnveloped => sse::encode_enveloped(message, out),
            Shape::SseSharedEnveloped => sse::encode_enveloped_without_id(message, out),
            Shape::Ndjson => ndjson::encode(message, out),
            Shape::Multipart => multipart::encode(message, out),
            Shape::ForeverFrame => forever_frame::encode(message, out),
            Shape::Object => json::encode(message, out),
        };
    }
}
