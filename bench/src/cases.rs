//! The cases, by what they measure. Each group gives its measurements; `cargo xtask bench` puts them beside Go's.

pub mod blobs;
pub mod cached;
pub mod changing;
pub mod cloud;
pub mod loading;
pub mod scale;
pub mod versions;
