//! Who may use the admin socket.
//!
//! The file's mode keeps others out; asking the kernel who connected (`SO_PEERCRED`, unix(7)) also
//! holds where a path was opened up by hand or passed into a container.

use tokio::net::UnixStream;

/// The process at the other end, as it was when it connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerCredentials {
    /// Effective user.
    pub uid: u32,
    /// Process, if it is in a pid namespace that the server sees.
    pub pid: Option<i32>,
}

impl PeerCredentials {
    pub(super) fn of(stream: &UnixStream) -> std::io::Result<Self> {
        let credentials = stream.peer_cred()?;
        Ok(Self {
            uid: credentials.uid(),
            pid: credentials.pid(),
        })
    }
}

/// Decides who is served.
pub trait PeerPolicy: Send + Sync + 'static {
    /// # Errors
    /// A sentence for the refused peer.
    fn admit(&self, peer: &PeerCredentials) -> Result<(), String>;
}

/// Admits the user the server runs as, and root.
#[derive(Debug, Clone, Copy)]
pub struct SameUserOrRoot {
    uid: u32,
}

impl SameUserOrRoot {
    /// The policy of this process.
    #[must_use]
    pub fn of_this_process() -> Self {
        Self {
            uid: rustix::process::geteuid().as_raw(),
        }
    }
}

impl PeerPolicy for SameUserOrRoot {
    fn admit(&self, peer: &PeerCredentials) -> Result<(), String> {
        if peer.uid == self.uid || peer.uid == 0 {
            return Ok(());
        }
        Err(format!(
            "user {} may not use this socket: run as user {} or root",
            peer.uid, self.uid
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_servers_user_and_root_are_admitted() {
        let policy = SameUserOrRoot { uid: 1000 };
        let admitted = |uid| policy.admit(&PeerCredentials { uid, pid: None }).is_ok();
        assert!(admitted(1000) && admitted(0));
        assert!(!admitted(1001) && !admitted(u32::MAX));
    }
}
