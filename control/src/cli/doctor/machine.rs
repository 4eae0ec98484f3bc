//! What the doctor reads from the machine. No judgement here.

use std::fs;
use std::path::Path;

/// The kernel's release, such as `6.18.4-amd64`.
pub(super) fn kernel_release() -> String {
    rustix::system::uname()
        .release()
        .to_string_lossy()
        .into_owned()
}

/// The value of a sysctl, if this process may see it.
pub(super) fn sysctl(name: &str) -> Option<String> {
    let path = format!("/proc/sys/{}", name.replace('.', "/"));
    Some(fs::read_to_string(path).ok()?.trim().to_owned())
}

/// Whether a seccomp filter watches this process (proc_pid_status(5)).
pub(super) fn seccomp_filter() -> bool {
    fs::read_to_string("/proc/self/status")
        .is_ok_and(|status| status.lines().any(|line| line == "Seccomp:\t2"))
}

/// The kind of container this process runs in, if it can be told.
pub(super) fn container() -> Option<String> {
    if std::env::var_os("KUBERNETES_SERVICE_HOST").is_some() {
        return Some("kubernetes".to_owned());
    }
    if Path::new("/run/.containerenv").exists() {
        return Some("podman".to_owned());
    }
    if Path::new("/.dockerenv").exists() {
        return Some("docker".to_owned());
    }
    let kind = fs::read_to_string("/run/systemd/container").ok()?;
    Some(kind.trim().to_owned()).filter(|kind| !kind.is_empty())
}

/// The features of the first processor in the text of `/proc/cpuinfo`.
pub(super) fn cpu_features(cpuinfo: &str) -> Vec<&str> {
    cpuinfo
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(key, _)| matches!(key.trim(), "flags" | "Features"))
        .map(|(_, features)| features.split_whitespace().collect())
        .unwrap_or_default()
}
