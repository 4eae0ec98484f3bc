//! What it took to let viewers join: time, CPU on both sides, and what others lost meanwhile.
//!
//! Added up by [`Bench`](crate::run::Bench) over every time viewers are let join. The server's CPU
//! includes what it sent meanwhile to those who had joined.

use crate::measure::moment::Moment;

/// Joins and what they took.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Joining {
    /// Viewers that joined.
    pub joins: u64,
    /// Time that passed.
    pub seconds: f64,
    /// CPU of the server; `None` as long as its process is not known.
    pub server_cpu_ns: Option<u64>,
    /// CPU of this process.
    pub own_cpu_ns: u64,
    /// Packets that viewers who had joined lost.
    pub lost: u64,
}

impl Joining {
    /// Adds what happened between two moments.
    pub fn add(&mut self, begin: &Moment, end: &Moment) {
        let sum = |threads: Vec<(String, u64)>| threads.iter().map(|(_, ns)| ns).sum::<u64>();
        let server = end.server.as_ref().zip(begin.server.as_ref());
        let server = server.map(|(end, begin)| sum(end.since(begin)));
        self.joins += end.viewers.saturating_sub(begin.viewers);
        self.seconds += (end.at - begin.at).as_secs_f64();
        self.server_cpu_ns = match (self.server_cpu_ns, server) {
            (Some(before), Some(more)) => Some(before + more),
            (before, more) => before.or(more),
        };
        self.own_cpu_ns += sum(end.own.since(&begin.own));
        self.lost += end.totals.counts.since(begin.totals.counts).lost();
    }
}
