//! visible_iter
