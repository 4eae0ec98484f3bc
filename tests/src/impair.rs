//! A bad network between a client and one UDP port: loses, delays and reorders datagrams by a
//! seeded choice. A browser is sent through it with [`UdpImpair::rewrite_answers`]; other clients
//! by the address in the answer they are given.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Result;
use tokio::net::UdpSocket;
use tokio::task::JoinSet;

const DATAGRAM_MAX: usize = 2048;
const CLIENTS_MAX: usize = 64;

/// What happens to datagrams, in each direction alike.
#[derive(Debug, Clone, Copy, Default)]
pub struct Impairment {
    /// Of a thousand datagrams, how many are lost.
    pub loss_permille: u32,
    /// Of a thousand datagrams, how many are held back, and so arrive late.
    pub reorder_permille: u32,
    /// How long every datagram takes.
    pub delay: Duration,
    /// How much longer one takes that is held back.
    pub reorder_delay: Duration,
    /// The same seed makes the same choices for the same sequence of datagrams.
    pub seed: u64,
}

/// A proxy for one UDP port. Dropping it stops it.
pub struct UdpImpair {
    address: SocketAddr,
    target: SocketAddr,
    counts: Arc<Counts>,
    _tasks: JoinSet<()>,
}

#[derive(Default)]
struct Counts {
    passed: AtomicU64,
    lost: AtomicU64,
    held: AtomicU64,
}

struct Path {
    impairment: Impairment,
    random: u64,
    counts: Arc<Counts>,
}

impl Path {
    /// Xorshift: enough for a choice, and the same on every machine.
    fn choose(&mut self, permille: u32) -> bool {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 33) % 1000 < u64::from(permille)
    }

    async fn carry(&mut self, datagram: &[u8], socket: &Arc<UdpSocket>, to: SocketAddr) {
        let (lost, held) = (
            self.choose(self.impairment.loss_permille),
            self.choose(self.impairment.reorder_permille),
        );
        if lost {
            self.counts.lost.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let mut delay = self.impairment.delay;
        if held {
            self.counts.held.fetch_add(1, Ordering::Relaxed);
            delay += self.impairment.reorder_delay;
        }
        self.counts.passed.fetch_add(1, Ordering::Relaxed);
        if delay.is_zero() {
            // What the kernel refuses is lost, as on any network.
            let _ = socket.send_to(datagram, to).await;
            return;
        }
        let (datagram, socket) = (datagram.to_vec(), socket.clone());
        tokio::spawn(async move {
            tokio::time::sleep(delay).await;
            let _ = socket.send_to(&datagram, to).await;
        });
    }
}

impl UdpImpair {
    /// Starts a proxy for `target` on a free port of the same address.
    ///
    /// # Errors
    /// If no socket can be had.
    pub async fn start(target: SocketAddr, impairment: Impairment) -> Result<UdpImpair> {
        let front = Arc::new(UdpSocket::bind(SocketAddr::new(target.ip(), 0)).await?);
        let address = front.local_addr()?;
        let counts = Arc::new(Counts::default());
        let mut tasks = JoinSet::new();
        tasks.spawn(forward(front, target, impairment, counts.clone()));
        Ok(UdpImpair {
            address,
            target,
            counts,
            _tasks: tasks,
        })
    }

    /// Where clients are to send.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Datagrams so far: passed on, lost, and of those passed on, held back.
    pub fn counts(&self) -> (u64, u64, u64) {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        (
            read(&self.counts.passed),
            read(&self.counts.lost),
            read(&self.counts.held),
        )
    }

    /// A script for [`crate::Page::before_load`]: the page finds the proxy's port in the answers
    /// (and restart fragments) of the server, instead of the server's own.
    pub fn rewrite_answers(&self) -> String {
        let (from, to) = (self.target.port(), self.address.port());
        format!(
            "{{
               const plain = window.fetch;
               window.fetch = async (...request) => {{
                 const response = await plain(...request);
                 const type = response.headers.get('Content-Type') ?? '';
                 if (!/sdp/.test(type)) return response;
                 const text = (await response.text()).replace(
                   /^(a=candidate:.* ){from}( typ .*)$/gm, '$1{to}$2');
                 const {{ status, headers }} = response;
                 const answer = new Response(text, {{ status, headers }});
                 Object.defineProperty(answer, 'url', {{ value: response.url }});
                 return answer;
               }};
             }}"
        )
    }
}

/// Each client gets a socket of its own towards the target, which so tells them apart.
async fn forward(
    front: Arc<UdpSocket>,
    target: SocketAddr,
    impairment: Impairment,
    counts: Arc<Counts>,
) {
    let path = |salt: u64| Path {
        impairment,
        // Xorshift stays at zero if it starts there.
        random: (impairment.seed ^ salt.wrapping_mul(0x9e37_79b9_7f4a_7c15)) | 1,
        counts: counts.clone(),
    };
    let mut there = path(1);
    let mut clients: HashMap<SocketAddr, Arc<UdpSocket>> = HashMap::new();
    let mut backward = JoinSet::new();
    let mut buffer = [0; DATAGRAM_MAX];
    while let Ok((length, client)) = front.recv_from(&mut buffer).await {
        let known = clients.get(&client).cloned();
        let back = match known {
            Some(back) => back,
            None if clients.len() == CLIENTS_MAX => continue,
            None => {
                let any = SocketAddr::new(target.ip(), 0);
                let Ok(socket) = UdpSocket::bind(any).await else {
                    continue;
                };
                let socket = Arc::new(socket);
                let salt = 2 + clients.len() as u64;
                backward.spawn(reply(socket.clone(), front.clone(), client, path(salt)));
                clients.insert(client, socket.clone());
                socket
            }
        };
        there.carry(&buffer[..length], &back, target).await;
    }
}

async fn reply(back: Arc<UdpSocket>, front: Arc<UdpSocket>, client: SocketAddr, mut path: Path) {
    let mut buffer = [0; DATAGRAM_MAX];
    while let Ok((length, _)) = back.recv_from(&mut buffer).await {
        path.carry(&buffer[..length], &front, client).await;
    }
}
