//! What the program makes of having nothing to check.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::process::{Command, Output};

/// On SQLite alone, whatever services there are.
fn check(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_kms-interop"))
        .args(["check", "--go", "/nowhere/kms-interop-go"])
        .args(args)
        .env_remove("KMS_TEST_POSTGRES_URL")
        .env_remove("KMS_TEST_REQUIRE")
        .output()
        .unwrap()
}

#[test]
fn a_run_that_checks_nothing_is_no_success() {
    let output = check(&["no-such-group"]);
    assert!(!output.status.success());
    let printed = String::from_utf8(output.stdout).unwrap();
    assert_eq!(printed.lines().last(), Some("0 passed, 0 failed"));
}

#[test]
fn a_go_program_that_does_not_start_fails_each_check_and_is_named() {
    let output = check(&["binding", "refusals"]);
    assert!(!output.status.success());
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(printed.contains("/nowhere/kms-interop-go"), "{printed}");
    let last = printed.lines().last().unwrap();
    assert!(last.starts_with("0 passed, "), "{last}");
}
