//! In a module of this name, by which tests are left out where SoftHSM is missing.

mod faults;
mod faulty;
mod keys;
mod pins;
mod suite;
mod support;
