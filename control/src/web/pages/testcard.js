// A moving picture with a clock and a tone: a source whose every frame and second can be told
// apart at the other end. Its top rows carry the time as black and white cells; `readClock`
// finds it in a decoded picture.

const CELLS = 40;
const MARK = 0b1011;
const DAY_MS = 86_400_000;
const AUDIO_READINGS = 60;
const BARS = ['#c0c0c0', '#c0c000', '#00c0c0', '#00c000', '#c000c0', '#c00000', '#0000c0'];

const checksum = (time_ms) => {
  let sum = 0x5a;
  for (let shift = 0; shift < 32; shift += 8) {
    sum = (sum * 31 + ((time_ms >>> shift) & 0xff)) & 0xff;
  }
  return sum;
};

// 4 bits of mark, 28 of milliseconds since midnight UTC, 8 of checksum.
function clockBits(now_ms) {
  const time_ms = now_ms % DAY_MS;
  const bits = [];
  const push = (value, count) => {
    for (let i = count - 1; i >= 0; i -= 1) bits.push((value >>> i) & 1);
  };
  push(MARK, 4);
  push(time_ms, 28);
  push(checksum(time_ms), 8);
  return bits;
}

/** Milliseconds since midnight UTC in one row of RGBA pixels, or null if it is no test card. */
export function decodeClock(row, width) {
  const bits = [];
  for (let cell = 0; cell < CELLS; cell += 1) {
    const x = Math.floor(((cell + 0.5) * width) / CELLS) * 4;
    bits.push(row[x] + row[x + 1] + row[x + 2] > 384 ? 1 : 0);
  }
  const take = (from, count) =>
    bits.slice(from, from + count).reduce((sum, bit) => sum * 2 + bit, 0);
  const time_ms = take(4, 28);
  if (take(0, 4) !== MARK || take(32, 8) !== checksum(time_ms)) return null;
  return time_ms;
}

/** The age of the picture shown by `video` by the test card's own clock, or null if unknown. */
export function readDelay(video, scratch) {
  const width = video.videoWidth;
  const height = video.videoHeight;
  if (!width || !height) return null;
  scratch.width = width;
  scratch.height = 1;
  const context = scratch.getContext('2d', { willReadFrequently: true });
  const middle = Math.floor(clockHeight(height) / 2);
  context.drawImage(video, 0, middle, width, 1, 0, 0, width, 1);
  const time_ms = decodeClock(context.getImageData(0, 0, width, 1).data, width);
  if (time_ms === null) return null;
  const delay_ms = ((Date.now() % DAY_MS) - time_ms + DAY_MS) % DAY_MS;
  // Beyond this the two clocks disagree, and the difference says nothing about the path.
  return delay_ms < 10_000 ? delay_ms : null;
}

const clockHeight = (height) => Math.max(8, Math.round(height / 20));

/** The card: `stream` holds one video and one audio track until `stop`. */
export class TestCard {
  constructor(width, height, fps) {
    this.canvas = document.createElement('canvas');
    this.canvas.width = width;
    this.canvas.height = height;
    this.context = this.canvas.getContext('2d', { alpha: false });
    this.background = this.#drawBackground();
    this.frame = 0;
    this.audioLeads_ms = [];
    this.draw();
    this.stream = this.canvas.captureStream(fps);
    // A worker's timer keeps its pace where a hidden page's does not.
    this.ticker = new Worker('/assets/ticker.js');
    this.ticker.onmessage = () => this.draw();
    this.ticker.postMessage({ interval_ms: 1000 / fps });
    this.#startTone();
  }

  #drawBackground() {
    const { width, height } = this.canvas;
    const canvas = document.createElement('canvas');
    canvas.width = width;
    canvas.height = height;
    const context = canvas.getContext('2d', { alpha: false });
    context.fillStyle = '#16181d';
    context.fillRect(0, 0, width, height);
    const top = clockHeight(height);
    const bars = Math.round(height * 0.5);
    BARS.forEach((colour, i) => {
      context.fillStyle = colour;
      context.fillRect(Math.round((i * width) / 7), top, Math.ceil(width / 7), bars);
    });
    const ramp = context.createLinearGradient(0, 0, width, 0);
    ramp.addColorStop(0, '#000');
    ramp.addColorStop(1, '#fff');
    context.fillStyle = ramp;
    context.fillRect(0, top + bars, width, Math.round(height * 0.08));
    return canvas;
  }

  draw() {
    const { width, height } = this.canvas;
    const c = this.context;
    const now = new Date();
    c.drawImage(this.background, 0, 0);
    clockBits(now.getTime()).forEach((bit, i) => {
      c.fillStyle = bit ? '#fff' : '#000';
      const left = Math.round((i * width) / CELLS);
      c.fillRect(left, 0, Math.round(((i + 1) * width) / CELLS) - left, clockHeight(height));
    });
    const seconds = now.getTime() / 1000;
    const radius = height / 10;
    const x = radius + (width - 2 * radius) * (0.5 + 0.5 * Math.sin(seconds * 1.3));
    const y = height * 0.3 + height * 0.12 * Math.sin(seconds * 2.9);
    c.fillStyle = '#fff';
    c.beginPath();
    c.arc(x, y, radius, 0, 2 * Math.PI);
    c.fill();
    c.strokeStyle = '#16181d';
    c.lineWidth = Math.max(2, height / 90);
    c.beginPath();
    c.moveTo(x, y);
    c.lineTo(x + radius * 0.85 * Math.cos(seconds * 6), y + radius * 0.85 * Math.sin(seconds * 6));
    c.stroke();
    c.fillStyle = '#fff';
    c.textAlign = 'center';
    c.textBaseline = 'middle';
    c.font = `600 ${Math.round(height / 7)}px ui-monospace, "DejaVu Sans Mono", monospace`;
    c.fillText(now.toISOString().slice(11, 23), width / 2, height * 0.77);
    c.font = `${Math.round(height / 20)}px ui-monospace, "DejaVu Sans Mono", monospace`;
    c.fillText(`${width}×${height}  frame ${this.frame}`, width / 2, height * 0.92);
    this.frame += 1;
    if (this.audio) this.#readAudioClock();
  }

  // Sound is rendered ahead, some milliseconds at a time, and its clock moves in such steps: it is
  // right just before each of them, where it leads the least.
  #readAudioClock() {
    this.audioLeads_ms.push(this.audio.currentTime * 1000 - performance.now());
    if (this.audioLeads_ms.length > AUDIO_READINGS) this.audioLeads_ms.shift();
  }

  // A quiet steady tone proves that audio flows; a louder beep marks every second.
  #startTone() {
    this.audio = new AudioContext();
    const out = this.audio.createMediaStreamDestination();
    const voice = (frequency, gain) => {
      const level = new GainNode(this.audio, { gain });
      const source = new OscillatorNode(this.audio, { frequency });
      source.connect(level).connect(out);
      source.start();
      return level.gain;
    };
    voice(440, 0.06);
    const beep = voice(1000, 0);
    const schedule = () => {
      this.#readAudioClock();
      const now_ms = performance.now() + Math.min(...this.audioLeads_ms);
      const at = Math.max(0, (now_ms + 1000 - (Date.now() % 1000)) / 1000);
      beep.setValueAtTime(0.35, at);
      beep.setValueAtTime(0, at + 0.08);
    };
    schedule();
    this.beeper = setInterval(schedule, 1000);
    this.stream.addTrack(out.stream.getAudioTracks()[0]);
    // Browsers hold sound back until the person does something on the page.
    this.resume = () => this.audio.resume();
    this.resume();
    document.addEventListener('pointerdown', this.resume);
    document.addEventListener('keydown', this.resume);
  }

  stop() {
    this.ticker.terminate();
    clearInterval(this.beeper);
    document.removeEventListener('pointerdown', this.resume);
    document.removeEventListener('keydown', this.resume);
    this.audio.close();
    this.stream.getTracks().forEach((track) => track.stop());
  }
}
