//! What is asked of [`Players`], as JSON has it: the same on the admin socket and over HTTP.

use serde::Deserialize;

use super::players::{PlayerError, PlayerInfo, Players};
use super::{NORMAL_RATE, PlayerOptions, RATES};

/// Makes a player.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Create {
    /// The stream's name.
    pub stream: String,
    /// One file,
    #[serde(default)]
    pub path: Option<String>,
    /// or several.
    #[serde(default)]
    pub paths: Option<Vec<String>>,
    /// Whether it begins again at the end.
    #[serde(default)]
    pub repeat: bool,
    /// 1 is normal.
    #[serde(default)]
    pub rate: Option<f64>,
}

/// Something about the player of a stream.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stream {
    /// The stream's name.
    pub stream: String,
}

/// Goes to another time.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seek {
    /// The stream's name.
    pub stream: String,
    /// The time in the file, in seconds.
    pub position_s: f64,
    /// A file of the playlist, counted from 0.
    #[serde(default)]
    pub item: Option<usize>,
}

/// Changes how it plays.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Set {
    /// The stream's name.
    pub stream: String,
    /// 1 is normal.
    #[serde(default)]
    pub rate: Option<f64>,
    /// Whether it begins again at the end.
    #[serde(default)]
    pub repeat: Option<bool>,
}

impl Create {
    /// Does it; waits for the disk.
    ///
    /// # Errors
    /// [`PlayerError`].
    pub fn run(self, players: &Players) -> Result<PlayerInfo, PlayerError> {
        let paths = match (self.path, self.paths) {
            (Some(path), None) => vec![path],
            (None, Some(paths)) => paths,
            _ => {
                let what = "name one file as `path`, or several as `paths`";
                return Err(PlayerError::Parameter(what.to_owned()));
            }
        };
        let rate = self.rate.map_or(Ok(NORMAL_RATE), thousandths)?;
        let options = PlayerOptions {
            repeat: self.repeat,
            rate,
        };
        players.create(&self.stream, &paths, options)
    }
}

impl Stream {
    /// Plays, or goes on.
    ///
    /// # Errors
    /// [`PlayerError`].
    pub fn play(self, players: &Players) -> Result<PlayerInfo, PlayerError> {
        players.get(&self.stream)?.play();
        players.info(&self.stream)
    }

    /// Shows the present frame.
    ///
    /// # Errors
    /// [`PlayerError`].
    pub fn pause(self, players: &Players) -> Result<PlayerInfo, PlayerError> {
        players.get(&self.stream)?.pause();
        players.info(&self.stream)
    }

    /// Ends it; waits for the data plane.
    ///
    /// # Errors
    /// [`PlayerError`].
    pub fn stop(self, players: &Players) -> Result<(), PlayerError> {
        players.stop(&self.stream)
    }
}

impl Seek {
    /// Does it.
    ///
    /// # Errors
    /// [`PlayerError`].
    pub fn run(self, players: &Players) -> Result<PlayerInfo, PlayerError> {
        let player = players.get(&self.stream)?;
        let item = self.item.unwrap_or(player.status().item);
        let count = player.items().len();
        if item >= count {
            let what = format!("there is no file {item} in a playlist of {count}");
            return Err(PlayerError::Parameter(what));
        }
        if !(self.position_s.is_finite() && self.position_s >= 0.0) {
            let what = "position_s is a number of seconds from the file's beginning";
            return Err(PlayerError::Parameter(what.to_owned()));
        }
        // Saturates; the player ends at the file's end.
        player.seek(item, (self.position_s * 1e6) as i64);
        players.info(&self.stream)
    }
}

impl Set {
    /// Does it.
    ///
    /// # Errors
    /// [`PlayerError`].
    pub fn run(self, players: &Players) -> Result<PlayerInfo, PlayerError> {
        let player = players.get(&self.stream)?;
        if let Some(rate) = self.rate {
            player.set_rate(thousandths(rate)?);
        }
        if let Some(repeat) = self.repeat {
            players.set_repeat(&self.stream, repeat)?;
        }
        players.info(&self.stream)
    }
}

fn thousandths(rate: f64) -> Result<u32, PlayerError> {
    let thousandths = (rate * 1000.0).round() as u32;
    if RATES.contains(&thousandths) {
        Ok(thousandths)
    } else {
        let what = "a rate is 0.25 to 4, where 1 is normal";
        Err(PlayerError::Parameter(what.to_owned()))
    }
}
