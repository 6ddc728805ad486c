//! TLS, names and addresses.

use std::error::Error as _;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::time::{Duration, Instant};

use kms_core::{Error, ErrorKind, Wrapper as _};

use crate::support::{builder, patient};

const KEY: &str = "projects/p/locations/l/keyRings/r/cryptoKeys/k";

async fn refused(endpoint: &str) -> Error {
    let wrapper = builder(endpoint, KEY).build().unwrap();
    wrapper.encrypt(b"x", b"").await.unwrap_err()
}

fn causes(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

#[tokio::test]
async fn a_host_without_address_and_a_port_where_nothing_listens_are_unreachable() {
    let port = {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().port()
    };
    for endpoint in [
        "https://kms.invalid",
        &format!("https://127.0.0.1:{port}"),
        &format!("http://127.0.0.1:{port}"),
    ] {
        let error = refused(endpoint).await;
        assert_eq!(error.kind(), ErrorKind::Unreachable, "{error:?}");
        assert!(error.source().is_some());
    }
}

/// It is TLS that speaks: the provider is there, without one having been installed for the process.
#[tokio::test]
async fn a_host_that_does_not_speak_tls_is_unreachable() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = std::thread::spawn(move || {
        let mut hello = [0; 5];
        for _ in 0..patient().attempts() {
            let (mut stream, _) = listener.accept().unwrap();
            stream.read_exact(&mut hello).unwrap();
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        }
        hello
    });
    let error = refused(&format!("https://{address}")).await;
    assert_eq!(error.kind(), ErrorKind::Unreachable, "{error:?}");
    assert!(
        causes(&error).contains("corrupt message"),
        "{}",
        causes(&error)
    );
    // A handshake record of TLS.
    assert_eq!(server.join().unwrap()[..2], [22, 3]);
}

/// The connection is accepted, and nothing ever comes: the handshake waits.
#[tokio::test]
async fn a_handshake_that_hangs_is_given_up_at_the_deadline() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("https://{}", listener.local_addr().unwrap());
    let limits = patient().with_deadline(Duration::from_secs(1));
    let wrapper = builder(&endpoint, KEY).limits(limits).build().unwrap();
    let start = Instant::now();
    let error = wrapper.encrypt(b"x", b"").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert!(start.elapsed() < Duration::from_secs(20));
}

/// A backlog that is full: the system does not answer to another connection.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_host_that_does_not_answer_is_given_up_at_the_timeout_for_connecting() {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let mut waiting = Vec::new();
    let connect = || tokio::net::TcpStream::connect(address);
    let a_moment = Duration::from_millis(500);
    while let Ok(stream) = tokio::time::timeout(a_moment, connect()).await {
        waiting.push(stream.unwrap());
    }
    let limits = patient()
        .with_connect_timeout(Duration::from_millis(200))
        .with_attempts(1);
    let wrapper = builder(&format!("http://{address}"), KEY).limits(limits);
    let start = Instant::now();
    let error = wrapper
        .build()
        .unwrap()
        .encrypt(b"x", b"")
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut, "{error:?}");
    assert!(start.elapsed() < Duration::from_secs(20));
}
