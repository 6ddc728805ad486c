//! Where a key may come from, and what is refused.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::env;

use kms_core::{ErrorKind, KeyBytes, LocalKey, Wrapper as _};
use kms_wrapper_aead::{AeadWrapper, AeadWrapperBuilder, AesGcm};

/// As base64 this key has letters in which the two alphabets differ.
const KEY: [u8; 32] = [0xfb; 32];
const HEX: &str = "fbfbfbfbfbfbfbfbfbfbfbfbfbfbfbfbfbfbfbfbfbfbfbfbfbfbfbfbfbfbfbfb";
const BASE64: &str = "+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/s=";
const BASE64URL: &str = "-_v7-_v7-_v7-_v7-_v7-_v7-_v7-_v7-_v7-_v7-_s";

fn builder() -> AeadWrapperBuilder {
    AeadWrapper::builder("root")
}

/// Panics unless the wrapper opens what the key itself sealed.
#[track_caller]
fn assert_has_the_key(builder: AeadWrapperBuilder) {
    let wrapper = builder.build().unwrap();
    let key = LocalKey::new(&AesGcm, &KeyBytes::from_slice(&KEY).unwrap(), "root");
    let blob = key.encrypt(b"plaintext", b"").unwrap();
    let back = block_on(wrapper.decrypt(&blob, b"")).unwrap();
    assert_eq!(back.expose(), b"plaintext");
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap()
        .block_on(future)
}

/// Panics unless the builder refuses, by this kind, naming the source, and with nothing of its content.
#[track_caller]
fn assert_refused(builder: AeadWrapperBuilder, kind: ErrorKind, name: &str, content: &str) {
    let debug = format!("{builder:?}");
    let error = builder.build().unwrap_err();
    assert_eq!(error.kind(), kind, "{error}");
    assert!(error.to_string().contains(name), "{error}");
    let shown = format!("{debug} {error} {error:?}");
    assert!(
        content.trim().is_empty() || !shown.contains(content.trim()),
        "{shown}"
    );
}

#[test]
fn every_form_of_text_gives_the_key() {
    for text in [HEX, &HEX.to_uppercase(), BASE64, &BASE64[..43], BASE64URL] {
        assert_has_the_key(builder().key_text(text));
        assert!(!format!("{:?}", builder().key_text(text)).contains(text));
    }
    assert_has_the_key(builder().key_text(&format!("{BASE64URL}=")));
    assert_has_the_key(builder().key(KeyBytes::from_slice(&KEY).unwrap()));
}

#[test]
fn text_of_another_length_or_encoding_is_refused() {
    for text in [&HEX[..63], &HEX[1..33], &BASE64[..42], "not a key", ""] {
        assert_refused(builder().key_text(text), ErrorKind::InvalidKey, "", text);
    }
}

#[test]
fn a_variable_that_is_not_set_is_named() {
    assert_refused(
        builder().key_from_env("KMS_TEST_KEY_THAT_NOBODY_SETS"),
        ErrorKind::InvalidConfiguration,
        "KMS_TEST_KEY_THAT_NOBODY_SETS",
        "",
    );
    for impossible in ["", "A=B", "A\0B"] {
        let error = builder().key_from_env(impossible).build().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfiguration);
    }
}

#[test]
fn a_variable_that_is_no_key_is_named_and_its_content_is_not() {
    // A variable that cargo sets for every test: setting one is unsafe in a program with threads.
    let name = "CARGO_PKG_NAME";
    let value = env::var(name).unwrap();
    let error = builder().key_from_env(name).build().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidKey);
    assert_eq!(error.context("variable"), Some(name));
    assert!(!error.to_string().contains(&value), "{error}");
}

#[test]
fn a_variable_gives_the_key() {
    // Runs this same test in a child that has the variable.
    const NAME: &str = "KMS_TEST_AEAD_KEY";
    if env::var_os(NAME).is_some() {
        return assert_has_the_key(builder().key_from_env(NAME));
    }
    let status = std::process::Command::new(env::current_exe().unwrap())
        .args(["--exact", "a_variable_gives_the_key"])
        .env(NAME, BASE64)
        .status()
        .unwrap();
    assert!(status.success());
}

#[cfg(unix)]
mod file {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    use std::path::PathBuf;

    use kms_core::ErrorKind;
    use tempfile::TempDir;

    use super::{BASE64, BASE64URL, HEX, KEY, assert_has_the_key, assert_refused, builder};

    fn file(content: impl AsRef<[u8]>, mode: u32) -> (TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("root.key");
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        (folder, path)
    }

    #[test]
    fn bytes_hex_and_base64_give_the_key_with_or_without_a_newline() {
        let (_folder, path) = file(KEY, 0o600);
        assert_has_the_key(builder().key_from_file(path));
        for text in [HEX, BASE64, &BASE64[..43], BASE64URL] {
            for end in ["", "\n", "\r\n"] {
                let (_folder, path) = file(format!("{text}{end}"), 0o400);
                assert_has_the_key(builder().key_from_file(path));
            }
        }
    }

    #[test]
    fn a_file_that_others_have_any_right_to_is_refused() {
        for bit in [0o040, 0o020, 0o010, 0o004, 0o002, 0o001] {
            let (_folder, path) = file(HEX, 0o600 | bit);
            let name = path.display().to_string();
            assert_refused(
                builder().key_from_file(path),
                ErrorKind::InvalidKey,
                &name,
                HEX,
            );
        }
    }

    #[test]
    fn the_rights_that_count_are_those_of_the_file_behind_a_link() {
        let (folder, path) = file(HEX, 0o644);
        let link = folder.path().join("link");
        symlink(&path, &link).unwrap();
        assert_refused(
            builder().key_from_file(&link),
            ErrorKind::InvalidKey,
            "link",
            HEX,
        );
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert_has_the_key(builder().key_from_file(&link));
    }

    #[test]
    fn a_file_that_is_not_there_or_no_file_is_refused_without_waiting() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        let status = std::process::Command::new("mkfifo").arg(&pipe).status();
        assert!(status.unwrap().success());
        fs::set_permissions(&pipe, fs::Permissions::from_mode(0o600)).unwrap();
        let missing = folder.path().join("missing");
        for path in [missing, pipe, folder.path().to_owned(), PathBuf::new()] {
            let name = path.display().to_string();
            assert_refused(
                builder().key_from_file(path),
                ErrorKind::InvalidConfiguration,
                &name,
                "",
            );
        }
    }

    #[test]
    fn content_that_is_no_key_is_refused_and_not_shown() {
        let cases = [
            String::new(),
            "\n".to_owned(),
            HEX[..32].to_owned(),
            format!("{HEX}\n\n"),
            format!("{HEX} "),
            format!(" {HEX}"),
            HEX[..62].to_owned(),
            "0123456789abcdefghijklmnopqrstuv".to_owned(),
            "x".repeat(1_000_000),
        ];
        for content in cases {
            let (_folder, path) = file(&content, 0o600);
            let name = path.display().to_string();
            assert_refused(
                builder().key_from_file(path),
                ErrorKind::InvalidKey,
                &name,
                &content,
            );
        }
    }
}
