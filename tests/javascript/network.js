// A network between page and engine that does what networks do: kills some transports, holds back others, cuts.
import http from 'node:http';
import net from 'node:net';

export class Network {
  /** Transports whose connections are killed as soon as they ask. */
  blocked = new Set();
  /** Transports whose answers begin, with a head, and then never go on. */
  held = new Set();
  /** Nobody is there. */
  isAway = false;
  /** A path under which the engine stands here; it is taken off, as proxies do. */
  prefix = '';
  /** What was asked for, as transports, `publish`, `preflight` or the path. */
  asked = [];
  #engine;
  #sockets = new Map(); // socket -> the transport last asked for on it
  #server = http.createServer((request, answer) => this.#pass(request, answer));

  static async start(engine) {
    const network = new Network();
    network.lead(engine);
    network.#server.on('upgrade', (request, socket, head) => network.#upgrade(request, socket, head));
    network.#server.on('connection', (socket) => {
      network.#sockets.set(socket, '');
      socket.on('error', () => {}); // It is being cut.
      socket.on('close', () => network.#sockets.delete(socket));
    });
    await new Promise((resolve) => network.#server.listen(0, '127.0.0.1', resolve));
    network.url = `http://127.0.0.1:${network.#server.address().port}`;
    return network;
  }

  /** Has another engine behind it from now on. */
  lead(engine) {
    this.#engine = new URL(engine.url);
  }

  /** Cuts the connections of a transport, or all, without a farewell. */
  cut(transport) {
    for (const [socket, asked] of this.#sockets) if (!transport || asked === transport) socket.destroy();
  }

  stop() {
    this.cut();
    return new Promise((resolve) => this.#server.close(resolve));
  }

  /** Notes what a request wants; kills it, and says so, if it is blocked. */
  #kills(request, transport) {
    this.asked.push(transport);
    this.#sockets.set(request.socket, transport);
    const isOurs = request.url.startsWith(`${this.prefix}/`);
    if (isOurs) request.url = request.url.slice(this.prefix.length);
    const kills = this.isAway || !isOurs || this.blocked.has(transport);
    if (kills) request.socket.destroy();
    return kills;
  }

  #pass(request, answer) {
    const { pathname, searchParams } = new URL(request.url, this.#engine);
    const methods = { POST: 'publish', OPTIONS: 'preflight' };
    const transport = methods[request.method] ?? searchParams.get('transport') ?? pathname;
    if (this.#kills(request, transport)) return;
    const { hostname: host, port } = this.#engine;
    const { method, url: path, headers } = request;
    const onward = http.request({ host, port, method, path, headers, agent: false }, (theirs) => {
      answer.writeHead(theirs.statusCode, theirs.headers);
      if (!this.held.has(transport)) theirs.pipe(answer);
      else answer.flushHeaders();
      theirs.on('error', () => request.socket.destroy());
    });
    onward.on('error', () => request.socket.destroy());
    answer.on('close', () => onward.destroy());
    request.pipe(onward);
  }

  #upgrade(request, socket, head) {
    if (this.#kills(request, 'websocket')) return;
    const onward = net.connect(this.#engine.port, this.#engine.hostname);
    const lines = [`${request.method} ${request.url} HTTP/1.1`];
    for (let i = 0; i < request.rawHeaders.length; i += 2) lines.push(`${request.rawHeaders[i]}: ${request.rawHeaders[i + 1]}`);
    onward.write(`${lines.join('\r\n')}\r\n\r\n`);
    onward.write(head);
    socket.pipe(onward);
    if (this.held.has('websocket')) onward.resume();
    else onward.pipe(socket);
    onward.on('error', () => socket.destroy());
    socket.on('close', () => onward.destroy());
    onward.on('close', () => socket.destroy());
  }
}
