// Reads RTCPeerConnection statistics into flat objects, and rates between two readings.

const find = (report, type, kind) =>
  [...report.values()].find((s) => s.type === type && (!kind || s.kind === kind)) ?? {};

const codecName = (report, rtp) => {
  const codec = report.get(rtp.codecId);
  return codec ? codec.mimeType.split('/')[1] : null;
};

const sum = (report, type, field) =>
  [...report.values()].reduce((total, s) => total + (s.type === type ? (s[field] ?? 0) : 0), 0);

const selectedPair = (report) => {
  const transport = find(report, 'transport');
  return report.get(transport.selectedCandidatePairId) ?? {};
};

/** What a publisher's connection did so far. */
export async function sendingStats(pc) {
  const report = await pc.getStats();
  const video = find(report, 'outbound-rtp', 'video');
  const audio = find(report, 'outbound-rtp', 'audio');
  const remote = find(report, 'remote-inbound-rtp', 'video');
  const pair = selectedPair(report);
  const rtt_s = pair.currentRoundTripTime ?? remote.roundTripTime;
  return {
    timestamp: video.timestamp ?? audio.timestamp ?? 0,
    codec: codecName(report, video),
    audioCodec: codecName(report, audio),
    frameWidth: video.frameWidth ?? 0,
    frameHeight: video.frameHeight ?? 0,
    framesPerSecond: video.framesPerSecond ?? 0,
    framesEncoded: video.framesEncoded ?? 0,
    framesSent: video.framesSent ?? 0,
    keyFramesEncoded: video.keyFramesEncoded ?? 0,
    bytesSent: sum(report, 'outbound-rtp', 'bytesSent'),
    packetsSent: sum(report, 'outbound-rtp', 'packetsSent'),
    audioPacketsSent: audio.packetsSent ?? 0,
    packetsLost: sum(report, 'remote-inbound-rtp', 'packetsLost'),
    fractionLost: remote.fractionLost ?? 0,
    nackCount: video.nackCount ?? 0,
    pliCount: video.pliCount ?? 0,
    firCount: video.firCount ?? 0,
    roundTripTime: rtt_s ?? null,
    availableOutgoingBitrate: pair.availableOutgoingBitrate ?? null,
    qualityLimitationReason: video.qualityLimitationReason ?? null,
  };
}

/** What a viewer's connection did so far. */
export async function receivingStats(pc) {
  const report = await pc.getStats();
  const video = find(report, 'inbound-rtp', 'video');
  const audio = find(report, 'inbound-rtp', 'audio');
  const pair = selectedPair(report);
  return {
    timestamp: video.timestamp ?? audio.timestamp ?? 0,
    codec: codecName(report, video),
    audioCodec: codecName(report, audio),
    frameWidth: video.frameWidth ?? 0,
    frameHeight: video.frameHeight ?? 0,
    framesPerSecond: video.framesPerSecond ?? 0,
    framesDecoded: video.framesDecoded ?? 0,
    framesDropped: video.framesDropped ?? 0,
    keyFramesDecoded: video.keyFramesDecoded ?? 0,
    freezeCount: video.freezeCount ?? 0,
    bytesReceived: sum(report, 'inbound-rtp', 'bytesReceived'),
    packetsReceived: sum(report, 'inbound-rtp', 'packetsReceived'),
    packetsLost: sum(report, 'inbound-rtp', 'packetsLost'),
    retransmittedPacketsReceived: video.retransmittedPacketsReceived ?? 0,
    nackCount: video.nackCount ?? 0,
    pliCount: video.pliCount ?? 0,
    jitter: video.jitter ?? 0,
    audioLevel: audio.audioLevel ?? 0,
    totalAudioEnergy: audio.totalAudioEnergy ?? 0,
    roundTripTime: pair.currentRoundTripTime ?? null,
    videoPacketsReceived: video.packetsReceived ?? 0,
    audioPacketsReceived: audio.packetsReceived ?? 0,
    // NTP time at the publisher of what is played now.
    playoutTimestamp: video.estimatedPlayoutTimestamp ?? audio.estimatedPlayoutTimestamp ?? null,
  };
}

/** Bits per second between two readings of a growing count of bytes. */
export function rate_bps(before, now, field) {
  const elapsed_ms = now.timestamp - (before?.timestamp ?? now.timestamp);
  return elapsed_ms > 0 ? ((now[field] - before[field]) * 8000) / elapsed_ms : 0;
}

/** Percentage of packets lost between two readings. */
export function loss_percent(before, now, countField) {
  if (!before) return 0;
  const lost = Math.max(0, now.packetsLost - before.packetsLost);
  const passed = Math.max(0, now[countField] - before[countField]);
  return lost + passed > 0 ? (100 * lost) / (lost + passed) : 0;
}

/** `1234567` as `1.2 Mbit/s`. */
export function formatBitrate(bps) {
  return bps >= 1e6 ? `${(bps / 1e6).toFixed(1)} Mbit/s` : `${Math.round(bps / 1000)} kbit/s`;
}

/** Fills a `<dl>` with `[name, value]` rows, leaving out what is unknown. */
export function showRows(list, rows) {
  const known = rows.filter(([, value]) => value !== null && value !== undefined && value !== '');
  list.replaceChildren(
    ...known.map(([name, value]) => {
      const row = document.createElement('div');
      const term = document.createElement('dt');
      const detail = document.createElement('dd');
      term.textContent = name;
      detail.textContent = value;
      row.append(term, detail);
      return row;
    }),
  );
}
