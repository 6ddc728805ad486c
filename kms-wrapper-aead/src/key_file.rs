//! A key in a file that nobody but its owner may read.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use kms_core::{Error, ErrorKind, KeyBytes, Result};
use zeroize::Zeroizing;

use crate::key_text;

/// The longest file that can hold a key: the longest text and a newline of two characters.
const MAX_LEN: usize = key_text::MAX_LEN + 2;

/// Opens the file once, checks what was opened, and reads the key.
pub(crate) fn read(path: &Path) -> Result<KeyBytes> {
    let file = open(path).map_err(|source| unreadable("the key file can't be opened", source))?;
    check(&file)?;

    // One byte more than can be right, in one buffer that never grows: a grown one leaves copies.
    let mut buffer = Zeroizing::new([0; MAX_LEN + 1]);
    let length = fill(file, buffer.as_mut_slice())
        .map_err(|source| unreadable("the key file can't be read", source))?;
    if length > MAX_LEN {
        return Err(invalid("the file is longer than a key in any of its forms"));
    }
    decode(&buffer[..length])
}

fn decode(content: &[u8]) -> Result<KeyBytes> {
    if content.len() == KeyBytes::LEN {
        if content.iter().all(u8::is_ascii_graphic) {
            return Err(invalid(
                "32 printable characters are a passphrase or half of a hex key, not 32 random bytes",
            ));
        }
        return KeyBytes::from_slice(content);
    }
    let text = content
        .strip_suffix(b"\r\n")
        .or_else(|| content.strip_suffix(b"\n"));
    key_text::decode(text.unwrap_or(content))
}

/// Reads until the end of the file or of the buffer.
fn fill(mut file: File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut length = 0;
    while length < buffer.len() {
        match file.read(&mut buffer[length..]) {
            Ok(0) => break,
            Ok(read) => length += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(length)
}

#[cfg(unix)]
fn open(path: &Path) -> io::Result<File> {
    use rustix::fs::{Mode, OFlags, open};

    // Opening a pipe that nobody writes to would otherwise never return.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    Ok(open(path, flags, Mode::empty())?.into())
}

#[cfg(unix)]
fn check(file: &File) -> Result<()> {
    use std::os::unix::fs::MetadataExt as _;

    let metadata = file
        .metadata()
        .map_err(|source| unreadable("the key file can't be examined", source))?;
    if !metadata.is_file() {
        return Err(Error::new(ErrorKind::InvalidConfiguration)
            .with_detail("the key file is no regular file"));
    }
    let user = rustix::process::geteuid().as_raw();
    check_rights(metadata.mode(), metadata.uid(), user)
}

#[cfg(unix)]
fn check_rights(mode: u32, owner: u32, user: u32) -> Result<()> {
    if owner != 0 && owner != user {
        return Err(invalid(
            "the file belongs to another user; make this process's user its owner",
        )
        .with_context("owner", owner));
    }
    if mode & 0o077 != 0 {
        return Err(invalid(
            "others than its owner have rights to the file; replace the key, and keep it in a file of mode 0600",
        )
        .with_context("mode", format_args!("{:04o}", mode & 0o7777)));
    }
    Ok(())
}

#[cfg(not(unix))]
fn open(path: &Path) -> io::Result<File> {
    File::open(path)
}

#[cfg(not(unix))]
fn check(_: &File) -> Result<()> {
    Ok(())
}

fn unreadable(detail: &'static str, source: io::Error) -> Error {
    Error::new(ErrorKind::InvalidConfiguration)
        .with_detail(detail)
        .with_source(source)
}

fn invalid(detail: &'static str) -> Error {
    Error::new(ErrorKind::InvalidKey).with_detail(detail)
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_ours_or_of_root_is_fine_and_another_users_is_not() {
        for (owner, user) in [(1000, 1000), (0, 1000), (0, 0)] {
            check_rights(0o100_600, owner, user).unwrap();
            check_rights(0o100_400, owner, user).unwrap();
        }
        // Root can read it all the same; but then another user chose the key.
        for (owner, user) in [(1001, 1000), (1000, 0)] {
            let error = check_rights(0o100_600, owner, user).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidKey);
        }
    }

    #[test]
    fn any_right_of_group_or_others_is_refused_whoever_owns_the_file() {
        for bit in (0..6).map(|shift| 1 << shift) {
            for owner in [0, 1000] {
                let error = check_rights(0o100_600 | bit, owner, 1000).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::InvalidKey, "{bit:o}");
            }
        }
    }
}
