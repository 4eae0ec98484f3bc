// A WHIP publisher and a WHEP viewer for a browser's console, with the offers that the server's own
// pages never make. Evaluated in a page of the server; answers with the object of its functions.
({
  /**
   * Offers `transceivers` (functions of the connection) and resolves when connected.
   * `trickle`: offer before any candidate is gathered, and tell the server of none after. `secret`:
   * a byte that frames are encrypted with, end to end.
   */
  async connect(url, { transceivers, datachannel, bundlePolicy, trickle, secret }) {
    const pc = new RTCPeerConnection({
      bundlePolicy: bundlePolicy ?? 'balanced',
      encodedInsertableStreams: secret !== undefined,
    });
    if (datachannel === 'first') pc.createDataChannel('chat');
    for (const add of transceivers) add(pc);
    if (secret !== undefined) this.encrypt(pc, secret);
    if (datachannel === 'last') pc.createDataChannel('chat');
    await pc.setLocalDescription();
    const offer = pc.localDescription.sdp;
    while (!trickle && pc.iceGatheringState !== 'complete') {
      await new Promise((resolve) => pc.addEventListener('icegatheringstatechange', resolve));
    }
    const response = await fetch(url, {
      method: 'POST',
      headers: { 'Content-Type': 'application/sdp' },
      body: trickle ? offer : pc.localDescription.sdp,
    });
    const text = await response.text();
    if (response.status !== 201) throw new Error(`HTTP ${response.status}: ${text}`);
    pc.offered = trickle ? offer : pc.localDescription.sdp;
    pc.answered = text;
    pc.session = new URL(response.headers.get('Location'), url).href;
    await pc.setRemoteDescription({ type: 'answer', sdp: text });
    while (pc.connectionState !== 'connected') {
      if (pc.connectionState === 'failed') throw new Error(`connection failed\n${text}`);
      await new Promise((resolve) => pc.addEventListener('connectionstatechange', resolve));
    }
    return pc;
  },

  /** Offers header extensions, by their URIs, that are not offered otherwise. */
  extend(transceiver, extensions) {
    const known = transceiver.getHeaderExtensionsToNegotiate();
    for (const extension of known) {
      if (extensions?.includes(extension.uri)) extension.direction = 'sendrecv';
    }
    transceiver.setHeaderExtensionsToNegotiate(known);
  },

  /** Encrypts every frame that is sent, and decrypts every one that is received, to its last byte. */
  encrypt(pc, secret) {
    const transform = (frame, controller) => {
      frame.data = new Uint8Array(frame.data).map((byte, at) => byte ^ secret ^ at).buffer;
      controller.enqueue(frame);
    };
    for (const { sender, receiver, direction } of pc.getTransceivers()) {
      const { readable, writable } = (direction === 'recvonly' ? receiver : sender).createEncodedStreams();
      readable.pipeThrough(new TransformStream({ transform })).pipeTo(writable);
    }
  },

  /**
   * Publishes the test card. `kinds`: of its tracks; `encodings`: of its video; `codec`: alone in
   * the offer beside its helpers; `extensions`: as for `watch`; `without`: URIs of header extensions
   * that it does not offer.
   */
  async publish(url, { kinds, encodings, codec, size, fps, extensions, without, ...offer }) {
    const { TestCard } = await import('/assets/testcard.js');
    const card = new TestCard(...(size ?? [640, 360]), fps ?? 15);
    const video = (pc) => {
      const [track] = card.stream.getVideoTracks();
      const transceiver = pc.addTransceiver(track, {
        direction: 'sendonly',
        sendEncodings: encodings ?? [{}],
      });
      this.extend(transceiver, extensions);
      const offered = transceiver.getHeaderExtensionsToNegotiate();
      for (const extension of offered) {
        if (without?.includes(extension.uri)) extension.direction = 'stopped';
      }
      transceiver.setHeaderExtensionsToNegotiate(offered);
      if (!codec) return;
      const known = RTCRtpSender.getCapabilities('video').codecs;
      const mine = known.filter((c) => c.mimeType === `video/${codec}`);
      const helpers = known.filter((c) => c.mimeType === 'video/rtx');
      transceiver.setCodecPreferences([...mine, ...helpers]);
    };
    const audio = (pc) =>
      pc.addTransceiver(card.stream.getAudioTracks()[0], { direction: 'sendonly' });
    const add = { audio, video };
    const transceivers = (kinds ?? ['audio', 'video']).map((kind) => add[kind]);
    this.publisher = await this.connect(url, { transceivers, ...offer });
  },

  /**
   * Watches; `kinds` are the sections of the offer in their order. `extensions`: URIs of header
   * extensions that the browser does not offer unless told.
   */
  async watch(url, { kinds, extensions, ...offer }) {
    const transceivers = (kinds ?? ['audio', 'video']).map((kind) => (pc) => {
      const transceiver = pc.addTransceiver(kind, { direction: 'recvonly' });
      this.extend(transceiver, extensions);
      // An element each: one with both would hold the sound back until there is a picture.
      const element = document.body.appendChild(document.createElement(kind));
      element.autoplay = true;
      element.srcObject = new MediaStream([transceiver.receiver.track]);
    });
    this.viewer = await this.connect(url, { transceivers, ...offer });
  },

  /**
   * Watches a stream of `fps` until its pictures come as slowly as that, and leaves. How long after
   * the answer the first one was there, and the first of the present.
   */
  async join(url, fps) {
    const pc = new RTCPeerConnection();
    const video = document.body.appendChild(document.createElement('video'));
    video.muted = video.autoplay = true;
    pc.addTransceiver('audio', { direction: 'recvonly' });
    video.srcObject = new MediaStream([
      pc.addTransceiver('video', { direction: 'recvonly' }).receiver.track,
    ]);
    const pictures = [];
    const count = (now, { rtpTimestamp }) => {
      pictures.push({ at_ms: now, media_ms: rtpTimestamp / 90 });
      video.requestVideoFrameCallback(count);
    };
    video.requestVideoFrameCallback(count);
    await pc.setLocalDescription();
    const headers = { 'Content-Type': 'application/sdp' };
    const response = await fetch(url, { method: 'POST', headers, body: pc.localDescription.sdp });
    const sdp = await response.text();
    const answered_ms = performance.now();
    if (response.status !== 201) throw new Error(`HTTP ${response.status}: ${sdp}`);
    await pc.setRemoteDescription({ type: 'answer', sdp });
    // Those of the past are closer to each other, and to be shown closer.
    const close = (picture, at) => at > 0 && picture.media_ms - pictures[at - 1].media_ms < 750 / fps;
    const past = () => pictures.findLastIndex(close) + 1;
    while (pictures.length < past() + fps / 2) {
      if (performance.now() > answered_ms + 20_000) throw new Error(`no picture: ${pc.connectionState}`);
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    const present = pictures[past()];
    await fetch(new URL(response.headers.get('Location'), url), { method: 'DELETE' });
    pc.close();
    video.remove();
    return {
      first_picture_ms: pictures[0].at_ms - answered_ms,
      present_ms: present.at_ms - answered_ms,
    };
  },

  /** The first half of a session without a server: sends the test card; answers with the offer. */
  async call({ size, fps, maxBitrate }) {
    const { TestCard } = await import('/assets/testcard.js');
    const card = new TestCard(...(size ?? [640, 360]), fps ?? 15);
    const pc = (this.caller = new RTCPeerConnection());
    pc.addTransceiver(card.stream.getAudioTracks()[0], { direction: 'sendonly' });
    pc.addTransceiver(card.stream.getVideoTracks()[0], {
      direction: 'sendonly',
      sendEncodings: [{ maxBitrate }],
    });
    return this.described(pc, await pc.createOffer());
  },

  /** The other half: watches what is offered; answers with the answer. */
  async answer(sdp) {
    const pc = (this.viewer = new RTCPeerConnection());
    pc.addEventListener('track', ({ track }) => {
      const element = document.body.appendChild(document.createElement(track.kind));
      element.autoplay = true;
      element.srcObject = new MediaStream([track]);
    });
    await pc.setRemoteDescription({ type: 'offer', sdp });
    return this.described(pc, await pc.createAnswer());
  },

  async answered(sdp) {
    await this.caller.setRemoteDescription({ type: 'answer', sdp });
  },

  async described(pc, description) {
    await pc.setLocalDescription(description);
    while (pc.iceGatheringState !== 'complete') {
      await new Promise((resolve) => pc.addEventListener('icegatheringstatechange', resolve));
    }
    return pc.localDescription.sdp;
  },

  /** What the viewer decoded so far. */
  async received() {
    const report = [...(await this.viewer.getStats()).values()];
    const of = (kind) => report.find((s) => s.type === 'inbound-rtp' && s.kind === kind) ?? {};
    const video = of('video');
    const audio = of('audio');
    return {
      frames: video.framesDecoded ?? 0,
      width: video.frameWidth ?? 0,
      height: video.frameHeight ?? 0,
      bytes: video.bytesReceived ?? 0,
      freezes: video.freezeCount ?? 0,
      frozen_s: video.totalFreezesDuration ?? 0,
      fps: video.framesPerSecond ?? 0,
      keyframes: video.keyFramesDecoded ?? 0,
      nacks: video.nackCount ?? 0,
      plis: video.pliCount ?? 0,
      energy: audio.totalAudioEnergy ?? 0,
      samples: audio.totalSamplesReceived ?? 0,
    };
  },

  async end() {
    for (const pc of [this.publisher, this.viewer, this.caller]) {
      if (!pc) continue;
      if (pc.session) await fetch(pc.session, { method: 'DELETE' });
      pc.close();
    }
    this.publisher = this.viewer = this.caller = null;
  },
})
