"""Starts Firefox and relays Marionette, its remote control, between standard input and output,
one JSON message a line; from inside the network namespace Firefox is in, where its port is.
Firefox ends when standard input does.

Usage: firefox.py PROFILE
"""

import os
import pathlib
import shutil
import socket
import subprocess
import sys
import threading
import time

START_LIMIT_S = 60
PREFERENCES = {
    "app.normandy.enabled": False,
    "app.update.disabledForTesting": True,
    "browser.aboutwelcome.enabled": False,
    "browser.shell.checkDefaultBrowser": False,
    "browser.startup.page": 0,
    "browser.tabs.remote.autostart": True,
    "datareporting.policy.dataSubmissionEnabled": False,
    "dom.disable_open_during_load": False,
    "extensions.update.enabled": False,
    "extensions.getAddons.cache.enabled": False,
    "marionette.port": 0,
    "media.autoplay.default": 0,
    "media.devices.insecure.enabled": True,
    "media.getusermedia.insecure.enabled": True,
    "media.gmp-manager.updateEnabled": False,
    "media.gmp-provider.enabled": False,
    "media.navigator.permission.disabled": True,
    "media.navigator.streams.fake": True,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "network.dns.disableIPv6": True,
    "network.proxy.type": 0,
    "services.settings.server": "data:,",
    "toolkit.telemetry.enabled": False,
    "toolkit.telemetry.server": "data:,",
}


def program():
    found = os.environ.get("FIREFOX") or shutil.which("firefox-esr") or shutil.which("firefox")
    return found or sys.exit("Firefox is not installed; run tools/install-test-clients")


def literal(value):
    return str(value).lower() if isinstance(value, bool) else repr(value).replace("'", '"')


def connect(process, profile):
    active_port = profile / "MarionetteActivePort"
    end = time.monotonic() + START_LIMIT_S
    while time.monotonic() < end and process.poll() is None:
        try:
            return socket.create_connection(("127.0.0.1", int(active_port.read_text())), timeout=5)
        except (OSError, ValueError):
            time.sleep(0.1)
    sys.exit("Firefox did not open its Marionette port")


def messages(connection):
    """Marionette frames its messages as LENGTH:JSON."""
    with connection.makefile("rb") as stream:
        while True:
            length = b""
            while (byte := stream.read(1)) not in (b"", b":"):
                length += byte
            if not length:
                return
            yield stream.read(int(length))


def main(profile):
    lines = (f'user_pref("{name}", {literal(value)});\n' for name, value in PREFERENCES.items())
    (profile / "user.js").write_text("".join(lines))
    process = subprocess.Popen(
        [program(), "--headless", "--no-remote", "--marionette", "--profile", str(profile)],
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr,
        env=os.environ | {"HOME": str(profile), "MOZ_CRASHREPORTER_DISABLE": "1"},
    )
    try:
        connection = connect(process, profile)
        connection.settimeout(None)

        def relay():
            for line in sys.stdin.buffer:
                line = line.strip()
                connection.sendall(b"%d:%s" % (len(line), line))
            process.terminate()

        threading.Thread(target=relay, daemon=True).start()
        for message in messages(connection):
            sys.stdout.buffer.write(message.replace(b"\n", b" ") + b"\n")
            sys.stdout.buffer.flush()
    finally:
        process.terminate()
        process.wait()


main(pathlib.Path(sys.argv[1]))
