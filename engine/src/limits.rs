//! Every fixed bound of the data plane, with its reason.

/// Bytes of a packet slot: the largest UDP payload an Ethernet frame carries over IPv4 (1472),
/// rounded up to whole cache lines. Longer datagrams are dropped and counted.
pub const SLOT_BYTES: usize = 1536;

/// Slots of one shard's pool (192 MiB when all are used; memory is taken as needed). A packet
/// holds one as long as it is stored for retransmission, so this is enough for 65,000 packets a
/// second from all the shard's publishers together.
pub const POOL_SLOTS: usize = 131_072;

/// Slots made before the first packet, so that a start of traffic does not wait for the allocator.
pub const POOL_SLOTS_PREPARED: usize = 1024;

/// Shards of one engine: a shard per core, on any machine in sight.
pub const MAX_SHARDS: usize = 64;

/// Packets kept per video rendition for retransmission: about two seconds at 5 Mbit/s. A power of
/// two, since the store is indexed by sequence number.
pub const VIDEO_STORE_PACKETS: usize = 1024;

/// How long a packet is kept for retransmission: a viewer that asks later has no use for it. Age
/// lets go of packets that number does not, so that many slow renditions do not empty the pool.
pub const STORE_AGE_US: u64 = 2_000_000;

/// Packets of a frame cache: all since the latest keyframe, for viewers who join. 12 MiB of slots at
/// most, or ten seconds at 8 Mbit/s; what is longer is not kept, and those who join wait for a
/// keyframe. A power of two, as above.
pub const MAX_CACHE_PACKETS: usize = 8192;

/// How old the keyframe may be that a frame cache begins with, unless told otherwise: publishers
/// that make one on request only are asked for one anyway.
pub const DEFAULT_MAX_CACHE_US: u64 = 20_000_000;

/// When so many slots of a pool are in use, the longest frame caches are given up.
pub const POOL_SLOTS_WITH_CACHES: usize = POOL_SLOTS / 4 * 3;

/// How much faster than the present the past is shown to a viewer who joins, at most: what a
/// decoder on a phone keeps up with.
pub const MAX_CATCH_UP_SPEED: u64 = 8;

/// Bit rate at which that happens, unless it would be slower than twice the rendition's: what most
/// links take for a second or two.
pub const CATCH_UP_BITRATE_BPS: u64 = 30_000_000;

/// Packets a second that a shard sends to all viewers who catch up: half of what a core can do.
/// Others wait, or start with the keyframe that is then asked for.
pub const CATCH_UP_PACKETS_PER_SECOND: u64 = 400_000;

/// A viewer that would take longer to catch up causes a keyframe request (which is coalesced), so
/// that publishers who answer those shorten it.
pub const LONG_CATCH_UP_US: u64 = 2_000_000;

/// Time between two looks at those who catch up, and how long one look may take.
pub const CATCH_UP_INTERVAL_US: u64 = 2_000;
/// See [`CATCH_UP_INTERVAL_US`].
pub const CATCH_UP_SLICE_US: u64 = 1_000;

/// Time between two words to the control plane that a viewer's bandwidth fell: it answers by another
/// encoding, which begins with a keyframe.
pub const FALL_INTERVAL_US: u64 = 300_000;

/// How long a viewer goes on with one encoding while another, which it is to change to, has no keyframe:
/// three requests.
pub const CHANGE_PATIENCE_US: u64 = 1_500_000;

/// How long a viewer waits for a frame that lets it change to other layers of what it has before a
/// keyframe is asked for: publishers that let it at all do so several times a second.
pub const CROSSING_PATIENCE_US: u64 = 1_000_000;

/// A viewer does not change to other layers while any of so many latest packets is missing: it could not
/// be sent that any more.
pub const CROSSING_WHOLE_PACKETS: u64 = 16;

/// Renditions that are made of one encoding's layers: one for each of four by four, but all of them, and
/// the keyframes of each spatial layer.
pub const MAX_LAYER_RENDITIONS: usize = 15 + 4;

/// Packets kept per audio rendition: five seconds of 20 ms frames. A power of two.
pub const AUDIO_STORE_PACKETS: usize = 256;

/// Packets that may wait for a tap's consumer unless it says otherwise: about two seconds of video
/// at 5 Mbit/s.
pub const DEFAULT_TAP_PACKETS: usize = 1024;

/// Packets that may wait for a tap's consumer, whatever it says.
pub const MAX_TAP_PACKETS: usize = 8192;

/// Slots of a shard's pool that taps may hold all together. Beyond it only those that keep up are
/// given anything: the ones with no more than a burst waiting.
pub const POOL_SLOTS_TAPPED: usize = POOL_SLOTS / 8;

/// Taps of one shard: each may hold a burst whatever the others hold, together a quarter of the
/// pool.
pub const MAX_TAPS_PER_SHARD: usize = 1024;

/// Packets that a producer may hand over before its shard takes them: a large keyframe with what
/// follows it in half a second.
pub const DEFAULT_PRODUCER_PACKETS: usize = 1024;

/// Packets that a producer may hand over before its shard takes them, whatever it says.
pub const MAX_PRODUCER_PACKETS: usize = 8192;

/// Packets that a shard takes from one producer before it looks at the network again.
pub const PRODUCED_PER_TURN: usize = 256;

/// Longest payload a producer may send: what an Ethernet frame carries behind the shortest headers.
/// Above 1400 bytes the headers and tags of a viewer's copy may make it two fragments.
pub const MAX_PRODUCED_PAYLOAD_BYTES: usize = 1460;

/// Packets of a producer that may wait before it wakes its shard without the end of a frame.
pub const PRODUCED_BEFORE_WAKE: usize = 16;

/// Messages waiting between two shards: ten milliseconds at a million packets a second.
pub const SHARD_RING_MESSAGES: usize = 8192;

/// Commands waiting for one shard. The control plane waits for room, the shard never does.
pub const COMMAND_RING_MESSAGES: usize = 4096;

/// Events waiting for the control plane; what does not fit is dropped (datagrams, which the peer
/// sends again) or kept back and told later (state changes).
pub const EVENT_RING_MESSAGES: usize = 4096;

/// State changes kept back while the ring is full. What does not even fit here is told anew a
/// second later.
pub const EVENT_BACKLOG: usize = 4 * EVENT_RING_MESSAGES;

/// Messages a second that strangers, together, can hand to the control plane through one shard:
/// checks with an unknown name or a wrong password, and what the fast path does not answer.
pub const STRANGE_STUN_PER_SECOND: u32 = 100;

/// DTLS datagrams a second from one peer: a handshake with retransmissions takes some thirty.
pub const DTLS_DATAGRAMS_PER_SECOND: u32 = 100;

/// State changes a second that one peer can have told at once; what it changes more often is told
/// as it stands later.
pub const NEWS_PER_SECOND: u32 = 10;
/// See [`NEWS_PER_SECOND`].
pub const NEWS_BURST: u32 = 64;

/// Commands a shard carries out before it looks at the network again.
pub const COMMANDS_PER_TURN: usize = 64;

/// Addresses a peer may have proven by a connectivity check; the least recently checked makes
/// room. Browsers check from a handful of interfaces.
pub const MAX_ADDRESSES_PER_TRANSPORT: usize = 8;

/// SSRCs a peer may send on: three simulcast layers with RTX for several tracks, and some room for
/// changes. Packets of further SSRCs are dropped.
pub const MAX_SSRCS_PER_TRANSPORT: usize = 48;

/// RTP packets of one peer whose SSRC fits no track that are tried (authenticated) per second.
pub const UNKNOWN_SSRC_TRIES_PER_SECOND: u32 = 50;

/// Packets of one rendition handled as one burst; more are handled as the next burst. Longer trains
/// would hardly be cheaper, and a shard that is behind looks up only between two bursts.
pub const MAX_BURST_PACKETS: usize = 32;

/// How long packets may wait for their shard before it counts as overloaded: a viewer whose buffer
/// is a tenth of a second begins to notice.
pub const DEFAULT_MAX_LAG_US: u64 = 100_000;

/// Over how long the lag is judged: some frames.
pub const OVERLOAD_WINDOW_US: u64 = 100_000;

/// How long a shard that has withheld video must keep up before it lets some viewers have it again,
/// and between two such steps; doubled each time that proves too early.
pub const ADMISSION_INTERVAL_US: u64 = 1_000_000;
/// See [`ADMISSION_INTERVAL_US`].
pub const MAX_ADMISSION_INTERVAL_US: u64 = 32_000_000;

/// Share of all viewers that is let back in at once.
pub const ADMISSION_SHARE: f64 = 0.05;

/// Longest time that a packet of video may be made to wait for the rest of its frame: more would be
/// felt where frames come sixty times a second.
pub const MAX_TRAIN_WAIT_US: u64 = 2_000;

/// How long it waits unless told otherwise. Browsers hand over nearly every frame within a
/// millisecond (the fixtures of the benchmarks have the figures).
pub const DEFAULT_TRAIN_WAIT_US: u64 = 1_000;

/// How long a shard with an unfinished frame sleeps before it looks whether the rest has come,
/// instead of being woken by every packet: less than what a frame takes to come in.
pub const GATHER_NAP_US: u64 = 150;

/// Longest time that a packet of audio may be made to wait for others: one packet time of Opus.
pub const MAX_AUDIO_TRAIN_WAIT_US: u64 = 20_000;

/// A viewer may be sent again one byte for so many that it is sent: enough where every third packet
/// is lost. Beyond that a link cannot carry the stream, and resending makes it worse.
pub const RESEND_SHARE: u64 = 2;

/// What a viewer may be sent again at least, whatever it is sent, in bytes a second: audio alone
/// would hardly be repaired by its share.
pub const RESEND_FLOOR_BYTES_PER_SECOND: u64 = 64_000;

/// What a viewer may be sent again at once, in bytes, unless a second's share is more: an outage of
/// a quarter of a second at 8 Mbit/s.
pub const RESEND_BURST_BYTES: u64 = 256 * 1024;

/// Packets a shard sends again in a second and, since time stands still within one, in a turn, to
/// all viewers together. A turn's take about half a millisecond: so long is everybody else kept
/// waiting when thousands of links are bad at once.
pub const RESENDS_PER_SECOND: u32 = 200_000;
/// See [`RESENDS_PER_SECOND`].
pub const RESENDS_PER_TURN: u32 = 512;

/// A packet is not sent again to the same viewer within this time: the request was for the copy
/// that is already on its way.
pub const RETRANSMISSION_QUIET_US: u64 = 15_000;

/// Shortest time between two keyframe requests to one source, however many viewers ask.
pub const KEYFRAME_REQUEST_INTERVAL_US: u64 = 500_000;

/// Shortest time between two requests for a keyframe that somebody could do without.
pub const KEYFRAME_WISH_INTERVAL_US: u64 = 5_000_000;

/// Pause between the rounds of periodic work. One round in [`SWEEP_ROUNDS`] looks at a given
/// transport, so each is looked at once a second.
pub const TICK_US: u64 = 10_000;
/// See [`TICK_US`].
pub const SWEEP_ROUNDS: u64 = 100;

/// Pause between two transport-wide feedback packets to a publisher; browsers expect 50 to 100 ms.
pub const TWCC_INTERVAL_US: u64 = 50_000;

/// Largest RTCP packet we build: fits any path.
pub const MAX_RTCP_BYTES: usize = 1200;

/// A publisher of whom nothing has come for this long is reported as silent, unless told otherwise:
/// sound comes every 20 ms and pictures every 33 or 40 ms, so that this is no jitter; and what remains
/// of half a second is enough to show another publisher instead.
pub const DEFAULT_PUBLISHER_SILENCE_US: u64 = 300_000;

/// An encoding of simulcast that nobody has watched for so long is not asked for, unless told otherwise:
/// longer than viewers take to come back, or to change to and fro.
pub const DEFAULT_PAUSE_UNWATCHED_US: u64 = 8_000_000;

/// Tracks that one command attaches at most. A turn's commands then attach a thousand, in 0.3 ms, before
/// the shard looks at the network again; and the ring has room for 65,000 of them.
pub const TRACKS_PER_COMMAND: usize = 16;

/// A rendition that has sent nothing for this long is reported as inactive.
pub const INACTIVE_AFTER_US: u64 = 2_000_000;

const _: () = assert!(CROSSING_PATIENCE_US < CHANGE_PATIENCE_US);
const _: () = assert!(VIDEO_STORE_PACKETS.is_power_of_two());
const _: () = assert!(AUDIO_STORE_PACKETS.is_power_of_two());
const _: () = assert!(MAX_CACHE_PACKETS.is_power_of_two());
const _: () = assert!(POOL_SLOTS > 8 * VIDEO_STORE_PACKETS);
const _: () = assert!(MAX_TAPS_PER_SHARD * MAX_BURST_PACKETS <= POOL_SLOTS / 4);
