//! Blocks of a table file: entry layout, builder, reader, bloom filter, checksum and compression.

pub mod frame;
pub mod filter;
pub mod builder;
pub mod block;
