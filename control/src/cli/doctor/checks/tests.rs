#![allow(clippy::unwrap_used)] // a test's unwrap is an assertion

use super::super::Status;
use super::*;

#[test]
fn kernels_are_judged_by_their_release() {
    for release in ["6.1.0", "6.18.44-fc-v595", "6.10", "7.0-rc1", "10.2.3"] {
        assert_eq!(kernel(release).status, Status::Ok, "{release}");
    }
    assert_eq!(kernel("6.0.19").status, Status::Warn);
    for release in ["5.15.0-91-generic", "", "linux", "6"] {
        assert_eq!(kernel(release).status, Status::Fail, "{release}");
    }
}

#[test]
fn small_buffers_and_limits_are_warned_of_with_the_cure() {
    assert_eq!(
        socket_buffer("net.core.rmem_max", Some(16 << 20)).status,
        Status::Ok
    );
    let small = socket_buffer("net.core.rmem_max", Some(212_992));
    assert_eq!(small.status, Status::Warn);
    assert!(
        small
            .cure
            .unwrap()
            .starts_with("sysctl -w net.core.rmem_max=16777216")
    );
    assert_eq!(
        socket_buffer("net.core.wmem_max", None).status,
        Status::Warn
    );

    assert_eq!(open_files(Some(4096)).status, Status::Ok);
    assert_eq!(open_files(Some(1024)).status, Status::Warn);
    assert_eq!(open_files(None).status, Status::Ok);
    assert_eq!(locked_memory(Some(8 << 20)).status, Status::Warn);
    assert_eq!(locked_memory(None).status, Status::Ok);
}

#[test]
fn shards_that_share_cores_are_warned_of() {
    assert_eq!(shards(2, 2).status, Status::Ok);
    assert!(shards(3, 2).cure.unwrap().contains("--shards 2"));
}

#[test]
fn a_processor_is_judged_by_its_aes() {
    let cpuinfo = "processor\t: 0\nflags\t\t: fpu aes avx2 sha_ni\n\nflags : none\n";
    let features = machine::cpu_features(cpuinfo);
    assert_eq!(features, ["fpu", "aes", "avx2", "sha_ni"]);
    let found = processor("x86_64", &features);
    assert_eq!(found.status, Status::Ok);
    assert_eq!(
        found.found,
        "x86_64: aes, avx2, sha_ni (without pclmulqdq, vaes, vpclmulqdq, avx512f)"
    );
    assert_eq!(processor("x86_64", &["fpu"]).status, Status::Warn);
    let arm = machine::cpu_features("Features\t: fp asimd aes pmull sha1 sha2\n");
    assert_eq!(
        processor("aarch64", &arm).found,
        "aarch64: aes, pmull, sha1, sha2"
    );
    assert!(machine::cpu_features("nothing here").is_empty());
}

#[test]
fn a_container_needs_an_address_known_outside() {
    let inside = Config {
        shards: 4,
        ..Config::default()
    };
    assert_eq!(container(None, &inside).status, Status::Ok);
    let warned = container(Some("docker"), &inside);
    assert_eq!(warned.status, Status::Warn);
    assert!(warned.cure.unwrap().contains("-p 7900-7903:7900-7903/udp"));
    let told = Config {
        public_ip: vec!["203.0.113.7".parse().unwrap()],
        ..inside
    };
    assert_eq!(container(Some("docker"), &told).status, Status::Ok);
}

#[test]
fn a_taken_port_is_a_failure_that_names_it() {
    let http = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = http.local_addr().unwrap();
    let check = http_port(address);
    assert_eq!(check.status, Status::Fail);
    assert!(
        check.found.contains(&address.to_string()),
        "{}",
        check.found
    );

    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = udp.local_addr().unwrap().port();
    let check = udp_ports("127.0.0.1".parse().unwrap(), port, 1);
    assert_eq!(check.status, Status::Fail);
    assert!(check.cure.unwrap().contains(&format!("sport = :{port}")));
    drop(udp);
    assert_eq!(
        udp_ports("127.0.0.1".parse().unwrap(), port, 1).status,
        Status::Ok
    );
}

#[test]
fn an_address_of_another_machine_is_a_failure() {
    let check = udp_ports("203.0.113.7".parse().unwrap(), 7900, 1);
    assert_eq!(check.status, Status::Fail);
    assert!(
        check.found.contains("no address of this machine"),
        "{}",
        check.found
    );
}

#[test]
fn the_admin_sockets_place_is_judged() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.sock");
    assert_eq!(admin_socket(&path).status, Status::Ok);
    assert_eq!(
        admin_socket(&dir.path().join("none/a.sock")).status,
        Status::Fail
    );
    let live = std::os::unix::net::UnixListener::bind(&path).unwrap();
    assert_eq!(admin_socket(&path).status, Status::Fail);
    drop(live);
    assert_eq!(admin_socket(&path).status, Status::Ok);
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, "").unwrap();
    assert_eq!(admin_socket(&path).status, Status::Fail);
}
