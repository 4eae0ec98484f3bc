// Many streams in one page of the server, as on a wall of screens: each watched by WHEP, and what is
// seen and heard of each. Evaluated in a page of the server; answers with the object of its functions.
({
  screens: new Map(),

  /** Watches a stream, whether it has begun or not; resolves when connected. */
  async watch(name) {
    const { Session } = await import('/assets/webrtc.js');
    const session = new Session(`/whep/${name}`);
    const screen = { pc: session.pc, delays_ms: [] };
    for (const kind of ['video', 'audio']) {
      const { receiver } = session.pc.addTransceiver(kind, { direction: 'recvonly' });
      // An element each: one with both would hold the sound back until there is a picture.
      const element = document.createElement(kind);
      element.autoplay = true;
      // All of them in sight: browsers skip pictures of what is not.
      element.style.width = '200px';
      element.srcObject = new MediaStream([receiver.track]);
      screen[kind] = element;
    }
    document.body.prepend(screen.video, screen.audio);
    this.screens.set(name, screen);
    await session.open();
  },

  video(name) {
    return this.screens.get(name).video;
  },

  /** What came of a stream so far. */
  async seen(name) {
    const report = await this.screens.get(name).pc.getStats();
    const inbound = [...report.values()].filter((s) => s.type === 'inbound-rtp');
    const of = (kind) => inbound.find((s) => s.kind === kind) ?? {};
    const video = of('video');
    return {
      codec: report.get(video.codecId)?.mimeType.split('/')[1] ?? null,
      frames: video.framesDecoded ?? 0,
      energy: of('audio').totalAudioEnergy ?? 0,
    };
  },

  /** From now on reads the clock of the test card in each picture of a stream that is shown. */
  async readClock(name) {
    const { readDelay } = await import('/assets/testcard.js');
    const { video, delays_ms } = this.screens.get(name);
    const scratch = document.createElement('canvas');
    const read = () => {
      const delay_ms = readDelay(video, scratch);
      if (delay_ms !== null) delays_ms.push(delay_ms);
      video.requestVideoFrameCallback(read);
    };
    video.requestVideoFrameCallback(read);
  },

  /** How old the pictures were, in milliseconds, in order. */
  delays(name) {
    return this.screens.get(name).delays_ms;
  },
})
