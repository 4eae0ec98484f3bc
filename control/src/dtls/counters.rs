//! Counts of what the DTLS layer refused and did, shared by every association of a backend.
//!
//! Incremented from the reactor's thread and the handshake tasks; read by the metrics page. Only
//! relaxed atomics: the numbers are independent of each other.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! drop_reasons {
    ($($(#[$doc:meta])* $variant:ident = $label:literal,)*) => {
        /// Why a datagram, a record or a handshake fragment went no further.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum DropReason {
            $($(#[$doc])* $variant,)*
        }

        impl DropReason {
            /// Every reason, in the order of declaration.
            pub const ALL: &'static [DropReason] = &[$(DropReason::$variant,)*];

            /// The reason as a metric label.
            pub const fn label(self) -> &'static str {
                match self { $(DropReason::$variant => $label,)* }
            }
        }

        const REASONS: usize = [$(DropReason::$variant,)*].len();
    };
}

drop_reasons! {
    /// A record header or body reaches past the end of its datagram, or the body is empty.
    TruncatedRecord = "truncated_record",
    /// A record version other than DTLS 1.0 or 1.2.
    RecordVersion = "record_version",
    /// A content type other than the four of RFC 5246 6.2.1.
    UnknownContentType = "unknown_content_type",
    /// An epoch that cannot exist without renegotiation.
    FutureEpoch = "future_epoch",
    /// An unprotected alert: anyone could have sent it.
    PlaintextAlert = "plaintext_alert",
    /// Unprotected application data.
    PlaintextData = "plaintext_data",
    /// An unprotected record on an association that has its keys.
    PlaintextAfterHandshake = "plaintext_after_handshake",
    /// A ChangeCipherSpec that is not one byte of value 1, or not in epoch 0.
    ChangeCipherSpec = "change_cipher_spec",
    /// A protected record too short for its nonce and tag, or longer than its kind can be.
    CiphertextLength = "ciphertext_length",
    /// A protected alert that was not sealed with the peer's keys.
    AlertAuthentication = "alert_authentication",
    /// Protected application data: no data channels are offered.
    ApplicationData = "application_data",
    /// A protected handshake record after the handshake: a repeat, or a renegotiation.
    HandshakeAfterHandshake = "handshake_after_handshake",
    /// A handshake fragment whose header contradicts itself, its record or the size limits.
    MalformedFragment = "malformed_fragment",
    /// A fragment without bytes of a message that has some.
    EmptyFragment = "empty_fragment",
    /// A fragment that brings nothing new.
    Duplicate = "duplicate",
    /// A fragment of a message too far ahead, or more fragments than are kept.
    OutOfWindow = "out_of_window",
    /// Stored fragments given up for one that describes the same message differently.
    ConflictingFragment = "conflicting_fragment",
    /// A message type the peer's role never sends.
    UnexpectedMessage = "unexpected_message",
    /// A complete handshake message that does not parse.
    MalformedMessage = "malformed_message",
    /// A datagram beyond the number or the bytes a handshake may use.
    Budget = "budget",
    /// A datagram the handshake task had no room for.
    QueueFull = "queue_full",
    /// A datagram for an association that has ended.
    Ended = "ended",
}

/// The counters of one backend.
#[derive(Debug, Default)]
pub struct Counters {
    dropped: [AtomicU64; REASONS],
    completed: AtomicU64,
    failed: AtomicU64,
    flights_repeated: AtomicU64,
}

impl Counters {
    /// How many times something was dropped for `reason`.
    pub fn dropped(&self, reason: DropReason) -> u64 {
        self.dropped[reason as usize].load(Ordering::Relaxed)
    }

    /// Handshakes that ended with keys.
    pub fn completed(&self) -> u64 {
        self.completed.load(Ordering::Relaxed)
    }

    /// Handshakes that ended with an error.
    pub fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }

    /// Flights sent again because the peer repeated its own.
    pub fn flights_repeated(&self) -> u64 {
        self.flights_repeated.load(Ordering::Relaxed)
    }

    pub(super) fn count_drop(&self, reason: DropReason) {
        self.dropped[reason as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_completed(&self) {
        self.completed.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_failed(&self) {
        self.failed.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_repeated_flight(&self) {
        self.flights_repeated.fetch_add(1, Ordering::Relaxed);
    }
}
