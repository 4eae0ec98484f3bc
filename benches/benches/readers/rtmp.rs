//! Readers by RTMP.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;

use fanmill_control::rtmp::Link;
use fanmill_control::rtmp::amf0::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{Bytes, Failure};

/// Plays the stream, and looks at nothing of it.
pub async fn read(address: SocketAddr, bytes: &Bytes) -> Result<(), Failure> {
    let mut stream = TcpStream::connect(address).await?;
    let mut link = Link::client();
    let mut buffer = vec![0; 64 << 10];
    while !link.is_open() {
        stream.write_all(&link.take_output()).await?;
        let len = stream.read(&mut buffer).await?;
        link.receive(&buffer[..len]);
        while link.next_message()?.is_some() {}
    }
    let about = Value::object([
        ("app", Value::text("live")),
        ("fourCcList", Value::Array([Value::text("Opus")].into())),
    ]);
    link.command(0, &[Value::text("connect"), Value::Number(1.0), about]);
    link.command(
        0,
        &[Value::text("createStream"), Value::Number(2.0), Value::Null],
    );
    let name = Value::text("cam");
    link.command(
        1,
        &[Value::text("play"), Value::Number(3.0), Value::Null, name],
    );
    stream.write_all(&link.take_output()).await?;
    loop {
        match stream.read(&mut buffer).await? {
            0 => return Ok(()),
            len => bytes.fetch_add(len as u64, Ordering::Relaxed),
        };
    }
}
