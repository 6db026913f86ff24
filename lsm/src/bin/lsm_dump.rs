//! Prints the files of a database.
fn main() {}
