"""Watches over WHEP with GStreamer's webrtcbin and prints, as JSON, what it decoded.

Usage: gst_whep.py URL CODEC SECONDS
"""

import array
import json
import sys

from gst_common import GLib, Gst, GstWebRTC, Session

FIRST_FRAME_LIMIT_S = 30
DECODERS = {
    "VP8": "rtpvp8depay ! vp8dec",
    "VP9": "rtpvp9depay ! vp9dec",
    "H264": "rtph264depay ! avdec_h264",
    "H265": "rtph265depay ! avdec_h265",
}
VIDEO = (
    "{} ! videoconvert ! videoscale ! video/x-raw,format=GRAY8,width=64,height=36"
    " ! appsink name=sink emit-signals=true sync=false max-buffers=30"
)
AUDIO = (
    "rtpopusdepay ! opusdec ! audioconvert ! audio/x-raw,format=S16LE"
    " ! appsink name=sink emit-signals=true sync=false max-buffers=100"
)


class Viewer:
    """Counts decoded pictures and sound."""

    def __init__(self, codec, seconds):
        self.codec, self.seconds = codec, seconds
        names = ["video_frames", "changed_frames", "width", "height", "audio_frames", "audio_rms"]
        self.seen = dict.fromkeys(names, 0)
        self.before, self.squares, self.samples = None, 0, 0

    def pad_added(self, webrtc, pad):
        if pad.direction != Gst.PadDirection.SRC:
            return
        media = pad.get_current_caps().get_structure(0).get_string("media")
        text = VIDEO.format(DECODERS[self.codec]) if media == "video" else AUDIO
        chain = Gst.parse_bin_from_description("queue ! " + text, True)
        sink = chain.get_by_name("sink")
        sink.connect("new-sample", self.picture if media == "video" else self.sound)
        if media == "video":
            decoder = chain.iterate_elements()
            while (step := decoder.next())[0] == Gst.IteratorResult.OK:
                if step[1].get_factory().get_name() == "videoconvert":
                    step[1].get_static_pad("sink").connect("notify::caps", self.sized)
        webrtc.get_parent().add(chain)
        chain.sync_state_with_parent()
        pad.link(chain.get_static_pad("sink"))

    def sized(self, pad, _property):
        caps = pad.get_current_caps()
        if caps:
            structure = caps.get_structure(0)
            for name in ("width", "height"):
                self.seen[name] = structure.get_int(name)[1]

    def picture(self, sink):
        buffer = sink.emit("pull-sample").get_buffer()
        grey = buffer.extract_dup(0, buffer.get_size())
        if self.before is None:
            GLib.timeout_add(int(self.seconds * 1000), self.session.loop.quit)
        else:
            differing = sum(abs(a - b) > 24 for a, b in zip(self.before, grey))
            self.seen["changed_frames"] += differing > 2
        self.before = grey
        self.seen["video_frames"] += 1
        return Gst.FlowReturn.OK

    def sound(self, sink):
        buffer = sink.emit("pull-sample").get_buffer()
        values = array.array("h", buffer.extract_dup(0, buffer.get_size()))
        self.squares += sum(value * value for value in values)
        self.samples += len(values)
        self.seen["audio_frames"] += 1
        self.seen["audio_rms"] = (self.squares / self.samples) ** 0.5
        return Gst.FlowReturn.OK


def main(url, codec, seconds):
    pipeline = Gst.Pipeline.new()
    webrtc = Gst.ElementFactory.make("webrtcbin")
    webrtc.set_property("bundle-policy", GstWebRTC.WebRTCBundlePolicy.MAX_BUNDLE)
    pipeline.add(webrtc)
    viewer = Viewer(codec, seconds)
    viewer.session = Session(pipeline, webrtc, url)
    webrtc.connect("pad-added", viewer.pad_added)
    for media, name, clock_rate, payload in (
        ("audio", "OPUS", 48000, 111),
        ("video", codec, 90000, 96),
    ):
        caps = Gst.Caps.from_string(
            f"application/x-rtp,media={media},encoding-name={name},clock-rate={clock_rate},"
            f"payload={payload}" + (",encoding-params=(string)2" if media == "audio" else "")
            + (",packetization-mode=(string)1,profile-level-id=(string)42e01f"
               if codec == "H264" and media == "video" else "")
            + (",rtcp-fb-nack-pli=(boolean)true" if media == "video" else "")
        )
        direction = GstWebRTC.WebRTCRTPTransceiverDirection.RECVONLY
        transceiver = webrtc.emit("add-transceiver", direction, caps)
        if media == "video":
            transceiver.set_property("do-nack", True)
    webrtc.connect("on-negotiation-needed", lambda _webrtc: viewer.session.offer())
    GLib.timeout_add_seconds(int(FIRST_FRAME_LIMIT_S + seconds), viewer.session.loop.quit)
    viewer.session.run()
    print(json.dumps(viewer.seen))


main(sys.argv[1], sys.argv[2], float(sys.argv[3]))
