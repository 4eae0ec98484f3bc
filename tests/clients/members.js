// Members of a room for a browser's console, each with a voice and a colour of its own: what is heard and
// seen of them tells them apart. Evaluated in a page of the server; answers with the object of its
// functions.
({
  members: new Map(),
  audio: new AudioContext({ sampleRate: 48000 }),

  /** Half a second of a voice: syllables of 400 ms, or the noise of a quiet room. */
  sound(tone_hz, speaks) {
    const buffer = this.audio.createBuffer(1, 0.48 * 48000, 48000);
    const samples = buffer.getChannelData(0);
    for (let at = 0; at < samples.length; at += 1) {
      const loud = speaks && at < 0.4 * 48000;
      samples[at] = (loud ? 0.5 : 0.001) * Math.sin((2 * Math.PI * tone_hz * at) / 48000);
    }
    const source = this.audio.createBufferSource();
    source.buffer = buffer;
    source.loop = true;
    return source;
  },

  async post(url, pc) {
    await pc.setLocalDescription();
    const response = await fetch(url, {
      method: 'POST',
      headers: { 'Content-Type': 'application/sdp' },
      body: pc.localDescription.sdp,
    });
    const sdp = await response.text();
    if (response.status !== 201) throw new Error(`HTTP ${response.status}: ${sdp}`);
    await pc.setRemoteDescription({ type: 'answer', sdp });
    while (pc.connectionState !== 'connected') {
      if (pc.connectionState === 'failed') throw new Error('connection failed');
      await new Promise((resolve) => pc.addEventListener('connectionstatechange', resolve));
    }
    pc.session = new URL(response.headers.get('Location'), response.url).href;
    return response.headers.get('Link');
  },

  async join(room, name, colour, tone_hz) {
    const canvas = Object.assign(document.createElement('canvas'), { width: 160, height: 90 });
    const context = canvas.getContext('2d');
    let frame = 0;
    const draw = () => {
      context.fillStyle = colour;
      context.fillRect(0, 0, 160, 90);
      // A picture that does not change is not encoded.
      context.fillStyle = '#000';
      context.fillRect((frame += 1) % 160, 86, 4, 4);
    };
    draw();
    const timer = setInterval(draw, 100);
    const out = this.audio.createMediaStreamDestination();
    const pc = new RTCPeerConnection();
    const [sound] = out.stream.getAudioTracks();
    pc.addTransceiver(sound, { direction: 'sendonly' });
    const [picture] = canvas.captureStream(10).getVideoTracks();
    pc.addTransceiver(picture, { direction: 'sendonly', sendEncodings: [{ maxBitrate: 100000 }] });
    const member = { pc, out, tone_hz, timer, source: null };
    this.members.set(name, member);
    this.voice(member, false);
    await this.post(`/whip/${room}~${name}`, pc);
  },

  voice(member, speaks) {
    member.source?.stop();
    member.source = this.sound(member.tone_hz, speaks);
    member.source.connect(member.out);
    member.source.start();
  },

  /** From now on this one speaks, and nobody else. */
  async speak(name) {
    await this.audio.resume();
    for (const [other, member] of this.members) this.voice(member, other === name);
  },

  /** Watches as a member with so many slots of sound. */
  async watch(room, name, slots) {
    const { Events } = await import('/assets/events.js');
    const pc = new RTCPeerConnection();
    for (let i = 0; i < slots; i += 1) {
      const { receiver } = pc.addTransceiver('audio', { direction: 'recvonly' });
      const element = document.body.appendChild(document.createElement('audio'));
      element.autoplay = true;
      element.srcObject = new MediaStream([receiver.track]);
    }
    this.watching = { pc, heard: new Set(), slots: [], closed: new AbortController() };
    const link = await this.post(`/whep/${room}~?member=${name}`, pc);
    const [, address] = link.match(/<([^>]*\/sse)>/);
    const session = { eventsAddress: new URL(address, location.href).href, closed: this.watching.closed };
    const heard = (event, data) => {
      if (event !== 'slots') return;
      this.watching.slots = data.audio.map(({ member }) => member);
      for (const member of this.watching.slots) this.watching.heard.add(member);
    };
    new Events(session, { wanted: ['slots'], told() {}, ended() {}, heard });
  },

  /** The energy of all sound that the watching member has received. */
  async energy() {
    const report = [...(await this.watching.pc.getStats()).values()];
    const sounds = report.filter((s) => s.type === 'inbound-rtp' && s.kind === 'audio');
    return sounds.reduce((sum, { totalAudioEnergy }) => sum + totalAudioEnergy, 0);
  },

  /** How often this one was asked for a keyframe. */
  async plis(name) {
    const report = [...(await this.members.get(name).pc.getStats()).values()];
    return report.find((s) => s.type === 'outbound-rtp' && s.kind === 'video').pliCount;
  },

  async leave(name) {
    const { pc, timer } = this.members.get(name);
    this.members.delete(name);
    clearInterval(timer);
    await fetch(pc.session, { method: 'DELETE' });
    pc.close();
  },

  async end() {
    this.watching.closed.abort();
    await fetch(this.watching.pc.session, { method: 'DELETE' });
    this.watching.pc.close();
    for (const name of [...this.members.keys()]) await this.leave(name);
  },
})
