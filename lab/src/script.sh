# What scripts in a guest wait with: `. /lib/script.sh`.

# Seconds for anything that a script waits for: a bound on hanging, not on speed.
PATIENCE=120

# wait_until COMMAND...: until it succeeds; what it says is not shown. Otherwise the script ends here.
wait_until() { wait_on 1 "$@"; }

# wait_on PROCESS COMMAND...: the same, as long as the process is there that is to bring it about.
wait_on() {
  local process=$1 since now
  shift
  read -r since now < /proc/uptime
  until "$@" > /dev/null 2>&1; do
    if [ ! -e "/proc/$process" ]; then
      # It may have ended because it was through.
      if "$@" > /dev/null 2>&1; then return; fi
      in_vain "process $process is gone" "$*"
    fi
    read -r now _ < /proc/uptime
    if [ $((${now%.*} - ${since%.*})) -ge $PATIENCE ]; then in_vain "$PATIENCE s" "$*"; fi
    sleep 0.1
  done
}

in_vain() {
  echo "lab: waited in vain ($1) for: $2"
  exit 1
}
