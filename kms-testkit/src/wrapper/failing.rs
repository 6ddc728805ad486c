//! How a wrapper fails: in time, with a kind, and without a secret in what it says.

use std::future::Future;
use std::net::TcpListener;
use std::sync::Arc;

use kms_core::{Blob, Error, ErrorKind, Result, Wrapper};
use tokio::time::timeout;

use crate::port::ReservedPort;
use crate::wrapper::opening::encrypt;
use crate::wrapper::refusing::{PLAINTEXT, REFUSALS, assert_refusal};
use crate::wrapper::{Subject, assert_hidden};

/// Where no service answers.
pub(super) struct DeadEnd {
    pub(super) wrapper: Arc<dyn Wrapper>,
    _place: Place,
}

/// An address for as long as it is kept.
enum Place {
    Refusing { _port: ReservedPort },
    Silent { _listener: TcpListener },
}

impl DeadEnd {
    /// One whose connections are refused, and one that takes them and is silent.
    pub(super) fn both(make: impl Fn(&str) -> Arc<dyn Wrapper>) -> [Self; 2] {
        let port = ReservedPort::new().expect("the system has a free port");
        let listener = TcpListener::bind("127.0.0.1:0").expect("the system has a free port");
        let silent = listener.local_addr().expect("a listener has an address");
        [
            (port.address(), Place::Refusing { _port: port }),
            (
                silent,
                Place::Silent {
                    _listener: listener,
                },
            ),
        ]
        .map(|(address, place)| Self {
            wrapper: make(&format!("http://{address}")),
            _place: place,
        })
    }
}

/// What it can't have made, under its own key id or another one, is refused in [time](Subject::with_bound), for good, and
/// without a secret in the error.
pub async fn what_is_no_blob_of_its_own_is_refused_in_time(subject: &Subject) {
    let own = encrypt(&*subject.wrapper, PLAINTEXT).await;
    let of_id = |bytes: &[u8]| Blob::new(bytes.to_vec(), own.key_id());
    let kinds = [
        REFUSALS,
        &[ErrorKind::ForeignRootKey, ErrorKind::UnknownKeyVersion],
    ]
    .concat();
    for blob in [
        of_id(b""),
        of_id(&[0; 64]),
        Blob::new(vec![7; 64], ""),
        Blob::new(vec![7; 64], "kms-testkit-nobody"),
    ] {
        let call = subject.wrapper.decrypt(&blob, b"");
        let error = in_time(subject, "decrypt", call)
            .await
            .expect_err("it opened what is no blob of its own");
        assert_refusal(subject, &error, &kinds);
    }
}

/// Where its service [can't be reached, or never answers](Subject::with_dead_ends), each call ends in
/// [time](Subject::with_bound), with an error that says so and that trying again may help. Neither that nor `Debug` shows
/// a secret.
pub async fn a_service_that_fails_is_given_up_in_time(subject: &Subject) {
    if subject.dead_ends.is_empty() {
        eprintln!("{}: no dead ends were given", subject.wrapper.kind());
        return;
    }
    let blob = encrypt(&*subject.wrapper, PLAINTEXT).await;
    for DeadEnd { wrapper, .. } in &subject.dead_ends {
        let encrypted = in_time(subject, "encrypt", wrapper.encrypt(PLAINTEXT, b"")).await;
        let decrypted = in_time(subject, "decrypt", wrapper.decrypt(&blob, b"")).await;
        let checked = in_time(subject, "preflight", wrapper.preflight()).await;
        let failures = [encrypted.map(drop), decrypted.map(drop), checked];
        for error in failures.map(|outcome| outcome.expect_err("there is no service")) {
            assert_gone(subject, &error);
        }
        let shown = format!("{wrapper:?} {wrapper:#?}");
        for secret in &subject.secrets {
            assert_hidden(secret, &shown);
        }
    }
}

async fn in_time<T>(
    subject: &Subject,
    operation: &str,
    call: impl Future<Output = Result<T>>,
) -> Result<T> {
    let outcome = timeout(subject.bound, call).await;
    outcome.unwrap_or_else(|_| panic!("{operation} does not end within {:?}", subject.bound))
}

fn assert_gone(subject: &Subject, error: &Error) {
    assert!(
        matches!(error.kind(), ErrorKind::Unreachable | ErrorKind::TimedOut),
        "a service that is not there fails as {:?}: {error}",
        error.kind()
    );
    let said = format!("{error} {error:?}");
    assert_hidden(PLAINTEXT, &said);
    for secret in &subject.secrets {
        assert_hidden(secret, &said);
    }
}
