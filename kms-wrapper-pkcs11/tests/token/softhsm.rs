//! In a module of this name, by which tests are left out where SoftHSM is missing.

mod suite;
mod support;
