//! table_iter
