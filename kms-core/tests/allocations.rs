//! What the hot path asks of the allocator: counted, per thread, by an allocator that passes everything on.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(unsafe_code, reason = "an allocator is an unsafe trait")]

mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use futures_util::FutureExt as _;
use kms_core::{NONCE_LEN, SecretBytes, TAG_LEN};
use support::{OIDC, World, scope};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

struct Counting;

thread_local! {
    static ASKED: Cell<Asked> = const { Cell::new(Asked { times: 0, bytes: 0 }) };
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Asked {
    times: usize,
    bytes: usize,
}

// SAFETY: every call is passed on to the system's allocator as it is; a thread-local that is constant when it is
// made and has no destructor can be counted in from here.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: as the caller promised.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        // SAFETY: as the caller promised.
        unsafe { System.dealloc(place, layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size);
        // SAFETY: as the caller promised.
        unsafe { System.realloc(place, layout, size) }
    }
}

fn count(bytes: usize) {
    ASKED.with(|asked| {
        let Asked { times, bytes: sum } = asked.get();
        asked.set(Asked {
            times: times + 1,
            bytes: sum + bytes,
        });
    });
}

/// What the second run asks for: the first one makes what a thread has once, such as its generator.
fn asked<T>(mut work: impl FnMut() -> T) -> (T, Asked) {
    drop(work());
    ASKED.set(Asked::default());
    let result = work();
    (result, ASKED.get())
}

#[tokio::test]
async fn getting_a_cached_wrapper_allocates_nothing() {
    let world = World::with_scope("o_1").await;
    let id = scope("o_1");
    let wrapper = || world.kms.wrapper(&id, &OIDC).now_or_never();
    world.wrapper(&id).await;
    let (found, asked) = asked(wrapper);
    found.unwrap().unwrap();
    assert_eq!(asked, Asked::default());
}

#[tokio::test]
async fn encrypting_and_decrypting_allocate_their_output_and_no_more() {
    let world = World::with_scope("o_1").await;
    let wrapper = world.wrapper(&scope("o_1")).await;
    for size in [0, 1, 32, 1000, 100_000] {
        let plaintext = vec![7; size];
        let (blob, sealing) = asked(|| wrapper.encrypt(&plaintext, b"row:1").unwrap());
        let output = NONCE_LEN + size + TAG_LEN + blob.key_id().len();
        let expected = Asked {
            times: 2,
            bytes: output,
        };
        assert_eq!(sealing, expected, "a ciphertext and a key id");

        let (plain, opening) = asked(|| wrapper.decrypt(&blob, b"row:1").unwrap());
        assert_eq!(plain.expose(), plaintext);
        let expected = Asked {
            times: usize::from(size > 0),
            bytes: size,
        };
        assert_eq!(opening, expected, "a plaintext");
    }
}

#[tokio::test]
async fn the_serialized_form_is_one_allocation_each_way_and_none_in_a_buffer_of_the_callers() {
    let world = World::with_scope("o_1").await;
    let wrapper = world.wrapper(&scope("o_1")).await;
    for size in [1, 32, 1000, 100_000] {
        let plaintext = vec![7; size];
        let (stored, sealing) = asked(|| wrapper.encrypt_to_vec(&plaintext, b"row:1").unwrap());
        let expected = Asked {
            times: 1,
            bytes: stored.len(),
        };
        assert_eq!(sealing, expected, "a blob");

        let (_, opening) = asked(|| wrapper.decrypt_encoded(&stored, b"row:1").unwrap());
        let expected = Asked {
            times: 1,
            bytes: size,
        };
        assert_eq!(opening, expected, "a plaintext");

        let mut buffer = Vec::new();
        let ((), sealing) = asked(|| {
            buffer.clear();
            wrapper
                .encrypt_into(&plaintext, b"row:1", &mut buffer)
                .unwrap();
        });
        assert_eq!(sealing, Asked::default());

        let mut secret = SecretBytes::default();
        let ((), opening) = asked(|| {
            wrapper
                .decrypt_into(&stored, b"row:1", &mut secret)
                .unwrap();
        });
        assert_eq!(opening, Asked::default());
        assert_eq!(secret.expose(), plaintext);

        let mut places = [stored.clone(), stored].into_iter();
        let mut place = Vec::new();
        let (length, opening) = asked(|| {
            place = places.next().unwrap();
            wrapper
                .decrypt_in_place(&mut place, b"row:1")
                .unwrap()
                .len()
        });
        assert_eq!((length, opening), (size, Asked::default()));
    }
}
