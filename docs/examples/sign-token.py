#!/usr/bin/env python3
"""Signs a token for corecast (JWT, HS256) with nothing but the standard library.

    python3 sign-token.py SECRET-FILE SUBJECT [--publish PATTERN]... [--subscribe PATTERN]... [--expires SECONDS]

With PyJWT the function is one line: jwt.encode(claims, secret, algorithm="HS256").
"""

import argparse
import base64
import hashlib
import hmac
import json
import time


def base64url(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def sign(claims: dict, secret: bytes) -> str:
    header = {"alg": "HS256", "typ": "JWT"}
    parts = [base64url(json.dumps(part, separators=(",", ":")).encode()) for part in (header, claims)]
    message = b".".join(parts)
    return b".".join([message, base64url(hmac.digest(secret, message, hashlib.sha256))]).decode()


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("secret")
    arguments.add_argument("subject")
    arguments.add_argument("--publish", action="append", default=[])
    arguments.add_argument("--subscribe", action="append", default=[])
    arguments.add_argument("--expires", type=int, default=3600)
    given = arguments.parse_args()
    # The engine leaves out the line end behind a secret that is a text; so does this.
    with open(given.secret, "rb") as file:
        secret = file.read().rstrip()
    now = int(time.time())
    claims = {
        "sub": given.subject,
        "iat": now,
        "exp": now + given.expires,
        "corecast": {"publish": given.publish, "subscribe": given.subscribe},
    }
    print(sign(claims, secret))


if __name__ == "__main__":
    main()
