//! As much of HTTP/1.1 as telling one message from the next takes.

use std::fmt::Write as _;
use std::io;

use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, AsyncReadExt as _};

/// A request, whole.
pub(super) struct Request {
    head: Head,
    body: Vec<u8>,
}

/// A response, whole.
pub(super) struct Response {
    head: Head,
    body: Vec<u8>,
}

struct Head {
    first_line: String,
    headers: Vec<(String, String)>,
}

impl Request {
    /// Reads the next request of a connection; `None` at its end.
    pub(super) async fn read(from: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Option<Self>> {
        let Some(head) = Head::read(from).await? else {
            return Ok(None);
        };
        let body = head.read_body(from, false).await?;
        Ok(Some(Self { head, body }))
    }

    /// As it is sent to the service, on a connection for this request alone.
    pub(super) fn encode(&self) -> Vec<u8> {
        self.head.encode(&self.body, true)
    }

    fn is_head(&self) -> bool {
        self.head.first_line.starts_with("HEAD ")
    }
}

impl Response {
    pub(super) fn new(status: u16, headers: Vec<(String, String)>, body: Vec<u8>) -> Self {
        Self {
            head: Head {
                first_line: format!("HTTP/1.1 {status} Fault"),
                headers,
            },
            body,
        }
    }

    /// Reads the response to this request.
    pub(super) async fn read(
        from: &mut (impl AsyncBufRead + Unpin),
        request: &Request,
    ) -> io::Result<Self> {
        let head = loop {
            let head = Head::read(from).await?.ok_or_else(cut_short)?;
            if !head.is_interim() {
                break head;
            }
        };
        let body = if request.is_head() || head.is_bodiless() {
            Vec::new()
        } else {
            head.read_body(from, true).await?
        };
        Ok(Self { head, body })
    }

    pub(super) fn body_mut(&mut self) -> &mut Vec<u8> {
        &mut self.body
    }

    /// As it is sent to the client.
    pub(super) fn encode(&self) -> Vec<u8> {
        self.head.encode(&self.body, false)
    }

    pub(super) fn body_len(&self) -> usize {
        self.body.len()
    }
}

impl Head {
    async fn read(from: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Option<Self>> {
        let mut first_line = String::new();
        if from.read_line(&mut first_line).await? == 0 {
            return Ok(None);
        }
        let mut headers = Vec::new();
        loop {
            let mut line = String::new();
            if from.read_line(&mut line).await? == 0 {
                return Err(cut_short());
            }
            let line = line.trim_end();
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(':').ok_or_else(malformed)?;
            headers.push((name.to_owned(), value.trim().to_owned()));
        }
        Ok(Some(Self {
            first_line: first_line.trim_end().to_owned(),
            headers,
        }))
    }

    fn header(&self, wanted: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(wanted))
            .map(|(_, value)| value.as_str())
    }

    /// The status code of a response; of a request it is the path.
    fn status(&self) -> &str {
        self.first_line.split(' ').nth(1).unwrap_or_default()
    }

    /// 100 Continue and its like.
    fn is_interim(&self) -> bool {
        self.status().starts_with('1')
    }

    fn is_bodiless(&self) -> bool {
        matches!(self.status(), "204" | "304")
    }

    /// Reads the body; without a length, a response goes on to the connection's end and a request has none.
    async fn read_body(
        &self,
        from: &mut (impl AsyncBufRead + Unpin),
        to_the_end: bool,
    ) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        let chunked = self
            .header("transfer-encoding")
            .is_some_and(|coding| coding.eq_ignore_ascii_case("chunked"));
        if chunked {
            read_chunks(from, &mut body).await?;
        } else if let Some(length) = self.header("content-length") {
            body.resize(length.parse().map_err(|_| malformed())?, 0);
            from.read_exact(&mut body).await?;
        } else if to_the_end {
            from.read_to_end(&mut body).await?;
        }
        Ok(body)
    }

    fn encode(&self, body: &[u8], close: bool) -> Vec<u8> {
        const REPLACED: [&str; 3] = ["content-length", "transfer-encoding", "connection"];
        let mut head = format!("{}\r\n", self.first_line);
        for (name, value) in &self.headers {
            if !REPLACED
                .iter()
                .any(|other| name.eq_ignore_ascii_case(other))
            {
                let _ = write!(head, "{name}: {value}\r\n");
            }
        }
        if !self.is_bodiless() {
            let _ = write!(head, "content-length: {}\r\n", body.len());
        }
        if close {
            head.push_str("connection: close\r\n");
        }
        head.push_str("\r\n");
        let mut bytes = head.into_bytes();
        bytes.extend_from_slice(body);
        bytes
    }
}

async fn read_chunks(from: &mut (impl AsyncBufRead + Unpin), body: &mut Vec<u8>) -> io::Result<()> {
    loop {
        let mut line = String::new();
        from.read_line(&mut line).await?;
        let size = line.trim_end().split(';').next().unwrap_or_default();
        let size = usize::from_str_radix(size, 16).map_err(|_| malformed())?;
        let start = body.len();
        body.resize(start + size, 0);
        from.read_exact(&mut body[start..]).await?;
        // After a chunk its line end; after the last one trailers, up to an empty line.
        loop {
            let mut line = String::new();
            if from.read_line(&mut line).await? == 0 {
                return Err(cut_short());
            }
            if line.trim_end().is_empty() {
                break;
            }
        }
        if size == 0 {
            return Ok(());
        }
    }
}

fn cut_short() -> io::Error {
    io::ErrorKind::UnexpectedEof.into()
}

fn malformed() -> io::Error {
    io::ErrorKind::InvalidData.into()
}
