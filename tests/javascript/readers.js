// What a page does, without our client, to read a topic over each transport. Every function runs inside the page, is given
// `{ url }`, and adds what comes to `got` as `{ cursor, event, data }`, where `data` is text or an array of bytes.

/** Prepares a page: where messages are kept, and how base64 is read. */
export function prepare() {
  window.got = [];
  window.take = ({ topic, cursor, event, data, encoding, gap, refused }) => {
    const decoded = encoding ? Array.from(atob(data), (c) => c.charCodeAt(0)) : data;
    if (refused) window.refused = refused;
    else window.got.push(gap ? { gap } : { topic, cursor, event, data: decoded });
  };
}

export const readers = {
  /** `names`: events to listen to, as an EventSource has to know them. */
  eventsource: ({ url, names = [] }) => {
    const source = new EventSource(url);
    window.source = source;
    window.opened = 0;
    source.onopen = () => {
      window.opened += 1;
    };
    const take = (encoding) => ({ type, data, lastEventId }) => {
      const event = type === 'message' || encoding ? undefined : type;
      window.take({ cursor: lastEventId, event, data, encoding });
    };
    source.addEventListener('corecast-base64', take('base64'));
    source.addEventListener('corecast-gap', ({ data }) => window.take({ gap: JSON.parse(data) }));
    source.addEventListener('corecast-refused', ({ data }) => window.take({ refused: JSON.parse(data) }));
    for (const name of ['message', ...names]) source.addEventListener(name, take());
  },

  /** The WebSocket that carries payloads only. */
  raw: ({ url }) => {
    const ws = new WebSocket(url.replace('http', 'ws'));
    window.ws = ws;
    ws.binaryType = 'arraybuffer';
    ws.onmessage = ({ data }) => window.take({ data: typeof data === 'string' ? data : [...new Uint8Array(data)] });
  },

  /** The line protocol; `topics` and `since` travel in commands. */
  line: ({ url, topics, since }) => {
    const ws = new WebSocket(new URL('/ws', url.replace('http', 'ws')), 'corecast.v1');
    window.ws = ws;
    window.lines = [];
    ws.binaryType = 'arraybuffer';
    ws.onopen = () => {
      for (const topic of topics) ws.send(`SUB ${topic.replace(/[% ]/g, encodeURIComponent)} since=${since} id=1`);
    };
    ws.onmessage = ({ data }) => {
      const bytes = typeof data === 'string' ? new TextEncoder().encode(data) : new Uint8Array(data);
      const end = bytes.indexOf(10);
      const head = new TextDecoder('utf-8', { ignoreBOM: true }).decode(end < 0 ? bytes : bytes.slice(0, end));
      const [verb, name, cursor, ...words] = head.split(' ');
      if (verb !== 'MSG') {
        window.lines.push(head);
        return;
      }
      const payload = typeof data === 'string' ? data.slice(data.indexOf('\n') + 1) : [...bytes.slice(end + 1)];
      const event = words.find((word) => word.startsWith('event='))?.slice(6);
      window.take({ topic: decodeURIComponent(name), cursor, event, data: payload });
    };
  },

  /** A page that never ends, in a frame, calls `corecast` of the page around it. */
  'forever-frame': ({ url }) => {
    window.corecast = window.take;
    const frame = document.createElement('iframe');
    frame.src = url;
    document.documentElement.append(frame);
  },

  /** A script that calls a function once, with all there is. */
  jsonp: ({ url }) => {
    window.callback = (items) => items.forEach(window.take);
    const script = document.createElement('script');
    script.src = url;
    document.documentElement.append(script);
  },

  /** `fetch`, read line by line. */
  stream: async ({ url }) => {
    window.reading = new AbortController();
    const { body } = await fetch(url, { signal: window.reading.signal });
    const reader = body.pipeThrough(new TextDecoderStream('utf-8', { ignoreBOM: true })).getReader();
    const read = async () => {
      for (let rest = ''; ;) {
        const { done, value } = await reader.read();
        if (done) return;
        const lines = (rest + value).split('\n');
        rest = lines.pop();
        for (const line of lines) if (line) window.take(JSON.parse(line));
      }
    };
    read().catch(() => {}); // It is stopped.
  },
};

/** Ends what a page reads; a browser opens six connections to a host, and waits silently for the seventh. */
export function stopReading() {
  window.source?.close();
  window.ws?.close();
  window.reading?.abort();
  document.querySelectorAll('iframe, script').forEach((element) => element.remove());
}
