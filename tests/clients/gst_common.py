"""What publisher and viewer on GStreamer's webrtcbin share: the negotiation by WHIP and WHEP."""

import sys
import urllib.parse
import urllib.request

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstSdp", "1.0")
gi.require_version("GstWebRTC", "1.0")
from gi.repository import GLib, Gst, GstSdp, GstWebRTC  # noqa: E402

Gst.init(None)


def request(method, url, body=None):
    headers = {"Content-Type": "application/sdp"} if body else {}
    data = body.encode() if body else None
    return urllib.request.urlopen(
        urllib.request.Request(url, data=data, headers=headers, method=method), timeout=20
    )


class Session:
    """A pipeline with a webrtcbin, negotiated once its candidates are gathered."""

    def __init__(self, pipeline, webrtc, url):
        self.pipeline, self.webrtc, self.url = pipeline, webrtc, url
        self.loop = GLib.MainLoop()
        self.resource = None
        self.failure = None
        bus = pipeline.get_bus()
        bus.add_signal_watch()
        bus.connect("message::error", self.failed)
        webrtc.connect("notify::connection-state", self.connection_changed)
        webrtc.connect("notify::ice-gathering-state", self.gathering_changed)

    def failed(self, _bus, message):
        self.failure = str(message.parse_error())
        self.loop.quit()

    def connection_changed(self, webrtc, _property):
        state = webrtc.get_property("connection-state").value_nick
        print("connection", state, file=sys.stderr, flush=True)

    def offer(self):
        def created(promise, _data):
            # The reply owns the offer, and must outlive it.
            reply = promise.get_reply()
            self.webrtc.emit("set-local-description", reply.get_value("offer"), Gst.Promise.new())

        promise = Gst.Promise.new_with_change_func(created, None)
        self.webrtc.emit("create-offer", None, promise)

    def gathering_changed(self, webrtc, _property):
        state = webrtc.get_property("ice-gathering-state")
        if state == GstWebRTC.WebRTCICEGatheringState.COMPLETE and self.resource is None:
            self.resource = ""
            GLib.idle_add(self.negotiate)

    def negotiate(self):
        offer = self.webrtc.get_property("local-description").sdp.as_text()
        try:
            response = request("POST", self.url, offer)
        except OSError as error:
            self.failure = str(error)
            self.loop.quit()
            return False
        self.resource = urllib.parse.urljoin(self.url, response.headers["Location"])
        _, sdp = GstSdp.SDPMessage.new()
        GstSdp.sdp_message_parse_buffer(response.read(), sdp)
        answer = GstWebRTC.WebRTCSessionDescription.new(GstWebRTC.WebRTCSDPType.ANSWER, sdp)
        self.webrtc.emit("set-remote-description", answer, Gst.Promise.new())
        return False

    def run(self):
        """Runs until somebody quits the loop, then ends the session."""
        self.pipeline.set_state(Gst.State.PLAYING)
        self.loop.run()
        if self.resource:
            request("DELETE", self.resource)
        self.pipeline.set_state(Gst.State.NULL)
        if self.failure:
            sys.exit(self.failure)
