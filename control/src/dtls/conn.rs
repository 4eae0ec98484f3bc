//! The connection the backend believes it has.
//!
//! Reads come from the queue the reactor fills, already cleared by the guard; writes go to the
//! callback that turns them into shard commands. Its `recv` must never fail: the backend would
//! spin on the error.

use std::any::Any;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::mpsc;
use webrtc_util::Conn;

use super::association::{Inbound, Shared};
use super::record::Records;

pub(super) struct VirtualConn {
    queue: tokio::sync::Mutex<Queue>,
    shared: Arc<Shared>,
}

struct Queue {
    receiver: mpsc::Receiver<Inbound>,
    /// Records of one datagram that did not fit the reader's buffer.
    rest: Bytes,
}

impl VirtualConn {
    pub(super) fn new(receiver: mpsc::Receiver<Inbound>, shared: Arc<Shared>) -> Self {
        let queue = tokio::sync::Mutex::new(Queue {
            receiver,
            rest: Bytes::new(),
        });
        Self { queue, shared }
    }
}

impl Queue {
    /// Moves as many whole records as fit into `buffer`.
    fn read(&mut self, buffer: &mut [u8]) -> usize {
        let mut length = 0;
        for record in Records::new(&self.rest).map_while(Result::ok) {
            if length + record.bytes.len() > buffer.len() {
                break;
            }
            length += record.bytes.len();
        }
        if length == 0 {
            // A record no buffer of the backend can hold; the guard's limits exclude it.
            self.rest.clear();
        }
        buffer[..length].copy_from_slice(&self.rest.split_to(length));
        length
    }
}

#[async_trait]
impl Conn for VirtualConn {
    async fn connect(&self, _addr: SocketAddr) -> webrtc_util::Result<()> {
        Ok(())
    }

    async fn recv(&self, buffer: &mut [u8]) -> webrtc_util::Result<usize> {
        let mut queue = self.queue.lock().await;
        loop {
            if !queue.rest.is_empty() {
                let length = queue.read(buffer);
                if length > 0 {
                    return Ok(length);
                }
            }
            match queue.receiver.recv().await {
                Some(Inbound::Records(records)) => queue.rest = records,
                Some(Inbound::ClientHello(_)) => {}
                None => std::future::pending().await,
            }
        }
    }

    async fn recv_from(&self, buffer: &mut [u8]) -> webrtc_util::Result<(usize, SocketAddr)> {
        Ok((self.recv(buffer).await?, UNSPECIFIED))
    }

    async fn send(&self, datagram: &[u8]) -> webrtc_util::Result<usize> {
        self.shared.send_noted(datagram);
        Ok(datagram.len())
    }

    async fn send_to(&self, datagram: &[u8], _to: SocketAddr) -> webrtc_util::Result<usize> {
        self.send(datagram).await
    }

    fn local_addr(&self) -> webrtc_util::Result<SocketAddr> {
        Ok(UNSPECIFIED)
    }

    fn remote_addr(&self) -> Option<SocketAddr> {
        None
    }

    async fn close(&self) -> webrtc_util::Result<()> {
        Ok(())
    }

    fn as_any(&self) -> &(dyn Any + Send + Sync) {
        self
    }
}

/// ICE owns the path; the backend has no use for addresses.
const UNSPECIFIED: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
