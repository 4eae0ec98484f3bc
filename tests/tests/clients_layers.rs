//! Chromium publishes layers, of simulcast and of scalable codecs, and viewers get the best one, or the
//! one they choose.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use fanmill_tests::clients::console::{Console, Received};
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

/// What a viewer of layers is to see: which it asks for, the width, and the pictures a second.
struct Shown {
    layers: Value,
    width: u64,
    fps: std::ops::Range<f64>,
}

fn shown(layers: Value, width: u64, fps: std::ops::Range<f64>) -> Shown {
    Shown { layers, width, fps }
}

/// Pictures a second of one picture in four, and of nearly all, at a publisher's fifteen.
const SLOW: std::ops::Range<f64> = 1.0..6.0;
const FLUENT: std::ops::Range<f64> = 8.0..100.0;

/// A viewer who chose layers by hand sees them, its picture going on meanwhile.
async fn sees(stage: &Stage, viewer: &Console, wanted: &Shown) -> Result<Received> {
    let before = viewer.receives("anything", |_| true).await?;
    choose(stage, &wanted.layers).await?;
    let what = format!("{}", wanted.layers);
    let good = |seen: &Received| {
        let frames = seen.frames > before.frames + 5;
        seen.width == wanted.width && wanted.fps.contains(&seen.fps) && frames
    };
    match viewer.receives(&what, good).await {
        Ok(seen) => Ok(seen),
        Err(error) => {
            let details = json!({"stream": "stage"});
            let now = stage.server().admin("stream.get", details).await?;
            Err(error.context(format!("{now}\n{}", stage.log())))
        }
    }
}

/// How often the server asked the publisher for a key picture.
async fn keyframe_requests(stage: &Stage) -> Result<u64> {
    let stream = stage.server().stream("stage").await?;
    let tracks = stream["tracks"].as_array().into_iter().flatten();
    let requests = tracks.filter_map(|track| track["keyframe_requests"].as_u64());
    Ok(requests.sum())
}

/// A publisher of layers and a viewer of them.
struct Scene {
    stage: Stage,
    publisher: Console,
    viewer: Console,
    /// It ends with the value.
    _browser: Browser,
}

impl Scene {
    /// A viewer who must be kept to a bitrate that nothing fits is sent nothing until that is changed.
    async fn nothing_fits(&self) -> Result<()> {
        let nothing = json!({"target_bitrate_bps": 1_000, "strict": true});
        choose(&self.stage, &nothing).await?;
        let nothing = |seen: &Received| seen.fps < 1.0;
        self.viewer.receives("nothing any more", nothing).await?;
        let whole = shown(json!({}), 480, FLUENT);
        sees(&self.stage, &self.viewer, &whole).await?;
        Ok(())
    }

    async fn end(self) -> Result<()> {
        self.publisher.end().await?;
        self.stage.check_unspoiled().await
    }
}

/// Chooses what the only viewer is sent.
async fn choose(stage: &Stage, what: &Value) -> Result<()> {
    let details = json!({"stream": "stage"});
    let details = stage.server().admin("stream.get", details).await?;
    let mut choice = what.clone();
    choice["transport"] = details["viewer_list"][0]["transport"].clone();
    stage.server().admin("transport.select", choice).await?;
    Ok(())
}

/// A viewer is given lower layers, for which nobody asks for a key picture; then more again.
async fn layers_are_chosen(
    options: Value,
    extensions: &[&str],
    down: &[Shown],
    up: &Shown,
) -> Result<Scene> {
    let stage = Stage::new().await?;
    let browser = Browser::start().await?;
    let publisher = Console::open(&browser, stage.server()).await?;
    let whole = options["size"][0].as_u64().unwrap_or_default();
    let mode = options["encodings"][0]["scalabilityMode"].clone();
    let viewing = json!({ "extensions": extensions });
    publisher.publish(&stage.whip(), &options).await?;
    let used = "clients.publisher.getSenders().find((s) => s.track.kind === 'video')\
                .getParameters().encodings[0].scalabilityMode";
    assert_eq!(publisher.evaluate(used).await?, mode);
    let viewer = Console::open(&browser, stage.server()).await?;
    viewer.watch(&stage.whep(), &viewing).await?;
    viewer
        .receives("the largest picture", |seen| seen.width == whole)
        .await
        .with_context(|| stage.log())?;
    let before = viewer.plays(2).await?;
    let requests = keyframe_requests(&stage).await?;
    for lower in down {
        sees(&stage, &viewer, lower).await?;
    }
    ensure!(keyframe_requests(&stage).await? == requests);
    sees(&stage, &viewer, up).await?;
    let all = sees(&stage, &viewer, &shown(json!({}), whole, FLUENT)).await?;
    ensure!(
        all.plis == before.plis && all.nacks < before.nacks + 50,
        "{all:?} after {before:?}"
    );
    Ok(Scene {
        stage,
        publisher,
        viewer,
        _browser: browser,
    })
}

/// Three sizes and three rates, each choosable.
async fn three_by_three(offer: Value, extensions: &[&str]) -> Result<()> {
    let down = [
        shown(json!({"spatial_layer": 1}), 480, FLUENT),
        shown(json!({"spatial_layer": 1, "temporal_layer": 0}), 480, SLOW),
        shown(json!({"spatial_layer": 0, "temporal_layer": 0}), 240, SLOW),
    ];
    let rates = json!({"spatial_layer": 0, "temporal_layer": 2});
    let up = shown(rates, 240, FLUENT);
    let scene = layers_are_chosen(offer, extensions, &down, &up).await?;
    scene.end().await
}

/// A publisher's offer of one encoding in layers.
fn scalable(codec: &str, mode: &str, size: [u32; 2]) -> Value {
    let encoding = json!({ "scalabilityMode": mode, "maxBitrate": 1_200_000 });
    json!({ "codec": codec, "encodings": [encoding], "size": size })
}

const LARGE: [u32; 2] = [960, 540];
/// So small that the first bitrate has room for it.
const SMALL: [u32; 2] = [480, 270];

#[tokio::test]
async fn layers_of_scalable_vp9_are_decoded_and_chosen() -> Result<()> {
    three_by_three(scalable("VP9", "L3T3_KEY", LARGE), &[]).await
}

#[tokio::test]
async fn layers_of_scalable_av1_are_decoded_and_chosen() -> Result<()> {
    three_by_three(scalable("AV1", "L3T3", LARGE), &[DEPENDENCY_DESCRIPTOR]).await
}

async fn three_rates(offer: Value) -> Result<Scene> {
    let down = [shown(json!({"temporal_layer": 0}), 480, SLOW)];
    let up = shown(json!({"max_temporal_layer": 1}), 480, 5.0..9.5);
    layers_are_chosen(offer, &[], &down, &up).await
}

#[tokio::test]
async fn temporal_layers_of_vp8_are_chosen() -> Result<()> {
    let mut offer = scalable("VP8", "L1T3", SMALL);
    offer["without"] = json!([DEPENDENCY_DESCRIPTOR]);
    let scene = three_rates(offer).await?;
    scene.nothing_fits().await?;
    scene.end().await
}

/// Then its payload tells nothing of them.
#[tokio::test]
async fn temporal_layers_of_vp8_are_chosen_by_the_dependency_descriptor() -> Result<()> {
    let scene = three_rates(scalable("VP8", "L1T3", SMALL)).await?;
    scene.end().await
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
