//! The address of a stream's watching page as a QR code, for phones: `GET /{stream}/qr.svg`.
//!
//! It is of that page of this server and of nothing else: no text of one's own can be had as a code. The
//! host is the one that the request was sent to; `scheme=https` says what a proxy in front speaks.

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::{Path, Request, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, HOST, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderMap, HeaderValue, Uri};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use qrcodegen::{QrCode, QrCodeEcc};

use super::HttpState;
use super::guard::InAddress;
use super::reply::Refusal;
use crate::broadcast::check_name;

/// Codes that are kept, some kilobytes each.
const MAX_KEPT: usize = 256;

/// Longest host in a `Host` field: a name of DNS and a port.
const MAX_HOST_BYTES: usize = 260;

/// Light modules around a code (ISO/IEC 18004 6.3.8).
const QUIET_ZONE: i32 = 4;

/// Codes that were asked for lately, by their text.
#[derive(Clone, Default)]
pub(super) struct Codes(Arc<Mutex<HashMap<String, Bytes>>>);

impl Codes {
    fn of(&self, text: String) -> Option<Bytes> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(svg) = kept.get(&text) {
            return Some(svg.clone());
        }
        let svg: Bytes = svg(&QrCode::encode_text(&text, QrCodeEcc::Medium).ok()?).into();
        if kept.len() >= MAX_KEPT {
            kept.clear();
        }
        kept.insert(text, svg.clone());
        Some(svg)
    }
}

/// The code of a stream's page.
pub(super) async fn code(
    State(state): State<HttpState>,
    Path(stream): Path<String>,
    request: Request,
) -> Result<Response, Refusal> {
    check_name(&stream)?;
    // The page takes it from there, and does not send it.
    let token = InAddress::of(&request).replacen('?', "#", 1);
    let origin = origin(request.headers(), request.uri()).ok_or(Refusal::Nowhere)?;
    let svg = state.codes.of(format!("{origin}/watch/{stream}{token}"));
    let mut response = svg.ok_or(Refusal::Nowhere)?.into_response();
    let headers = response.headers_mut();
    for (name, value) in [
        (CONTENT_TYPE, "image/svg+xml"),
        (CACHE_CONTROL, "private, max-age=3600"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    Ok(response)
}

/// How the one who asks reaches this server.
fn origin(headers: &HeaderMap, uri: &Uri) -> Option<String> {
    let host = headers.get(HOST)?.to_str().ok()?;
    let may = |byte: u8| byte.is_ascii_alphanumeric() || b".-:[]".contains(&byte);
    if host.is_empty() || host.len() > MAX_HOST_BYTES || !host.bytes().all(may) {
        return None;
    }
    let mut parameters = uri.query().unwrap_or_default().split('&');
    let scheme = match parameters.any(|parameter| parameter == "scheme=https") {
        true => "https",
        false => "http",
    };
    Some(format!("{scheme}://{host}"))
}

/// Dark modules as one path, a step for each run in a row.
fn svg(code: &QrCode) -> String {
    let size = code.size();
    let whole = size + 2 * QUIET_ZONE;
    let mut path = String::new();
    for y in 0..size {
        let mut x = 0;
        while x < size {
            let run = (x..size).take_while(|&x| code.get_module(x, y)).count();
            // No code has more than 177 modules in a row.
            let run = i32::try_from(run).unwrap_or(0);
            if run > 0 {
                let (left, top) = (x + QUIET_ZONE, y + QUIET_ZONE);
                write!(path, "M{left} {top}h{run}v1h-{run}z")
                    .expect("a String takes whatever is written");
            }
            x += run.max(1);
        }
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {whole} {whole}\" \
         shape-rendering=\"crispEdges\"><path fill=\"#fff\" d=\"M0 0h{whole}v{whole}H0z\"/>\
         <path d=\"{path}\"/></svg>\n"
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // a test's unwrap is an assertion

    use super::*;

    /// What a reader of codes makes of the drawing, four pixels a module.
    fn read(svg: &[u8]) -> String {
        let svg = std::str::from_utf8(svg).unwrap();
        let after = |text: &'static str| svg.rsplit_once(text).unwrap().1;
        let whole: usize = after("viewBox=\"0 0 ")
            .split(' ')
            .next()
            .unwrap()
            .parse()
            .unwrap();
        let mut dark = vec![false; whole * whole];
        let path = after(" d=\"").split('"').next().unwrap();
        for step in path.split('M').skip(1) {
            let (at, drawn) = step.split_once('h').unwrap();
            let (x, y) = at.split_once(' ').unwrap();
            let (x, y): (usize, usize) = (x.parse().unwrap(), y.parse().unwrap());
            let (run, rest) = drawn.split_once('v').unwrap();
            assert_eq!(rest, format!("1h-{run}z"));
            let run: usize = run.parse().unwrap();
            dark[y * whole + x..][..run].fill(true);
        }
        let side = 4 * whole;
        let mut image = rqrr::PreparedImage::prepare_from_greyscale(side, side, |x, y| {
            if dark[y / 4 * whole + x / 4] { 0 } else { 255 }
        });
        let grids = image.detect_grids();
        assert_eq!(grids.len(), 1);
        grids[0].decode().unwrap().1
    }

    #[test]
    fn a_code_is_read_as_the_address_it_is_of() {
        let codes = Codes::default();
        let token = "x".repeat(512);
        for text in [
            "http://127.0.0.1:8080/watch/a".to_owned(),
            "https://live.example.org/watch/main-stage#token=abc".to_owned(),
            format!(
                "https://live.example.org/watch/{}#token={token}",
                "n".repeat(128)
            ),
        ] {
            let svg = codes.of(text.clone()).unwrap();
            assert_eq!(read(&svg), text);
            // The second time it is the kept one.
            assert_eq!(codes.of(text).unwrap().as_ptr(), svg.as_ptr());
        }
    }

    #[test]
    fn as_many_codes_are_kept_as_may() {
        let codes = Codes::default();
        for number in 0..2 * MAX_KEPT {
            codes.of(format!("http://h/watch/{number}")).unwrap();
        }
        assert!(codes.0.lock().unwrap().len() <= MAX_KEPT);
        assert_eq!(codes.of("x".repeat(4000)), None);
    }

    #[test]
    fn the_host_is_the_one_that_was_asked() {
        let origin = |host: &str, uri: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(HOST, HeaderValue::try_from(host).unwrap());
            origin(&headers, &uri.parse().unwrap())
        };
        let of = |text: &str| Some(text.to_owned());
        assert_eq!(origin("h:8080", "/a/qr.svg"), of("http://h:8080"));
        let secure = "/a/qr.svg?token=x&scheme=https";
        assert_eq!(
            origin("[2001:db8::1]:80", secure),
            of("https://[2001:db8::1]:80")
        );
        for host in ["", "h/x", "h?x", "a b", "h#x", &"h".repeat(300)] {
            assert_eq!(origin(host, "/a/qr.svg"), None, "{host}");
        }
    }
}
