//! Why a shard's I/O cannot start, told so that the operator knows what to do about it.

use std::io;
use std::net::SocketAddr;

use crate::sys::kernel;
use crate::sys::ring::OpenError;

/// First kernel with multishot `recvmsg`.
const KERNEL_NEEDED: &str = "6.0";

/// Why [`super::UringIo::open`] failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The address is taken.
    #[error(
        "UDP port {} is already in use on {}: stop the other process \
         (`ss -ulpn 'sport = :{}'` names it) or configure another port",
        .0.port(), .0.ip(), .0.port()
    )]
    AddressInUse(SocketAddr),
    /// The address is not one of this host's.
    #[error(
        "{} is not an address of this host: configure one that `ip address` lists, or the \
         wildcard 0.0.0.0 or [::]", .0.ip()
    )]
    AddressNotAvailable(SocketAddr),
    /// The host has no IPv6 (or no IPv4).
    #[error("this host does not support the address family of {0}: configure an IPv4 address")]
    FamilyNotSupported(SocketAddr),
    /// Ports below 1024 need a privilege.
    #[error(
        "not permitted to bind UDP {0}: use a port from 1024 up, or grant CAP_NET_BIND_SERVICE"
    )]
    BindDenied(SocketAddr),
    /// io_uring is switched off for this process.
    #[error(
        "io_uring is disabled for this process: set the sysctl kernel.io_uring_disabled to 0, and \
         in a container allow the io_uring_* system calls in its seccomp profile \
         (Docker: --security-opt seccomp=...)"
    )]
    UringDenied,
    /// The kernel has no io_uring at all.
    #[error(
        "kernel {release} has no io_uring (or seccomp hides it): run Linux {KERNEL_NEEDED} or \
         later, built with CONFIG_IO_URING"
    )]
    UringMissing {
        /// The running kernel's release.
        release: String,
    },
    /// The kernel's io_uring lacks something that is needed.
    #[error("kernel {release} is too old: it lacks {feature}; run Linux {KERNEL_NEEDED} or later")]
    KernelTooOld {
        /// The running kernel's release.
        release: String,
        /// What it lacks.
        feature: &'static str,
    },
    /// Not enough memory may be locked.
    #[error(
        "not enough lockable memory for io_uring ({}): raise RLIMIT_MEMLOCK (systemd: \
         LimitMEMLOCK=infinity; Docker: --ulimit memlock=-1) or free memory",
        limit_text(.limit_bytes)
    )]
    MemoryLock {
        /// The limit, if there is one.
        limit_bytes: Option<u64>,
    },
    /// The process may open no more files.
    #[error("too many open files: raise RLIMIT_NOFILE (systemd: LimitNOFILE=; shell: `ulimit -n`)")]
    TooManyFiles,
    /// No such core, or it is outside the process's cpuset.
    #[error("cannot pin a shard to core {core}: this process may run on cores {allowed:?}")]
    Core {
        /// The core asked for.
        core: usize,
        /// The cores there are.
        allowed: Vec<usize>,
    },
    /// The kernel refused a step for a reason of its own.
    #[error("{step} failed: {source}; run `fanmill doctor` to see what this host grants")]
    Other {
        /// The step.
        step: &'static str,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
}

fn limit_text(limit_bytes: &Option<u64>) -> String {
    match limit_bytes {
        Some(bytes) => format!("the limit is {} KiB", bytes / 1024),
        None => "there is no limit, so memory itself is short".to_owned(),
    }
}

impl StartError {
    /// Binding `address` failed.
    pub(super) fn bind(address: SocketAddr, source: io::Error) -> Self {
        match source.raw_os_error() {
            Some(libc::EADDRINUSE) => Self::AddressInUse(address),
            Some(libc::EADDRNOTAVAIL) => Self::AddressNotAvailable(address),
            Some(libc::EAFNOSUPPORT) => Self::FamilyNotSupported(address),
            Some(libc::EACCES | libc::EPERM) => Self::BindDenied(address),
            Some(libc::EMFILE | libc::ENFILE) => Self::TooManyFiles,
            _ => Self::Other {
                step: "opening the UDP socket",
                source,
            },
        }
    }

    /// Setting up the ring failed.
    pub(super) fn ring(error: OpenError) -> Self {
        let OpenError { step, source } = error;
        match source.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => Self::UringDenied,
            Some(libc::ENOSYS) => Self::UringMissing {
                release: kernel::release(),
            },
            Some(libc::EINVAL) => Self::too_old(step, source),
            Some(libc::ENOMEM) => Self::MemoryLock {
                limit_bytes: kernel::memlock_limit_bytes(),
            },
            Some(libc::EMFILE | libc::ENFILE) => Self::TooManyFiles,
            _ => Self::Other { step, source },
        }
    }

    /// The kernel called `feature` invalid: it is too old, unless its release says otherwise.
    pub(super) fn too_old(feature: &'static str, source: io::Error) -> Self {
        let release = kernel::release();
        match kernel::is_at_least(&release, 6, 0) {
            Some(true) => Self::Other {
                step: feature,
                source,
            },
            _ => Self::KernelTooOld { release, feature },
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // A panic is the failure report.

    use super::*;

    fn ring_error(errno: i32) -> StartError {
        let source = io::Error::from_raw_os_error(errno);
        StartError::ring(OpenError {
            step: "io_uring_setup",
            source,
        })
    }

    #[test]
    fn each_refusal_of_the_ring_names_its_cure() {
        assert!(
            ring_error(libc::EPERM)
                .to_string()
                .contains("kernel.io_uring_disabled")
        );
        assert!(ring_error(libc::EPERM).to_string().contains("seccomp"));
        assert!(
            ring_error(libc::ENOMEM)
                .to_string()
                .contains("LimitMEMLOCK")
        );
        assert!(
            ring_error(libc::ENOSYS)
                .to_string()
                .contains("CONFIG_IO_URING")
        );
        assert!(
            ring_error(libc::EMFILE)
                .to_string()
                .contains("RLIMIT_NOFILE")
        );
        assert!(ring_error(libc::EIO).to_string().contains("io_uring_setup"));
    }

    #[test]
    fn each_refusal_of_the_address_names_it() {
        let address: SocketAddr = "192.0.2.1:443".parse().unwrap();
        let text =
            |errno| StartError::bind(address, io::Error::from_raw_os_error(errno)).to_string();
        assert!(text(libc::EADDRINUSE).contains("443"));
        assert!(text(libc::EADDRNOTAVAIL).contains("192.0.2.1"));
        assert!(text(libc::EACCES).contains("CAP_NET_BIND_SERVICE"));
    }
}
