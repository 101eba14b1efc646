#!/bin/sh
# Signs a token for corecast (JWT, HS256) with openssl.
#
#     sh sign-token.sh SECRET-FILE SUBJECT 'PUBLISH-PATTERN' 'SUBSCRIBE-PATTERN' [SECONDS]
#
# and then
#
#     curl -H "Authorization: Bearer $(sh sign-token.sh ./secret me 'news/#' '')" -d hello http://127.0.0.1:8080/topics/news/today
#
# The secret is an argument of openssl for a moment, which others on the host could see: for trying, and on hosts of your own.
# Subject and patterns are put into JSON as they are: no quotes or backslashes in them.
set -eu
secret=$1 subject=$2 publish=$3 subscribe=$4 seconds=${5:-3600}

base64url() { openssl base64 -A | tr '+/' '-_' | tr -d '='; }
list() { if [ -n "$1" ]; then printf '["%s"]' "$1"; else printf '[]'; fi; }

now=$(date +%s)
header=$(printf '{"alg":"HS256","typ":"JWT"}' | base64url)
claims=$(printf '{"sub":"%s","iat":%s,"exp":%s,"corecast":{"publish":%s,"subscribe":%s}}' \
    "$subject" "$now" "$((now + seconds))" "$(list "$publish")" "$(list "$subscribe")" | base64url)
# $(...) leaves out the line end behind the secret, as the engine does.
signature=$(printf '%s.%s' "$header" "$claims" | openssl dgst -sha256 -hmac "$(cat "$secret")" -binary | base64url)
printf '%s.%s.%s\n' "$header" "$claims" "$signature"
