// The menu of encodings of a simulcast stream: WHEP's layer selection (draft-ietf-wish-whep-02).

const BEST = '';

const label = ({ rid, width, height }) => (height ? `${width}×${height}` : rid);

/** A menu in `select`; `session` gives the session that is open now. */
export class Quality {
  constructor(select, session) {
    this.select = select;
    this.session = session;
    this.chosen = BEST;
    select.addEventListener('change', () => {
      this.chosen = select.value;
      this.apply();
    });
  }

  /** Shows the layers of the event of that name, largest first; nothing to choose hides the menu. */
  show(layers) {
    const sent = layers.filter((layer) => layer.width || layer.bitrate);
    sent.sort((a, b) => (b.height ?? 0) - (a.height ?? 0));
    const options = [new Option('Best quality', BEST)];
    for (const layer of sent) options.push(new Option(label(layer), layer.rid));
    this.select.replaceChildren(...options);
    this.select.hidden = sent.length < 2;
    const present = sent.some((layer) => layer.rid === this.chosen);
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
    const body = this.chosen === BEST ? '{}' : JSON.stringify({ encodingId: this.chosen });
    try {
      const response = await fetch(layerAddress, { method: 'POST', headers, body });
      if (!response.ok) throw new Error(await response.text());
    } catch (error) {
      console.info('the quality was not changed:', error.message);
    }
  }
}
