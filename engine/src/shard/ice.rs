//! Connectivity checks, answered where they arrive: the lite side of RFC 8445.
//!
//! A valid check proves an address, keeps consent alive (RFC 7675) and, when the peer nominates,
//! moves its media there. Everything that needs more than a success response goes to the control
//! plane.

use std::net::SocketAddr;

use crate::counters::DropReason;
use crate::event::Event;
use crate::io::Tx;
use crate::shard::core::Core;
use crate::shard::transport::Ice;
use crate::stun::{self, BindingRequest, IceRole, MAX_BINDING_SUCCESS_LEN, Message};

/// A selected address that was not checked for this long may be replaced without nomination:
/// consent checks come every five seconds at most (RFC 7675 5.1, with its randomisation).
const SELECTION_STALE_US: u64 = 7_000_000;

/// How a request's signature was judged.
enum Signature {
    Current,
    Previous,
    Wrong,
}

impl Core {
    /// Handles a STUN message.
    pub(crate) fn stun<T: Tx>(&mut self, source: SocketAddr, bytes: &[u8], tx: &mut T) {
        match stun::parse(bytes) {
            Ok(Message::BindingRequest(request)) => self.check(source, bytes, &request, tx),
            // The lite side asks nothing, so nothing else is an answer to it.
            Ok(_) => self.count(DropReason::NotForUs),
            Err(_) => self.count(DropReason::StunMalformed),
        }
    }

    fn check<T: Tx>(
        &mut self,
        source: SocketAddr,
        bytes: &[u8],
        request: &BindingRequest<'_>,
        tx: &mut T,
    ) {
        let name = std::str::from_utf8(request.local_ufrag).unwrap_or_default();
        let Some(place) = self.by_ufrag.get(name).copied() else {
            self.count(DropReason::StunUnknownUfrag);
            // Its transport may be about to be added. The peer would take a refusal for final, and
            // checks again if it hears nothing.
            if !self.links.commands.is_empty() {
                return;
            }
            return self.hand_up(source, None, bytes);
        };
        let Some(transport) = self.transports.get(place) else {
            return;
        };
        let signature = transport.ice.judge(name, request);
        let extraordinary = !request.unknown_attributes.is_empty()
            || matches!(request.role, Some(IceRole::Controlled(_)));
        match signature {
            Signature::Wrong => {
                self.count_for(place, DropReason::StunIntegrity);
                return self.hand_up(source, Some(place), bytes);
            }
            // RFC 8445 7.3.1.1 (role conflict), RFC 8489 6.3.1 (unknown attributes).
            _ if extraordinary => return self.hand_up(source, Some(place), bytes),
            Signature::Current => self.forget_previous_credentials(place),
            Signature::Previous => {}
        }
        self.answer(place, source, request, tx);
        self.prove(place, source);
        let Some(transport) = self.transports.get_mut(place) else {
            return;
        };
        let ice = &mut transport.ice;
        let stale = self.now_us > ice.selected_check_us + SELECTION_STALE_US;
        ice.last_check_us = self.now_us;
        ice.expired = false;
        if ice.selected == Some(source) {
            ice.selected_check_us = self.now_us;
        } else if request.use_candidate || ice.selected.is_none() || stale {
            transport.address_changes += u64::from(ice.selected.is_some());
            ice.selected = Some(source);
            ice.selected_check_us = self.now_us;
        }
        let selected = ice.selected;
        self.set_destination(place, selected);
        self.tell_address(place);
    }

    /// Tells which address was selected, unless it was told.
    pub(crate) fn tell_address(&mut self, place: u32) {
        let Some(transport) = self.transports.get(place) else {
            return;
        };
        let ice = &transport.ice;
        let Some(selected) = ice.selected.filter(|_| ice.selected != ice.told) else {
            return;
        };
        let event = Event::AddressSelected(transport.id, selected);
        if self.tell_for(place, event)
            && let Some(transport) = self.transports.get_mut(place)
        {
            transport.ice.told = Some(selected);
        }
    }

    fn answer<T: Tx>(
        &mut self,
        place: u32,
        source: SocketAddr,
        request: &BindingRequest<'_>,
        tx: &mut T,
    ) {
        let Some(transport) = self.transports.get(place) else {
            return;
        };
        let name = std::str::from_utf8(request.local_ufrag).unwrap_or_default();
        let Some(credentials) = transport.ice.credentials(name) else {
            return;
        };
        let out = tx.reserve(MAX_BINDING_SUCCESS_LEN);
        let id = &request.transaction_id;
        let Ok(len) = stun::write_binding_success(out, id, source, &credentials.key) else {
            return;
        };
        tx.commit(source, len, None);
        self.tally.checks_answered += 1;
    }

    /// Makes an address the transport's, whoever had it before: the check was signed.
    fn prove(&mut self, place: u32, source: SocketAddr) {
        if let Some(former) = self.by_address.insert(source, place)
            && former != place
            && let Some(former) = self.transports.get_mut(former)
        {
            former.ice.proven.retain(|address| *address != source);
        }
        let Some(transport) = self.transports.get_mut(place) else {
            return;
        };
        if transport.ice.proven.last() != Some(&source)
            && let Some(forgotten) = transport.ice.prove(source)
        {
            self.by_address.remove(&forgotten);
        }
    }

    fn forget_previous_credentials(&mut self, place: u32) {
        let Some(transport) = self.transports.get_mut(place) else {
            return;
        };
        if let Some(previous) = transport.ice.previous.take() {
            self.by_ufrag.remove(&previous.ufrag);
        }
    }

    fn hand_up(&mut self, source: SocketAddr, transport: Option<u32>, bytes: &[u8]) {
        if !self.strange_stun.take(self.now_us) {
            return self.count(DropReason::RateLimited);
        }
        let transport = transport
            .and_then(|place| self.transports.get(place))
            .map(|t| t.id);
        let shard = self.links.id;
        match self.copy(bytes) {
            Some(slot) => {
                let packet = slot.share();
                self.tell_or_drop(Event::Stun {
                    shard,
                    source,
                    transport,
                    packet,
                });
            }
            None => self.count(DropReason::PoolExhausted),
        }
    }
}

impl Ice {
    fn judge(&self, name: &str, request: &BindingRequest<'_>) -> Signature {
        match self.credentials(name) {
            Some(credentials) if request.verify(&credentials.key) => {
                if credentials.ufrag == self.current.ufrag {
                    Signature::Current
                } else {
                    Signature::Previous
                }
            }
            _ => Signature::Wrong,
        }
    }
}
