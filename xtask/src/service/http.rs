//! Asking a server on loopback whether it is ready: one request, one answer.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

/// A request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Request<'a> {
    pub(super) method: &'static str,
    pub(super) path: &'a str,
    pub(super) headers: &'a [(&'a str, &'a str)],
    pub(super) body: &'a str,
}

impl<'a> Request<'a> {
    pub(super) fn get(path: &'a str) -> Self {
        Self {
            method: "GET",
            path,
            headers: &[],
            body: "",
        }
    }

    /// Sends it to `host:port`. Gives the body of an answer whose status says that all went well.
    ///
    /// HTTP/1.0: such an answer ends with the connection and has no chunks.
    pub(super) fn send(self, address: &str, patience: Duration) -> Result<String> {
        let to = address.to_socket_addrs()?.next().context("no address")?;
        let mut connection = TcpStream::connect_timeout(&to, patience)?;
        connection.set_read_timeout(Some(patience))?;
        connection.set_write_timeout(Some(patience))?;
        let (method, path, length) = (self.method, self.path, self.body.len());
        let mut head =
            format!("{method} {path} HTTP/1.0\r\nHost: {address}\r\nContent-Length: {length}\r\n");
        for (name, value) in self.headers {
            write!(head, "{name}: {value}\r\n")?;
        }
        connection.write_all(format!("{head}\r\n{}", self.body).as_bytes())?;
        let mut answer = Vec::new();
        connection.read_to_end(&mut answer)?;
        body(&String::from_utf8_lossy(&answer))
    }
}

/// The body of an answer that says that all went well.
fn body(answer: &str) -> Result<String> {
    let (head, body) = answer.split_once("\r\n\r\n").context("no whole answer")?;
    let status = head.lines().next().unwrap_or_default();
    let code = status.split(' ').nth(1).unwrap_or_default();
    ensure!(code.starts_with('2'), "it answers {status:?}");
    Ok(body.to_owned())
}

/// `host:port` of an HTTP URL.
pub(super) fn address(url: &str) -> Option<String> {
    let (scheme, rest) = url.trim().split_once("://")?;
    let default = match scheme {
        "http" => 80_u16,
        "https" => 443,
        _ => return None,
    };
    let host = rest.split(['/', '?']).next()?.rsplit('@').next()?;
    if host.is_empty() {
        return None;
    }
    match host.rsplit_once(':') {
        Some((_, port)) if !port.ends_with(']') => {
            port.parse::<u16>().ok().map(|_| host.to_owned())
        }
        _ => Some(format!("{host}:{default}")),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::time::Duration;

    use super::{Request, address, body};

    #[test]
    fn the_address_is_found_in_a_url() {
        let cases = [
            ("http://127.0.0.1:4566", Some("127.0.0.1:4566")),
            ("http://localhost/", Some("localhost:80")),
            ("https://vault.example/v1?x", Some("vault.example:443")),
            ("http://u:p@[::1]:8200/", Some("[::1]:8200")),
            ("http://[::1]/", Some("[::1]:80")),
            ("127.0.0.1:4566", None),
            ("http://", None),
            ("http://host:port", None),
        ];
        for (url, expected) in cases {
            assert_eq!(address(url).as_deref(), expected, "{url}");
        }
    }

    #[test]
    fn only_an_answer_that_all_went_well_counts() {
        assert_eq!(body("HTTP/1.0 200 OK\r\nA: b\r\n\r\n{}").unwrap(), "{}");
        assert!(body("HTTP/1.0 503 Sealed\r\n\r\n{}").is_err());
        assert!(body("HTTP/1.0 200 OK\r\n").is_err());
        assert!(body("").is_err());
    }

    #[test]
    fn a_request_is_sent_whole_and_its_answer_read_to_the_end() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let server = std::thread::spawn(move || {
            let (mut connection, _) = listener.accept().unwrap();
            let mut request = vec![0; 1024];
            let mut length = 0;
            while !request[..length].ends_with(b"ping") {
                length += connection.read(&mut request[length..]).unwrap();
            }
            connection.write_all(b"HTTP/1.1 200 OK\r\n\r\npo").unwrap();
            connection.write_all(b"ng").unwrap();
            String::from_utf8(request[..length].to_vec()).unwrap()
        });
        let request = Request {
            method: "POST",
            path: "/x",
            headers: &[("X-A", "b")],
            body: "ping",
        };
        let answer = request.send(&address, Duration::from_secs(60)).unwrap();
        assert_eq!(answer, "pong");
        let sent = server.join().unwrap();
        assert!(sent.starts_with("POST /x HTTP/1.0\r\n"), "{sent}");
        assert!(
            sent.contains("\r\nContent-Length: 4\r\nX-A: b\r\n\r\nping"),
            "{sent}"
        );
    }
}
