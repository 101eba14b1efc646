//! The host: check, explain, apply. Nothing is built here yet; `README.md` says what will be.
