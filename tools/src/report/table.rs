//! The report as text for people.

use std::fmt::Write;

use super::{JoinPercentiles, JoiningCost, Percentiles, Report, Step, Usage};

/// Renders a report: a table of several steps, or one step in detail.
#[must_use]
pub fn render(report: &Report) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail, here and below.
    let _ = heading(&mut out, report);
    let _ = match &report.steps[..] {
        [step] => detail(&mut out, step, &report.join_phases, &report.joining),
        steps => overview(&mut out, steps),
    };
    if let Some(largest) = report.largest_good {
        let _ = verdict(&mut out, report, largest);
    }
    if report.join_failures > 0 {
        let _ = writeln!(out, "\n{} viewers could not join:", report.join_failures);
        for reason in &report.join_failure_reasons {
            let _ = writeln!(out, "  {reason}");
        }
    }
    out
}

fn heading(out: &mut String, report: &Report) -> std::fmt::Result {
    let settings = &report.settings;
    writeln!(
        out,
        "{} stream(s) of {:.2} Mbit/s {:?} at {} fps{}, on {} (Linux {})",
        settings.publishers,
        settings.bitrate_bps as f64 / 1e6,
        settings.codec,
        settings.fps,
        if settings.audio { " with audio" } else { "" },
        settings.processor,
        settings.kernel,
    )?;
    if let Some(slots) = settings
        .slots
        .filter(|slots| slots.audio > 1 || slots.video > 1)
    {
        let crate::client::sdp::Slots { audio, video } = slots;
        writeln!(
            out,
            "each viewer with {audio} slots of sound and {video} of pictures"
        )?;
    }
    match (&settings.own_server_shards, &settings.whep) {
        (Some(shards), _) => writeln!(out, "server started here with {shards} shard(s)\n"),
        (None, Some(whep)) => writeln!(out, "server at {whep}\n"),
        (None, None) => writeln!(out),
    }
}

fn detail(
    out: &mut String,
    step: &Step,
    phases: &JoinPercentiles,
    joining: &JoiningCost,
) -> std::fmt::Result {
    let counts = &step.counts;
    let mut row = |name: &str, value: String| writeln!(out, "{name:<22}{value}");
    row(
        "viewers",
        format!(
            "{} ({} receive; {} fell silent, {} lost consent)",
            step.viewers, step.joined, step.silent, step.expired
        ),
    )?;
    row("measured", format!("{:.1} s of steady state", step.seconds))?;
    row(
        "delivered",
        format!(
            "{:.0} packets/s, {:.1} Mbit/s",
            step.packets_per_second,
            step.bitrate_bps / 1e6
        ),
    )?;
    row(
        "lost",
        format!(
            "{} of {} ({:.4} %); {} more recovered by retransmission",
            counts.lost(),
            counts.expected,
            100.0 * step.loss,
            counts.recovered
        ),
    )?;
    row(
        "out of order",
        format!(
            "{} reordered, {} duplicates, {} too old",
            counts.reordered, counts.duplicates, counts.too_old
        ),
    )?;
    row(
        "integrity",
        format!(
            "{} failures in {} packets decrypted ({} with a wrong tag, {} changed); webrtc-srtp \
             agrees on {}, not on {}",
            counts.integrity_failures(),
            counts.verified + counts.corrupt + counts.unstamped + counts.auth_failures,
            counts.auth_failures,
            counts.corrupt,
            counts.oracle_agreed,
            counts.oracle_disagreed
        ),
    )?;
    if counts.unstamped > 0 || counts.unknown > 0 {
        row(
            "not ours",
            format!(
                "{} packets without stamp, {} datagrams not understood",
                counts.unstamped, counts.unknown
            ),
        )?;
    }
    row("latency", percentiles(&step.latency))?;
    row("join", percentiles(&step.join))?;
    row("  of it HTTP", percentiles(&phases.answer))?;
    row("  of it ICE", percentiles(&phases.check))?;
    row("  of it DTLS", percentiles(&phases.handshake))?;
    row("joining", cost(joining))?;
    row("first picture", percentiles(&step.picture))?;
    match &step.server {
        Some(server) => row("server CPU", usage(server))?,
        None => row("server CPU", "unknown: give --pid".to_owned())?,
    }
    if let Some(bytes) = step.server_resident_bytes {
        let each = step.server_bytes_per_viewer.unwrap_or(0.0) / 1024.0;
        row(
            "server memory",
            format!(
                "{:.1} MiB, {each:.1} KiB a viewer",
                bytes as f64 / 1048576.0
            ),
        )?;
    }
    row("generator CPU", usage(&step.generator))?;
    row(
        "receiving threads",
        format!(
            "busiest {:.0} % of a CPU; {:.1} packets a call",
            100.0 * step.busiest_receiver,
            counts.packets as f64 / counts.receives.max(1) as f64
        ),
    )?;
    row(
        "machine",
        format!(
            "{} CPUs; other processes {:.2}, stolen {:.2}",
            step.machine_cpus, step.others_cpus, step.stolen_cpus
        ),
    )?;
    doubts(out, step)
}

fn overview(out: &mut String, steps: &[Step]) -> std::fmt::Result {
    writeln!(
        out,
        "{:>8} {:>11} {:>9} {:>9} {:>9} {:>9} {:>9} {:>8} {:>9} {:>8} {:>7}",
        "viewers",
        "packets/s",
        "Mbit/s",
        "loss %",
        "p50 ms",
        "p99 ms",
        "p99.9 ms",
        "srv CPU",
        "ns/packet",
        "gen CPU",
        "others",
    )?;
    for step in steps {
        let server = step.server.as_ref();
        let cpus = server.map_or("-".to_owned(), |server| format!("{:.2}", server.cpus));
        let cost = server.map_or("-".to_owned(), |server| {
            format!("{:.0}", server.ns_per_packet)
        });
        writeln!(
            out,
            "{:>8} {:>11.0} {:>9.1} {:>9.4} {:>9.2} {:>9.2} {:>9.2} {:>8} {:>9} {:>8.2} {:>7.2}",
            step.viewers,
            step.packets_per_second,
            step.bitrate_bps / 1e6,
            100.0 * step.loss,
            ms(step.latency.p50_us),
            ms(step.latency.p99_us),
            ms(step.latency.p999_us),
            cpus,
            cost,
            step.generator.cpus,
            step.others_cpus,
        )?;
    }
    Ok(())
}

fn verdict(out: &mut String, report: &Report, largest: u64) -> std::fmt::Result {
    writeln!(
        out,
        "\n{largest} viewers were served well (loss < 0.1 %, p99 < 50 ms, none silent)."
    )?;
    let failed = report
        .steps
        .iter()
        .filter(|step| !crate::find_max::is_good(step) && step.viewers > largest);
    match failed.min_by_key(|step| step.viewers) {
        Some(step) => {
            writeln!(
                out,
                "{} were not: loss {:.3} %, p99 {:.1} ms, {} silent, {} never received.",
                step.viewers,
                100.0 * step.loss,
                ms(step.latency.p99_us),
                step.silent,
                step.viewers.saturating_sub(step.joined)
            )?;
            if step.doubts.is_empty() {
                writeln!(
                    out,
                    "The generator had CPU to spare: the limit was the server's."
                )
            } else {
                doubts(out, step)
            }
        }
        None => writeln!(out, "No limit was found; --max-viewers ends the search."),
    }
}

fn doubts(out: &mut String, step: &Step) -> std::fmt::Result {
    for doubt in &step.doubts {
        writeln!(out, "! {doubt}")?;
    }
    Ok(())
}

fn percentiles(values: &Percentiles) -> String {
    if values.count == 0 {
        return "nothing recorded".to_owned();
    }
    format!(
        "p50 {:.2} ms, p99 {:.2} ms, p99.9 {:.2} ms, max {:.2} ms",
        ms(values.p50_us),
        ms(values.p99_us),
        ms(values.p999_us),
        ms(values.max_us)
    )
}

fn cost(joining: &JoiningCost) -> String {
    let server = joining.server_cpu_us;
    let server = server.map_or("unknown".to_owned(), |us| format!("{us:.0} us"));
    format!(
        "{:.0} joins/s; CPU for each {server} of the server, {:.0} us of the generator; \
         {} packets lost meanwhile",
        joining.joins_per_second, joining.generator_cpu_us, joining.lost
    )
}

fn usage(usage: &Usage) -> String {
    let threads: Vec<_> = usage
        .threads
        .iter()
        .filter(|thread| thread.cpus >= 0.001)
        .map(|thread| format!("{} {:.3}", thread.name, thread.cpus))
        .collect();
    format!(
        "{:.3} CPUs, {:.0} ns per delivered packet ({})",
        usage.cpus,
        usage.ns_per_packet,
        threads.join(", ")
    )
}

fn ms(us: u64) -> f64 {
    us as f64 / 1000.0
}
