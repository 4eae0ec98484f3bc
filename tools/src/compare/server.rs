//! The servers in comparison: how each is started, with one media thread, and its version.
//!
//! The peers live in `tools/peers` (their fronts for WHIP and WHEP) and `target/peers` (themselves).

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use serde::Serialize;
use tokio::process::Command;

use crate::args::SrtpArg;
use crate::server::OwnServer;

/// A server that can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Server {
    /// This workspace's, with one shard.
    Fanmill,
    /// Medooze's media server, with one endpoint: one UDP port, one network thread.
    Medooze,
    /// Janus's videoroom plugin, with one event loop.
    Janus,
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn fronts() -> PathBuf {
    repository().join("tools/peers")
}

fn installed() -> PathBuf {
    repository().join("target/peers")
}

impl Server {
    /// All of them, the one that ratios refer to first.
    pub const ALL: [Self; 3] = [Self::Fanmill, Self::Medooze, Self::Janus];

    /// Its name, also on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fanmill => "fanmill",
            Self::Medooze => "medooze",
            Self::Janus => "janus",
        }
    }

    /// Starts it on free ports of the loopback interface. `fanmill` is the program that is
    /// Fanmill; `srtp` the profile to choose, where a server has to be told.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn start(self, fanmill: &Path, srtp: SrtpArg) -> anyhow::Result<OwnServer> {
        match self {
            Self::Fanmill => OwnServer::start(fanmill, 1).await,
            Self::Medooze => {
                OwnServer::start_peer(|port| {
                    let mut node = Command::new("node");
                    node.arg(fronts().join("medooze/server.mjs"))
                        .arg(port.to_string())
                        .arg(installed().join("medooze"))
                        .env("SRTP", srtp.name());
                    node
                })
                .await
            }
            Self::Janus => {
                OwnServer::start_peer(|port| {
                    let mut node = Command::new("node");
                    node.arg(fronts().join("janus/adapter.mjs"))
                        .arg(port.to_string())
                        .arg(installed().join("janus/loopback.so"));
                    node
                })
                .await
            }
        }
    }

    /// Its version.
    ///
    /// # Errors
    /// When it cannot be asked.
    pub async fn version(self, fanmill: &Path) -> anyhow::Result<String> {
        match self {
            Self::Fanmill => {
                let version = said(Command::new(fanmill).arg("--version")).await?;
                let mut git = Command::new("git");
                git.arg("-C").arg(repository());
                let commit = said(git.args(["describe", "--always", "--dirty"])).await;
                Ok(match commit {
                    Ok(commit) => format!("{version} ({commit})"),
                    Err(_) => version,
                })
            }
            Self::Medooze => {
                let package = "medooze/node_modules/medooze-media-server/package.json";
                let package = std::fs::read(installed().join(package))?;
                let package: serde_json::Value = serde_json::from_slice(&package)?;
                let version = package["version"].as_str().context("it has no version")?;
                let node = said(Command::new("node").arg("--version")).await?;
                Ok(format!("medooze-media-server {version} on Node.js {node}"))
            }
            Self::Janus => {
                // It says so, and then that it does not know the flag.
                let output = Command::new("janus").arg("--version").output().await?;
                parse_janus_version(&String::from_utf8_lossy(&output.stdout))
                    .context("janus does not tell its version")
            }
        }
    }
}

fn parse_janus_version(text: &str) -> Option<String> {
    let line = text
        .lines()
        .find(|line| line.starts_with("Janus version"))?;
    let (_, version) = line.split_once('(')?;
    Some(format!("janus {}", version.trim_end().strip_suffix(')')?))
}

async fn said(command: &mut Command) -> anyhow::Result<String> {
    let output = command.output().await?;
    ensure!(output.status.success(), "{:?} failed", command.as_std());
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Installs the peers among `servers` that are not there yet.
///
/// # Errors
/// When that failed; why has been printed.
pub async fn install(servers: &[Server]) -> anyhow::Result<()> {
    let peers = servers.iter().filter(|server| **server != Server::Fanmill);
    let names: Vec<_> = peers.map(|peer| peer.name()).collect();
    if names.is_empty() {
        return Ok(());
    }
    let program = fronts().join("install");
    let status = Command::new(&program)
        .args(names)
        .status()
        .await
        .with_context(|| format!("cannot start {}", program.display()))?;
    ensure!(
        status.success(),
        "the peers could not be installed; --only fanmill measures without them"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_of_janus_is_what_stands_in_parentheses() {
        let said = "Janus version: 1102 (1.1.2)\nJanus commit: not-a-git-repo\n";
        assert_eq!(parse_janus_version(said).as_deref(), Some("janus 1.1.2"));
        for other in ["", "Janus version: 1102", "janus: not found (really)"] {
            assert_eq!(parse_janus_version(other), None);
        }
    }

    #[test]
    fn names_are_those_of_the_command_line() {
        for server in Server::ALL {
            let parsed = <Server as clap::ValueEnum>::from_str(server.name(), false);
            assert_eq!(parsed, Ok(server));
        }
    }
}
