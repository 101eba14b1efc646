//! HTTP/1.0 and HTTP/1.1 (RFC 9112): heads, bodies, queries, answers.
//!
//! [`head`] reads requests, [`field`] their lists, [`body`] chunked bodies, [`query`] the part behind `?`, [`prefer`] what a client
//! would like, [`etag`] what it has, [`forwarded`] who asked a proxy; [`response`] writes answers, [`date`] when, [`gzip`] what shared streams need of compression;
//! [`client`] is the other side, for the command line and the load generator.

pub mod body;
pub mod client;
pub mod credential;
pub mod date;
pub mod etag;
pub mod field;
pub mod forwarded;
pub mod gzip;
pub mod head;
pub(crate) mod lines;
pub mod prefer;
pub mod query;
pub mod response;
pub(crate) mod target;
