//! All bounds of the RTSP server and its clients, each with its reason.

use std::time::Duration;

/// Request line and header fields: clients send some hundred bytes.
pub const MAX_HEAD_BYTES: usize = 16 << 10;

/// The largest body: a description with parameter sets of several tracks has some kilobytes.
pub const MAX_BODY_BYTES: usize = 64 << 10;

/// Tracks of one session.
pub const MAX_TRACKS: usize = 8;

/// A client that has asked for nothing yet, or asks byte by byte, has this long for a request.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// A session of which nothing is heard for this long is over; said to clients in whole seconds.
pub const SESSION_TIMEOUT: Duration = Duration::from_secs(60);

/// A publisher that sends nothing for this long is gone: its stream's name is needed by the next.
pub const PUBLISHER_SILENCE: Duration = Duration::from_secs(10);

/// A peer that takes nothing of what is written for this long is given up.
pub const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a description waits for tracks that have not sent anything yet.
pub const DESCRIBE_WAIT: Duration = Duration::from_secs(2);

/// Readers of a stream without a publisher wait this long for the next one.
pub const READER_LINGER: Duration = Duration::from_secs(10);

/// Packets that may wait for one reader: a second at 20 Mbit/s. They are shared among readers.
pub const READER_QUEUE_PACKETS: usize = 2048;

/// Packets since the latest keyframe that are kept for readers who join; beyond, they wait for the
/// next keyframe.
pub const MAX_CACHED_PACKETS: usize = 8192;

/// How long a packet that others have overtaken is waited for, on the way in and on the way out.
pub const REORDER_WAIT_US: u64 = 200_000;

/// Packets on their way from a session's UDP sockets to it.
pub const INCOMING_QUEUE_PACKETS: usize = 1024;

/// The largest datagram that is read: jumbo frames included.
pub const MAX_DATAGRAM_BYTES: usize = 16 << 10;

/// Streams that are pulled at once: each has a connection and a task.
pub const MAX_PULLS: usize = 1000;
