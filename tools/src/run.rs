//! A whole run: server, publishers, viewers, steady state, report.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use hdrhistogram::Histogram;
use indicatif::{ProgressBar, ProgressStyle};
use reqwest::Url;
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use crate::args::{BenchArgs, SrtpArg};
use crate::client::JoinError;
use crate::client::dtls::Identity;
use crate::client::join::{Context, Session, join};
use crate::client::sdp::Ssrcs;
use crate::client::signalling;
use crate::find_max;
use crate::floor;
use crate::measure::joining::Joining;
use crate::measure::moment::Moment;
use crate::measure::system::{MachineCpu, ProcessCpu, receive_buffer_errors, resident_tree_bytes};
use crate::measure::totals::{histogram_us, record_us};
use crate::media::source::Shape;
use crate::publisher::Publishers;
use crate::receiver::Receivers;
use crate::report::{self, Report, Step};
use crate::server::{self, OwnServer};
use crate::settle::{settle, undisturbed_bytes_per_second};

/// Joins on their way at once.
const MAX_JOINING: usize = 64;
/// A timer's granularity, with some margin.
const TIMER_SLACK: Duration = Duration::from_millis(4);
/// After the ramp, without publishers of the run's own: what joining caused dies down.
const SETTLE: Duration = Duration::from_secs(1);
/// How long viewers may take from their keys to their first packet.
const FIRST_PACKET_TIMEOUT: Duration = Duration::from_secs(5);
/// DELETEs on their way at once.
const MAX_LEAVING: usize = 32;

/// Runs what the command line asks for and prints the result.
///
/// # Errors
/// When nothing could be measured.
pub fn run(args: BenchArgs) -> anyhow::Result<()> {
    raise_open_files();
    if args.floor {
        return floor::run(&args);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("join")
        .enable_all()
        .build()
        .context("cannot start the joining threads")?;
    runtime.block_on(measure(args))
}

async fn measure(args: BenchArgs) -> anyhow::Result<()> {
    let own = match &args.whep {
        Some(_) => None,
        None => Some(start_server(&args).await?),
    };
    let report = measure_server(&args, own.as_ref()).await;
    let log = match own {
        Some(server) => server.stop().await,
        None => String::new(),
    };
    let report = report.with_context(|| log.clone())?;
    if !log.trim().is_empty() {
        eprintln!("The server said:\n{}", log.trim_end());
    }
    print!("{}", report::table::render(&report));
    if let Some(path) = &args.json {
        let json = serde_json::to_string_pretty(&report)?;
        std::fs::write(path, json + "\n")
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    if let Some(path) = &args.svg {
        report::plot::write(&report, path)
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

fn cpus() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

fn shards(args: &BenchArgs) -> usize {
    args.shards.unwrap_or(cpus() / 2).max(1)
}

async fn start_server(args: &BenchArgs) -> anyhow::Result<OwnServer> {
    let program = server::program(args.server.as_deref())?;
    OwnServer::start(&program, shards(args)).await
}

async fn measure_server(args: &BenchArgs, own: Option<&OwnServer>) -> anyhow::Result<Report> {
    let mut bench = Bench::start(args, own).await?;
    let steps = if args.searches() {
        find_max::search(&mut bench).await
    } else {
        let usual = match args.room {
            Some(_) => u64::from(args.publishers),
            None => 100,
        };
        let viewers = args.viewers.unwrap_or(usual);
        bench.adjust(viewers).await;
        let duration = Duration::from_secs_f64(args.duration.clamp(0.1, 86_400.0));
        bench.measure(duration).await.map(|step| vec![step])
    };
    bench.stop().await;
    let steps = steps?;
    Ok(Report::new(
        args,
        own.map(|_| shards(args)),
        steps,
        bench.failures,
        &bench.phases,
        &bench.joining,
        bench.srtp_chosen,
    ))
}

/// Opens as many files as the system allows: each viewer is one.
pub fn raise_open_files() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // Joins fail one by one, with a reason, if this was not enough.
    let _ = setrlimit(Resource::Nofile, limit);
}

/// A viewer that has joined, as far as leaving is concerned.
struct Joined {
    id: u64,
    resource: Option<Url>,
}

/// A viewer's number, and how its join ended.
type JoinResult = (u64, Result<Session, JoinError>);

/// What joining consisted of, in microseconds each.
#[derive(Debug, Clone)]
pub struct JoinPhases {
    /// From the POST to the answer.
    pub answer_us: Histogram<u64>,
    /// From the answer to the first connectivity check that succeeded.
    pub check_us: Histogram<u64>,
    /// The DTLS handshake.
    pub handshake_us: Histogram<u64>,
}

/// Why joins failed, and how often.
#[derive(Debug, Clone, Default)]
pub struct Failures {
    /// How many.
    pub count: u64,
    /// The first few reasons, each different.
    pub reasons: Vec<String>,
}

impl Failures {
    fn note(&mut self, error: &JoinError) {
        self.count += 1;
        let reason = error.to_string();
        if self.reasons.len() < 5 && !self.reasons.contains(&reason) {
            self.reasons.push(reason);
        }
    }
}

/// Everything that runs during a measurement.
pub struct Bench {
    pub(crate) args: BenchArgs,
    context: Arc<Context>,
    receivers: Receivers,
    publishers: Option<Publishers>,
    /// What they send when nobody asks for keyframes.
    load_bytes_per_second: f64,
    published: Vec<Url>,
    endpoints: Vec<Url>,
    viewers: Vec<Joined>,
    next_id: u64,
    pid: Option<u32>,
    /// Resident memory of the server before the first viewer.
    empty_bytes: Option<u64>,
    failures: Failures,
    phases: JoinPhases,
    joining: Joining,
    srtp_chosen: Vec<SrtpArg>,
    bar: ProgressBar,
}

impl Bench {
    async fn start(args: &BenchArgs, own: Option<&OwnServer>) -> anyhow::Result<Self> {
        let identity = Identity::generate()?;
        let context = Arc::new(Context {
            // Viewers come from different places: each has a connection of its own.
            http: reqwest::Client::builder()
                .pool_max_idle_per_host(0)
                .timeout(Duration::from_secs(20))
                .build()
                .context("cannot make an HTTP client")?,
            token: args.token.clone(),
            identity,
            profiles: args.srtp.iter().map(|srtp| srtp.profile()).collect(),
            video: args.codec,
            audio: !args.no_audio,
            levels: args.room.is_some(),
            slots: args.viewer_slots(),
            extensions: args.extensions,
            gro: !args.no_gro,
            receive_buffer_bytes: args.receive_buffer,
        });
        let whep = match (own, &args.whep, &args.room) {
            (Some(own), _, Some(room)) => own.endpoint("whep", &format!("{room}~?member=m%n")),
            (Some(own), _, None) => own.endpoint("whep", "bench%n"),
            (None, Some(whep), _) => whep.clone(),
            (None, None, _) => bail!("give --whep"),
        };
        let whip = own.map(|own| match &args.room {
            Some(room) => own.endpoint("whip", &format!("{room}~m%n")),
            None => own.endpoint("whip", "bench%n"),
        });
        let whip = whip.or(args.whip.clone());
        let endpoints = (0..args.publishers)
            .map(|number| args.endpoint(&whep, number))
            .collect::<anyhow::Result<Vec<_>>>()?;
        let pid = match own {
            Some(own) => Some(own.pid()),
            None => args.pid.or(ask_for_pid(&context, &endpoints[0]).await),
        };
        let cores = match own {
            Some(_) => core_affinity::get_core_ids().unwrap_or_default(),
            None => Vec::new(),
        };
        // A server of our own has its shards on the first cores.
        let left = cores.get(shards(args)..).unwrap_or_default();
        let threads = args.threads.unwrap_or(left.len().max(1));
        let receivers = Receivers::start(threads, left, args.verify)
            .context("cannot start the receiving threads")?;
        let mut bench = Self {
            args: args.clone(),
            context,
            receivers,
            publishers: None,
            load_bytes_per_second: 0.0,
            published: Vec::new(),
            endpoints,
            viewers: Vec::new(),
            next_id: 0,
            pid,
            empty_bytes: None,
            failures: Failures::default(),
            phases: JoinPhases {
                answer_us: histogram_us(),
                check_us: histogram_us(),
                handshake_us: histogram_us(),
            },
            joining: Joining::default(),
            srtp_chosen: Vec::new(),
            bar: progress_bar(args.quiet),
        };
        if let Some(whip) = whip {
            bench.publish(&whip).await?;
        }
        bench.empty_bytes = bench.pid.and_then(resident_tree_bytes);
        Ok(bench)
    }

    async fn publish(&mut self, whip: &str) -> anyhow::Result<()> {
        self.bar.set_message("publishing");
        let mut sessions = Vec::new();
        for number in 0..self.args.publishers {
            let endpoint = self.args.endpoint(whip, number)?;
            let base = 0x1000_0000 + u32::from(number) * 16;
            let ssrcs = Ssrcs {
                audio: (!self.args.no_audio).then_some(base),
                video: base + 1,
                rtx: base + 2,
            };
            let session = join(&self.context, &endpoint, Some(ssrcs))
                .await
                .with_context(|| format!("publisher {number} cannot join"))?;
            self.published.extend(session.resource.clone());
            sessions.push((session, ssrcs));
        }
        let shape = Shape {
            codec: self.args.codec,
            bitrate_bps: self.args.bitrate,
            fps: self.args.fps,
            audio: !self.args.no_audio,
            keyframe_interval_ns: (self.args.keyframe_interval.max(0.0) * 1e9) as u64,
        };
        self.load_bytes_per_second =
            undisturbed_bytes_per_second(shape) * f64::from(self.args.publishers);
        self.publishers = Some(Publishers::start(sessions, shape, self.context.levels)?);
        Ok(())
    }

    /// Viewers there are.
    #[must_use]
    pub fn viewers(&self) -> u64 {
        self.viewers.len() as u64
    }

    /// Lets viewers join or leave until there are `target`, and waits until they receive.
    /// Viewers that cannot join are counted, not tried again.
    pub async fn adjust(&mut self, target: u64) {
        if self.viewers() > target {
            self.shrink(target).await;
        } else {
            self.grow(target).await;
        }
        self.wait_for_first_packets().await;
    }

    async fn grow(&mut self, target: u64) {
        self.bar.set_length(target);
        self.bar.set_message("joining");
        let begin = self.moment(false);
        let mut joining: JoinSet<JoinResult> = JoinSet::new();
        let interval = Duration::from_secs_f64(1.0 / f64::from(self.args.ramp.max(1)));
        let missing = target.saturating_sub(self.viewers());
        let mut next = Instant::now();
        for _ in 0..missing {
            sleep_until(next).await;
            // A late join does not make the following ones crowd, more than the timer makes them.
            next = (next + interval).max(Instant::now() - interval.max(TIMER_SLACK));
            while joining.len() >= MAX_JOINING {
                let done = joining.join_next().await;
                self.joined(done);
            }
            while let Some(done) = joining.try_join_next() {
                self.joined(Some(done));
            }
            let id = self.next_id;
            self.next_id += 1;
            let context = Arc::clone(&self.context);
            let endpoint = self.endpoints[id as usize % self.endpoints.len()].clone();
            joining.spawn(async move { (id, join(&context, &endpoint, None).await) });
        }
        while let Some(done) = joining.join_next().await {
            self.joined(Some(done));
        }
        // A server that has gone is noticed by the measurement that follows.
        if let (Ok(begin), Ok(end)) = (begin, self.moment(false)) {
            self.joining.add(&begin, &end);
        }
    }

    fn joined(&mut self, done: Option<Result<JoinResult, tokio::task::JoinError>>) {
        match done {
            Some(Ok((id, Ok(mut session)))) => {
                let resource = session.resource.take();
                self.note_phases(&session);
                let profile = SrtpArg::of(session.keys.profile());
                if !self.srtp_chosen.contains(&profile) {
                    self.srtp_chosen.push(profile);
                }
                self.receivers.add(id, session);
                self.viewers.push(Joined { id, resource });
                self.bar.set_position(self.viewers());
            }
            Some(Ok((_, Err(error)))) => self.failures.note(&error),
            Some(Err(_)) | None => {}
        }
    }

    fn note_phases(&mut self, session: &Session) {
        let us = |from: u64, to: u64| to.saturating_sub(from) / 1000;
        let Session {
            posted_ns,
            answered_ns,
            checked_ns,
            keyed_ns,
            ..
        } = *session;
        record_us(&mut self.phases.answer_us, us(posted_ns, answered_ns));
        record_us(&mut self.phases.check_us, us(answered_ns, checked_ns));
        record_us(&mut self.phases.handshake_us, us(checked_ns, keyed_ns));
    }

    async fn shrink(&mut self, target: u64) {
        self.bar.set_message("leaving");
        let leaving = self.viewers.split_off(target as usize);
        let ids: Vec<u64> = leaving.iter().map(|viewer| viewer.id).collect();
        let resources = leaving.into_iter().filter_map(|viewer| viewer.resource);
        self.delete(resources.collect()).await;
        self.receivers.remove(&ids);
    }

    async fn delete(&self, resources: Vec<Url>) {
        let mut deleting = JoinSet::new();
        for resource in resources {
            while deleting.len() >= MAX_LEAVING {
                deleting.join_next().await;
            }
            let context = Arc::clone(&self.context);
            deleting.spawn(async move {
                signalling::delete(&context.http, resource, context.token.as_deref()).await;
            });
        }
        while deleting.join_next().await.is_some() {}
    }

    async fn wait_for_first_packets(&self) {
        let deadline = Instant::now() + FIRST_PACKET_TIMEOUT;
        while Instant::now() < deadline && self.receivers.report(false).joined < self.viewers() {
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Measures the steady state for `duration`.
    ///
    /// # Errors
    /// When there is no viewer, or the server's process is gone.
    pub async fn measure(&mut self, duration: Duration) -> anyhow::Result<Step> {
        if self.viewers.is_empty() {
            bail!(
                "no viewer could join:\n{}",
                self.failures.reasons.join("\n")
            );
        }
        match &self.publishers {
            Some(publishers) => settle(publishers, self.load_bytes_per_second).await,
            None => sleep(SETTLE).await,
        }
        let begin = self.moment(true)?;
        self.watch(duration).await;
        let end = self.moment(false)?;
        Ok(Step::between(&begin, &end, self.empty_bytes))
    }

    /// Waits, showing what arrives.
    async fn watch(&self, duration: Duration) {
        let until = Instant::now() + duration;
        while Instant::now() < until {
            let before = self.receivers.report(false);
            let from = Instant::now();
            sleep_until((from + Duration::from_millis(500)).min(until)).await;
            if !self.bar.is_hidden() {
                let counts = self.receivers.report(false).counts.since(before.counts);
                let seconds = from.elapsed().as_secs_f64();
                self.bar.set_message(format!(
                    "measuring: {:.0} packets/s, {:.0} Mbit/s, {} lost",
                    counts.packets as f64 / seconds,
                    counts.bytes as f64 * 8.0 / 1e6 / seconds,
                    counts.lost(),
                ));
            }
        }
    }

    fn moment(&self, reset_latency: bool) -> anyhow::Result<Moment> {
        let load = |counter: &std::sync::atomic::AtomicU64| {
            counter.load(std::sync::atomic::Ordering::Relaxed)
        };
        let publishers = self.publishers.as_ref().map(Publishers::counters);
        Ok(Moment {
            at: Instant::now(),
            viewers: self.viewers(),
            totals: self.receivers.report(reset_latency),
            server: self.pid.map(ProcessCpu::read_tree).transpose()?,
            server_bytes: self.pid.and_then(resident_tree_bytes),
            own: ProcessCpu::read(std::process::id())?,
            machine: MachineCpu::read(),
            receive_buffer_errors: receive_buffer_errors(),
            published_packets: publishers.map_or(0, |p| load(&p.packets)),
            published_bytes: publishers.map_or(0, |p| load(&p.bytes)),
            load_bytes_per_second: self.load_bytes_per_second,
            late_frames: publishers.map_or(0, |p| load(&p.late_frames) + load(&p.send_failures)),
            keyframes: publishers.map_or(0, |p| load(&p.keyframes)),
            retransmitted: publishers.map_or(0, |p| load(&p.retransmitted)),
        })
    }

    async fn stop(&mut self) {
        self.bar.set_message("leaving");
        self.shrink(0).await;
        let published = std::mem::take(&mut self.published);
        self.delete(published).await;
        self.publishers = None;
        self.bar.finish_and_clear();
    }
}

/// Servers made for comparison tell their process at `/pid`.
async fn ask_for_pid(context: &Context, endpoint: &Url) -> Option<u32> {
    let local = matches!(
        endpoint.host_str(),
        Some("127.0.0.1" | "localhost" | "[::1]")
    );
    let url = endpoint.join("/pid").ok().filter(|_| local)?;
    let response = context.http.get(url).send().await.ok()?;
    let response = response.error_for_status().ok()?;
    response.text().await.ok()?.trim().parse().ok()
}

fn progress_bar(quiet: bool) -> ProgressBar {
    if quiet {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(0);
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} viewers  {msg}") {
        bar.set_style(style);
    }
    bar
}
