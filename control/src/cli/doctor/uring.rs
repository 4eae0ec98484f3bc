//! Whether this process may use io_uring, found out by opening a ring as a shard does.

use io_uring::{IoUring, Probe, opcode};
use rustix::io::Errno;

use super::{Check, machine};

const NAME: &str = "io_uring";

const UNBLOCK: &str = "docker run --security-opt seccomp=unconfined, or a seccomp profile that \
                       allows io_uring_setup, io_uring_enter and io_uring_register";

/// Opens a small ring and asks it for the operations that shards use.
pub(super) fn probe() -> Check {
    let sysctl = machine::sysctl("kernel.io_uring_disabled");
    let opened = IoUring::builder()
        .setup_single_issuer()
        .setup_coop_taskrun()
        .setup_defer_taskrun()
        .build(8)
        .and_then(|ring: IoUring| {
            let mut probe = Probe::new();
            ring.submitter().register_probe(&mut probe)?;
            Ok(missing_operations(&probe))
        });
    match opened {
        Ok(missing) => granted(&missing),
        Err(error) => refused(
            error.raw_os_error(),
            sysctl.as_deref(),
            machine::seccomp_filter(),
        ),
    }
}

fn missing_operations(probe: &Probe) -> Vec<&'static str> {
    [
        ("RECVMSG", opcode::RecvMsgMulti::CODE),
        ("SENDMSG", opcode::SendMsg::CODE),
        ("MSG_RING", opcode::MsgRingData::CODE),
        ("READ", opcode::Read::CODE),
    ]
    .into_iter()
    .filter(|(_, code)| !probe.is_supported(*code))
    .map(|(name, _)| name)
    .collect()
}

fn granted(missing: &[&str]) -> Check {
    if missing.is_empty() {
        return Check::ok(NAME, "available");
    }
    let found = format!("available, without {}", missing.join(", "));
    Check::fail(NAME, found, "upgrade the kernel to 6.1 or later")
}

fn refused(errno: Option<i32>, sysctl: Option<&str>, seccomp: bool) -> Check {
    let errno = errno.map(Errno::from_raw_os_error);
    match (errno, sysctl) {
        (Some(Errno::PERM), Some("2")) => Check::fail(
            NAME,
            "disabled by kernel.io_uring_disabled=2",
            "sysctl -w kernel.io_uring_disabled=0",
        ),
        (Some(Errno::PERM), Some("1")) => Check::fail(
            NAME,
            "kept to a group by kernel.io_uring_disabled=1",
            "sysctl -w kernel.io_uring_disabled=0\nor put this user into the group that \
             `sysctl kernel.io_uring_group` names",
        ),
        // Docker's default profile answers EPERM, some others ENOSYS.
        (Some(Errno::PERM | Errno::NOSYS), _) if seccomp => {
            Check::fail(NAME, "refused by a seccomp filter", UNBLOCK)
        }
        (Some(Errno::NOSYS), _) => Check::fail(
            NAME,
            "this kernel is built without it",
            "use a kernel of 6.1 or later with CONFIG_IO_URING",
        ),
        (Some(Errno::INVAL), _) => Check::fail(
            NAME,
            "without SINGLE_ISSUER, COOP_TASKRUN or DEFER_TASKRUN",
            "upgrade the kernel to 6.1 or later",
        ),
        (Some(Errno::NOMEM), _) => Check::fail(
            NAME,
            "not enough locked memory allowed",
            "ulimit -l unlimited\nor docker run --ulimit memlock=-1",
        ),
        (Some(errno), _) => Check::fail(
            NAME,
            format!("refused: {errno}"),
            "check the security modules (SELinux, AppArmor) and the limits on open files",
        ),
        (None, _) => Check::fail(NAME, "refused", "upgrade the kernel to 6.1 or later"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Status;
    use super::*;

    #[test]
    fn each_refusal_names_its_likely_cause() {
        let cause = |errno: Errno, sysctl, seccomp| {
            let check = refused(Some(errno.raw_os_error()), sysctl, seccomp);
            assert_eq!(check.status, Status::Fail);
            format!("{} {}", check.found, check.cure.unwrap_or_default())
        };
        assert!(cause(Errno::PERM, Some("2"), true).contains("io_uring_disabled=2"));
        assert!(cause(Errno::PERM, Some("1"), false).contains("io_uring_group"));
        assert!(cause(Errno::PERM, Some("0"), true).contains("--security-opt"));
        assert!(cause(Errno::NOSYS, None, true).contains("--security-opt"));
        assert!(cause(Errno::NOSYS, None, false).contains("CONFIG_IO_URING"));
        assert!(cause(Errno::INVAL, None, false).contains("6.1"));
        assert!(cause(Errno::NOMEM, None, false).contains("ulimit -l"));
        assert!(cause(Errno::ACCESS, None, false).contains("SELinux"));
    }

    #[test]
    fn a_kernel_without_an_operation_is_refused() {
        assert_eq!(granted(&[]).status, Status::Ok);
        assert_eq!(granted(&["MSG_RING"]).status, Status::Fail);
    }
}
