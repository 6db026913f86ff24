//! RESP2 and RESP3.
#![forbid(unsafe_code)]
