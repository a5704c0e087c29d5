#!/bin/sh
# Gives network cards to Sumac's applications (bound to vfio-pci), usable by whoever calls this.
#     scripts/bind-vfio.sh 0000:03:00.0 0000:03:00.1
#     scripts/bind-vfio.sh --undo 0000:03:00.0 0000:03:00.1
# A front door to `sumac bind`, `sumac unbind` and `sumac doctor`: their --help says more.
set -eu
usage() { sed -n '2,5s/^# \{0,1\}//p' "$0"; exit "$1"; }
case ${1-} in
  "") usage 2 >&2 ;;
  -h | --help) usage 0 ;;
  *) ;;
esac
checkout=$(cd "$(dirname "$0")/.." && pwd)
cargo build --quiet --release --package sumac --manifest-path "$checkout/Cargo.toml"
sumac=${CARGO_TARGET_DIR:-$checkout/target}/release/sumac
root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }
if [ "$1" = --undo ]; then
  shift
  root "$sumac" unbind "$@"
else
  # Under sudo it is for whoever called that.
  root "$sumac" bind --user "${SUDO_UID:-$(id -u)}" "$@"
  "$sumac" doctor "$@"
fi
