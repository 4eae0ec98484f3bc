//! The server under test: the built binary, as a process, on ports of its own.

use std::env;
use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::process::Command;

use crate::process::{Log, Process};
use crate::wait;

const START_LIMIT: Duration = Duration::from_secs(20);

/// Where encoders look for a server.
const RTMP_PORT: u16 = 1935;
const RTSP_PORT: u16 = 8554;

/// How a server is started.
#[derive(Debug, Clone)]
pub struct ServerOptions {
    /// The address for HTTP and media.
    pub ip: IpAddr,
    /// The number of shards.
    pub shards: u16,
    /// Whether it has an RTSP door.
    pub rtsp: bool,
    /// Whether RTMP and RTSP are at their usual ports: of an address that no other server is at.
    pub usual_ports: bool,
    /// Arguments beyond those the harness gives.
    pub arguments: Vec<OsString>,
}

impl Default for ServerOptions {
    fn default() -> Self {
        ServerOptions {
            ip: Ipv4Addr::LOCALHOST.into(),
            shards: 2,
            rtsp: false,
            usual_ports: false,
            arguments: Vec::new(),
        }
    }
}

/// A running server. Dropping it ends it with SIGTERM.
pub struct Server {
    process: Process,
    http: SocketAddr,
    rtmp: SocketAddr,
    udp_port: u16,
    rtsp: Option<SocketAddr>,
    shards: u16,
    admin: PathBuf,
    stdout: Log,
    arguments: Vec<OsString>,
    _folder: TempDir,
}

impl Server {
    /// Starts a server with two shards on the loopback address.
    ///
    /// # Errors
    /// If it cannot be built or does not come up; the error holds its log.
    pub async fn start() -> Result<Server> {
        Server::start_with(ServerOptions::default()).await
    }

    /// Starts a server.
    ///
    /// # Errors
    /// If it cannot be built or does not come up; the error holds its log.
    pub async fn start_with(options: ServerOptions) -> Result<Server> {
        let ServerOptions {
            ip,
            shards,
            rtsp,
            usual_ports,
            arguments,
        } = options;
        let port = |usual| if usual_ports { usual } else { 0 };
        let folder = TempDir::with_prefix("fanmill-server-")?;
        let admin = folder.path().join("admin.sock");
        let http = TcpListener::bind((ip, 0))?.local_addr()?;
        let rtmp = TcpListener::bind((ip, port(RTMP_PORT)))?.local_addr()?;
        let udp_port = free_udp_ports(ip, shards)?;
        let rtsp = match rtsp {
            true => Some(TcpListener::bind((ip, port(RTSP_PORT)))?.local_addr()?),
            false => None,
        };
        let rtsp_at = rtsp.map_or("off".to_owned(), |address| address.to_string());
        let mut all = ["serve", "--http", &http.to_string()]
            .map(OsString::from)
            .to_vec();
        all.extend(["--rtmp", &rtmp.to_string()].map(Into::into));
        all.extend(["--udp-ip", &ip.to_string()].map(Into::into));
        all.extend(["--udp-port", &udp_port.to_string()].map(Into::into));
        all.extend(["--shards", &shards.to_string()].map(Into::into));
        all.extend(["--rtsp".into(), rtsp_at.into()]);
        all.extend(["--admin".into(), admin.clone().into()]);
        all.extend(arguments);
        let (process, stdout) = spawn(&all)?;
        let mut server = Server {
            process,
            http,
            rtmp,
            udp_port,
            rtsp,
            shards,
            admin,
            stdout,
            arguments: all,
            _folder: folder,
        };
        server.wait_until_ready().await?;
        Ok(server)
    }

    /// Starts it anew, on the same ports, after it was stopped with [`Server::halt`].
    ///
    /// # Errors
    /// If it does not come up; the error holds its log.
    pub async fn resume(&mut self) -> Result<()> {
        (self.process, self.stdout) = spawn(&self.arguments)?;
        self.wait_until_ready().await
    }

    async fn wait_until_ready(&mut self) -> Result<()> {
        let url = self.url("/");
        let probe = async || {
            self.process.check_alive()?;
            Ok(reqwest::get(&url)
                .await
                .is_ok_and(|response| response.status().is_success()))
        };
        let ready = wait::until("the server to answer", START_LIMIT, probe, |&ready| ready).await;
        ready.map(drop).with_context(|| self.log().join("\n"))
    }

    /// The address of `path` (which starts with a slash) on this server.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.http)
    }

    /// The RTMP address of `app/stream` on this server.
    pub fn rtmp(&self, path: &str) -> String {
        format!("rtmp://{}/{path}", self.rtmp)
    }

    /// The UDP address of a shard.
    pub fn udp(&self, shard: u16) -> SocketAddr {
        SocketAddr::new(self.http.ip(), self.udp_port + shard)
    }

    /// The RTSP address of a stream on this server, which must have been asked for.
    ///
    /// # Panics
    /// If it has no RTSP door.
    pub fn rtsp(&self, stream: &str) -> String {
        let address = self.rtsp.expect("the options ask for RTSP");
        format!("rtsp://{address}/{stream}")
    }

    /// The path of the admin socket.
    pub fn admin_path(&self) -> &Path {
        &self.admin
    }

    /// Calls a method of the admin socket (JSON-RPC 2.0) and returns its result.
    ///
    /// # Errors
    /// If the server refuses; the error holds the code and message.
    pub async fn admin(&self, method: &str, params: Value) -> Result<Value> {
        let mut stream = BufReader::new(UnixStream::connect(&self.admin).await?);
        let request = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
        stream.write_all(format!("{request}\n").as_bytes()).await?;
        let mut line = String::new();
        stream.read_line(&mut line).await?;
        let mut answer: Value =
            serde_json::from_str(&line).with_context(|| format!("answered {line:?}"))?;
        if let Some(error) = answer.get("error") {
            bail!("{method}: {error}");
        }
        Ok(answer["result"].take())
    }

    /// The stream's entry of `GET /api/streams`, or null if there is none.
    ///
    /// # Errors
    /// If the server does not answer.
    pub async fn stream(&self, name: &str) -> Result<Value> {
        let response = reqwest::get(self.url("/api/streams"))
            .await?
            .error_for_status()?;
        let streams: Vec<Value> = response.json().await?;
        Ok(streams
            .into_iter()
            .find(|stream| stream["name"] == name)
            .unwrap_or_default())
    }

    /// What all shards have sent: packets that were padded, packets, and sends that carried them.
    ///
    /// # Errors
    /// If the server does not answer.
    pub async fn trains(&self) -> Result<(u64, u64, u64)> {
        let info = self.admin("server.info", json!({})).await?;
        let shards = info["shards"].as_array().context("no shards")?;
        let sum = |name: &str| {
            let counts = shards.iter().map(|shard| &shard["counters"][name]);
            counts.filter_map(Value::as_u64).sum()
        };
        Ok((sum("packets_padded"), sum("packets_sent"), sum("sends")))
    }

    /// Everything the server printed.
    pub fn log(&self) -> Vec<String> {
        [self.stdout.lines(), self.process.log().lines()].concat()
    }

    /// The server's process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Fails with the log if the server has ended.
    ///
    /// # Errors
    /// If it has.
    pub fn check_alive(&mut self) -> Result<()> {
        self.process.check_alive()
    }

    /// Asks the server to end and waits for it; [`Server::resume`] starts it again.
    ///
    /// # Errors
    /// If it is not gone after ten seconds.
    pub async fn halt(&mut self) -> Result<ExitStatus> {
        self.process.terminate(Duration::from_secs(10)).await
    }

    /// Ends the server as a crash does; [`Server::resume`] starts it again.
    ///
    /// # Errors
    /// If the system refuses.
    pub async fn crash(&mut self) -> Result<()> {
        self.process.child().kill().await?;
        // The kernel takes its rings down after it, and their sockets with them.
        let (first, shards) = (self.udp(0), self.shards);
        let bind = |shard| UdpSocket::bind((first.ip(), first.port() + shard));
        let free = async || Ok((0..shards).all(|shard| bind(shard).is_ok()));
        let free = wait::until("its ports to be free", START_LIMIT, free, |&free| free).await;
        free.map(drop)
    }

    /// Asks the server to end and waits for it.
    ///
    /// # Errors
    /// If it is not gone after ten seconds.
    pub async fn stop(mut self) -> Result<ExitStatus> {
        self.process.terminate(Duration::from_secs(10)).await
    }
}

fn spawn(arguments: &[OsString]) -> Result<(Process, Log)> {
    let mut command = Command::new(binary()?);
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    let mut process = Process::spawn("fanmill", &mut command)?.polite();
    let stdout = Log::default();
    let output = process.child().stdout.take();
    stdout.follow(output.context("standard output is piped")?);
    Ok((process, stdout))
}

/// The server's program: `FANMILL_BIN`, or else built now with the profile of the tests.
///
/// # Errors
/// If it cannot be built.
pub fn binary() -> Result<PathBuf> {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let built = BUILT.get_or_init(|| build().map_err(|error| format!("{error:#}")));
    built.clone().map_err(anyhow::Error::msg)
}

fn build() -> Result<PathBuf> {
    if let Some(path) = env::var_os("FANMILL_BIN") {
        return Ok(path.into());
    }
    // This runs as TARGET/PROFILE/deps/NAME.
    let test = env::current_exe()?;
    let profile_folder = test
        .ancestors()
        .nth(2)
        .context("the test is not where cargo puts it")?;
    let target = profile_folder
        .parent()
        .context("the test is not where cargo puts it")?;
    let profile = match profile_folder.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => "dev",
        Some(profile) => profile,
    };
    // Cargo's own lock makes the tests that run at once wait for one build.
    let mut cargo = std::process::Command::new(env::var_os("CARGO").unwrap_or("cargo".into()));
    cargo
        .args(["build", "--quiet", "--package", "fanmill-control"])
        .args(["--bin", "fanmill", "--profile", profile, "--target-dir"])
        .arg(target)
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    // What the runner says of this package would make build scripts of others run again.
    for (name, _) in env::vars_os() {
        let told = ["CARGO_MANIFEST_", "CARGO_PKG_", "CARGO_BIN_EXE_", "NEXTEST"];
        if name
            .to_str()
            .is_some_and(|name| told.iter().any(|prefix| name.starts_with(prefix)))
        {
            cargo.env_remove(name);
        }
    }
    let output = cargo
        .output()
        .context("cargo cannot be run; set FANMILL_BIN to a built server")?;
    if !output.status.success() {
        bail!(
            "the server cannot be built:\n{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(profile_folder.join("fanmill"))
}

/// The first of `count` consecutive UDP ports nobody uses.
///
/// # Errors
/// If none are found.
pub fn free_udp_ports(ip: IpAddr, count: u16) -> Result<u16> {
    for _ in 0..100 {
        let first = UdpSocket::bind((ip, 0))?;
        let port = first.local_addr()?.port();
        let Some(end) = port.checked_add(count) else {
            continue;
        };
        if (port + 1..end).all(|next| UdpSocket::bind((ip, next)).is_ok()) {
            return Ok(port);
        }
    }
    bail!("no {count} consecutive UDP ports are free on {ip}")
}

/// This machine's address towards the world: clients that ignore loopback addresses reach a
/// server there. No packet is sent to find it.
///
/// # Errors
/// If there is no route.
pub fn lan_ip() -> Result<IpAddr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9))?;
    Ok(socket.local_addr()?.ip())
}
