#!/bin/sh
# Starts coturn with turnserver.conf and what the environment says: docs/edge.md. The secret goes into a file that only this
# user can read, because command lines can be read by all.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
run=${TRUNKLINE_TURN_RUN_DIR:-/run/coturn}
conf=$run/turnserver.conf

fail() {
    echo "coturn: $1" >&2
    exit 2
}

if [ -n "${TRUNKLINE_TURN_SECRET_FILE:-}" ]; then
    [ -r "$TRUNKLINE_TURN_SECRET_FILE" ] || fail "TRUNKLINE_TURN_SECRET_FILE $TRUNKLINE_TURN_SECRET_FILE cannot be read"
    secret=$(cat "$TRUNKLINE_TURN_SECRET_FILE")
else
    secret=${TRUNKLINE_TURN_SECRET:-}
fi
[ -n "$secret" ] || fail "set TRUNKLINE_TURN_SECRET_FILE (or TRUNKLINE_TURN_SECRET) to what the agents have as --turn-secret-file"
[ "$(printf '%s' "$secret" | wc -l)" -eq 0 ] || fail "the secret has more than one line"
[ -w "$run" ] || fail "TRUNKLINE_TURN_RUN_DIR $run cannot be written"

first=${TRUNKLINE_TURN_MIN_PORT:-49160}
last=${TRUNKLINE_TURN_MAX_PORT:-49459}
[ "$first" -le "$last" ] || fail "TRUNKLINE_TURN_MIN_PORT $first is above TRUNKLINE_TURN_MAX_PORT $last"

umask 077
{
    cat "$here/turnserver.conf"
    echo "static-auth-secret=$secret"
    echo "realm=${TRUNKLINE_TURN_REALM:-trunkline}"
    echo "listening-port=${TRUNKLINE_TURN_PORT:-3478}"
    echo "min-port=$first"
    echo "max-port=$last"
    echo "total-quota=$((last - first + 1))"
    echo "pidfile=$run/turnserver.pid"
    echo "userdb=$run/turndb"
    echo "log-file=stdout"
    echo "simple-log"
    [ -z "${TRUNKLINE_TURN_LISTEN:-}" ] || printf 'listening-ip=%s\nrelay-ip=%s\n' "$TRUNKLINE_TURN_LISTEN" "$TRUNKLINE_TURN_LISTEN"
    [ -z "${TRUNKLINE_TURN_EXTERNAL_IP:-}" ] || echo "external-ip=$TRUNKLINE_TURN_EXTERNAL_IP"
    # addresses or ranges FIRST-LAST, separated by commas
    for peer in $(echo "${TRUNKLINE_TURN_PEERS:-}" | tr ',' ' '); do
        echo "allowed-peer-ip=$peer"
    done
    if [ -n "${TRUNKLINE_TURN_CERTIFICATE:-}" ]; then
        [ -n "${TRUNKLINE_TURN_KEY:-}" ] || fail "TRUNKLINE_TURN_CERTIFICATE needs TRUNKLINE_TURN_KEY"
        echo "cert=$TRUNKLINE_TURN_CERTIFICATE"
        echo "pkey=$TRUNKLINE_TURN_KEY"
        echo "tls-listening-port=${TRUNKLINE_TURN_TLS_PORT:-5349}"
    else
        echo no-tls
        echo no-dtls
    fi
} >"$conf"

exec turnserver -c "$conf"
