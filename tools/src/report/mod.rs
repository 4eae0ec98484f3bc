//! The result of a run as data: what JSON has, and what the table and the plot are made from.
//!
//! Beside every figure of the server stands what could have disturbed it: how busy the generator
//! was, how busy others were, and what the machine's sockets dropped.

pub mod plot;
pub mod table;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::args::{BenchArgs, SrtpArg};
use crate::measure::joining::Joining;
use crate::measure::moment::Moment;
use crate::measure::totals::Counts;
use crate::run::{Failures, JoinPhases};
use crate::settle::SETTLED_SHARE;

/// A receiving thread above this share of a CPU may be the limit.
const BUSY_THREAD: f64 = 0.85;
/// A machine above this share of its CPUs has none to spare.
const BUSY_MACHINE: f64 = 0.95;
/// Other processes above this many CPUs disturb.
const DISTURBING_CPUS: f64 = 0.2;

/// Percentiles of a duration, in microseconds.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct Percentiles {
    /// Values recorded.
    pub count: u64,
    /// Median.
    pub p50_us: u64,
    /// 99th percentile.
    pub p99_us: u64,
    /// 99.9th percentile.
    pub p999_us: u64,
    /// Largest.
    pub max_us: u64,
}

impl From<&Histogram<u64>> for Percentiles {
    fn from(histogram: &Histogram<u64>) -> Self {
        Self {
            count: histogram.len(),
            p50_us: histogram.value_at_quantile(0.5),
            p99_us: histogram.value_at_quantile(0.99),
            p999_us: histogram.value_at_quantile(0.999),
            max_us: histogram.max(),
        }
    }
}

/// CPU time of some threads.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ThreadCpu {
    /// Their name.
    pub name: String,
    /// CPUs they kept busy.
    pub cpus: f64,
}

/// What a process took.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Usage {
    /// CPUs it kept busy.
    pub cpus: f64,
    /// CPU nanoseconds per packet delivered to a viewer.
    pub ns_per_packet: f64,
    /// The same by thread name, most first.
    pub threads: Vec<ThreadCpu>,
}

impl Usage {
    fn new(threads: Vec<(String, u64)>, seconds: f64, packets: u64) -> Self {
        let total: u64 = threads.iter().map(|(_, ns)| ns).sum();
        let cpus = |ns: u64| ns as f64 / 1e9 / seconds;
        Self {
            cpus: cpus(total),
            ns_per_packet: total as f64 / packets.max(1) as f64,
            threads: threads
                .into_iter()
                .filter(|(_, ns)| *ns > 0)
                .take(8)
                .map(|(name, ns)| ThreadCpu {
                    name,
                    cpus: cpus(ns),
                })
                .collect(),
        }
    }
}

/// The steady state with one number of viewers.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Step {
    /// Viewers that hold a session.
    pub viewers: u64,
    /// Of them, those that verified a packet.
    pub joined: u64,
    /// Of those, those without media for a second at the end.
    pub silent: u64,
    /// Viewers whose server stopped consenting.
    pub expired: u64,
    /// Length of the measurement, in seconds.
    pub seconds: f64,
    /// What was counted in that time.
    pub counts: Counts,
    /// Packets delivered per second.
    pub packets_per_second: f64,
    /// Bits delivered per second, in UDP payloads.
    pub bitrate_bps: f64,
    /// Share of packets that never came.
    pub loss: f64,
    /// Publisher to viewer, of verified packets.
    pub latency: Percentiles,
    /// POST to first verified packet, of all viewers so far.
    pub join: Percentiles,
    /// POST to first keyframe, of all viewers so far.
    pub picture: Percentiles,
    /// The server, if its process is known.
    pub server: Option<Usage>,
    /// Its resident memory at the end, in bytes.
    pub server_resident_bytes: Option<u64>,
    /// Growth of it since before the first viewer, per viewer.
    pub server_bytes_per_viewer: Option<f64>,
    /// This process.
    pub generator: Usage,
    /// Share of a CPU that the busiest receiving thread took.
    pub busiest_receiver: f64,
    /// CPUs that all other processes kept busy; without a known server, the server among them.
    pub others_cpus: f64,
    /// CPUs that a hypervisor gave to others.
    pub stolen_cpus: f64,
    /// CPUs there are.
    pub machine_cpus: u32,
    /// Datagrams dropped at full sockets of this machine.
    pub receive_buffer_errors: u64,
    /// RTP packets published.
    pub published_packets: u64,
    /// Bytes published, as a share of what the bit rate asked for; publishers that were asked for
    /// many keyframes send less until they have made up for them.
    pub load_share: Option<f64>,
    /// Published frames that were late, and packets that could not be sent.
    pub publisher_troubles: u64,
    /// Keyframes published.
    pub keyframes: u64,
    /// Packets the publishers sent again.
    pub publisher_retransmitted: u64,
    /// What makes these figures doubtful.
    pub doubts: Vec<String>,
}

impl Step {
    /// What happened between two moments. `empty_bytes` is the server's resident memory before
    /// the first viewer.
    #[must_use]
    pub fn between(begin: &Moment, end: &Moment, empty_bytes: Option<u64>) -> Self {
        let seconds = (end.at - begin.at).as_secs_f64().max(1e-3);
        let counts = end.totals.counts.since(begin.totals.counts);
        let server = match (&begin.server, &end.server) {
            (Some(begin), Some(end)) => Some(Usage::new(end.since(begin), seconds, counts.packets)),
            _ => None,
        };
        let generator = Usage::new(end.own.since(&begin.own), seconds, counts.packets);
        let grown = end
            .server_bytes
            .zip(empty_bytes)
            .map(|(now, empty)| now.saturating_sub(empty));
        let busy = (end.machine.busy_ns - begin.machine.busy_ns.min(end.machine.busy_ns)) as f64;
        let stolen = end
            .machine
            .stolen_ns
            .saturating_sub(begin.machine.stolen_ns) as f64;
        let known = generator.cpus + server.as_ref().map_or(0.0, |server| server.cpus);
        let busiest = end.own.busiest_since(&begin.own, "receive-") as f64 / 1e9 / seconds;
        let published = end.published_bytes - begin.published_bytes;
        let mut step = Self {
            viewers: end.viewers,
            joined: end.totals.joined,
            silent: end.totals.silent,
            expired: end.totals.expired,
            seconds,
            counts,
            packets_per_second: counts.packets as f64 / seconds,
            bitrate_bps: counts.bytes as f64 * 8.0 / seconds,
            loss: counts.loss(),
            latency: Percentiles::from(&end.totals.latency_us),
            join: Percentiles::from(&end.totals.join_us),
            picture: Percentiles::from(&end.totals.picture_us),
            server,
            server_resident_bytes: end.server_bytes,
            server_bytes_per_viewer: grown.map(|bytes| bytes as f64 / end.viewers.max(1) as f64),
            generator,
            busiest_receiver: busiest,
            others_cpus: (busy / 1e9 / seconds - known).max(0.0),
            stolen_cpus: stolen / 1e9 / seconds,
            machine_cpus: end.machine.cpus,
            receive_buffer_errors: end.receive_buffer_errors
                - begin.receive_buffer_errors.min(end.receive_buffer_errors),
            published_packets: end.published_packets - begin.published_packets,
            load_share: (end.load_bytes_per_second > 0.0)
                .then(|| published as f64 / seconds / end.load_bytes_per_second),
            publisher_troubles: end.late_frames - begin.late_frames,
            keyframes: end.keyframes - begin.keyframes,
            publisher_retransmitted: end.retransmitted - begin.retransmitted,
            doubts: Vec::new(),
        };
        step.doubts = step.find_doubts();
        step
    }

    fn find_doubts(&self) -> Vec<String> {
        let server_cpus = self.server.as_ref().map_or(0.0, |server| server.cpus);
        let all = self.generator.cpus + server_cpus + self.others_cpus + self.stolen_cpus;
        let mut doubts = Vec::new();
        let mut doubt = |holds: bool, text: String| doubts.extend(holds.then_some(text));
        doubt(
            self.busiest_receiver > BUSY_THREAD,
            format!(
                "a receiving thread of this generator was {:.0} % busy: it may have been the limit",
                100.0 * self.busiest_receiver
            ),
        );
        doubt(
            all > BUSY_MACHINE * f64::from(self.machine_cpus),
            format!(
                "the machine had no CPU to spare: of {} CPUs server {server_cpus:.2}, generator \
                 {:.2}, others {:.2}",
                self.machine_cpus, self.generator.cpus, self.others_cpus
            ),
        );
        doubt(
            self.server.is_some() && self.others_cpus + self.stolen_cpus > DISTURBING_CPUS,
            format!(
                "other processes took {:.2} CPUs: latency and the search suffer from it",
                self.others_cpus + self.stolen_cpus
            ),
        );
        doubt(
            self.receive_buffer_errors > 0,
            format!(
                "{} datagrams were dropped at full sockets of this machine; if these are the \
                 viewers', the loss is the generator's (--receive-buffer, --threads)",
                self.receive_buffer_errors
            ),
        );
        let load = self.load_share.unwrap_or(1.0);
        doubt(
            load < SETTLED_SHARE,
            format!(
                "the publisher sent {:.0} % of the bit rate asked for, after too many keyframes",
                100.0 * load
            ),
        );
        doubt(
            self.publisher_troubles > 0,
            format!(
                "the publisher was late or could not send {} times",
                self.publisher_troubles
            ),
        );
        doubts
    }
}

/// A whole run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Report {
    /// What was asked for.
    pub settings: Settings,
    /// Each number of viewers measured, in order.
    pub steps: Vec<Step>,
    /// Joins that failed.
    pub join_failures: u64,
    /// Why: the first few different reasons.
    pub join_failure_reasons: Vec<String>,
    /// SRTP profiles that the server chose, for whichever viewer.
    pub srtp_chosen: Vec<SrtpArg>,
    /// The parts of joining, up to the keys; what remains is the wait for media.
    pub join_phases: JoinPercentiles,
    /// What joining cost.
    pub joining: JoiningCost,
    /// In a search, the largest number of viewers served well.
    pub largest_good: Option<u64>,
}

/// What joining consisted of.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct JoinPercentiles {
    /// From the POST to the answer.
    pub answer: Percentiles,
    /// From the answer to the first connectivity check that succeeded.
    pub check: Percentiles,
    /// The DTLS handshake.
    pub handshake: Percentiles,
}

/// What joining cost, from the POST to the keys.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct JoiningCost {
    /// Viewers that joined.
    pub joins: u64,
    /// Joins per second while viewers were let join.
    pub joins_per_second: f64,
    /// CPU of the server for each, in microseconds, with what it sent meanwhile to those who had
    /// joined.
    pub server_cpu_us: Option<f64>,
    /// CPU of this process for each, in microseconds, with what it received meanwhile.
    pub generator_cpu_us: f64,
    /// Packets lost meanwhile by viewers who had joined.
    pub lost: u64,
}

impl From<&Joining> for JoiningCost {
    fn from(joining: &Joining) -> Self {
        let each_us = |ns: u64| ns as f64 / 1000.0 / joining.joins.max(1) as f64;
        Self {
            joins: joining.joins,
            joins_per_second: joining.joins as f64 / joining.seconds.max(1e-3),
            server_cpu_us: joining.server_cpu_ns.map(each_us),
            generator_cpu_us: each_us(joining.own_cpu_ns),
            lost: joining.lost,
        }
    }
}

/// The settings that matter for the figures.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Settings {
    /// Streams.
    pub publishers: u16,
    /// Video bit rate of each.
    pub bitrate_bps: u64,
    /// Its frames per second.
    pub fps: u32,
    /// Its codec.
    pub codec: crate::client::sdp::VideoCodec,
    /// Whether there is audio.
    pub audio: bool,
    /// The tracks each viewer asked for.
    #[serde(default)]
    pub slots: Option<crate::client::sdp::Slots>,
    /// Whether sockets take coalesced datagrams.
    pub gro: bool,
    /// Which packets were decrypted.
    pub verify: crate::viewer::Verify,
    /// SRTP profiles offered.
    pub srtp: Vec<SrtpArg>,
    /// Shards of the server this run started.
    pub own_server_shards: Option<usize>,
    /// Where the server was, if this run did not start it.
    pub whep: Option<String>,
    /// Kernel release.
    pub kernel: String,
    /// Processor.
    pub processor: String,
}

impl Report {
    /// Puts a run together.
    #[must_use]
    pub fn new(
        args: &BenchArgs,
        own_server_shards: Option<usize>,
        steps: Vec<Step>,
        failures: Failures,
        phases: &JoinPhases,
        joining: &Joining,
        srtp_chosen: Vec<SrtpArg>,
    ) -> Self {
        let good = steps.iter().filter(|step| crate::find_max::is_good(step));
        let largest_good = good.map(|step| step.viewers).max();
        Self {
            settings: Settings {
                publishers: args.publishers,
                bitrate_bps: args.bitrate,
                fps: args.fps,
                codec: args.codec,
                audio: !args.no_audio,
                slots: Some(args.viewer_slots()),
                gro: !args.no_gro,
                verify: args.verify,
                srtp: args.srtp.clone(),
                own_server_shards,
                whep: args.whep.clone(),
                kernel: kernel(),
                processor: processor(),
            },
            steps,
            join_failures: failures.count,
            join_failure_reasons: failures.reasons,
            srtp_chosen,
            join_phases: JoinPercentiles {
                answer: Percentiles::from(&phases.answer_us),
                check: Percentiles::from(&phases.check_us),
                handshake: Percentiles::from(&phases.handshake_us),
            },
            joining: JoiningCost::from(joining),
            largest_good: args.searches().then_some(largest_good.unwrap_or(0)),
        }
    }
}

/// The kernel's release.
#[must_use]
pub fn kernel() -> String {
    let system = rustix::system::uname();
    system.release().to_string_lossy().into_owned()
}

/// The processor's name.
#[must_use]
pub fn processor() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with("model name"));
    let name = line.and_then(|line| line.split_once(':'));
    name.map_or_else(|| "unknown".to_owned(), |(_, name)| name.trim().to_owned())
}
