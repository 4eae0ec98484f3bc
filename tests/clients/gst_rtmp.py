"""Publishes a moving picture and a tone over RTMP with GStreamer's rtmp2sink until SIGTERM.

Usage: gst_rtmp.py URL
"""

import signal
import sys

from gst_common import GLib, Gst


def main(url):
    pipeline = Gst.parse_launch(
        "videotestsrc is-live=true pattern=smpte horizontal-speed=5"
        " ! video/x-raw,format=I420,width=640,height=360,framerate=30/1 ! queue"
        " ! x264enc tune=zerolatency speed-preset=ultrafast key-int-max=30 bitrate=800"
        " ! h264parse ! flvmux name=mux streamable=true ! rtmp2sink name=sink "
        "audiotestsrc is-live=true wave=sine freq=440 volume=0.5"
        " ! audio/x-raw,rate=48000,channels=2 ! queue ! avenc_aac ! aacparse ! mux."
    )
    pipeline.get_by_name("sink").set_property("location", url)
    loop = GLib.MainLoop()
    failures = []

    def heard(_, message):
        if message.type == Gst.MessageType.ERROR:
            failures.append(message.parse_error())
            loop.quit()

    bus = pipeline.get_bus()
    bus.add_signal_watch()
    bus.connect("message", heard)
    GLib.unix_signal_add(GLib.PRIORITY_DEFAULT, signal.SIGTERM, loop.quit)
    pipeline.set_state(Gst.State.PLAYING)
    loop.run()
    pipeline.set_state(Gst.State.NULL)
    if failures:
        sys.exit(f"GStreamer: {failures[0]}")


main(sys.argv[1])
