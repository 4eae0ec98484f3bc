//! Chromium as a client: started on a fresh profile, driven over its debugging pipe, and gone
//! with the value that owns it.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::cdp::{Cdp, exception_text};
use crate::netns::Namespace;
use crate::picture::Picture;
use crate::process::{Process, command};
use crate::wait;

const FLAGS: &[&str] = &[
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
    "--mute-audio",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
    "--autoplay-policy=no-user-gesture-required",
    // Several pages of one test all count as being looked at.
    "--disable-background-timer-throttling",
    "--disable-backgrounding-occluded-windows",
    "--disable-renderer-backgrounding",
    "--remote-debugging-pipe",
];

/// A browser process. Its pages share a profile but nothing else.
pub struct Browser {
    // Fields drop in order: the process must be gone before its profile is removed.
    process: Process,
    cdp: Arc<Cdp>,
    _profile: TempDir,
}

/// How a browser is started.
#[derive(Default)]
pub struct BrowserOptions<'a> {
    /// The network namespace it lives in; this machine's own if `None`.
    pub namespace: Option<&'a Namespace>,
    /// Flags beyond those every test needs.
    pub flags: &'a [&'a str],
}

/// The browser's program: `CHROMIUM`, or else the first of its usual names in `PATH`.
///
/// # Errors
/// If there is none.
pub fn chromium() -> Result<PathBuf> {
    if let Some(path) = env::var_os("CHROMIUM") {
        return Ok(path.into());
    }
    let path = env::var_os("PATH").unwrap_or_default();
    let names = ["chromium", "chromium-browser", "google-chrome"];
    let mut candidates = names
        .iter()
        .flat_map(|name| env::split_paths(&path).map(move |folder| folder.join(name)));
    candidates
        .find(|candidate| candidate.is_file())
        .context("Chromium is not installed; run tools/install-test-clients or set CHROMIUM")
}

impl Browser {
    /// Starts a browser on this machine's network.
    ///
    /// # Errors
    /// If Chromium is not installed or does not come up.
    pub async fn start() -> Result<Browser> {
        Browser::start_with(BrowserOptions::default()).await
    }

    /// Starts a browser.
    ///
    /// # Errors
    /// If Chromium is not installed or does not come up.
    pub async fn start_with(options: BrowserOptions<'_>) -> Result<Browser> {
        let profile = TempDir::with_prefix("fanmill-chromium-")?;
        // The debugging pipe is on descriptors 3 and 4, a place only a shell can put them without
        // unsafe code. It works from another network namespace, and its end ends the browser.
        let mut shell = command("sh", options.namespace);
        shell
            .args(["-c", "exec \"$@\" 3<&0 4>&1 </dev/null >&2", "sh"])
            .arg(chromium()?)
            .args(FLAGS)
            .args(options.flags)
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut process = Process::spawn("Chromium", &mut shell)?;
        let child = process.child();
        let reader = child.stdout.take().context("standard output is piped")?;
        let writer = child.stdin.take().context("standard input is piped")?;
        let cdp = Arc::new(Cdp::new(reader, writer));
        if let Err(error) = cdp.send(None, "Browser.getVersion", json!({})).await {
            bail!(
                "Chromium did not start: {error:#}\n{}",
                process.log().lines().join("\n")
            );
        }
        Ok(Browser {
            process,
            cdp,
            _profile: profile,
        })
    }

    /// Opens `url` in a window of its own and waits until it is loaded.
    ///
    /// # Errors
    /// If the page cannot be loaded.
    pub async fn open(&self, url: &str) -> Result<Page> {
        let page = self.blank().await?;
        page.goto(url).await?;
        Ok(page)
    }

    /// Opens an empty window, for scripts that must be there before the page is.
    ///
    /// # Errors
    /// If the browser is gone.
    pub async fn blank(&self) -> Result<Page> {
        let params =
            json!({ "url": "about:blank", "newWindow": true, "width": 1280, "height": 800 });
        let target = self.cdp.send(None, "Target.createTarget", params).await?;
        let target = target["targetId"]
            .as_str()
            .context("a target has an id")?
            .to_owned();
        let params = json!({ "targetId": target, "flatten": true });
        let session = self.cdp.send(None, "Target.attachToTarget", params).await?;
        let session = session["sessionId"]
            .as_str()
            .context("a session has an id")?
            .to_owned();
        let page = Page {
            cdp: self.cdp.clone(),
            target,
            session,
        };
        for domain in ["Page.enable", "Runtime.enable", "Log.enable"] {
            page.send(domain, json!({})).await?;
        }
        Ok(page)
    }

    /// Ends the browser with all its processes at once, as a crash of the machine would: nobody is told.
    pub fn kill(&self) {
        self.process.signal_all("-KILL");
    }

    /// Stops all the browser's processes where they are, until [`thaw`](Self::thaw).
    pub fn freeze(&self) {
        self.process.signal_all("-STOP");
    }

    /// Lets a frozen browser go on.
    pub fn thaw(&self) {
        self.process.signal_all("-CONT");
    }

    /// The id of the browser's main process.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }
}

/// One page of a browser.
pub struct Page {
    cdp: Arc<Cdp>,
    target: String,
    session: String,
}

impl Page {
    /// Sends a DevTools command to this page.
    ///
    /// # Errors
    /// If the browser refuses it or is gone.
    pub async fn send(&self, method: &str, params: Value) -> Result<Value> {
        self.cdp.send(Some(&self.session), method, params).await
    }

    /// Loads `url` and waits until its scripts ran.
    ///
    /// # Errors
    /// If nothing answers there.
    pub async fn goto(&self, url: &str) -> Result<()> {
        let result = self.send("Page.navigate", json!({ "url": url })).await?;
        if let Some(error) = result["errorText"].as_str() {
            bail!("{url} cannot be loaded: {error}");
        }
        let script = "document.readyState === 'complete' && location.href !== 'about:blank'";
        self.wait_for(script, Duration::from_secs(30)).await
    }

    /// Runs `script` before those of every page that is loaded from now on.
    ///
    /// # Errors
    /// If the browser is gone.
    pub async fn before_load(&self, script: &str) -> Result<()> {
        let params = json!({ "source": script });
        self.send("Page.addScriptToEvaluateOnNewDocument", params)
            .await
            .map(drop)
    }

    /// Evaluates an expression, awaits it if it is a promise, and returns what it became. It
    /// counts as an action of the person in front of the page.
    ///
    /// # Errors
    /// If it throws; the error holds the exception and the page's console.
    pub async fn evaluate(&self, expression: &str) -> Result<Value> {
        let params = json!({
            "expression": expression,
            "awaitPromise": true,
            "returnByValue": true,
            "userGesture": true,
        });
        let mut result = self.send("Runtime.evaluate", params).await?;
        if let Some(details) = result.get("exceptionDetails") {
            bail!(
                "{expression}: {}\n{}",
                exception_text(details),
                self.console().join("\n")
            );
        }
        Ok(result["result"]["value"].take())
    }

    /// Waits until the expression is truthy.
    ///
    /// # Errors
    /// If `limit` passes first, with what the page says of itself, or if it throws.
    pub async fn wait_for(&self, expression: &str, limit: Duration) -> Result<()> {
        let script = format!("(async () => Boolean(await ({expression})))()");
        let probe = async || match self.evaluate(&script).await {
            // The page that was asked made way for the next one.
            Err(error) if is_navigation(&error) => Ok(false),
            value => Ok(value? == json!(true)),
        };
        let Err(error) = wait::until(expression, limit, probe, |&done| done).await else {
            return Ok(());
        };
        let state = "window.fanmill ? `${fanmill.state}: ${fanmill.text}` : document.title";
        let state = self.evaluate(state).await.unwrap_or_default();
        Err(error.context(format!(
            "page says {state}; console:\n{}",
            self.console().join("\n")
        )))
    }

    /// What the page shows, as PNG.
    ///
    /// # Errors
    /// If the browser cannot draw it.
    pub async fn screenshot(&self) -> Result<Vec<u8>> {
        let image = self
            .send("Page.captureScreenshot", json!({ "format": "png" }))
            .await?;
        let data = image["data"].as_str().context("a screenshot has data")?;
        Ok(STANDARD.decode(data)?)
    }

    /// The picture a `<video>` or `<canvas>` shows now, as 64×36 grey values.
    ///
    /// # Errors
    /// If there is no such element, or nothing in it.
    pub async fn picture(&self, element: &str) -> Result<Picture> {
        let script = format!(
            "(() => {{
               const canvas = new OffscreenCanvas(64, 36);
               const context = canvas.getContext('2d');
               context.drawImage({element}, 0, 0, 64, 36);
               const rgba = context.getImageData(0, 0, 64, 36).data;
               return Array.from({{ length: 64 * 36 }}, (_, i) =>
                 Math.round((rgba[4 * i] + rgba[4 * i + 1] + rgba[4 * i + 2]) / 3));
             }})()"
        );
        let grey: Vec<u8> = serde_json::from_value(self.evaluate(&script).await?)?;
        Ok(Picture {
            width: 64,
            height: 36,
            grey,
        })
    }

    /// Pretends to be in light or dark surroundings.
    ///
    /// # Errors
    /// If the browser is gone.
    pub async fn prefer_dark(&self, dark: bool) -> Result<()> {
        let value = if dark { "dark" } else { "light" };
        let features = json!([{ "name": "prefers-color-scheme", "value": value }]);
        self.send(
            "Emulation.setEmulatedMedia",
            json!({ "features": features }),
        )
        .await
        .map(drop)
    }

    /// Pretends that the window has this size.
    ///
    /// # Errors
    /// If the browser is gone.
    pub async fn resize(&self, width: u32, height: u32) -> Result<()> {
        let params =
            json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        self.send("Emulation.setDeviceMetricsOverride", params)
            .await
            .map(drop)
    }

    /// What the page and the browser wrote to the console of this page.
    pub fn console(&self) -> Vec<String> {
        self.cdp.console(&self.session).lines()
    }

    /// Closes the window, as a person would.
    ///
    /// # Errors
    /// If the browser is gone.
    pub async fn close(self) -> Result<()> {
        let params = json!({ "targetId": self.target });
        self.cdp
            .send(None, "Target.closeTarget", params)
            .await
            .map(drop)
    }
}

/// Whether a command failed because the page it was for was just replaced by another.
fn is_navigation(error: &anyhow::Error) -> bool {
    let text = error.root_cause().to_string();
    let answers = [
        "navigated or closed",
        "context was destroyed",
        "find context",
        "find default",
    ];
    answers.iter().any(|answer| text.contains(answer))
}

/// Keeps a screenshot where a person can look at it, in `FANMILL_SCREENSHOTS` if that is set.
///
/// # Errors
/// If the file cannot be written.
pub fn keep_screenshot(name: &str, png: &[u8]) -> Result<()> {
    let Some(folder) = env::var_os("FANMILL_SCREENSHOTS") else {
        return Ok(());
    };
    std::fs::create_dir_all(&folder)?;
    Ok(std::fs::write(
        Path::new(&folder).join(format!("{name}.png")),
        png,
    )?)
}
