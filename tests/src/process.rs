//! Child processes whose output is kept and whose whole tree ends with the value that owns them.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs;
use std::process::{Command as StdCommand, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};

use crate::netns::Namespace;

/// How many of the last lines a process printed are kept.
const LOG_LINES_MAX: usize = 2000;
const GRACE: Duration = Duration::from_secs(5);

/// A running child. Dropping it ends the child and everything the child started.
pub struct Process {
    name: String,
    child: Child,
    pid: u32,
    log: Log,
    polite: bool,
}

/// The last lines a process printed, shared with the task that reads them.
#[derive(Clone, Default)]
pub struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    /// Appends a line, forgetting the oldest ones beyond the bound.
    pub fn push(&self, line: String) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == LOG_LINES_MAX {
            lines.drain(..LOG_LINES_MAX / 2);
        }
        lines.push(line);
    }

    /// A copy of the lines, oldest first.
    pub fn lines(&self) -> Vec<String> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Keeps what `from` yields until it ends.
    pub fn follow(&self, from: impl AsyncRead + Send + Unpin + 'static) {
        let log = self.clone();
        tokio::spawn(async move {
            let mut lines = BufReader::new(from).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                log.push(line);
            }
        });
    }
}

/// A command that runs `program` on this machine's network, or inside `namespace`.
pub fn command(program: impl AsRef<OsStr>, namespace: Option<&Namespace>) -> Command {
    match namespace {
        None => Command::new(program),
        Some(namespace) => {
            let mut command = Command::new("ip");
            command
                .args(["netns", "exec", namespace.name()])
                .arg(program);
            command
        }
    }
}

impl Process {
    /// Starts `command` with its standard error kept in the log; standard input and output are
    /// as the command has them set.
    ///
    /// # Errors
    /// If the program cannot be started.
    pub fn spawn(name: &str, command: &mut Command) -> Result<Process> {
        let mut child = command
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("{name} cannot be started: {:?}", command.as_std()))?;
        let pid = child
            .id()
            .context("a child that was not awaited has an id")?;
        let log = Log::default();
        if let Some(stderr) = child.stderr.take() {
            log.follow(stderr);
        }
        Ok(Process {
            name: name.to_owned(),
            child,
            pid,
            log,
            polite: false,
        })
    }

    /// Ends with SIGTERM, and with SIGKILL only if that does nothing for five seconds.
    pub fn polite(mut self) -> Process {
        self.polite = true;
        self
    }

    /// The child, for its pipes.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// The process id of the child itself.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// What the process printed on its standard error so far.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// Fails with the log if the process has ended.
    ///
    /// # Errors
    /// If it has, or if that cannot be found out.
    pub fn check_alive(&mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!(
                "{} ended with {status}:\n{}",
                self.name,
                self.log.lines().join("\n")
            );
        }
        Ok(())
    }

    /// Sends SIGTERM and waits for the end.
    ///
    /// # Errors
    /// If the process does not end within `limit`.
    pub async fn terminate(&mut self, limit: Duration) -> Result<ExitStatus> {
        signal("-TERM", &[self.pid]);
        self.wait(limit).await
    }

    /// Waits for the process to end by itself.
    ///
    /// # Errors
    /// If it does not within `limit`.
    pub async fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let ended = tokio::time::timeout(limit, self.child.wait()).await;
        let status = ended.with_context(|| {
            format!(
                "{} still runs after {limit:?}:\n{}",
                self.name,
                self.log.lines().join("\n")
            )
        })?;
        Ok(status?)
    }

    /// Sends this signal (as `kill` knows it: `-STOP`, `-KILL`) to the process and everything it
    /// started.
    pub fn signal_all(&self, name: &str) {
        let tree = descendants(self.pid);
        signal(name, &[&[self.pid], tree.as_slice()].concat());
    }

    fn ended_within(&mut self, limit: Duration) -> bool {
        let start = Instant::now();
        loop {
            match self.child.try_wait() {
                Ok(None) if start.elapsed() < limit => {
                    std::thread::sleep(Duration::from_millis(10));
                }
                Ok(None) => return false,
                Ok(Some(_)) | Err(_) => return true,
            }
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(Some(_))) {
            return;
        }
        let tree = descendants(self.pid);
        if self.polite {
            signal("-TERM", &[self.pid]);
            if self.ended_within(GRACE) {
                return;
            }
        }
        signal("-KILL", &[&[self.pid], tree.as_slice()].concat());
        self.ended_within(GRACE);
    }
}

fn signal(signal: &str, pids: &[u32]) {
    // The only failure is that a process is gone already, which is what is wanted.
    let _ = StdCommand::new("kill")
        .arg(signal)
        .args(pids.iter().map(u32::to_string))
        .stderr(Stdio::null())
        .status();
}

/// The ids of all processes started by `root`, or by one of those.
pub fn descendants(root: u32) -> Vec<u32> {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    for entry in entries.flatten() {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else {
            continue;
        };
        // proc(5): "pid (comm) state ppid"; comm itself may hold spaces and parentheses.
        let after = stat.rsplit_once(')').map_or("", |(_, after)| after);
        if let Some(parent) = after
            .split_whitespace()
            .nth(1)
            .and_then(|field| field.parse().ok())
        {
            children.entry(parent).or_default().push(pid);
        }
    }
    let mut found = Vec::new();
    let mut next = vec![root];
    while let Some(pid) = next.pop() {
        let started = children.remove(&pid).unwrap_or_default();
        found.extend(&started);
        next.extend(started);
    }
    found
}
