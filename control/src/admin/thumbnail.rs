//! The methods that write thumbnails beside the recordings.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Caller, Methods, Reason, RpcError};
use crate::player::RecordingError;
use crate::recorder::{Directory, RecordingPath};
use crate::thumbnail::{MAX_WIDTH, ThumbnailError, Thumbnails};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OfStream {
    stream: String,
    to: String,
    #[serde(default)]
    width: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OfRecording {
    path: String,
    to: String,
    #[serde(default)]
    at_s: Option<f64>,
    #[serde(default)]
    width: Option<u32>,
}

/// Adds `stream.thumbnail` and `recording.thumbnail`, which write into `directory`.
pub fn add_thumbnail_methods(
    methods: &mut Methods,
    thumbnails: &Thumbnails,
    directory: &Directory,
) {
    let (of, into) = (thumbnails.clone(), directory.clone());
    methods.add(
        "stream.thumbnail",
        "Writes what a stream shows as a JPEG (to) beside the recordings.",
        move |_: Caller, OfStream { stream, to, width }: OfStream| {
            let (of, into) = (of.clone(), into.clone());
            async move {
                let jpeg = of.of_stream(&stream, width.unwrap_or(MAX_WIDTH)).await;
                write(into, to, jpeg.map_err(|error| refused(&error))?).await
            }
        },
    );
    let (of, into) = (thumbnails.clone(), directory.clone());
    methods.add(
        "recording.thumbnail",
        "Writes what a recording shows at a time (at_s) as a JPEG (to) beside the recordings.",
        move |_: Caller, asked: OfRecording| {
            let (of, into) = (of.clone(), into.clone());
            async move {
                let width = asked.width.unwrap_or(MAX_WIDTH);
                let jpeg = of.of_recording(&asked.path, asked.at_s, width).await;
                write(into, asked.to, jpeg.map_err(|error| refused(&error))?).await
            }
        },
    );
}

async fn write(into: Directory, to: String, jpeg: Bytes) -> Result<Value, RpcError> {
    let path =
        RecordingPath::picture(&to).map_err(|error| RpcError::invalid_params("to", error))?;
    let answer = json!({ "path": path.as_str(), "bytes": jpeg.len() });
    let written = tokio::task::spawn_blocking(move || into.write(&path, &jpeg)).await;
    match written {
        Ok(Ok(())) => Ok(answer),
        Ok(Err(error)) => {
            let message = format!("cannot write {}: {error}", answer["path"]);
            Err(RpcError::new(Reason::Failed, message))
        }
        Err(_) => Err(RpcError::internal("writing a thumbnail panicked")),
    }
}

fn refused(error: &ThumbnailError) -> RpcError {
    let reason = match error {
        ThumbnailError::Parameter => return RpcError::invalid_params("", error),
        ThumbnailError::NotLive(_) | ThumbnailError::Recording(RecordingError::Missing(_)) => {
            Reason::NotFound
        }
        ThumbnailError::Busy => Reason::LimitReached,
        _ => Reason::Failed,
    };
    RpcError::new(reason, error.to_string())
}
