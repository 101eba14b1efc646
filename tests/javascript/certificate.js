// A certificate for 127.0.0.1 that nobody but these tests believes, made anew each time.
import { execFileSync } from 'node:child_process';
import { createHash, X509Certificate } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const folder = mkdtempSync(join(tmpdir(), 'corecast-tls-'));
process.once('exit', () => rmSync(folder, { recursive: true }));

/** Makes one; returns its files, its text, and what a browser knows its key by. */
function make() {
  const [certificate, key] = ['certificate.pem', 'key.pem'].map((name) => join(folder, name));
  execFileSync('openssl', [
    'req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '30', '-subj', '/CN=127.0.0.1',
    '-addext', 'subjectAltName=IP:127.0.0.1,DNS:localhost', '-keyout', key, '-out', certificate,
  ], { stdio: 'ignore' });
  const text = readFileSync(certificate, 'utf8');
  const spki = new X509Certificate(text).publicKey.export({ type: 'spki', format: 'der' });
  return { certificate, key, text, spkiHash: createHash('sha256').update(spki).digest('base64') };
}

export const CERTIFICATE = make();

/** Flags of an engine that shows it, beside a plain listener. */
export const TLS_FLAGS = ['--listen', 'tls://127.0.0.1:0', '--tls-cert', CERTIFICATE.certificate, '--tls-key', CERTIFICATE.key];
