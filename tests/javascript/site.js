// Pages that are not the engine's: a server that answers everything with an empty page, and has the client.
import { readFile } from 'node:fs/promises';
import http from 'node:http';

const CLIENT = new URL('../../clients/js/corecast.js', import.meta.url);

export class Site {
  #server = http.createServer(async (request, answer) => {
    if (request.url === '/corecast.js') {
      answer.writeHead(200, { 'Content-Type': 'text/javascript' }).end(await readFile(CLIENT));
      return;
    }
    answer.writeHead(200, { 'Content-Type': 'text/html; charset=utf-8' });
    answer.end('<!doctype html><html lang="en"><link rel="icon" href="data:,"><title>a page</title></html>');
  });

  static async start() {
    const site = new Site();
    await new Promise((resolve) => site.#server.listen(0, '127.0.0.1', resolve));
    site.port = site.#server.address().port;
    return site;
  }

  /** The origin of this site under a host name; the browser finds every name under `.example` here. */
  origin(host) {
    return `http://${host}:${this.port}`;
  }

  stop() {
    this.#server.closeAllConnections();
    return new Promise((resolve) => this.#server.close(resolve));
  }
}
