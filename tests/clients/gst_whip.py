"""Publishes a moving picture and a tone over WHIP with GStreamer's webrtcbin until SIGTERM.

Usage: gst_whip.py URL CODEC
"""

import signal
import sys

from gst_common import GLib, Gst, Session

ENCODERS = {
    "VP8": "vp8enc deadline=1 cpu-used=8 keyframe-max-dist=60 target-bitrate=800000"
    " ! rtpvp8pay picture-id-mode=15-bit",
    "VP9": "vp9enc deadline=1 cpu-used=8 keyframe-max-dist=60 target-bitrate=800000"
    " ! rtpvp9pay picture-id-mode=15-bit",
    "H264": "x264enc tune=zerolatency speed-preset=ultrafast key-int-max=60 bitrate=800"
    " ! video/x-h264,profile=constrained-baseline"
    " ! rtph264pay aggregate-mode=zero-latency config-interval=-1",
    "H265": "x265enc tune=zerolatency speed-preset=ultrafast key-int-max=60 bitrate=800"
    " ! video/x-h265,profile=main ! h265parse"
    " ! rtph265pay aggregate-mode=zero-latency config-interval=-1",
}


def main(url, codec):
    pipeline = Gst.parse_launch(
        "webrtcbin name=webrtc bundle-policy=max-bundle "
        "videotestsrc is-live=true pattern=ball"
        " ! video/x-raw,width=640,height=360,framerate=30/1"
        f" ! queue ! {ENCODERS[codec]}"
        f" ! application/x-rtp,media=video,encoding-name={codec},payload=96 ! webrtc. "
        "audiotestsrc is-live=true wave=sine freq=440 volume=0.5 ! audio/x-raw,channels=2"
        " ! queue ! opusenc ! rtpopuspay"
        " ! application/x-rtp,media=audio,encoding-name=OPUS,payload=111 ! webrtc."
    )
    webrtc = pipeline.get_by_name("webrtc")
    session = Session(pipeline, webrtc, url)
    webrtc.connect("on-negotiation-needed", lambda _webrtc: session.offer())
    GLib.unix_signal_add(GLib.PRIORITY_DEFAULT, signal.SIGTERM, session.loop.quit)
    session.run()


main(sys.argv[1], sys.argv[2])
