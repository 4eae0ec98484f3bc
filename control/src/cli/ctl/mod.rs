//! `fanmill ctl`: one admin call from the shell.
//!
//! Results go to standard output, errors to standard error with a non-zero exit code.

mod events;
mod list;
mod media;
mod rooms;
mod tokens;

use std::io;
use std::path::PathBuf;

use serde_json::Value;

use super::print;
use crate::admin::{AdminClient, ClientError};
use crate::config::default_admin_path;

pub(super) const EXAMPLES: &str = "\
Examples:
  fanmill ctl streams                    table of the streams
  fanmill ctl transports                 table of the publishers and viewers
  fanmill ctl recorders                  table of what is recorded
  fanmill ctl players                    table of the recordings that are played
  fanmill ctl tokens                     table of who may publish and watch
  fanmill ctl access.create '{\"streams\": \"cam*\", \"publish\": true, \"ttl_s\": 3600}'
  fanmill ctl rooms                      table of the rooms
  fanmill ctl streams --json             the same as JSON (method stream.list)
  fanmill ctl events                     what happens, a line each, until it is stopped
  fanmill ctl events '{\"kinds\": [\"recorder.*\"], \"stream\": \"cam*\"}'
  fanmill ctl server.methods             every method there is
  fanmill ctl log.set '{\"filter\": \"info,fanmill_control=debug\"}'

Exits with 0 if the call succeeded, with 1 if it failed or no server answers, with 2 if the
command line is wrong.";

/// Arguments of `fanmill ctl`.
#[derive(Debug, clap::Args)]
pub struct CtlArgs {
    /// Path of the server's admin socket [default: $XDG_RUNTIME_DIR/fanmill.sock, else
    /// /tmp/fanmill-UID.sock]
    #[arg(long, value_name = "PATH")]
    admin: Option<PathBuf>,
    /// Print JSON on one line
    #[arg(long)]
    json: bool,
    /// `streams`, `transports`, `recorders`, `players`, `tokens`, `rooms`, `events`, or the
    /// name of an admin method
    method: String,
    /// The method's parameters: a JSON object, or an array of them in order
    #[arg(value_name = "JSON PARAMS", value_parser = parse_params)]
    params: Option<Value>,
}

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CtlError {
    /// The server could not be reached, or answered with an error.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// Someone else's server is at the default path.
    #[error(
        "{} belongs to user {uid}, not to you or root: name it with --admin if you mean it",
        path.display()
    )]
    ForeignServer {
        /// The socket.
        path: PathBuf,
        /// The user its server runs as.
        uid: u32,
    },
    /// The answer is not a list of the kind that the table shows.
    #[error("{method} answered in an unknown form ({source}): use `fanmill ctl {method}`")]
    Form {
        /// The method called.
        method: &'static str,
        /// What did not fit.
        source: serde_json::Error,
    },
    /// Standard output could not be written.
    #[error("cannot write the result: {0}")]
    Output(#[from] io::Error),
}

/// A word for a method whose answer is shown as a table.
struct List {
    word: &'static str,
    method: &'static str,
    table: fn(Value) -> Result<String, CtlError>,
}

const LISTS: [List; 6] = [
    List {
        word: "streams",
        method: "stream.list",
        table: list::streams,
    },
    List {
        word: "transports",
        method: "transport.list",
        table: list::transports,
    },
    List {
        word: "recorders",
        method: "recorder.list",
        table: media::recorders,
    },
    List {
        word: "players",
        method: "player.list",
        table: media::players,
    },
    List {
        word: "tokens",
        method: "access.list",
        table: tokens::tokens,
    },
    List {
        word: "rooms",
        method: "room.list",
        table: rooms::rooms,
    },
];

/// Calls the method and prints its result.
///
/// # Errors
/// [`CtlError`].
pub fn run(args: CtlArgs) -> Result<(), CtlError> {
    let mut client = connect(args.admin)?;
    if args.method == "events" {
        return events::run(&mut client, args.params, args.json);
    }
    let listed = LISTS.iter().find(|list| list.word == args.method);
    let method = listed.map_or(args.method.as_str(), |list| list.method);
    let answer = client.call(method, args.params)?;
    let text = match listed {
        _ if args.json => format!("{answer}\n"),
        Some(list) => (list.table)(answer)?,
        None => format!("{answer:#}\n"),
    };
    Ok(print(&text)?)
}

/// The default path may lie in /tmp, where anyone could be waiting for commands.
fn connect(admin: Option<PathBuf>) -> Result<AdminClient, CtlError> {
    if let Some(path) = admin {
        return Ok(AdminClient::connect(&path)?);
    }
    let path = default_admin_path();
    let client = AdminClient::connect(&path)?;
    let uid = client.server_uid()?;
    if uid != 0 && uid != rustix::process::geteuid().as_raw() {
        return Err(CtlError::ForeignServer { path, uid });
    }
    Ok(client)
}

fn parse_params(text: &str) -> Result<Value, String> {
    match serde_json::from_str(text) {
        Ok(params @ (Value::Object(_) | Value::Array(_))) => Ok(params),
        Ok(_) => Err("give a JSON object, such as '{\"name\": \"demo\"}', or an array".to_owned()),
        Err(e) => Err(format!("not JSON: {e}")),
    }
}
