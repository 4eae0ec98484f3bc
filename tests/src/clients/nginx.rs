//! nginx with its RTMP module, as Debian has it: a server that streams are pushed to.

use std::net::TcpListener;
use std::process::Stdio;

use anyhow::{Result, ensure};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::process::Command;

use crate::process::Process;
use crate::scene::LIMIT;
use crate::wait;

const MODULE: &str = "/usr/lib/nginx/modules/ngx_rtmp_module.so";

/// A server with the application `live`.
pub struct Nginx {
    process: Option<Process>,
    port: u16,
    folder: TempDir,
}

impl Nginx {
    /// Starts one.
    ///
    /// # Errors
    /// If it is not installed, or does not come up.
    pub async fn start() -> Result<Self> {
        ensure!(
            std::path::Path::new(MODULE).exists(),
            "{MODULE} is missing; run tools/install-test-clients"
        );
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let folder = TempDir::with_prefix("fanmill-nginx-")?;
        let configuration = format!(
            "load_module {MODULE};\ndaemon off;\nworker_processes 1;\npid {at}/pid;\n\
             error_log stderr notice;\nevents {{}}\n\
             rtmp {{ server {{ listen 127.0.0.1:{port}; application live {{ live on; }} }} }}\n",
            at = folder.path().display(),
        );
        std::fs::write(folder.path().join("nginx.conf"), configuration)?;
        let mut nginx = Self {
            process: None,
            port,
            folder,
        };
        nginx.resume().await?;
        Ok(nginx)
    }

    /// The address of a stream.
    #[must_use]
    pub fn url(&self, stream: &str) -> String {
        format!("rtmp://127.0.0.1:{}/live/{stream}", self.port)
    }

    /// Stops it at once.
    pub fn halt(&mut self) {
        self.process = None;
    }

    /// Starts it anew, on the same port.
    ///
    /// # Errors
    /// If it does not come up; the error holds what it said.
    pub async fn resume(&mut self) -> Result<()> {
        // It may be where only root looks.
        let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin";
        let mut command = Command::new("nginx");
        command
            .arg("-c")
            .arg(self.folder.path().join("nginx.conf"))
            .env("PATH", path)
            .stdin(Stdio::null());
        let mut process = Process::spawn("nginx", &mut command)?;
        let at = ("127.0.0.1", self.port);
        let answers = async || {
            process.check_alive()?;
            Ok(TcpStream::connect(at).await.is_ok())
        };
        wait::until("nginx to answer", LIMIT, answers, |&answers| answers).await?;
        self.process = Some(process);
        Ok(())
    }
}
