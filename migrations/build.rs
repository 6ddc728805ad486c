//! Builds the crate anew when a migration changes: the SQL is embedded by a
//! macro, which cargo can't see through.

fn main() {
    println!("cargo::rerun-if-changed=postgres");
    println!("cargo::rerun-if-changed=sqlite");
    println!("cargo::rerun-if-changed=build.rs");
}
