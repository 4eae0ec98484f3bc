use super::*;

fn request(if_none_match: &'static str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(
        header::IF_NONE_MATCH,
        HeaderValue::from_static(if_none_match),
    );
    headers
}

#[test]
fn a_held_copy_is_recognised_in_every_form_of_if_none_match() {
    let etag = HeaderValue::from_static("\"abc\"");
    for held in [
        "\"abc\"",
        "W/\"abc\"",
        "*",
        "\"x\", \"abc\"",
        "\"x\",W/\"abc\" , \"y\"",
    ] {
        assert!(is_held(&request(held), &etag), "{held}");
    }
    for other in ["\"abd\"", "abc", "", "\"abc", "w/\"abc\""] {
        assert!(!is_held(&request(other), &etag), "{other}");
    }
    assert!(!is_held(&HeaderMap::new(), &etag));
}

#[test]
fn entity_tags_follow_the_content() {
    assert_eq!(entity_tag(b"one"), entity_tag(b"one"));
    assert_ne!(entity_tag(b"one"), entity_tag(b"two"));
    assert_eq!(entity_tag(b"one").len(), 34);
}

#[test]
fn a_held_copy_is_answered_without_its_body() {
    let tag = entity_tag(b"text");
    let mut headers = HeaderMap::new();
    headers.insert(header::IF_NONE_MATCH, tag.clone());
    let response = respond(&headers, SCRIPT, tag.clone(), "text");
    assert_eq!(response.status(), StatusCode::NOT_MODIFIED);
    assert_eq!(response.headers()[header::ETAG], tag);

    let response = respond(&HeaderMap::new(), SCRIPT, tag, "text");
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()[header::CONTENT_TYPE], SCRIPT);
}

/// Every file a page or script names must have a route, else it fails only in the browser.
#[test]
fn every_asset_that_is_named_exists() {
    let routes = include_str!("mod.rs");
    let files = [
        page!("index.html"),
        page!("publish.html"),
        page!("watch.html"),
        page!("room.html"),
        page!("room.js"),
        page!("recordings.html"),
        page!("recordings.js"),
        page!("index.js"),
        page!("publish.js"),
        page!("watch.js"),
        page!("webrtc.js"),
        page!("events.js"),
        page!("testcard.js"),
        page!("addresses.js"),
    ];
    let mut named = 0;
    for file in files {
        for (prefix, end) in [("/assets/", ['"', '\'']), ("from './", ['\'', '"'])] {
            for rest in file.split(prefix).skip(1) {
                let name = rest
                    .split(end)
                    .next()
                    .expect("split yields at least one part");
                assert!(routes.contains(&format!("\"/assets/{name}\"")), "{name}");
                named += 1;
            }
        }
    }
    assert!(named > 10);
}
