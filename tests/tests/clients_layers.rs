//! Chromium publishes layers, of simulcast and of scalable codecs, and viewers get the best one.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use fanmill_tests::clients::console::Console;
use fanmill_tests::clients::{Stage, node};
use fanmill_tests::{Browser, mp4, scene, wait};
use serde_json::{Value, json};
use tempfile::TempDir;

/// An odd one: it turns the bit round that tells VP8's keyframes from others.
const SECRET: u8 = 0x5b;

const LIMIT: Duration = Duration::from_secs(40);
const SECONDS: u32 = 5;

/// Tells a receiver which layers belong to one picture. Without it, libwebrtc takes each layer of
/// AV1 for a picture of its own and decodes none; it offers to receive it only if told to.
const DEPENDENCY_DESCRIPTOR: &str =
    "https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension";

fn rids() -> Value {
    json!([
        { "rid": "q", "scaleResolutionDownBy": 4, "maxBitrate": 150_000 },
        { "rid": "h", "scaleResolutionDownBy": 2, "maxBitrate": 400_000 },
        { "rid": "f", "maxBitrate": 900_000 },
    ])
}

/// The rids whose packets come, and their widths.
fn active(stream: &Value) -> Vec<(String, u64)> {
    let tracks = stream["tracks"].as_array().into_iter().flatten();
    let video = tracks.filter(|track| track["kind"] == "video");
    let encodings = video.flat_map(|track| track["encodings"].as_array().into_iter().flatten());
    let active = encodings.filter(|encoding| encoding["active"] == true);
    active
        .map(|encoding| {
            let rid = encoding["rid"].as_str().unwrap_or_default().to_owned();
            (rid, encoding["width"].as_u64().unwrap_or_default())
        })
        .collect()
}

#[tokio::test]
async fn viewers_and_recorders_rise_to_the_best_of_three_simulcast_encodings() -> Result<()> {
    let folder = TempDir::new()?;
    let stage = Stage::with(vec!["--recordings".into(), folder.path().into()]).await?;
    let record = async |path: &str, rid: Value| {
        let create = json!({"stream": "stage", "path": path, "rid": rid});
        stage.server().admin("recorder.create", create).await
    };
    record("best", Value::Null).await?;
    let browser = Browser::start().await?;
    // Viewers are there before the upper encodings, which begin once the server's feedback told
    // the publisher that there is room for them.
    let viewer = Console::open(&browser, stage.server()).await?;
    viewer.watch(&stage.whep(), &json!({})).await?;
    let publisher = Console::open(&browser, stage.server()).await?;
    let options = json!({ "codec": "VP8", "size": [960, 540], "encodings": rids() });
    publisher.publish(&stage.whip(), &options).await?;

    let probe = async || stage.server().stream("stage").await;
    let want = [("q", 240), ("h", 480), ("f", 960)].map(|(rid, width)| (rid.to_owned(), width));
    wait::until("three encodings", LIMIT, probe, |stream| {
        active(stream) == want
    })
    .await
    .with_context(|| stage.log())?;
    viewer
        .receives("the largest picture", |seen| {
            (seen.width, seen.height) == (960, 540)
        })
        .await?;
    viewer.plays(SECONDS.into()).await?;
    one_who_chooses_gets_it_and_nobody_else(&stage, &browser).await?;
    viewer
        .receives("the largest picture still", |seen| {
            (seen.width, seen.height) == (960, 540)
        })
        .await?;
    record("middle", "h".into()).await?;
    let seen = node::libwebrtc_watch(&stage.whep(), SECONDS).await?;
    seen.check(SECONDS, 960, 540)?;
    for recorder in [1, 2] {
        let stop = json!({"recorder": recorder});
        let info = stage.server().admin("recorder.stop", stop).await?;
        ensure!(info["parts"] == 1 && info["error"].is_null(), "{info}");
    }
    // One file goes on through every size; the other one has the encoding that was chosen.
    let [best, middle] = ["best.mp4", "middle.mp4"].map(|name| folder.path().join(name));
    mp4::check(&best)?;
    mp4::check(&middle)?;
    let best = mp4::picture_sizes(&best)?;
    ensure!(
        best.first() < best.last() && best.last() == Some(&(960, 540)),
        "{best:?}"
    );
    let middle = mp4::picture_sizes(&middle)?;
    ensure!(
        !middle.is_empty() && middle.iter().all(|&size| size == (480, 270)),
        "{middle:?}"
    );
    publisher.end().await?;
    stage.check_unspoiled().await
}

/// Bytes of media that a publisher has sent of each encoding.
async fn sent(publisher: &Console) -> Result<[u64; 3]> {
    let bytes = "clients.publisher.getStats().then((stats) => ['q', 'h', 'f'].map((rid) => \
                 [...stats.values()].find((s) => s.type === 'outbound-rtp' && s.rid === rid).bytesSent))";
    Ok(serde_json::from_value(publisher.evaluate(bytes).await?)?)
}

#[tokio::test]
async fn encodings_that_nobody_watches_are_not_sent_until_somebody_does() -> Result<()> {
    let stage = Stage::with(vec!["--pause-unwatched-s".into(), "2".into()]).await?;
    let browser = Browser::start().await?;
    let viewer = scene::watch(&browser, stage.server(), "stage").await?;
    let publisher = Console::open(&browser, stage.server()).await?;
    let options = json!({ "codec": "VP8", "size": [960, 540], "encodings": rids() });
    publisher.publish(&stage.whip(), &options).await?;
    let shows = |width| format!("document.getElementById('video').videoWidth === {width}");
    viewer.wait_for(&shows(960), LIMIT).await?;
    let menu = "document.getElementById('quality')";
    let choose = |rid| format!("{menu}.value = '{rid}'; {menu}.dispatchEvent(new Event('change'))");

    viewer
        .wait_for(&format!("{menu}.options.length === 4"), LIMIT)
        .await?;
    viewer.evaluate(&choose("q")).await?;
    viewer.wait_for(&shows(240), LIMIT).await?;
    let began = Instant::now();
    let probe = async || {
        let before = sent(&publisher).await?;
        tokio::time::sleep(Duration::from_secs(1)).await;
        let after = sent(&publisher).await?;
        Ok([0, 1, 2].map(|place| after[place] - before[place]))
    };
    let low = wait::until("only the lowest", LIMIT, probe, |bytes| {
        bytes[0] > 0 && bytes[1..] == [0, 0]
    })
    .await
    .with_context(|| stage.log())?;
    println!("{low:?} bytes a second after {:?}", began.elapsed());
    // All that it may take, and it is still to be chosen.
    ensure!(low[0] * 8 > 75_000, "{low:?}");
    let options = format!("{menu}.options.length");
    ensure!(viewer.evaluate(&options).await? == 4);

    // One who joins begins with what comes, and gets the best when it is back.
    let other = Console::open(&browser, stage.server()).await?;
    let began = Instant::now();
    other.watch(&stage.whep(), &json!({})).await?;
    other
        .receives("some picture", |seen| seen.frames > 0)
        .await?;
    println!("a picture after {:?}", began.elapsed());
    other
        .receives("the largest picture", |seen| seen.width == 960)
        .await?;
    println!("the best again after {:?}", began.elapsed());
    viewer.evaluate(&choose("")).await?;
    viewer.wait_for(&shows(960), LIMIT).await?;
    publisher.end().await?;
    stage.check_unspoiled().await
}

/// By the menu of the viewer's page.
async fn one_who_chooses_gets_it_and_nobody_else(stage: &Stage, browser: &Browser) -> Result<()> {
    let page = scene::watch(browser, stage.server(), "stage").await?;
    let menu = "document.getElementById('quality')";
    page.wait_for(&format!("{menu}.options.length === 4"), LIMIT)
        .await?;
    for (choice, width) in [("q", 240), ("h", 480), ("", 960)] {
        let choose =
            format!("{menu}.value = '{choice}'; {menu}.dispatchEvent(new Event('change'))");
        page.evaluate(&choose).await?;
        let shown = format!("document.getElementById('video').videoWidth === {width}");
        page.wait_for(&shown, LIMIT).await?;
    }
    page.close().await
}

/// A key picture of an upper spatial layer needs those below: viewers get them all.
async fn a_scalable_stream_is_decoded(codec: &str, extensions: &[&str]) -> Result<()> {
    let stage = Stage::new().await?;
    let browser = Browser::start().await?;
    let publisher = Console::open(&browser, stage.server()).await?;
    let options = json!({
        "codec": codec,
        "size": [960, 540],
        "encodings": [{ "scalabilityMode": "L3T3_KEY", "maxBitrate": 1_200_000 }],
    });
    let viewing = json!({ "extensions": extensions });
    publisher.publish(&stage.whip(), &options).await?;
    let mode = "clients.publisher.getSenders().find((s) => s.track.kind === 'video')\
                .getParameters().encodings[0].scalabilityMode";
    assert_eq!(publisher.evaluate(mode).await?, "L3T3_KEY");
    let viewer = Console::open(&browser, stage.server()).await?;
    viewer.watch(&stage.whep(), &viewing).await?;
    viewer
        .receives("the largest picture", |seen| {
            (seen.width, seen.height) == (960, 540)
        })
        .await
        .with_context(|| stage.log())?;
    viewer.plays(SECONDS.into()).await?;
    publisher.end().await?;
    stage.check_unspoiled().await
}

#[tokio::test]
async fn all_layers_of_scalable_vp9_are_decoded() -> Result<()> {
    a_scalable_stream_is_decoded("VP9", &[]).await
}

#[tokio::test]
async fn all_layers_of_scalable_av1_are_decoded() -> Result<()> {
    a_scalable_stream_is_decoded("AV1", &[DEPENDENCY_DESCRIPTOR]).await
}

/// Nothing but the publisher and the viewers can read a frame (insertable streams): where it begins,
/// and what can be begun with, is known from its dependency descriptor.
async fn frames_encrypted_end_to_end_are_decoded(codec: &str) -> Result<()> {
    let stage = Stage::new().await?;
    let browser = Browser::start().await?;
    let extensions = json!([DEPENDENCY_DESCRIPTOR]);
    let options = json!({ "codec": codec, "extensions": extensions, "secret": SECRET });
    let publisher = Console::open(&browser, stage.server()).await?;
    publisher.publish(&stage.whip(), &options).await?;
    let viewer = Console::open(&browser, stage.server()).await?;
    let watching = json!({ "extensions": extensions, "secret": SECRET });
    viewer.watch(&stage.whep(), &watching).await?;
    viewer.plays(2).await.with_context(|| stage.log())?;
    // One who comes later begins with a keyframe all the same.
    let late = Console::open(&browser, stage.server()).await?;
    late.watch(&stage.whep(), &watching).await?;
    late.plays(2).await.with_context(|| stage.log())?;
    let stream = stage.server().stream("stage").await?;
    publisher.end().await?;
    stage.check_unspoiled().await?;
    // Read as what they are not, half of the frames would be keyframes.
    let tracks = stream["tracks"].as_array().into_iter().flatten();
    let video = tracks.filter(|track| track["kind"] == "video");
    let keyframes: Vec<_> = video.map(|track| track["keyframes"].as_u64()).collect();
    ensure!(matches!(keyframes[..], [Some(1..=5)]), "{keyframes:?}");
    Ok(())
}

#[tokio::test]
async fn frames_of_vp8_encrypted_end_to_end_are_decoded() -> Result<()> {
    frames_encrypted_end_to_end_are_decoded("VP8").await
}
