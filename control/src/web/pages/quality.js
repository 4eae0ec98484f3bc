// The menu of encodings of a simulcast stream and of the layers of a scalable one: WHEP's layer
// selection (draft-ietf-wish-whep-02).

const BEST = '';

const sized = (rid, { width, height }) => (height ? `${width}×${height}` : rid);

/** What can be chosen, largest and most fluent first: `value` for the menu, and what to ask for. */
function choices(layers) {
  const sent = layers.filter((layer) => layer.width || layer.bitrate);
  sent.sort((a, b) => (b.height ?? 0) - (a.height ?? 0));
  const [only] = sent;
  // With several encodings, their layers would be too many for a menu.
  if (sent.length !== 1 || !only.layers) {
    const ask = ({ rid }) => ({ encodingId: rid });
    return sent.map((layer) => ({ value: layer.rid, label: sized(layer.rid, layer), ask: ask(layer) }));
  }
  const most = Math.max(...only.layers.map((layer) => layer.temporalLayerId));
  return only.layers.toReversed().map((layer) => {
    const { spatialLayerId, temporalLayerId, framerate } = layer;
    const size = sized(`layer ${spatialLayerId}`, layer);
    return {
      value: `${spatialLayerId}/${temporalLayerId}`,
      label: temporalLayerId < most ? `${size}, ${framerate} fps` : size,
      ask: { spatialLayerId, temporalLayerId },
    };
  });
}

/** A menu in `select`; `session` gives the session that is open now. */
export class Quality {
  constructor(select, session) {
    this.select = select;
    this.session = session;
    this.chosen = BEST;
    this.choices = [];
    select.addEventListener('change', () => {
      this.chosen = select.value;
      this.apply();
    });
  }

  /** Shows the layers of the event of that name, largest first; nothing to choose hides the menu. */
  show(layers) {
    this.choices = choices(layers);
    const options = [new Option('Best quality', BEST)];
    for (const { label, value } of this.choices) options.push(new Option(label, value));
    this.select.replaceChildren(...options);
    this.select.hidden = this.choices.length < 2;
    const present = this.choices.some(({ value }) => value === this.chosen);
    this.select.value = present ? this.chosen : BEST;
  }

  /** Tells a new session what was chosen before. */
  again() {
    if (this.chosen !== BEST) this.apply();
  }

  async apply() {
    const { layerAddress, token } = this.session() ?? {};
    if (!layerAddress) return;
    const headers = { 'Content-Type': 'application/json' };
    if (token) headers.Authorization = `Bearer ${token}`;
    const choice = this.choices.find(({ value }) => value === this.chosen);
    const body = JSON.stringify(choice?.ask ?? {});
    try {
      const response = await fetch(layerAddress, { method: 'POST', headers, body });
      if (!response.ok) throw new Error(await response.text());
    } catch (error) {
      console.info('the quality was not changed:', error.message);
    }
  }
}
