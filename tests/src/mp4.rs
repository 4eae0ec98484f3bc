//! Recordings judged by programs that had no part in making them: decoded by ffmpeg at its strictest,
//! and read box by box with mp4box.

use std::path::Path;
use std::process::{Command, Output};

use anyhow::{Context, Result, ensure};

use crate::clients::node;

/// Checks that all of a file decodes, without a word of complaint, and that its structure is right.
///
/// # Errors
/// What they say, if that is not so.
pub fn check(file: &Path) -> Result<()> {
    decodes(file)?;
    is_well_formed(file)
}

/// Checks that all of a file decodes, without a word of complaint.
///
/// # Errors
/// What ffmpeg says, if it does not.
pub fn decodes(file: &Path) -> Result<()> {
    let strictly = "crccheck+bitstream+buffer+explode+careful+compliant+aggressive";
    let mut command = Command::new("ffmpeg");
    command
        .args(["-v", "warning", "-nostdin", "-xerror"])
        .args(["-strict", "strict", "-err_detect", strictly, "-i"])
        .arg(file)
        // The time base is the file's: by default ffmpeg rounds to its guess of the frame rate, and
        // complains of pictures that are closer.
        .args(["-enc_time_base:v", "-1", "-f", "null", "-"]);
    says_nothing(file, &command.output()?)
}

/// Checks the structure of a file: boxes, tables, and where its samples are.
///
/// # Errors
/// What is wrong with it, or that mp4box is not installed.
pub fn is_well_formed(file: &Path) -> Result<()> {
    let mut command = node::program("mp4_structure.cjs")?;
    says_nothing(file, &command.arg(file).output()?)
}

fn says_nothing(file: &Path, output: &Output) -> Result<()> {
    let said = [&output.stdout[..], &output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    ensure!(
        output.status.success() && said.is_empty(),
        "{}: {said}",
        file.display()
    );
    Ok(())
}

/// Width and height of each picture of a file.
///
/// # Errors
/// If they do not decode.
pub fn picture_sizes(file: &Path) -> Result<Vec<(u32, u32)>> {
    let mut command = Command::new("ffprobe");
    command
        .args(["-v", "error", "-select_streams", "v:0"])
        .args(["-show_entries", "frame=width,height", "-of", "csv=p=0"])
        .arg(file);
    let output = command.output()?;
    ensure!(output.status.success(), "{output:?}");
    let lines = String::from_utf8(output.stdout)?;
    let size = |line: &str| {
        let mut sides = line.split(',').map(str::parse);
        Some((sides.next()?.ok()?, sides.next()?.ok()?))
    };
    let sizes = lines.lines().filter(|line| !line.is_empty());
    sizes
        .map(|line| size(line).with_context(|| format!("no size: {line}")))
        .collect()
}
