//! A room in Chromium: members who speak in turn are heard and seen by the others, not by themselves.
#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

use fanmill_tests::browser::{Page, keep_screenshot};
use fanmill_tests::scene::LIMIT;
use fanmill_tests::{Browser, Server};
use serde_json::{Value, json};

const MEMBERS: &str = include_str!("../clients/members.js");

/// Name, colour, tone in Hz.
const VOICES: [(&str, [u8; 3], u32); 4] = [
    ("bob", [200, 0, 0], 400),
    ("cid", [0, 160, 0], 600),
    ("dan", [0, 0, 200], 800),
    ("eve", [200, 200, 0], 1000),
];

/// That the page's track for this member's voice gets louder, while nobody else's does.
fn is_heard(name: &str) -> String {
    format!(
        "(async () => {{
           const place = fanmill.slots.audio.indexOf('{name}');
           const energies = async () => {{
             const sounds = [...(await fanmill.pc.getStats()).values()]
               .filter((s) => s.type === 'inbound-rtp' && s.kind === 'audio');
             const transceivers = fanmill.pc.getTransceivers().slice(0, 3);
             return transceivers.map(({{ mid }}) =>
               sounds.find((s) => s.mid === mid)?.totalAudioEnergy ?? 0);
           }};
           const before = await energies();
           await new Promise((resolve) => setTimeout(resolve, 300));
           const grown = (await energies()).map((energy, at) => energy - before[at]);
           return grown.every((energy, at) => (at === place) === (energy > 1e-3));
         }})()"
    )
}

/// That the page shows this colour as the member's picture.
fn is_seen(name: &str, colour: [u8; 3]) -> String {
    format!(
        "(() => {{
           const video = fanmill.videoOf('{name}');
           if (!video?.videoWidth || video.closest('li').hidden) return false;
           const canvas = new OffscreenCanvas(1, 1);
           const context = canvas.getContext('2d');
           context.drawImage(video, 0, 0, 1, 1);
           const pixel = context.getImageData(0, 0, 1, 1).data;
           return {colour:?}.every((value, at) => Math.abs(value - pixel[at]) < 50)
             && video.closest('li').textContent === '{name}';
         }})()"
    )
}

async fn slots(page: &Page) -> Value {
    page.evaluate("fanmill.slots.audio").await.unwrap()
}

#[tokio::test]
async fn members_hear_and_see_who_speaks_in_few_slots_and_never_themselves() {
    let server = Server::start().await.unwrap();
    let browser = Browser::start().await.unwrap();
    let members = browser.open(&server.url("/")).await.unwrap();
    members
        .evaluate(&format!("void (window.room = {MEMBERS})"))
        .await
        .unwrap();
    for (name, [red, green, blue], tone_hz) in VOICES {
        let join =
            format!("room.join('kitchen', '{name}', 'rgb({red} {green} {blue})', {tone_hz})");
        members.evaluate(&join).await.unwrap();
    }
    members
        .evaluate("room.watch('kitchen', 'bob', 3)")
        .await
        .unwrap();

    // Ann uses the page: three slots of sound, two of pictures.
    let path = "/room/kitchen?name=ann&source=testcard&video=2&autostart=1";
    let ann = browser.open(&server.url(path)).await.unwrap();
    ann.evaluate("document.getElementById('mute').click()")
        .await
        .unwrap();
    let there = "fanmill.state === 'connected' && fanmill.members.length === 5";
    ann.wait_for(there, LIMIT).await.unwrap();
    let muted = "document.getElementById('mute').getAttribute('aria-pressed')";
    assert_eq!(ann.evaluate(muted).await.unwrap(), "true");

    let mut first = None;
    for (name, colour, _) in VOICES {
        let plis = format!("room.plis('{name}')");
        let before = members.evaluate(&plis).await.unwrap();
        members
            .evaluate(&format!("room.speak('{name}')"))
            .await
            .unwrap();
        let told =
            format!("fanmill.speaker === '{name}' && fanmill.slots.video.includes('{name}')");
        ann.wait_for(&told, LIMIT).await.unwrap();
        ann.wait_for(&is_heard(name), LIMIT).await.unwrap();
        ann.wait_for(&is_seen(name, colour), LIMIT).await.unwrap();
        let now = slots(&ann).await;
        let place = now.as_array().unwrap().iter().position(|one| one == name);
        if name == "bob" {
            first = place;
            // He alone speaks, and his own connection stays as silent as the others are.
            let energy = "room.energy()";
            let before = members.evaluate(energy).await.unwrap().as_f64().unwrap();
            ann.wait_for(&is_heard(name), LIMIT).await.unwrap();
            let grown = members.evaluate(energy).await.unwrap().as_f64().unwrap() - before;
            assert!(grown < 1e-3, "he hears {grown}");
        }
        if name == "eve" {
            // What was cached is past: her picture is asked to begin anew.
            let asked = format!("{plis}.then((count) => count > {before})");
            members.wait_for(&asked, LIMIT).await.unwrap();
            keep_screenshot("room", &ann.screenshot().await.unwrap()).unwrap();
            assert_eq!(
                place, first,
                "the fourth takes the slot of the longest silent"
            );
        }
    }
    let hears = "room.energy().then(async (before) => {
       await new Promise((resolve) => setTimeout(resolve, 300));
       return await room.energy() - before > 1e-3;
     })";
    members.wait_for(hears, LIMIT).await.unwrap();
    let heard = members.evaluate("[...room.watching.heard]").await.unwrap();
    let heard = heard.as_array().unwrap();
    assert!(
        heard.contains(&json!("eve")) && !heard.contains(&json!("bob")),
        "{heard:?}"
    );

    // Who is shown leaves, and makes place for another at once.
    members.evaluate("room.leave('eve')").await.unwrap();
    let so = "fanmill.members.length === 4 && fanmill.speaker === null
      && !fanmill.slots.audio.includes('eve') && fanmill.slots.audio.includes('bob')";
    ann.wait_for(so, LIMIT).await.unwrap();
    let room = server
        .admin("room.get", json!({ "room": "kitchen" }))
        .await
        .unwrap();
    assert_eq!(
        (&room["members"], &room["viewers"]),
        (&json!(4), &json!(2)),
        "{room}"
    );
    assert!(
        room["member_list"]
            .as_array()
            .unwrap()
            .iter()
            .all(|one| one["levels"] == true)
    );

    assert_eq!(ann.console(), Vec::<String>::new());

    // Another Ann is told that there is one.
    let other = browser.open(&server.url(path)).await.unwrap();
    let refused = "fanmill.state === 'failed' && fanmill.text.includes('already publishing')";
    other.wait_for(refused, LIMIT).await.unwrap();

    members.evaluate("room.end()").await.unwrap();
    ann.evaluate("document.getElementById('leave').click()")
        .await
        .unwrap();
    let gone = "fetch('/api/rooms').then((r) => r.json()).then((rooms) => rooms.length === 0)";
    ann.wait_for(gone, LIMIT).await.unwrap();
}
