//! What the data plane gets of this machine, found out by opening its socket and ring as a shard
//! does.

use fanmill_engine::io::uring::{Grants, SendCosts, StartError};

use super::{Check, machine};

const NAME: &str = "io_uring";
const SENDING: &str = "sending";

const UNBLOCK: &str = "docker run --security-opt seccomp=unconfined, or a seccomp profile that \
                       allows io_uring_setup, io_uring_enter and io_uring_register";

/// Judges what the engine's probe came to.
pub(super) fn check(probed: &Result<Grants, StartError>) -> Check {
    match probed {
        Ok(grants) => granted(&grants.features()),
        Err(error) => refused(
            error,
            machine::sysctl("kernel.io_uring_disabled").as_deref(),
            machine::seccomp_filter(),
        ),
    }
}

fn granted(features: &[(&'static str, bool)]) -> Check {
    let absent: Vec<_> = features
        .iter()
        .filter(|(_, granted)| !granted)
        .map(|(name, _)| *name)
        .collect();
    if absent.is_empty() {
        let names: Vec<_> = features.iter().map(|(name, _)| *name).collect();
        return Check::ok(NAME, names.join(", "));
    }
    let found = format!("without {}: each packet costs more", absent.join(", "));
    Check::warn(NAME, found, "upgrade the kernel to 6.1 or later")
}

/// What sending was measured to cost, which decides how packets leave.
pub(super) fn sending(costs: Option<&SendCosts>) -> Check {
    let Some(costs) = costs else {
        return Check::warn(
            SENDING,
            "could not be measured: nothing can be sent to this machine's own address",
            "let the firewall pass UDP from and to the address of --udp-ip",
        );
    };
    let us = |ns: &u64| format!("{:.2}", *ns as f64 / 1000.0);
    let single = format!("{} us a packet", us(&costs.single_ns));
    let lengths: Vec<_> = costs.trains_ns.iter().map(|(n, _)| n.to_string()).collect();
    let trains: Vec<_> = costs.trains_ns.iter().map(|(_, ns)| us(ns)).collect();
    let trains = format!("in trains of {}: {}", lengths.join(", "), trains.join(", "));
    match costs.least_train() {
        Some(least) => Check::ok(
            SENDING,
            format!("{single}; {trains}; trains from {least} on"),
        ),
        None if costs.trains_ns.is_empty() => Check::warn(
            SENDING,
            format!("{single}; no trains (UDP_SEGMENT), which would cost a tenth"),
            "upgrade the kernel",
        ),
        None => Check::warn(
            SENDING,
            format!("{single}; {trains}: trains do not pay here, none are sent"),
            "run this again when the machine is idle",
        ),
    }
}

fn refused(error: &StartError, sysctl: Option<&str>, seccomp: bool) -> Check {
    match (error, sysctl) {
        (StartError::UringDenied, Some("2")) => Check::fail(
            NAME,
            "disabled by kernel.io_uring_disabled=2",
            "sysctl -w kernel.io_uring_disabled=0",
        ),
        (StartError::UringDenied, Some("1")) => Check::fail(
            NAME,
            "kept to a group by kernel.io_uring_disabled=1",
            "sysctl -w kernel.io_uring_disabled=0\nor put this user into the group that \
             `sysctl kernel.io_uring_group` names",
        ),
        // Docker's default profile answers EPERM, some others ENOSYS.
        (StartError::UringDenied | StartError::UringMissing { .. }, _) if seccomp => {
            Check::fail(NAME, "refused by a seccomp filter", UNBLOCK)
        }
        (StartError::Other { step, source }, _) => Check::fail(
            NAME,
            format!("{step} failed: {source}"),
            "check the security modules (SELinux, AppArmor) and the limits of this process",
        ),
        _ => {
            // The engine's messages name the cause, a colon, and the cure.
            let text = error.to_string();
            let (found, cure) = text
                .split_once(": ")
                .unwrap_or((&text, "upgrade the kernel to 6.1 or later"));
            Check::fail(NAME, found, cure)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Status;
    use super::*;

    #[test]
    fn each_refusal_names_its_likely_cause() {
        let cause = |error: StartError, sysctl, seccomp| {
            let check = refused(&error, sysctl, seccomp);
            assert_eq!(check.status, Status::Fail);
            format!("{} {}", check.found, check.cure.unwrap_or_default())
        };
        let missing = || StartError::UringMissing {
            release: "6.18".to_owned(),
        };
        let memory = StartError::MemoryLock {
            limit_bytes: Some(65536),
        };
        let other = StartError::Other {
            step: "io_uring_setup",
            source: std::io::Error::from_raw_os_error(13),
        };
        let denied = || StartError::UringDenied;
        assert!(cause(denied(), Some("2"), true).contains("io_uring_disabled=2"));
        assert!(cause(denied(), Some("1"), false).contains("io_uring_group"));
        assert!(cause(denied(), Some("0"), true).contains("--security-opt"));
        assert!(cause(denied(), Some("0"), false).contains("seccomp"));
        assert!(cause(missing(), None, true).contains("--security-opt"));
        assert!(cause(missing(), None, false).contains("CONFIG_IO_URING"));
        assert!(cause(memory, None, false).contains("memlock"));
        assert!(cause(other, None, false).contains("SELinux"));
    }

    #[test]
    fn what_sending_costs_is_told_with_what_follows_from_it() {
        let costs = |trains_ns: &[(usize, u64)]| SendCosts {
            single_ns: 2_900,
            trains_ns: trains_ns.to_vec(),
        };
        let check = sending(Some(&costs(&[(2, 1_500), (4, 800)])));
        assert_eq!(check.status, Status::Ok);
        assert_eq!(
            check.found,
            "2.90 us a packet; in trains of 2, 4: 1.50, 0.80; trains from 2 on"
        );
        for costs in [Some(costs(&[])), Some(costs(&[(2, 3_000)])), None] {
            assert_eq!(sending(costs.as_ref()).status, Status::Warn);
        }
    }

    #[test]
    fn a_feature_that_is_missing_is_warned_of_by_name() {
        let all = [("IORING_SETUP_DEFER_TASKRUN", true), ("UDP_SEGMENT", true)];
        assert_eq!(granted(&all).status, Status::Ok);
        let check = granted(&[("UDP_SEGMENT", true), ("UDP_GRO", false)]);
        assert_eq!(check.status, Status::Warn);
        assert!(check.found.contains("UDP_GRO") && !check.found.contains("UDP_SEGMENT"));
    }
}
