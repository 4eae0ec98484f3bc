//! The doctor's judgements: each a function from what was found to a line of the report.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::path::Path;

use fanmill_engine::io::uring::Grants;
use rustix::process::{Resource, getrlimit};

use super::{Check, machine};
use crate::config::Config;

/// Multishot `recvmsg` came last of what shards need.
const KERNEL_MIN: (u32, u32) = (6, 0);

/// DEFER_TASKRUN came last of what shards use where it is.
const KERNEL_FULL: (u32, u32) = (6, 1);

/// What a shard asks for each of its socket's buffers: 100 ms of 1 Gb/s, with the kernel's own
/// overhead per packet.
const SOCKET_BUFFER_BYTES: usize = 16 << 20;

/// An HTTP connection each for thousands of viewers who join at once.
const OPEN_FILES: u64 = 4096;

/// Rings and registered buffers of a few shards.
const LOCKED_BYTES: u64 = 64 << 20;

const MIB: u64 = 1 << 20;

pub(super) fn kernel(release: &str) -> Check {
    let mut numbers = release
        .split(|c: char| !c.is_ascii_digit())
        .map(str::parse::<u32>);
    let version = match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor),
        _ => (0, 0),
    };
    let (major, minor) = KERNEL_FULL;
    let cure = format!("upgrade the kernel to {major}.{minor} or later");
    if version >= KERNEL_FULL {
        Check::ok("kernel", release)
    } else if version >= KERNEL_MIN {
        let found = format!("{release}, which serves, at a higher cost per packet");
        Check::warn("kernel", found, cure)
    } else {
        Check::fail("kernel", format!("{release}, too old"), cure)
    }
}

/// Limits, processor and surroundings. Socket buffers are judged by what was granted, or by the
/// limit where no socket could be tried.
pub(super) fn machine(config: &Config, grants: Option<&Grants>) -> Vec<Check> {
    let limit = |name| machine::sysctl(name)?.parse().ok();
    let receive_bytes = match grants {
        Some(grants) => Some(grants.receive_buffer.granted_bytes),
        None => limit("net.core.rmem_max"),
    };
    let send_bytes = match grants {
        Some(grants) => Some(grants.send_buffer.granted_bytes),
        None => limit("net.core.wmem_max"),
    };
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    vec![
        socket_buffer("net.core.rmem_max", receive_bytes),
        socket_buffer("net.core.wmem_max", send_bytes),
        open_files(getrlimit(Resource::Nofile).current),
        locked_memory(getrlimit(Resource::Memlock).current),
        shards(config.shards, cores),
        processor(std::env::consts::ARCH, &machine::cpu_features(&cpuinfo)),
        container(machine::container().as_deref(), config),
    ]
}

/// Ports and the admin socket.
pub(super) fn addresses(config: &Config) -> Vec<Check> {
    vec![
        http_port(config.http),
        udp_ports(config.udp_ip, config.udp_port, config.shards),
        admin_socket(&config.admin),
    ]
}

/// The line is named after the limit, though with CAP_NET_ADMIN a socket exceeds it
/// (`SO_RCVBUFFORCE`, socket(7)).
fn socket_buffer(name: &'static str, bytes: Option<usize>) -> Check {
    let set = format!(
        "sysctl -w {name}={SOCKET_BUFFER_BYTES}, and the same line without `sysctl -w` in \
         /etc/sysctl.d/60-fanmill.conf"
    );
    match bytes {
        Some(bytes) if bytes >= SOCKET_BUFFER_BYTES => {
            Check::ok(name, format!("{} MiB granted", bytes >> 20))
        }
        Some(bytes) => {
            let found = format!(
                "{bytes} bytes; a shard asks for {} MiB and loses packets in bursts without",
                SOCKET_BUFFER_BYTES >> 20
            );
            Check::warn(name, found, set)
        }
        None => Check::warn(name, "not visible from here", format!("on the host: {set}")),
    }
}

fn open_files(limit: Option<u64>) -> Check {
    const NAME: &str = "open files";
    match limit {
        Some(files) if files < OPEN_FILES => Check::warn(
            NAME,
            format!("{files}; each HTTP connection takes one"),
            "ulimit -n 65536\nor docker run --ulimit nofile=65536:65536, LimitNOFILE=65536 in a \
             systemd unit",
        ),
        Some(files) => Check::ok(NAME, files.to_string()),
        None => Check::ok(NAME, "unlimited"),
    }
}

fn locked_memory(limit: Option<u64>) -> Check {
    const NAME: &str = "locked memory";
    match limit {
        Some(bytes) if bytes < LOCKED_BYTES => Check::warn(
            NAME,
            format!(
                "{} MiB; rings with registered buffers may not fit",
                bytes / MIB
            ),
            "ulimit -l unlimited\nor docker run --ulimit memlock=-1, LimitMEMLOCK=infinity in a \
             systemd unit",
        ),
        Some(bytes) => Check::ok(NAME, format!("{} MiB", bytes / MIB)),
        None => Check::ok(NAME, "unlimited"),
    }
}

fn shards(shards: usize, cores: usize) -> Check {
    let found = format!("{shards} on {cores} cores");
    if shards <= cores {
        return Check::ok("shards", found);
    }
    let cure = format!(
        "use --shards {cores}: shards that share a core delay each other's packets; in a \
         container, docker run --cpus gives it more"
    );
    Check::warn("shards", found, cure)
}

fn processor(arch: &str, features: &[&str]) -> Check {
    const NAME: &str = "processor";
    // SRTP is AES and SHA-1: each of these is worth a factor on every packet sent.
    let useful: &[&str] = match arch {
        "x86_64" => &[
            "aes",
            "pclmulqdq",
            "vaes",
            "vpclmulqdq",
            "avx2",
            "avx512f",
            "sha_ni",
        ],
        "aarch64" => &["aes", "pmull", "sha1", "sha2"],
        _ => &[],
    };
    let (present, absent): (Vec<&str>, Vec<&str>) =
        useful.iter().partition(|name| features.contains(name));
    if !present.contains(&"aes") {
        return Check::warn(
            NAME,
            format!("{arch} without AES instructions: encryption takes ten times as long"),
            "in a virtual machine, pass the host's processor through (qemu: -cpu host)",
        );
    }
    let without = match absent.as_slice() {
        [] => String::new(),
        absent => format!(" (without {})", absent.join(", ")),
    };
    Check::ok(NAME, format!("{arch}: {}{without}", present.join(", ")))
}

fn container(kind: Option<&str>, config: &Config) -> Check {
    const NAME: &str = "container";
    let Some(kind) = kind else {
        return Check::ok(NAME, "none");
    };
    if !config.public_ip.is_empty() {
        return Check::ok(NAME, format!("{kind}, with public-ip"));
    }
    let last = usize::from(config.udp_port) + config.shards - 1;
    let (first, http) = (config.udp_port, config.http.port());
    Check::warn(
        NAME,
        format!(
            "{kind}; peers are told {}, which may be of no use outside",
            config.udp_ip
        ),
        format!(
            "--http 0.0.0.0:{http} --udp-ip 0.0.0.0 --public-ip ADDRESS_OF_THE_HOST with docker \
             run -p {http}:{http} -p {first}-{last}:{first}-{last}/udp\nor docker run --network \
             host with --udp-ip ADDRESS_OF_THE_HOST"
        ),
    )
}

fn http_port(address: SocketAddr) -> Check {
    const NAME: &str = "http port";
    match TcpListener::bind(address) {
        Ok(_) => Check::ok(NAME, format!("{address} is free")),
        Err(e) => refused_port(NAME, address, "t", &e, "--http"),
    }
}

fn udp_ports(ip: IpAddr, first: u16, shards: usize) -> Check {
    const NAME: &str = "udp ports";
    let mut last = first;
    for port in (first..=u16::MAX).take(shards) {
        let address = SocketAddr::new(ip, port);
        if let Err(e) = UdpSocket::bind(address) {
            return refused_port(NAME, address, "u", &e, "--udp-ip and --udp-port");
        }
        last = port;
    }
    Check::ok(
        NAME,
        format!("{} to {last} are free", SocketAddr::new(ip, first)),
    )
}

fn refused_port(
    name: &'static str,
    address: SocketAddr,
    protocol: &str,
    error: &std::io::Error,
    flag: &str,
) -> Check {
    let port = address.port();
    match error.kind() {
        ErrorKind::AddrInUse => Check::fail(
            name,
            format!("{address} is in use, perhaps by a running server"),
            format!(
                "`ss -l{protocol}np sport = :{port}` names who has it; stop that, or choose \
                     another with {flag}"
            ),
        ),
        ErrorKind::AddrNotAvailable => Check::fail(
            name,
            format!("{} is no address of this machine", address.ip()),
            format!(
                "`ip address` lists them; choose one with {flag}, and put the address that \
                     peers know into --public-ip"
            ),
        ),
        ErrorKind::PermissionDenied => Check::fail(
            name,
            format!("{address} is not permitted"),
            format!("choose a port from 1024 up with {flag}, or grant CAP_NET_BIND_SERVICE"),
        ),
        _ => Check::fail(
            name,
            format!("{address}: {error}"),
            format!("choose another with {flag}"),
        ),
    }
}

fn admin_socket(path: &Path) -> Check {
    const NAME: &str = "admin socket";
    let shown = path.display();
    let is_socket = |found: std::fs::Metadata| found.file_type().is_socket();
    if std::fs::symlink_metadata(path).is_ok_and(|found| !is_socket(found)) {
        let cure = "remove it, or choose another path with --admin";
        return Check::fail(NAME, format!("{shown} exists and is not a socket"), cure);
    }
    match UnixStream::connect(path) {
        Ok(_) => Check::fail(
            NAME,
            format!("a server is already listening on {shown}"),
            "stop it, or choose another path with --admin",
        ),
        Err(e) if e.kind() == ErrorKind::NotFound => {
            let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty());
            if dir.is_none_or(Path::is_dir) {
                return Check::ok(NAME, format!("{shown} is free"));
            }
            let cure = "create its directory, or choose another path with --admin";
            Check::fail(NAME, format!("{shown} has no directory"), cure)
        }
        Err(e) if e.kind() == ErrorKind::ConnectionRefused => Check::ok(
            NAME,
            format!("{shown} is free (a dead server's will be replaced)"),
        ),
        Err(e) => {
            let cure = "choose another path with --admin";
            Check::fail(NAME, format!("{shown}: {e}"), cure)
        }
    }
}

#[cfg(test)]
mod tests;
