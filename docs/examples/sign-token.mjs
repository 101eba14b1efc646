#!/usr/bin/env node
// Signs a token for corecast (JWT, HS256) with nothing but Node.
//
//     node sign-token.mjs SECRET-FILE SUBJECT 'PUBLISH-PATTERN' 'SUBSCRIBE-PATTERN' [SECONDS]
//
// With the package jose: new SignJWT(claims).setProtectedHeader({ alg: "HS256" }).sign(secret).

import { createHmac } from "node:crypto";
import { readFileSync } from "node:fs";

const base64url = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");

export function sign(claims, secret) {
  const message = `${base64url({ alg: "HS256", typ: "JWT" })}.${base64url(claims)}`;
  return `${message}.${createHmac("sha256", secret).update(message).digest("base64url")}`;
}

const [file, sub, publish, subscribe, seconds = "3600"] = process.argv.slice(2);
if (file) {
  // The engine leaves out the line end behind a secret that is a text; so does this.
  const secret = readFileSync(file, "utf8").trimEnd();
  const now = Math.floor(Date.now() / 1000);
  const corecast = { publish: publish ? [publish] : [], subscribe: subscribe ? [subscribe] : [] };
  console.log(sign({ sub, iat: now, exp: now + Number(seconds), corecast }, secret));
}
