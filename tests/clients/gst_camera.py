"""A camera: serves a moving picture and a tone (H264, PCMU) by RTSP with GStreamer's server, to those
who know user and password (Digest), until SIGTERM.

Usage: gst_camera.py PORT USER PASSWORD
"""

import signal
import sys

import gi

gi.require_version("GstRtsp", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GstRtsp, GstRtspServer
from gst_common import GLib

ROLE = "viewer"


def main(port, user, password):
    token = GstRtspServer.RTSPToken()
    token.set_string("media.factory.role", ROLE)
    auth = GstRtspServer.RTSPAuth()
    auth.set_supported_methods(GstRtsp.RTSPAuthMethod.DIGEST)
    auth.add_digest(user, password, token)
    permissions = GstRtspServer.RTSPPermissions()
    permissions.add_permission_for_role(ROLE, "media.factory.access", True)
    permissions.add_permission_for_role(ROLE, "media.factory.construct", True)
    factory = GstRtspServer.RTSPMediaFactory()
    factory.set_launch(
        "( videotestsrc is-live=true pattern=smpte horizontal-speed=5"
        " ! video/x-raw,format=I420,width=640,height=360,framerate=15/1"
        " ! x264enc tune=zerolatency speed-preset=ultrafast key-int-max=15"
        " ! rtph264pay name=pay0 pt=96 "
        "audiotestsrc is-live=true wave=sine freq=440 volume=0.5"
        " ! audio/x-raw,rate=8000,channels=1 ! mulawenc ! rtppcmupay name=pay1 pt=0 )"
    )
    factory.set_shared(True)
    factory.set_permissions(permissions)
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(port)
    server.set_auth(auth)
    server.get_mount_points().add_factory("/stream1", factory)
    if not server.attach(None):
        sys.exit(f"GStreamer: port {port} cannot be had")
    loop = GLib.MainLoop()
    GLib.unix_signal_add(GLib.PRIORITY_DEFAULT, signal.SIGTERM, loop.quit)
    loop.run()


if __name__ == "__main__":
    main(*sys.argv[1:])
