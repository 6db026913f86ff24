//! The types, without any client: to come.
