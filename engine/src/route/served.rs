//! What one shard did for a rendition's viewers since it last said so.
//!
//! Several shards serve a rendition, and each adds its counts to the same
//! [`ServedCounters`](crate::counters::ServedCounters), about once a second: a plain addition while
//! packets pass.

use crate::route::rendition::Rendition;
use crate::transit::TransitTally;

/// Plain counts, handed over and begun anew once a second.
#[derive(Debug, Default)]
pub(crate) struct Served {
    pub(crate) retransmissions: u64,
    pub(crate) lost_on_last_mile: u64,
    pub(crate) transit: Box<TransitTally>,
}

impl Rendition {
    /// Adds the counts to where the control plane reads them.
    pub(crate) fn publish_served(&mut self) {
        let (from, to) = (&mut self.served, &self.spec.served);
        for (count, gauge) in [
            (&mut from.retransmissions, &to.retransmissions),
            (&mut from.lost_on_last_mile, &to.lost_on_last_mile),
        ] {
            gauge.add(std::mem::take(count));
        }
        from.transit.hand_over(&to.transit);
    }
}
