#!/bin/sh
# Reserves 2 MiB pages for a packet pool, by default one of 4096 buffers; 0 gives all pages back.
#     scripts/setup-hugepages.sh [BUFFERS]
# A front door to `sumac hugepages`: its --help says more.
set -eu
usage() { sed -n '2,4s/^# \{0,1\}//p' "$0"; exit "$1"; }
case ${1-} in
  -h | --help) usage 0 ;;
  -*) usage 2 >&2 ;;
  *) ;;
esac
checkout=$(cd "$(dirname "$0")/.." && pwd)
cargo build --quiet --release --package sumac --manifest-path "$checkout/Cargo.toml"
sumac=${CARGO_TARGET_DIR:-$checkout/target}/release/sumac
root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }
case ${1-4096} in
  0) root "$sumac" hugepages 0 ;;
  *) root "$sumac" hugepages --for-pool "${1-4096}" ;;
esac
