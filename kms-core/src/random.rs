//! Random numbers that are needed often: nonces and ids. (Keys come from the operating system directly.)
//!
//! The generator is `rand`'s thread-local stream cipher, seeded and reseeded by the operating system. It would be
//! copied, state and all, into a forked child, and parent and child would then draw the same nonces. A
//! handler that the C library runs in the child of every `fork` raises a generation number; a thread that
//! sees a new generation reseeds before it draws. (A child made by a bare `clone` system call runs no such
//! handlers, and neither does a copied virtual machine.)

use std::cell::Cell;

use rand::RngExt;
use rand::rngs::ThreadRng;

use crate::aead::NONCE_LEN;

thread_local! {
    static SEEN: Cell<usize> = const { Cell::new(0) };
}

/// A random nonce of 96 bits (NIST SP 800-38D, section 8.2.2).
pub(crate) fn nonce() -> [u8; NONCE_LEN] {
    with_rng(RngExt::random)
}

/// Lends the thread's generator, sure not to be a copy of another process's.
pub(crate) fn with_rng<T>(draw: impl FnOnce(&mut ThreadRng) -> T) -> T {
    let mut rng = rand::rng();
    let generation = generation::current();
    if SEEN.get() != generation {
        rng.reseed()
            .expect("a system that gave the first seed gives another");
        SEEN.set(generation);
    }
    draw(&mut rng)
}

#[cfg(unix)]
mod generation {
    //! Counts forks. The only unsafe code of the crate: registering a handler with the C library, which
    //! does nothing but add one to an atomic, and so may run in the child of a multi-threaded process.
    #![expect(unsafe_code)]

    use std::sync::Once;
    use std::sync::atomic::{AtomicUsize, Ordering};

    static GENERATION: AtomicUsize = AtomicUsize::new(1);
    static REGISTERED: Once = Once::new();

    pub(super) fn current() -> usize {
        REGISTERED.call_once(|| {
            // SAFETY: the handler is a plain function that lives as long as the program, and only
            // touches an atomic, which is safe between fork and exec.
            let status = unsafe { libc::pthread_atfork(None, None, Some(in_child)) };
            assert_eq!(status, 0, "no memory to register the fork handler");
        });
        GENERATION.load(Ordering::Relaxed)
    }

    extern "C" fn in_child() {
        GENERATION.fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(not(unix))]
mod generation {
    /// Nothing forks here.
    pub(super) fn current() -> usize {
        0
    }
}
