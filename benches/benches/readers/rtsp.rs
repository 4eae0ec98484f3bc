//! Readers by RTSP.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpStream, UdpSocket};

use super::{Bytes, Failure};

struct Client {
    stream: BufReader<TcpStream>,
    address: SocketAddr,
    session: String,
}

impl Client {
    async fn connect(address: SocketAddr) -> Result<Self, Failure> {
        Ok(Self {
            stream: BufReader::new(TcpStream::connect(address).await?),
            address,
            session: String::new(),
        })
    }

    /// Asks for something that is granted.
    async fn ask(&mut self, method: &str, part: &str, transport: &str) -> Result<(), Failure> {
        let request = format!(
            "{method} rtsp://{}/cam{part} RTSP/1.0\r\nCSeq: 1\r\n{}{transport}\r\n",
            self.address, self.session
        );
        self.stream.get_mut().write_all(request.as_bytes()).await?;
        let mut line = String::new();
        let mut is_first = true;
        loop {
            line.clear();
            self.stream.read_line(&mut line).await?;
            if std::mem::take(&mut is_first) && !line.starts_with("RTSP/1.0 200 ") {
                return Err(format!("{method}: {line}").into());
            }
            if let Some(session) = line.strip_prefix("Session: ") {
                let session = session.split(';').next().unwrap_or_default().trim();
                self.session = format!("Session: {session}\r\n");
            }
            if line.trim().is_empty() {
                return Ok(());
            }
        }
    }

    async fn play(mut self, bytes: &Bytes) -> Result<(), Failure> {
        self.ask("PLAY", "", "").await?;
        let mut buffer = vec![0; 64 << 10];
        loop {
            match self.stream.read(&mut buffer).await? {
                0 => return Ok(()),
                len => bytes.fetch_add(len as u64, Ordering::Relaxed),
            };
        }
    }
}

/// Reads on the connection.
pub async fn read_tcp(address: SocketAddr, bytes: &Bytes) -> Result<(), Failure> {
    let mut client = Client::connect(address).await?;
    for (track, channels) in [(0, "0-1"), (1, "2-3")] {
        let transport = format!("Transport: RTP/AVP/TCP;unicast;interleaved={channels}\r\n");
        client
            .ask("SETUP", &format!("/trackID={track}"), &transport)
            .await?;
    }
    client.play(bytes).await
}

/// Reads datagrams.
pub async fn read_udp(address: SocketAddr, bytes: &Bytes) -> Result<(), Failure> {
    let mut client = Client::connect(address).await?;
    let mut sockets = Vec::new();
    for track in 0..2 {
        let (rtp, rtcp) = (bind().await?, bind().await?);
        let ports = format!("{}-{}", rtp.local_addr()?.port(), rtcp.local_addr()?.port());
        let transport = format!("Transport: RTP/AVP;unicast;client_port={ports}\r\n");
        client
            .ask("SETUP", &format!("/trackID={track}"), &transport)
            .await?;
        sockets.extend([rtp, rtcp]);
    }
    let take = async |socket: &UdpSocket| {
        let mut buffer = [0; 2048];
        loop {
            let len = socket.recv(&mut buffer).await?;
            bytes.fetch_add(len as u64, Ordering::Relaxed);
        }
        #[allow(unreachable_code, reason = "it names the type")]
        Ok::<(), Failure>(())
    };
    let [a, b, c, d] = &sockets[..] else {
        return Err("four sockets".into());
    };
    let nothing = Bytes::default();
    tokio::try_join!(take(a), take(b), take(c), take(d), client.play(&nothing))?;
    Ok(())
}

async fn bind() -> Result<UdpSocket, Failure> {
    Ok(UdpSocket::bind("127.0.0.1:0").await?)
}
