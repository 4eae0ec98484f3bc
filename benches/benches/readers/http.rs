//! Readers over HTTP.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use super::{Bytes, Failure};

/// Reads a file without an end.
pub async fn read_file(address: SocketAddr, name: &str, bytes: &Bytes) -> Result<(), Failure> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET /cam/{name} HTTP/1.1\r\nHost: bench\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut buffer = vec![0; 64 << 10];
    loop {
        match stream.read(&mut buffer).await? {
            0 => return Ok(()),
            len => bytes.fetch_add(len as u64, Ordering::Relaxed),
        };
    }
}

/// As players with low latency do: the playlist as soon as it has the next part, then that part.
pub async fn read_hls(address: SocketAddr, bytes: &Bytes) -> Result<(), Failure> {
    let mut stream = BufReader::new(TcpStream::connect(address).await?);
    let mut next = String::new();
    loop {
        let text = get(&mut stream, &format!("media.m3u8{next}"), address, bytes).await?;
        let text = String::from_utf8(text)?;
        let number = |tag: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(tag));
            line.and_then(|number| number.parse::<u64>().ok())
        };
        let first = number("#EXT-X-MEDIA-SEQUENCE:").ok_or("no number")?;
        let segments = text.matches("#EXTINF").count() as u64;
        let open = text.rsplit("#EXTINF").next().unwrap_or_default();
        let parts = open.matches("#EXT-X-PART:").count();
        next = format!("?_HLS_msn={}&_HLS_part={parts}", first + segments);
        let part = text.lines().rfind(|line| line.starts_with("#EXT-X-PART:"));
        let part = part
            .and_then(|part| part.split('"').nth(1))
            .ok_or("no part")?;
        get(&mut stream, part, address, bytes).await?;
    }
}

async fn get(
    stream: &mut BufReader<TcpStream>,
    path: &str,
    address: SocketAddr,
    bytes: &Bytes,
) -> Result<Vec<u8>, Failure> {
    let request = format!("GET /cam/{path} HTTP/1.1\r\nHost: bench\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let (mut len, mut is_last, mut line) = (0, false, String::new());
    loop {
        line.clear();
        if stream.read_line(&mut line).await? == 0 {
            return Err("the server closed the connection".into());
        }
        let field = line.trim().to_ascii_lowercase();
        if let Some(value) = field.strip_prefix("content-length: ") {
            len = value.parse()?;
        }
        is_last |= field == "connection: close";
        if field.starts_with("http/1.1 ") && field != "http/1.1 200 ok" {
            return Err(format!("{path}: {field}").into());
        }
        if field.is_empty() {
            break;
        }
    }
    let mut body = vec![0; len];
    stream.read_exact(&mut body).await?;
    bytes.fetch_add(len as u64, Ordering::Relaxed);
    if is_last {
        *stream = BufReader::new(TcpStream::connect(address).await?);
    }
    Ok(body)
}
