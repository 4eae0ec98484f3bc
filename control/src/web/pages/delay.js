// How old what is seen and heard is, by the publisher's clock and ours: null where the browser or
// the stream does not tell, or where the two clocks cannot be the same.

// RFC 5905 6: NTP counts from 1900.
const NTP_EPOCH_MS = 2_208_988_800_000;
// Beyond this, two clocks disagree, and their difference says nothing about the path.
const DELAY_MAX_MS = 10000;

const sensible = (age_ms) => (age_ms >= 0 && age_ms < DELAY_MAX_MS ? age_ms : null);

/** The age of the newest frame of a receiver when it was handed on, from its capture time
 * (abs-capture-time). */
export function capturedDelay_ms(pc) {
  for (const kind of ['video', 'audio']) {
    const receiver = pc?.getReceivers().find(({ track }) => track.kind === kind);
    const [newest] = receiver?.getSynchronizationSources() ?? [];
    const { captureTimestamp, senderCaptureTimeOffset } = newest ?? {};
    if (captureTimestamp === undefined || senderCaptureTimeOffset === undefined) continue;
    const captured_ms = captureTimestamp + senderCaptureTimeOffset - NTP_EPOCH_MS;
    return sensible(newest.timestamp - captured_ms);
  }
  return null;
}

/** The age of what is played, from the publisher's sender reports. */
export function playedDelay_ms(stats) {
  if (!stats?.playoutTimestamp) return null;
  return sensible(stats.timestamp - (stats.playoutTimestamp - NTP_EPOCH_MS));
}
