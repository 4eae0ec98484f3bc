//! A small client of the Chrome DevTools Protocol over the browser's debugging pipe: commands in,
//! answers by id, and the console of each page kept. Used by [`crate::browser`] only.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::sync::oneshot;

use crate::process::Log;

/// A page that decodes video on a busy machine may be slow, but not this slow.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);

type Answer = oneshot::Sender<Result<Value>>;
type Writer = Box<dyn AsyncWrite + Send + Unpin>;

/// One browser's debugging pipe. Messages are JSON objects that end with a zero byte.
pub struct Cdp {
    next_id: AtomicU64,
    writer: tokio::sync::Mutex<Writer>,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Default)]
struct Shared {
    pending: HashMap<u64, Answer>,
    consoles: HashMap<String, Log>,
    closed: bool,
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Cdp {
    /// Speaks over a pair of pipes, until the browser closes its side.
    pub fn new(
        reader: impl AsyncRead + Send + Unpin + 'static,
        writer: impl AsyncWrite + Send + Unpin + 'static,
    ) -> Cdp {
        let shared = Arc::new(Mutex::new(Shared::default()));
        tokio::spawn(read(BufReader::new(reader), shared.clone()));
        Cdp {
            next_id: AtomicU64::new(1),
            writer: tokio::sync::Mutex::new(Box::new(writer)),
            shared,
        }
    }

    /// Sends a command, to the browser itself or to an attached page, and awaits its result.
    ///
    /// # Errors
    /// If the browser refuses the command, is gone, or does not answer within a minute.
    pub async fn send(&self, session: Option<&str>, method: &str, params: Value) -> Result<Value> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let mut message = json!({ "id": id, "method": method, "params": params });
        if let Some(session) = session {
            message["sessionId"] = json!(session);
        }
        let (answer, answered) = oneshot::channel();
        {
            let mut shared = lock(&self.shared);
            if shared.closed {
                bail!("{method}: the browser is gone");
            }
            shared.pending.insert(id, answer);
        }
        let mut bytes = serde_json::to_vec(&message)?;
        bytes.push(0);
        {
            let mut writer = self.writer.lock().await;
            writer
                .write_all(&bytes)
                .await
                .with_context(|| format!("{method}: browser is gone"))?;
            writer.flush().await?;
        }
        let result = tokio::time::timeout(ANSWER_LIMIT, answered).await;
        lock(&self.shared).pending.remove(&id);
        result
            .map_err(|_| anyhow!("{method}: no answer within {ANSWER_LIMIT:?}"))?
            .map_err(|_| anyhow!("{method}: the browser is gone"))?
            .with_context(|| method.to_owned())
    }

    /// The console of an attached page: `console.*`, uncaught exceptions, failed requests.
    pub fn console(&self, session: &str) -> Log {
        lock(&self.shared)
            .consoles
            .entry(session.to_owned())
            .or_default()
            .clone()
    }
}

async fn read(mut reader: BufReader<impl AsyncRead + Unpin>, shared: Arc<Mutex<Shared>>) {
    let mut bytes = Vec::new();
    while let Ok(1..) = reader.read_until(0, &mut bytes).await {
        if bytes.last() == Some(&0) {
            bytes.pop();
        }
        if let Ok(message) = serde_json::from_slice::<Value>(&bytes) {
            take(&shared, message);
        }
        bytes.clear();
    }
    let mut shared = lock(&shared);
    shared.closed = true;
    shared.pending.clear();
}

fn take(shared: &Mutex<Shared>, mut message: Value) {
    let mut shared = lock(shared);
    if let Some(id) = message["id"].as_u64() {
        let Some(answer) = shared.pending.remove(&id) else {
            return;
        };
        let result = match message.get("error") {
            Some(error) => Err(anyhow!(
                "{}",
                error["message"].as_str().unwrap_or("refused")
            )),
            None => Ok(message["result"].take()),
        };
        // The one who asked may have given up.
        let _ = answer.send(result);
        return;
    }
    let Some(session) = message["sessionId"].as_str() else {
        return;
    };
    let Some(line) = console_line(&message["method"], &message["params"]) else {
        return;
    };
    shared
        .consoles
        .entry(session.to_owned())
        .or_default()
        .push(line);
}

fn console_line(method: &Value, params: &Value) -> Option<String> {
    match method.as_str()? {
        "Runtime.consoleAPICalled" => {
            let words = params["args"].as_array()?.iter().map(|argument| {
                let value = &argument["value"];
                let text = value.as_str().or(argument["description"].as_str());
                text.map_or_else(|| value.to_string(), str::to_owned)
            });
            let words = words.collect::<Vec<_>>().join(" ");
            Some(format!(
                "{}: {words}",
                params["type"].as_str().unwrap_or("log")
            ))
        }
        "Runtime.exceptionThrown" => Some(format!(
            "exception: {}",
            exception_text(&params["exceptionDetails"])
        )),
        "Log.entryAdded" => {
            let entry = &params["entry"];
            let (text, url) = (entry["text"].as_str()?, entry["url"].as_str().unwrap_or(""));
            Some(format!(
                "{}: {text} {url}",
                entry["level"].as_str().unwrap_or("log")
            ))
        }
        _ => None,
    }
}

/// The words of `Runtime.ExceptionDetails`.
pub fn exception_text(details: &Value) -> String {
    let description = details["exception"]["description"].as_str();
    let value = details["exception"]["value"].as_str();
    description
        .or(value)
        .or(details["text"].as_str())
        .unwrap_or("unknown")
        .to_owned()
}
