"""Watches over WHEP with aiortc and prints, as JSON, what it decoded.

Usage: aiortc_whep.py URL SECONDS
"""

import asyncio
import json
import sys
import urllib.parse
import urllib.request

import numpy
from aiortc import RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import MediaStreamError

FIRST_FRAME_LIMIT_S = 30


def request(method, url, body=None):
    headers = {"Content-Type": "application/sdp"} if body else {}
    data = body.encode() if body else None
    return urllib.request.urlopen(
        urllib.request.Request(url, data=data, headers=headers, method=method), timeout=20
    )


async def watch_video(track, seen, seconds):
    loop = asyncio.get_running_loop()
    before, end = None, None
    while end is None or loop.time() < end:
        limit = FIRST_FRAME_LIMIT_S if end is None else 10
        frame = await asyncio.wait_for(track.recv(), limit)
        end = end or loop.time() + seconds
        seen["video_frames"] += 1
        seen["width"], seen["height"] = frame.width, frame.height
        grey = frame.to_ndarray(format="gray")[::8, ::8].astype(numpy.int16)
        if before is not None and before.shape == grey.shape:
            # More than what noise of the codec changes.
            seen["changed_frames"] += int((numpy.abs(grey - before) > 24).sum() > 10)
        before = grey


async def watch_audio(track, seen):
    squares, count = 0.0, 0
    try:
        while True:
            frame = await track.recv()
            samples = frame.to_ndarray().astype(numpy.float64)
            squares, count = squares + float((samples**2).sum()), count + samples.size
            seen["audio_frames"] += 1
            seen["audio_rms"] = (squares / count) ** 0.5
    except MediaStreamError:
        pass


async def main(url, seconds):
    seen = dict.fromkeys(
        ["video_frames", "changed_frames", "width", "height", "audio_frames", "audio_rms"], 0
    )
    pc = RTCPeerConnection()
    tracks = {kind: pc.addTransceiver(kind, direction="recvonly") for kind in ("audio", "video")}
    await pc.setLocalDescription(await pc.createOffer())
    response = await asyncio.to_thread(request, "POST", url, pc.localDescription.sdp)
    session = urllib.parse.urljoin(url, response.headers["Location"])
    await pc.setRemoteDescription(RTCSessionDescription(response.read().decode(), "answer"))
    audio = asyncio.create_task(watch_audio(tracks["audio"].receiver.track, seen))
    try:
        await watch_video(tracks["video"].receiver.track, seen, seconds)
    finally:
        audio.cancel()
        await asyncio.to_thread(request, "DELETE", session)
        await pc.close()
    print(json.dumps(seen))


asyncio.run(main(sys.argv[1], float(sys.argv[2])))
