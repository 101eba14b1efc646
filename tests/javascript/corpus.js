// Payloads, topics and event names that end a string, a script, a line, a block or a parser somewhere; every transport has
// to carry them unchanged and run none of them. Whatever runs calls `pwned`, which a page under test defines.

const bytes = (...numbers) => Uint8Array.from(numbers);

/** Payloads that are text. */
export const texts = [
  '', ' ', '\t', '\n', '\n\n', '\r', '\r\n', ' leading and trailing ', '\u0000', '\u0001\u001f\u007f\u0085\u009f',
  // Ends of scripts, comments and sections.
  '</script>', '</script><script>pwned()</script>', '</ScRiPt \n><script>pwned()</script>', '<script>pwned()</script>',
  '<!--', '-->', '<!--<script>', '<!--<script>pwned()</script>-->', '--!><script>pwned()</script>', ']]>',
  '<![CDATA[ pwned() ]]>', '</title></textarea></style></body></html><script>pwned()</script>',
  '<img src=x onerror=pwned()>', '<svg onload=pwned()>', '<iframe srcdoc="<script>parent.pwned()</script>">',
  '</script\u0000><script>parent.pwned()</script>', '&lt;/script&gt;&#x3c;script&#x3e;pwned()', '<?xml version="1.0"?>',
  // Ends of strings and calls.
  '"', "'", '`', '\\', '\\\\', '\\"', '\\u003c/script>', '\\x22;pwned();//', '");pwned();("', "');pwned();('", '"});pwned();({"',
  '${pwned()}', '`${pwned()}`', '*/pwned()/*', '//', '\\\npwned()', '"]);pwned();//', '];pwned();[',
  // Line ends that only JavaScript knows, marks that only some decoders swallow.
  '\u2028', '\u2029', '\u2028pwned()//', 'a\u2028b\u2029c', '\ufeff', '\ufeffbom', '\ufffe\uffff', '\ufffd', '\u202eevil',
  '\u{10ffff}\u{1f600}', 'e\u0301', '\ud7ff\ue000',
  // Text that says what it is not: an encoded surrogate, JSON, an event, a frame of the line protocol, a chunk.
  '\\ud800', '\\ud83d\\ude00', '%00%0d%0a%2528', '+ACI-', 'null', 'true', '0', '{}', '[]', '{"gap":{"topic":"a","count":1}}',
  '{"__proto__":{"polluted":true}}', '__proto__', 'constructor', 'prototype', 'toString', 'hasOwnProperty',
  'data: x\n\nevent: corecast-gap\ndata: {}\n\n', 'id: 00000000-1\n', 'retry: 1\n\n', ':comment\n', ': ', 'data', 'x\n\n\nid: evil\n',
  'MSG a 00000000-1\nx', 'GAP a 00000000-1 00000000-2 1 overflow', 'BYE 1000 x', 'OK 1 00000000-1', 'HI corecast.v1 x',
  '0\r\n\r\nHTTP/1.1 200 OK\r\n\r\n', '5\r\nhello\r\n', '--corecast\r\nContent-Type: text/html\r\n\r\n<script>pwned()</script>',
  'x'.repeat(5000), '<'.repeat(3000), '"\\'.repeat(2000), '\u2028'.repeat(1000), '\n'.repeat(1000),
];

/** Payloads that are not UTF-8: alone, in the middle, surrogates encoded, overlong forms, cut short. */
export const binaries = [
  bytes(0xff), bytes(0x80), bytes(0xc0, 0x80), bytes(0xed, 0xa0, 0x80), bytes(0xed, 0xa0, 0xbd, 0xed, 0xb8, 0x80), bytes(0xe2, 0x80),
  bytes(0xf4, 0x90, 0x80, 0x80), bytes(0x3c, 0xff, 0x2f, 0x73, 0x63, 0x72, 0x69, 0x70, 0x74, 0x3e), bytes(0x0a, 0xff, 0x0a, 0x0d, 0x00),
  Uint8Array.from({ length: 256 }, (_, i) => i), Uint8Array.from({ length: 3001 }, (_, i) => (i * 7) % 256),
];

/** Topics; each is made a topic of its own by a prefix. */
export const topics = [
  '</script><script>pwned()</script>', '<!--', '-->', ']]>', '"', "'", '\\', '\\u0022', '");pwned();("', "');pwned();('", '${pwned()}',
  '\u2028', '\u2029', '\ufeff', '__proto__', 'constructor', '%', '%41', '%00', '&amp;', '&', '=', '?', ';', ',', ':', ' ', '  two  ', '...', '.a',
  '\u{1f600}', 'e\u0301', 'a=b&transport=value', 'id=7',
];

/** Event names: visible ASCII, so no blanks. */
export const events = [
  '</script><script>pwned()</script>', '<!--', '-->', ']]>', '"', "'", '\\', '");pwned();("', "');pwned();('", '${pwned()}', '`', '__proto__',
  'constructor', 'message', 'data:', ':', '%22', '&quot;', '{}', '!', '~'.repeat(64),
];

/** Callbacks that have to be refused. */
export const callbacks = [
  'pwned()', 'pwned()//', 'a;pwned', 'a,pwned', 'a(pwned', '<script>', '</script>', '1a', '.a', 'a-b', 'a b', 'a\n', 'a\u2028', '\u00e9', 'a[0]',
  '"', "'", '`', '\\', '*/pwned//', '${a}', '%', 'a'.repeat(65),
];
