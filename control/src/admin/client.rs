//! The client's end of the admin socket, blocking: for `fanmill ctl` and scripts in Rust.

use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use super::rpc::RpcError;

/// Longer than the server lets a method run.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(40);

/// A list of every transport of a full server stays well below this.
const MAX_ANSWER_BYTES: u64 = 256 << 20;

/// Notifications kept while an answer is waited for; of more, the first ones are lost.
const MAX_KEPT: usize = 1024;

/// Why a call gave no result.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// Nothing listens at the socket's path.
    #[error(
        "no server is running at {}: start one with `fanmill serve`, or name its socket with \
         --admin",
        .0.display()
    )]
    NotRunning(PathBuf),
    /// The socket may not be opened.
    #[error("no permission to use {}: run as the user the server runs as, or as root", .0.display())]
    NotPermitted(PathBuf),
    /// The connection failed.
    #[error("the connection to {} failed: {source}; is the server still running?", path.display())]
    Io {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The server sent something that is no answer.
    #[error("{} does not speak this protocol: {problem}; check --admin", path.display())]
    Protocol {
        /// The socket.
        path: PathBuf,
        /// What was wrong.
        problem: String,
    },
    /// The server answered with an error.
    #[error(transparent)]
    Rpc(#[from] RpcError),
}

/// A connection to a server's admin socket.
#[derive(Debug)]
pub struct AdminClient {
    path: PathBuf,
    stream: BufReader<UnixStream>,
    last_id: u64,
    /// Notifications that came while an answer was waited for.
    kept: VecDeque<Value>,
}

impl AdminClient {
    /// Connects to the socket at `path`.
    ///
    /// # Errors
    /// [`ClientError::NotRunning`], [`ClientError::NotPermitted`], [`ClientError::Io`].
    pub fn connect(path: &Path) -> Result<Self, ClientError> {
        let stream = UnixStream::connect(path).map_err(|source| match source.kind() {
            ErrorKind::NotFound | ErrorKind::ConnectionRefused => {
                ClientError::NotRunning(path.to_owned())
            }
            ErrorKind::PermissionDenied => ClientError::NotPermitted(path.to_owned()),
            _ => ClientError::Io {
                path: path.to_owned(),
                source,
            },
        })?;
        let timed = stream
            .set_read_timeout(Some(ANSWER_TIMEOUT))
            .and_then(|()| stream.set_write_timeout(Some(ANSWER_TIMEOUT)));
        timed.map_err(|source| ClientError::Io {
            path: path.to_owned(),
            source,
        })?;
        Ok(Self {
            path: path.to_owned(),
            stream: BufReader::new(stream),
            last_id: 0,
            kept: VecDeque::new(),
        })
    }

    /// The user the server runs as.
    ///
    /// # Errors
    /// [`ClientError::Io`].
    pub fn server_uid(&self) -> Result<u32, ClientError> {
        let credentials = rustix::net::sockopt::socket_peercred(self.stream.get_ref())
            .map_err(|errno| self.failed(errno.into()))?;
        Ok(credentials.uid.as_raw())
    }

    /// Calls a method and waits for its answer; notifications meanwhile are kept. `params` is an
    /// object or an array.
    ///
    /// # Errors
    /// [`ClientError::Rpc`] with the server's error, or why there is no answer.
    pub fn call(&mut self, method: &str, params: Option<Value>) -> Result<Value, ClientError> {
        self.last_id += 1;
        let mut request = json!({ "jsonrpc": "2.0", "method": method, "id": self.last_id });
        if let Some(params) = params {
            request["params"] = params;
        }
        let line = format!("{request}\n");
        match self.stream.get_mut().write_all(line.as_bytes()) {
            // A server that refuses the connection has said why before it closed it.
            Ok(()) => {}
            Err(e) if e.kind() == ErrorKind::BrokenPipe => {}
            Err(e) => return Err(self.failed(e)),
        }
        loop {
            let mut answer = self.read_message()?;
            let id = &answer["id"];
            let error = answer.get("error").filter(|error| !error.is_null());
            if error.is_some() && (id.is_null() || *id == self.last_id) {
                let error = serde_json::from_value(answer["error"].take())
                    .map_err(|e| self.protocol(format!("an error of unknown shape ({e})")))?;
                return Err(ClientError::Rpc(error));
            }
            if *id == self.last_id && answer.get("result").is_some() {
                return Ok(answer["result"].take());
            }
            if answer.get("method").is_none() {
                return Err(self.protocol("an answer to nothing that was asked".to_owned()));
            }
            if self.kept.len() >= MAX_KEPT {
                self.kept.pop_front();
            }
            self.kept.push_back(answer);
        }
    }

    /// Waits for a notification as long as it takes, and gives its method and parameters.
    ///
    /// # Errors
    /// [`ClientError::Io`], [`ClientError::Protocol`].
    pub fn notification(&mut self) -> Result<(String, Value), ClientError> {
        let timeout = self.stream.get_ref().set_read_timeout(None);
        timeout.map_err(|error| self.failed(error))?;
        let message = match self.kept.pop_front() {
            Some(kept) => Ok(kept),
            None => self.read_message(),
        };
        let timeout = self.stream.get_ref().set_read_timeout(Some(ANSWER_TIMEOUT));
        timeout.map_err(|error| self.failed(error))?;
        let mut message = message?;
        match message["method"].take() {
            Value::String(method) => Ok((method, message["params"].take())),
            _ => Err(self.protocol("a message that is no notification".to_owned())),
        }
    }

    fn read_message(&mut self) -> Result<Value, ClientError> {
        let mut line = Vec::new();
        let read = Read::by_ref(&mut self.stream)
            .take(MAX_ANSWER_BYTES)
            .read_until(b'\n', &mut line)
            .map_err(|e| self.failed(e))?;
        if read == 0 {
            return Err(self.failed(ErrorKind::UnexpectedEof.into()));
        }
        match serde_json::from_slice(&line) {
            Ok(message @ Value::Object(_)) => Ok(message),
            Ok(_) => Err(self.protocol("an answer that is no object".to_owned())),
            Err(e) => Err(self.protocol(format!("an answer that is not JSON ({e})"))),
        }
    }

    fn failed(&self, source: io::Error) -> ClientError {
        ClientError::Io {
            path: self.path.clone(),
            source,
        }
    }

    fn protocol(&self, problem: String) -> ClientError {
        ClientError::Protocol {
            path: self.path.clone(),
            problem,
        }
    }
}
