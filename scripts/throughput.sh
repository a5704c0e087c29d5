#!/bin/sh
# Forwards frames for a while at each batch size and prints what came out.
#     scripts/throughput.sh [DEVICE...]             by default two software cards at full speed
#     SECONDS_EACH=10 BATCHES="1 32" scripts/throughput.sh 0000:03:00.0 0000:03:00.1
# ISOLATION says where the driver runs, as in l2fwd --isolation; by default it is linked in.
# A front door to `l2fwd --json`: its --help says more.
set -eu
usage() { sed -n '2,6s/^# \{0,1\}//p' "$0"; exit "$1"; }
case ${1-} in
  -h | --help) usage 0 ;;
  -*) usage 2 >&2 ;;
  "") set -- sim:rate=max sim:rate=max ;;
  *) ;;
esac
checkout=$(cd "$(dirname "$0")/.." && pwd)
cargo build --quiet --release --package l2fwd --manifest-path "$checkout/Cargo.toml"
l2fwd=${CARGO_TARGET_DIR:-$checkout/target}/release/l2fwd
# The first number of that name in the report on standard input.
number() { sed -n "s/^ *\"$1\": \([0-9.]*\),*$/\1/p" | head -n 1; }
heading=$(printf '%5s %9s %13s %12s' batch Mpps ticks/packet packets)
for batch in ${BATCHES-1 2 4 8 16 32 64}; do
  report=$("$l2fwd" --json --isolation "${ISOLATION-driver}" \
    --duration "${SECONDS_EACH-3}s" --batch "$batch" "$@")
  # Only above figures.
  [ -z "$heading" ] || echo "$heading"
  heading=
  printf '%5d %9.3f %13.1f %12d\n' "$batch" "$(echo "$report" | number mpps)" \
    "$(echo "$report" | number ticks_per_packet)" "$(echo "$report" | number packets)"
done
