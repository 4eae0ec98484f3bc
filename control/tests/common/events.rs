//! A reader of event streams (HTML, 9.2.6), as far as the server writes them.

use reqwest::Response;
use serde_json::{Value, json};

use super::server::{Server, header};
use super::soon;

pub const ALL: &str = r#"["active", "inactive", "paused", "layers", "viewercount"]"#;

const WITH_TYPE: &[(&str, &str)] = &[("content-type", "application/json")];

/// Asks for events; gives the path of the stream.
pub async fn subscribe(server: &Server, session: &str, names: &str) -> String {
    let path = format!("{session}/sse");
    let response = server
        .request("POST", &path, WITH_TYPE, names.to_owned())
        .await;
    assert_eq!(response.status(), 201);
    let stream = header(&response, "location").to_owned();
    assert!(stream.starts_with(&format!("{path}/")), "{stream}");
    stream
}

/// An event stream that is being read.
pub struct Events {
    response: Response,
    text: String,
}

impl Events {
    pub async fn open(server: &Server, stream: &str) -> Self {
        let response = server.request("GET", stream, &[], "").await;
        assert_eq!(response.status(), 200);
        assert_eq!(header(&response, "content-type"), "text/event-stream");
        assert_eq!(header(&response, "cache-control"), "no-store");
        assert_eq!(header(&response, "access-control-allow-origin"), "*");
        Self {
            response,
            text: String::new(),
        }
    }

    /// The next event and its data; `None` at the end of the stream.
    pub async fn next(&mut self) -> Option<(String, Value)> {
        loop {
            while let Some((block, rest)) = self.text.split_once("\n\n") {
                let (block, rest) = (block.to_owned(), rest.to_owned());
                self.text = rest;
                if let Some(event) = parse(&block) {
                    return Some(event);
                }
            }
            let chunk = soon(self.response.chunk()).await.unwrap()?;
            self.text += std::str::from_utf8(&chunk).unwrap();
        }
    }

    /// The next event must be this one.
    #[track_caller]
    pub fn expect(&mut self, name: &str, data: Value) -> impl Future<Output = ()> {
        let caller = std::panic::Location::caller();
        let expected = Some((name.to_owned(), data));
        async move {
            let event = self.next().await;
            assert_eq!(event, expected, "{caller}");
        }
    }

    /// The next event must be this number of viewers, or one on the way to it.
    pub async fn expect_viewers(&mut self, viewers: u64) {
        loop {
            let (name, data) = self.next().await.expect("it goes on");
            assert_eq!(name, "viewercount");
            if data == json!({ "viewercount": viewers }) {
                return;
            }
        }
    }
}

/// An event of one line of data; `None` for a comment.
fn parse(block: &str) -> Option<(String, Value)> {
    let mut lines = block.lines().filter(|line| !line.starts_with(':'));
    let mut field = |name: &str| {
        let line = lines.next()?.strip_prefix(name).unwrap();
        Some(line.strip_prefix(' ').unwrap_or(line).to_owned())
    };
    let name = field("event:")?;
    let data = serde_json::from_str(&field("data:")?).unwrap();
    assert_eq!(lines.next(), None, "data is of one line");
    Some((name, data))
}
