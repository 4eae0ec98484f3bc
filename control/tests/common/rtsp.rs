//! An RTSP client that shares none of the server's code.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpSocket, TcpStream};

use super::soon;

/// An answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub reason: String,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Answer {
    /// A header field.
    pub fn field(&self, name: &str) -> &str {
        let found = self
            .headers
            .iter()
            .find(|(n, _)| n.eq_ignore_ascii_case(name));
        &found.unwrap_or_else(|| panic!("no {name} in {self:?}")).1
    }
}

/// A connection.
pub struct Client {
    stream: BufReader<TcpStream>,
    url: String,
    cseq: u32,
    pub session: Option<String>,
}

impl Client {
    /// Connects for a stream.
    pub async fn connect(to: SocketAddr, stream: &str) -> Self {
        Self::connect_with(to, stream, None).await
    }

    /// With a receive buffer of this size.
    pub async fn connect_with(to: SocketAddr, stream: &str, receive: Option<u32>) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        if let Some(bytes) = receive {
            socket.set_recv_buffer_size(bytes).unwrap();
        }
        Self {
            stream: BufReader::new(soon(socket.connect(to)).await.unwrap()),
            url: format!("rtsp://{to}/{stream}"),
            cseq: 0,
            session: None,
        }
    }

    pub fn local(&self) -> SocketAddr {
        self.stream.get_ref().local_addr().unwrap()
    }

    /// Asks; `part` follows the stream's URL, `headers` end in CRLF each.
    pub async fn ask(&mut self, method: &str, part: &str, headers: &str, body: &str) -> Answer {
        self.cseq += 1;
        let mut text = format!(
            "{method} {}{part} RTSP/1.0\r\nCSeq: {}\r\n",
            self.url, self.cseq
        );
        if let Some(session) = &self.session {
            text += &format!("Session: {session}\r\n");
        }
        if !body.is_empty() {
            text += &format!("Content-Length: {}\r\n", body.len());
        }
        text += &format!("{headers}\r\n{body}");
        self.write(text.as_bytes()).await;
        let answer = self.answer().await;
        assert_eq!(answer.field("cseq"), self.cseq.to_string());
        if let Some((_, session)) = answer.headers.iter().find(|(name, _)| name == "Session") {
            self.session = session.split(';').next().map(str::to_owned);
        }
        answer
    }

    /// The same, granted.
    pub async fn granted(&mut self, method: &str, part: &str, headers: &str) -> Answer {
        let answer = self.ask(method, part, headers, "").await;
        assert_eq!(answer.status, 200, "{method}: {answer:?}");
        answer
    }

    pub async fn write(&mut self, bytes: &[u8]) {
        soon(self.stream.get_mut().write_all(bytes)).await.unwrap();
    }

    /// The next interleaved packet: its channel and bytes.
    pub async fn packet(&mut self) -> (u8, Vec<u8>) {
        soon(async {
            assert_eq!(self.stream.read_u8().await.unwrap(), b'$', "a packet");
            self.rest_of_packet().await
        })
        .await
    }

    /// The next interleaved packet, `None` at the end of the connection.
    pub async fn packet_or_end(&mut self) -> Option<(u8, Vec<u8>)> {
        soon(async {
            match self.stream.read_u8().await {
                Ok(b'$') => Some(self.rest_of_packet().await),
                Ok(other) => panic!("{other}"),
                Err(_) => None,
            }
        })
        .await
    }

    async fn rest_of_packet(&mut self) -> (u8, Vec<u8>) {
        let channel = self.stream.read_u8().await.unwrap();
        let mut bytes = vec![0; usize::from(self.stream.read_u16().await.unwrap())];
        self.stream.read_exact(&mut bytes).await.unwrap();
        (channel, bytes)
    }

    /// Waits until the server closes the connection.
    pub async fn is_closed(&mut self) {
        let mut rest = Vec::new();
        // A reset is an end, too.
        let _ = soon(self.stream.read_to_end(&mut rest)).await;
    }

    /// The next answer; packets before it are passed over.
    async fn answer(&mut self) -> Answer {
        soon(async {
            let mut first = self.stream.read_u8().await.unwrap();
            while first == b'$' {
                self.rest_of_packet().await;
                first = self.stream.read_u8().await.unwrap();
            }
            let mut head = vec![first];
            while !head.ends_with(b"\r\n\r\n") {
                head.push(self.stream.read_u8().await.unwrap());
            }
            let head = String::from_utf8(head).unwrap();
            let mut lines = head.trim_end().split("\r\n");
            let status_line = lines.next().unwrap();
            let (status, reason) = status_line["RTSP/1.0 ".len()..].split_once(' ').unwrap();
            let headers: Vec<(String, String)> = lines
                .map(|line| line.split_once(": ").unwrap())
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect();
            let mut answer = Answer {
                status: status.parse().unwrap(),
                reason: reason.to_owned(),
                headers,
                body: String::new(),
            };
            let has_body = answer
                .headers
                .iter()
                .any(|(name, _)| name == "Content-Length");
            if has_body {
                let mut body = vec![0; answer.field("content-length").parse().unwrap()];
                self.stream.read_exact(&mut body).await.unwrap();
                answer.body = String::from_utf8(body).unwrap();
            }
            answer
        })
        .await
    }
}
