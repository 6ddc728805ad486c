//! Invariant 10 for a forked process. A test binary of its own, since it forks.
//!
//! The only unsafe code here is `fork` and what ends the child: the child must come back neither to the test
//! harness nor to the destructors of the parent. It allocates, which the C library allows after a fork even
//! in a program with threads, draws, writes to its pipe, and ends.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![cfg(unix)]
#![expect(unsafe_code, reason = "fork, waitpid and _exit are unsafe functions")]

use std::collections::HashSet;
use std::io::{PipeReader, Read as _, Write as _};
use std::panic::{AssertUnwindSafe, catch_unwind};

use kms_core::{KeyBytes, LocalKey, NONCE_LEN};
use kms_wrapper_aead::fastest;

const DRAWN: usize = 1000;

#[test]
fn invariant_10_forked_children_repeat_the_nonces_of_neither_their_parent_nor_each_other() {
    let key = LocalKey::new(&*fastest(), &KeyBytes::generate().unwrap(), "id");
    // The generator is seeded, and has numbers in store, before the children copy it.
    let mut drawn = nonces(&key, 1);
    let children = [fork_and_draw(&key), fork_and_draw(&key)];
    drawn.extend(nonces(&key, DRAWN));
    for child in children {
        drawn.extend(child.nonces());
    }

    assert_eq!(drawn.len(), 1 + 3 * DRAWN);
    let distinct: HashSet<_> = drawn.iter().collect();
    assert_eq!(distinct.len(), drawn.len(), "a nonce was drawn twice");
}

fn nonces(key: &LocalKey, count: usize) -> Vec<[u8; NONCE_LEN]> {
    (0..count)
        .map(|_| {
            let blob = key.encrypt(b"", b"").unwrap();
            *blob.ciphertext().first_chunk().unwrap()
        })
        .collect()
}

struct Child {
    id: libc::pid_t,
    reader: PipeReader,
}

fn fork_and_draw(key: &LocalKey) -> Child {
    let (reader, mut writer) = std::io::pipe().unwrap();
    // SAFETY: the child runs the block below and ends in it; it takes no lock that a thread of the parent
    // could have held, but for the allocator's, which the C library releases in the child.
    let id = unsafe { libc::fork() };
    assert!(id >= 0, "fork failed");
    if id == 0 {
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            writer.write_all(nonces(key, DRAWN).as_flattened()).unwrap();
        }));
        // SAFETY: ends the process at once, as is meant.
        unsafe { libc::_exit(i32::from(outcome.is_err())) }
    }
    Child { id, reader }
}

impl Child {
    fn nonces(mut self) -> Vec<[u8; NONCE_LEN]> {
        let mut bytes = Vec::new();
        self.reader.read_to_end(&mut bytes).unwrap();
        let mut status = 0;
        // SAFETY: waits for a child of ours, and writes to a variable of ours.
        let ended = unsafe { libc::waitpid(self.id, &raw mut status, 0) };
        assert_eq!((ended, status), (self.id, 0), "the child failed");
        let (nonces, rest) = bytes.as_chunks();
        assert!(rest.is_empty());
        nonces.to_vec()
    }
}
