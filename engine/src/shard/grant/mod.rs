//! Who may what: grants, verdicts that are known, and questions that are open.
//!
//! ```text
//!   request, AUTH ──credential──▶ known ──▶ a grant, or why not
//!                                   │ not known
//!                                   ▼
//!                     asking ──question──▶ authority ──verdict──▶ known, table ──▶ those who wait go on
//! ```
//!
//! `trust` has the parts together; `recognize` turns what a peer shows into a grant, `consult` asks the hook about single topics, and
//! `revoke` takes grants back.

pub(in crate::shard) mod asking;
pub(in crate::shard) mod consult;
pub(in crate::shard) mod known;
pub(in crate::shard) mod recognize;
pub(in crate::shard) mod revoke;
pub(in crate::shard) mod table;
pub(in crate::shard) mod trust;
