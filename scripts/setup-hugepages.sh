#!/bin/sh
# Reserves 2 MiB pages for a packet pool, by default one of 4096 buffers; 0 gives all pages back.
#     scripts/setup-hugepages.sh [BUFFERS]
# A front door to `sumac hugepages`: its --help says more.
set -eu
cd "$(dirname "$0")/.."
cargo build --quiet --release --package sumac
root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }
case ${1-4096} in
  0) root target/release/sumac hugepages 0 ;;
  -*) sed -n '2,4s/^# \{0,1\}//p' "$0"; exit 2 ;;
  *) root target/release/sumac hugepages --for-pool "${1-4096}" ;;
esac
