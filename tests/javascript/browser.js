// One headless Chromium for all tests. A profile is as good as a browser of its own; a page that is cleared, as a fresh one.
import { chromium } from 'playwright-core';
import { CERTIFICATE } from './certificate.js';

// Debian's: a test tool's own download of a browser is not needed. No sandbox, because tests also run as root in
// containers; nothing in the background, because nothing here may leave the machine.
const LAUNCH = {
  executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
  args: [
    '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--no-proxy-server',
    '--disable-component-update', '--disable-sync', '--host-resolver-rules=MAP *.example 127.0.0.1, MAP * ~NOTFOUND , EXCLUDE 127.0.0.1',
    // One key is believed, and no other.
    `--ignore-certificate-errors-spki-list=${CERTIFICATE.spkiHash}`,
  ],
};

let browser;

/** A profile with its pages, and everything that went wrong in them. */
export class Profile {
  #context;
  #cleared; // a page without content: to begin one is what costs time
  troubles = [];
  /** Troubles that a test is about. */
  expected;

  static async open(options) {
    browser ??= chromium.launch(LAUNCH);
    const profile = new Profile();
    profile.#context = await (await browser).newContext(options);
    await profile.#context.exposeFunction('pwned', () => profile.troubles.push('pwned'));
    return profile;
  }

  /** Opens a page, which has to do without error, dialog and request to other hosts. */
  async page(url) {
    const page = this.#cleared ?? (await this.#begin());
    this.#cleared = undefined;
    await page.goto(url);
    return page;
  }

  async #begin() {
    const page = await this.#context.newPage();
    page.on('pageerror', (error) => this.troubles.push(`error: ${error.message}`));
    page.on('console', (line) => {
      const isIcon = line.location().url.endsWith('/favicon.ico'); // A page that is no HTML cannot say that it has none.
      if (line.type() === 'error' && !isIcon) this.troubles.push(`console: ${line.text()}`);
    });
    page.on('dialog', (dialog) => {
      this.troubles.push(`dialog: ${dialog.message()}`);
      dialog.dismiss();
    });
    page.on('request', (request) => {
      const { hostname, protocol } = new URL(request.url());
      if (protocol.startsWith('http') && hostname !== '127.0.0.1' && !hostname.endsWith('.example')) {
        this.troubles.push(`request to ${hostname}`);
      }
    });
    return page;
  }

  /** Forgets everything, and keeps one page without content. */
  async clear() {
    const [page, ...rest] = this.#context.pages();
    for (const each of rest) await each.close();
    await page.evaluate(() => localStorage.clear()).catch(() => {}); // Not every page has one.
    await page.goto('about:blank');
    await this.#context.clearCookies();
    [this.#cleared, this.troubles, this.expected] = [page, [], undefined];
  }

  /** Returns the troubles that nobody expected. */
  unexpected() {
    return this.troubles.filter((trouble) => !this.expected?.test(trouble));
  }

  close() {
    return this.#context.close();
  }
}

export async function closeBrowser() {
  if (browser) await (await browser).close();
}
