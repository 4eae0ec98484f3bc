//! CPU time, memory and dropped datagrams, from `/proc`.
//!
//! CPU time is per thread, in nanoseconds, from the scheduler's own account (`schedstat`), which
//! includes what the kernel does in a thread's name: sending over loopback, for one, also counts
//! what the receiving socket's side of the network stack costs.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

/// Linux reports times in `/proc/PID/stat` and `/proc/stat` in this unit on every architecture.
const TICK_NS: u64 = 10_000_000;

/// Why nothing can be said about a process.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {path}: {source}; is process {pid} alive and yours to inspect?")]
pub struct ProcessError {
    pid: u32,
    path: String,
    source: std::io::Error,
}

/// The CPU time of each thread of one or more processes, by thread id.
#[derive(Debug, Clone, Default)]
pub struct ProcessCpu {
    threads: BTreeMap<u32, (String, u64)>,
}

impl ProcessCpu {
    /// Reads the accounts of all threads now.
    ///
    /// # Errors
    /// [`ProcessError`] when the process is gone or hidden.
    pub fn read(pid: u32) -> Result<Self, ProcessError> {
        let mut cpu = Self::default();
        cpu.add(pid)?;
        Ok(cpu)
    }

    /// The same of a process and all its descendants. Those that end before a later reading are
    /// missing from the difference.
    ///
    /// # Errors
    /// [`ProcessError`] when the process is gone or hidden.
    pub fn read_tree(pid: u32) -> Result<Self, ProcessError> {
        let mut cpu = Self::read(pid)?;
        for descendant in tree(pid).into_iter().skip(1) {
            // It may have ended since.
            let _ = cpu.add(descendant);
        }
        Ok(cpu)
    }

    fn add(&mut self, pid: u32) -> Result<(), ProcessError> {
        let path = format!("/proc/{pid}/task");
        let tasks = fs::read_dir(&path).map_err(|source| ProcessError { pid, path, source })?;
        for task in tasks.flatten() {
            let Some(id) = task.file_name().to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            let path = task.path();
            // A thread may end between the listing and here.
            let Some(ns) = thread_ns(path.clone()) else {
                continue;
            };
            let name = fs::read_to_string(path.join("comm")).unwrap_or_default();
            self.threads.insert(id, (name.trim().to_owned(), ns));
        }
        Ok(())
    }

    /// Nanoseconds of CPU each thread took since `earlier`, by name, most first. Threads of one
    /// name are added together.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Vec<(String, u64)> {
        let mut by_name: BTreeMap<&str, u64> = BTreeMap::new();
        for (id, (name, ns)) in &self.threads {
            let before = earlier.threads.get(id).map_or(0, |(_, ns)| *ns);
            *by_name.entry(name).or_default() += ns.saturating_sub(before);
        }
        let mut all: Vec<_> = by_name
            .into_iter()
            .map(|(name, ns)| (name.to_owned(), ns))
            .collect();
        all.sort_by_key(|(_, ns)| std::cmp::Reverse(*ns));
        all
    }

    /// The most any single thread whose name starts with `prefix` took since `earlier`.
    #[must_use]
    pub fn busiest_since(&self, earlier: &Self, prefix: &str) -> u64 {
        let named = self
            .threads
            .iter()
            .filter(|(_, (name, _))| name.starts_with(prefix));
        named
            .map(|(id, (_, ns))| ns - earlier.threads.get(id).map_or(0, |(_, ns)| *ns).min(*ns))
            .max()
            .unwrap_or(0)
    }
}

/// A process and all its descendants, the process first.
fn tree(pid: u32) -> Vec<u32> {
    let mut tree = vec![pid];
    let mut next = 0;
    while let Some(&pid) = tree.get(next) {
        next += 1;
        let tasks = fs::read_dir(format!("/proc/{pid}/task"));
        for task in tasks.into_iter().flatten().flatten() {
            let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
            let children = children.split_ascii_whitespace();
            tree.extend(children.filter_map(|child| child.parse::<u32>().ok()));
        }
    }
    tree
}

fn thread_ns(task: PathBuf) -> Option<u64> {
    if let Ok(schedstat) = fs::read_to_string(task.join("schedstat"))
        && let Some(ns) = parse_schedstat(&schedstat)
    {
        return Some(ns);
    }
    // A kernel without scheduler statistics: coarser.
    parse_stat_ticks(&fs::read_to_string(task.join("stat")).ok()?).map(|ticks| ticks * TICK_NS)
}

/// The first field: nanoseconds on a CPU. All zero when the kernel does not keep it.
fn parse_schedstat(text: &str) -> Option<u64> {
    let mut fields = text.split_ascii_whitespace();
    let ns = fields.next()?.parse().ok()?;
    let used = fields.any(|field| field != "0");
    (ns > 0 || used).then_some(ns)
}

/// Fields 14 and 15 of `stat`, counted after the name, which may hold anything but ends in the
/// last parenthesis.
fn parse_stat_ticks(text: &str) -> Option<u64> {
    let (_, fields) = text.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

/// Resident memory of a process and all its descendants, in bytes.
#[must_use]
pub fn resident_tree_bytes(pid: u32) -> Option<u64> {
    let own = resident_bytes(pid)?;
    let descendants = tree(pid).into_iter().skip(1);
    Some(own + descendants.filter_map(resident_bytes).sum::<u64>())
}

fn resident_bytes(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    parse_resident(&status)
}

fn parse_resident(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.split_ascii_whitespace().next()?.parse().ok()?;
    Some(kib * 1024)
}

/// CPU time of the whole machine, in nanoseconds, and how many CPUs share it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MachineCpu {
    /// Time any CPU was not idle, without what a hypervisor took.
    pub busy_ns: u64,
    /// Time a hypervisor gave to others.
    pub stolen_ns: u64,
    /// CPUs online.
    pub cpus: u32,
}

impl MachineCpu {
    /// The account now; zero where `/proc/stat` cannot be read.
    #[must_use]
    pub fn read() -> Self {
        parse_machine(&fs::read_to_string("/proc/stat").unwrap_or_default())
    }
}

fn parse_machine(stat: &str) -> MachineCpu {
    let mut machine = MachineCpu::default();
    for line in stat.lines() {
        let mut fields = line.split_ascii_whitespace();
        let Some(name) = fields.next().and_then(|name| name.strip_prefix("cpu")) else {
            continue;
        };
        if !name.is_empty() {
            machine.cpus += 1;
            continue;
        }
        // user nice system idle iowait irq softirq steal
        let ticks: Vec<u64> = fields.map(|field| field.parse().unwrap_or(0)).collect();
        let busy: u64 = [0, 1, 2, 5, 6].iter().filter_map(|&at| ticks.get(at)).sum();
        machine.busy_ns = busy * TICK_NS;
        machine.stolen_ns = ticks.get(7).copied().unwrap_or(0) * TICK_NS;
    }
    machine
}

/// Datagrams that this machine's UDP sockets had no room for, since boot.
#[must_use]
pub fn receive_buffer_errors() -> u64 {
    let v4 = fs::read_to_string("/proc/net/snmp").unwrap_or_default();
    let v6 = fs::read_to_string("/proc/net/snmp6").unwrap_or_default();
    parse_snmp(&v4, "Udp:", "RcvbufErrors") + parse_snmp6(&v6, "Udp6RcvbufErrors")
}

fn parse_snmp(text: &str, protocol: &str, counter: &str) -> u64 {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix(protocol));
    let (Some(names), Some(values)) = (lines.next(), lines.next()) else {
        return 0;
    };
    let mut pairs = names
        .split_ascii_whitespace()
        .zip(values.split_ascii_whitespace());
    pairs
        .find(|(name, _)| *name == counter)
        .and_then(|(_, value)| value.parse().ok())
        .unwrap_or(0)
}

fn parse_snmp6(text: &str, counter: &str) -> u64 {
    text.lines()
        .filter_map(|line| line.strip_prefix(counter))
        .find_map(|value| value.trim().parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_files_are_read_as_the_kernel_writes_them() {
        assert_eq!(parse_schedstat("123456 789 10\n"), Some(123_456));
        assert_eq!(parse_schedstat("0 0 0\n"), None, "not kept by this kernel");
        let stat = "77 (odd) name) S 1 77 77 0 -1 4194560 1 2 3 4 250 130 0 0 20 0";
        assert_eq!(parse_stat_ticks(stat), Some(380));
        assert_eq!(
            parse_resident("Name:\tx\nVmRSS:\t  2048 kB\n"),
            Some(2 << 20)
        );
        let machine = parse_machine("cpu  1 2 3 100 50 4 5 6 0 0\ncpu0 1\ncpu1 1\nintr 5\n");
        let expected = MachineCpu {
            busy_ns: 15 * TICK_NS,
            stolen_ns: 6 * TICK_NS,
            cpus: 2,
        };
        assert_eq!(machine, expected);
        let snmp = "Tcp: A\nTcp: 1\nUdp: InDatagrams RcvbufErrors\nUdp: 5 17\n";
        assert_eq!(parse_snmp(snmp, "Udp:", "RcvbufErrors"), 17);
        assert_eq!(
            parse_snmp6("Udp6RcvbufErrors   \t3\n", "Udp6RcvbufErrors"),
            3
        );
    }

    #[test]
    fn this_process_is_charged_for_what_it_does() {
        let pid = std::process::id();
        let before = ProcessCpu::read(pid).expect("this process is alive");
        let mut sum = 0u64;
        let mut spent = 0;
        while spent < 20_000_000 {
            for i in 0..1_000_000u64 {
                sum = std::hint::black_box(sum.wrapping_mul(31).wrapping_add(i));
            }
            let now = ProcessCpu::read(pid).expect("this process is alive");
            spent = now.since(&before).iter().map(|(_, ns)| ns).sum();
        }
        assert!(resident_bytes(pid).is_some_and(|bytes| bytes > 1 << 20));
    }

    #[test]
    fn a_process_is_charged_for_its_children() {
        // The shell waits for its child, which spins: all that is charged is the child's.
        let mut shell = std::process::Command::new("sh")
            .args(["-c", "sh -c 'while :; do :; done' & echo $!; wait"])
            .stdout(std::process::Stdio::piped())
            .spawn()
            .expect("there is a shell");
        let mut child = String::new();
        let mut output = std::io::BufReader::new(shell.stdout.take().expect("it is piped"));
        std::io::BufRead::read_line(&mut output, &mut child).expect("the shell tells the child");
        let child = child.trim().parse().expect("a process id");
        let before = ProcessCpu::read_tree(shell.id()).expect("the shell waits");
        let spent = |now: &ProcessCpu| now.since(&before).iter().map(|(_, ns)| ns).sum::<u64>();
        while spent(&ProcessCpu::read_tree(shell.id()).expect("the shell waits")) < 20_000_000 {
            std::thread::yield_now();
        }
        assert!(spent(&ProcessCpu::read(shell.id()).expect("the shell waits")) < 20_000_000);
        assert!(resident_tree_bytes(shell.id()) > resident_bytes(shell.id()));
        let child = rustix::process::Pid::from_raw(child).expect("a process id");
        rustix::process::kill_process(child, rustix::process::Signal::KILL).expect("it runs");
        shell.wait().expect("the shell ends with its child");
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in "\\PC{0,200}") {
            let _ = (parse_schedstat(&text), parse_stat_ticks(&text), parse_resident(&text));
            let _ = (parse_machine(&text), parse_snmp(&text, "Udp:", "X"), parse_snmp6(&text, "X"));
        }
    }
}
