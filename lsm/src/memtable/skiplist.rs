//! skiplist
