//! Whether publishers are heard, told to the control plane when it changes. Looked at by the clock: the
//! packet path notes no more than it does anyway, when each SSRC was last received.

use crate::event::Event;
use crate::shard::core::Core;
use crate::shard::transport::Transport;

impl Core {
    /// Tells when a publisher has fallen silent, or is heard again. What cannot be told now is looked
    /// at anew with the next tick.
    pub(crate) fn listen(&mut self, place: u32) {
        let (now_us, silence_us) = (self.now_us, self.forwarding.publisher_silence_us);
        let Some(transport) = self.transports.get(place) else {
            return;
        };
        // The times at which this shard took the packets: while it has no time to take any, nobody
        // is silent.
        let last_us = transport.last_packet_us();
        let heard = last_us.is_some_and(|last_us| now_us < last_us.saturating_add(silence_us));
        if heard == transport.heard {
            return;
        }
        let event = match heard {
            true => Event::PublisherHeard(transport.id),
            false => Event::PublisherSilent(transport.id),
        };
        if self.tell_for(place, event)
            && let Some(transport) = self.transports.get_mut(place)
        {
            transport.heard = heard;
        }
    }
}

impl Transport {
    /// When the latest packet of any of its SSRCs was opened.
    fn last_packet_us(&self) -> Option<u64> {
        self.streams
            .iter()
            .map(|stream| stream.last_packet_us)
            .max()
    }
}
