//! Recordings on disks that are full, slow, or gone in the middle of it.

use super::super::recover::recover;
use super::*;

/// A recording, cut off at every kind of place as by a crash, plays as it is, and is closed at the
/// next start.
#[tokio::test(flavor = "multi_thread")]
async fn a_recording_cut_off_anywhere_loses_its_last_fragment_at_most() {
    let heard = capture(VP8, OPUS);
    let dir = tempfile::tempdir().unwrap();
    record(dir.path(), spec("whole.mp4"), heard).await;
    let whole = std::fs::read(dir.path().join("whole.mp4")).unwrap();
    let fragments: Vec<usize> = whole
        .windows(4)
        .enumerate()
        .filter(|(_, four)| *four == b"moof")
        .map(|(at, _)| at - 4)
        .collect();
    assert!(fragments.len() >= 3, "{} fragments", fragments.len());
    let path = dir.path().join("cut.mp4");
    for (number, &at) in fragments.iter().enumerate().skip(1) {
        let end = fragments.get(number + 1).copied().unwrap_or(whole.len());
        for cut in [at, at + 5, at + 40, at + (end - at) / 2, end - 1] {
            std::fs::write(&path, &whole[..cut]).unwrap();
            std::fs::write(dir.path().join(".cut.mp4.recording"), b"").unwrap();
            let recovered = recover(&Directory::new(dir.path())).unwrap();
            assert_eq!(recovered.len(), 1);
            assert_eq!(recovered[0].kept_bytes, at as u64, "cut at {cut}");
            assert_eq!(recovered[0].fragments, number as u64);
            decode(&path);
            assert!(!dir.path().join(".cut.mp4.recording").exists());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_file_left_by_a_crash_is_removed_and_a_live_one_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let directory = Directory::new(dir.path());
    std::fs::create_dir(dir.path().join("a")).unwrap();
    std::fs::write(dir.path().join("a/x.mp4"), b"\0\0\0\x10ftypis").unwrap();
    std::fs::write(dir.path().join("a/.x.mp4.recording"), b"").unwrap();
    let live = directory
        .create(&RecordingPath::parse("live").unwrap())
        .unwrap();
    let recovered = recover(&directory).unwrap();
    assert_eq!(recovered.len(), 1);
    assert_eq!(
        (recovered[0].path.as_str(), recovered[0].kept_bytes),
        ("a/x.mp4", 0)
    );
    assert!(!dir.path().join("a/x.mp4").exists());
    assert!(dir.path().join(".live.mp4.recording").exists());
    drop(live);
}

/// A file system of its own, with little room.
struct Small(tempfile::TempDir);

impl Small {
    fn new(size: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let size = format!("size={size}");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "none"])
            .arg(dir.path())
            .status()
            .unwrap();
        assert!(
            mounted.success(),
            "this test mounts a tmpfs: run it as root"
        );
        Self(dir)
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_ends_the_file_cleanly_and_says_so() {
    let heard = capture(X264, OPUS);
    let small = Small::new("96k");
    let recorders = recorders(small.0.path());
    let mut events = recorders.events();
    let id = recorders.create(&spec("x.mp4")).unwrap();
    let (sources, _stage, _) = stage(heard);
    recorders.attach(id, sources);
    let mut told = Vec::new();
    while !matches!(told.last(), Some(RecorderEvent::Failed { .. })) {
        told.push(events.recv().await.unwrap());
    }
    assert_eq!(recorders.list()[0].state, RecorderState::Failed);
    let info = recorders.stop(id).await.unwrap();
    assert_eq!(info.state, RecorderState::Failed);
    assert!(
        info.error.as_ref().unwrap().contains("No space left"),
        "{:?}",
        info.error
    );
    let file = small.0.path().join("x.mp4");
    decode(&file);
    assert!(frames(&file, "v:0") >= 15);
    assert!(!small.0.path().join(".x.mp4.recording").exists());
}

/// A disk that takes nothing until it is released, because it is stuck with another file.
#[tokio::test(flavor = "multi_thread")]
async fn a_stalled_disk_costs_fragments_and_nobody_waits() {
    let [mut video, mut sound] = capture(X264, OPUS);
    let dir = tempfile::tempdir().unwrap();
    let mut config = RecorderConfig::new(dir.path().to_owned());
    config.disk.threads = 1;
    config.disk.queue_bytes = 60_000;
    let recorders = Recorders::start(config).unwrap();
    let (release, stuck) = std::sync::mpsc::channel::<()>();
    let create = Box::new(move || {
        let _ = stuck.recv();
        Err(std::io::Error::other("was stuck"))
    });
    recorders.0.places.disk.open(0, create, Vec::new());
    let mut events = recorders.events();
    let id = recorders.create(&spec("x.mp4")).unwrap();
    let late =
        [&mut video, &mut sound].map(|heard| heard.items.split_off(heard.items.len() * 2 / 3));
    let (sources, stage, wished) = stage([video, sound]);
    recorders.attach(id, sources);
    // The recorder goes on all the while: it tells of what it drops, and asks for a keyframe.
    let dropping =
        async { while !matches!(events.recv().await.unwrap(), RecorderEvent::Dropping { .. }) {} };
    tokio::time::timeout(Duration::from_secs(20), dropping)
        .await
        .unwrap();
    while !wished.load(std::sync::atomic::Ordering::Relaxed) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    release.send(()).unwrap();
    while recorders.list()[0].queued_bytes > 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let lost = recorders.list()[0].fragments_dropped;
    for (track, late) in late.into_iter().enumerate() {
        stage.add(track, late);
    }
    taken(&stage).await;
    let info = recorders.stop(id).await.unwrap();
    assert!(lost > 0);
    assert_eq!(info.error, None);
    let file = dir.path().join("x.mp4");
    decode(&file);
    assert!(
        frames(&file, "v:0") < SECONDS as usize * 30,
        "some are lost"
    );
    let lasts = duration(&file);
    assert!(
        (lasts - f64::from(SECONDS)).abs() < 0.2,
        "the gap is kept, it lasts {lasts} s: {:?} {:?}",
        times(&file, "v:0"),
        times(&file, "a:0")
    );
}
