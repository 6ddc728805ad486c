//! The faulty proxy forwards, counts, and fails as it is told.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use kms_testkit::{FaultyProxy, Gate, NetworkFault};

/// A service that answers each connection's request with these bytes, and `GET /echo` with the request.
fn service(answer: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    thread::spawn(move || {
        for client in listener.incoming() {
            let mut client = BufReader::new(client.unwrap());
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") {
                if client.read_line(&mut head).unwrap() == 0 {
                    break;
                }
            }
            if head.starts_with("GET /echo") {
                let length = head.len();
                write!(
                    client.get_mut(),
                    "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{head}"
                )
                .unwrap();
            } else {
                client.get_mut().write_all(answer).unwrap();
            }
        }
    });
    address
}

const HELLO: &[u8] = b"HTTP/1.1 200 OK\r\nx-kind: plain\r\ncontent-length: 5\r\n\r\nhello";

struct Client(BufReader<TcpStream>);

impl Client {
    fn connect(proxy: &FaultyProxy) -> Self {
        let stream = TcpStream::connect(proxy.address()).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        Self(BufReader::new(stream))
    }

    fn send(&mut self, path: &str) {
        write!(
            self.0.get_mut(),
            "GET {path} HTTP/1.1\r\nhost: here\r\n\r\n"
        )
        .unwrap();
    }

    /// Status line and body of the next response.
    fn receive(&mut self) -> std::io::Result<(String, String)> {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if self.0.read_line(&mut head)? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
        let length = head.split("content-length: ").nth(1).unwrap();
        let mut body = vec![0; length.lines().next().unwrap().parse().unwrap()];
        self.0.read_exact(&mut body)?;
        let status = head.lines().next().unwrap().to_owned();
        Ok((status, String::from_utf8(body).unwrap()))
    }

    fn ask(&mut self, path: &str) -> std::io::Result<(String, String)> {
        self.send(path);
        self.receive()
    }
}

#[test]
fn requests_of_one_connection_are_forwarded_and_counted() {
    let proxy = FaultyProxy::start(&format!("http://{}/", service(HELLO)));
    let mut client = Client::connect(&proxy);
    for _ in 0..3 {
        let (status, body) = client.ask("/").unwrap();
        assert_eq!(
            (status.as_str(), body.as_str()),
            ("HTTP/1.1 200 OK", "hello")
        );
    }
    let (_, echo) = client.ask("/echo").unwrap();
    assert!(echo.contains("host: here\r\n"), "{echo}");
    assert_eq!(
        (proxy.requests(), proxy.forwarded(), proxy.connections()),
        (4, 4, 1)
    );
}

#[test]
fn a_body_in_chunks_or_up_to_the_connections_end_arrives_whole() {
    for answer in [
        &b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3;a=b\r\nhel\r\n2\r\nlo\r\n0\r\nx: y\r\n\r\n"[..],
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\nhello",
    ] {
        let proxy = FaultyProxy::start(&service(answer));
        assert_eq!(Client::connect(&proxy).ask("/").unwrap().1, "hello");
    }
}

#[test]
fn faults_happen_in_order_to_as_many_requests_as_they_are_for() {
    let proxy = FaultyProxy::start(&service(HELLO));
    proxy.fail_next(2, NetworkFault::status(503));
    proxy.fail_next(
        1,
        NetworkFault::answer(429, &[("retry-after", "1")], "slow down"),
    );
    proxy.fail_next(1, NetworkFault::alter(|body| body[0] ^= 1));
    proxy.fail(NetworkFault::status(500));
    let mut client = Client::connect(&proxy);
    let mut answers = (0..6).map(|_| client.ask("/").unwrap());
    for expected in ["503", "503", "429", "200", "500", "500"] {
        let (status, body) = answers.next().unwrap();
        assert!(status.contains(expected), "{status} instead of {expected}");
        assert_eq!(body == "iello", expected == "200");
        assert_eq!(body == "slow down", expected == "429");
    }
    proxy.clear();
    assert_eq!(client.ask("/").unwrap().1, "hello");
    assert_eq!((proxy.requests(), proxy.forwarded()), (7, 2));
}

#[test]
fn a_cut_request_is_not_forwarded_and_a_lost_answer_was() {
    let proxy = FaultyProxy::start(&service(HELLO));
    proxy.fail_next(1, NetworkFault::Cut);
    Client::connect(&proxy).ask("/").unwrap_err();
    assert_eq!(proxy.forwarded(), 0);
    proxy.fail_next(1, NetworkFault::LoseAnswer);
    Client::connect(&proxy).ask("/").unwrap_err();
    assert_eq!(proxy.forwarded(), 1);
    proxy.fail_next(1, NetworkFault::CutAnswer);
    let mut client = Client::connect(&proxy);
    client.send("/");
    let mut received = Vec::new();
    let _ = client.0.read_to_end(&mut received);
    let received = String::from_utf8(received).unwrap();
    assert!(received.ends_with("\r\n\r\nhe"), "{received}");
}

#[tokio::test]
async fn a_request_waits_at_a_gate_and_one_that_hangs_is_never_answered() {
    let proxy = FaultyProxy::start(&service(HELLO));
    let gate = Gate::new();
    proxy.fail_next(1, NetworkFault::Pause(gate.clone()));
    proxy.fail_next(1, NetworkFault::Hang);
    let (mut first, mut second) = (Client::connect(&proxy), Client::connect(&proxy));
    first.send("/");
    gate.reached().await;
    second.send("/");
    proxy.requests_reach(2).await;
    assert_eq!(proxy.forwarded(), 0);
    gate.open();
    assert_eq!(first.receive().unwrap().1, "hello");
    second.0.get_ref().set_nonblocking(true).unwrap();
    assert_eq!(second.receive().unwrap_err().kind(), ErrorKind::WouldBlock);
}

#[test]
fn while_it_refuses_nobody_listens_and_afterwards_it_has_the_same_port() {
    let proxy = FaultyProxy::start(&service(HELLO));
    let mut before = Client::connect(&proxy);
    before.ask("/").unwrap();
    for _ in 0..3 {
        proxy.refuse();
        let refused = TcpStream::connect(proxy.address()).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        proxy.clear();
        assert_eq!(Client::connect(&proxy).ask("/").unwrap().1, "hello");
    }
    before.0.get_mut().write_all(b"GET / HTTP/1.1\r\n\r\n").ok();
    before.receive().unwrap_err();
}

#[test]
fn connections_that_are_reset_are_gone_and_new_ones_are_served() {
    let proxy = FaultyProxy::start(&service(HELLO));
    let mut idle = Client::connect(&proxy);
    idle.ask("/").unwrap();
    proxy.reset_connections();
    assert_eq!(
        idle.receive().unwrap_err().kind(),
        ErrorKind::ConnectionReset
    );
    assert_eq!(Client::connect(&proxy).ask("/").unwrap().1, "hello");
}

#[test]
fn dropping_it_ends_its_connections() {
    let proxy = FaultyProxy::start(&service(HELLO));
    let mut client = Client::connect(&proxy);
    client.ask("/").unwrap();
    drop(proxy);
    client.receive().unwrap_err();
}
