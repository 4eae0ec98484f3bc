"""Publishes a moving picture and a tone over WHIP with aiortc until SIGTERM.

Usage: aiortc_whip.py URL CODEC
"""

import asyncio
import fractions
import math
import signal
import sys
import urllib.parse
import urllib.request

import av
import numpy
from aiortc import (
    AudioStreamTrack,
    RTCPeerConnection,
    RTCRtpSender,
    RTCSessionDescription,
    VideoStreamTrack,
)

RATE = 48000
SAMPLES = 960


class Picture(VideoStreamTrack):
    """A white bar that crosses a grey ramp once in two seconds."""

    ramp = numpy.tile(numpy.linspace(40, 160, 640, dtype=numpy.uint8)[None, :, None], (360, 1, 3))

    async def recv(self):
        pts, time_base = await self.next_timestamp()
        pixels = self.ramp.copy()
        left = int(pts * time_base * 300) % 600
        pixels[:, left : left + 40] = 255
        frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
        frame.pts, frame.time_base = pts, time_base
        return frame


class Tone(AudioStreamTrack):
    """440 Hz at half of full scale."""

    start = None
    sample = 0

    async def recv(self):
        loop = asyncio.get_running_loop()
        if self.start is None:
            self.start = loop.time()
        await asyncio.sleep(max(0, self.start + self.sample / RATE - loop.time()))
        phase = 2 * math.pi * 440 * (self.sample + numpy.arange(SAMPLES)) / RATE
        samples = (16000 * numpy.sin(phase)).astype(numpy.int16)[None, :]
        frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
        frame.sample_rate, frame.pts = RATE, self.sample
        frame.time_base = fractions.Fraction(1, RATE)
        self.sample += SAMPLES
        return frame


def request(method, url, body=None):
    headers = {"Content-Type": "application/sdp"} if body else {}
    data = body.encode() if body else None
    return urllib.request.urlopen(
        urllib.request.Request(url, data=data, headers=headers, method=method), timeout=20
    )


async def main(url, codec):
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    pc = RTCPeerConnection()

    @pc.on("connectionstatechange")
    def changed():
        print("connection", pc.connectionState, file=sys.stderr, flush=True)

    pc.addTransceiver(Tone(), direction="sendonly")
    video = pc.addTransceiver(Picture(), direction="sendonly")
    known = RTCRtpSender.getCapabilities("video").codecs
    video.setCodecPreferences([c for c in known if c.mimeType in (f"video/{codec}", "video/rtx")])
    await pc.setLocalDescription(await pc.createOffer())
    response = await asyncio.to_thread(request, "POST", url, pc.localDescription.sdp)
    session = urllib.parse.urljoin(url, response.headers["Location"])
    await pc.setRemoteDescription(RTCSessionDescription(response.read().decode(), "answer"))
    await ended.wait()
    await asyncio.to_thread(request, "DELETE", session)
    await pc.close()


asyncio.run(main(sys.argv[1], sys.argv[2]))
