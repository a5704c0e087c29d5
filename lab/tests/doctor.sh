# What the scripts of doctor.rs are made of. `card` is the device at hand.

fail() {
  echo "FAILED: ${what-}"
  cat /tmp/doctor 2> /dev/null
  sumac devices
  ls -l /dev/vfio
  exit 1
}
driver() { basename "$(readlink "/sys/bus/pci/devices/$1/driver")"; }
group() { basename "$(readlink "/sys/bus/pci/devices/$1/iommu_group")"; }

# Whoever asks: root, or `su user -c`.
who='sh -c'
ask() {
  $who "sumac doctor $card" > /tmp/doctor 2>&1
  verdict=$?
  cat /tmp/doctor
}

# Waits until this process has the card's group open, and is no shell any more.
opened() { wait_on $1 has_opened $1; }
has_opened() {
  ls -l "/proc/$1/fd" | grep "/dev/vfio/$(group $card)\$" && [ "$(cat "/proc/$1/comm")" != sh ]
}

# The first finding of a state: its name, what is said, the command below it.
first() {
  line=$(grep -n "^$1 " /tmp/doctor | head -n 1)
  check=$(echo "$line" | sed 's/^[0-9]*:[a-z]*  *\([a-z -]*[a-z]\)   *.*/\1/')
  command=$(sed -n "$((${line%%:*} + 1))s/^   *//p" /tmp/doctor)
}

broken() { what=$1; echo "== broken: $what"; }

# One question; what is found first is at hand then.
one_by_one() { broken "$1"; ask; [ $verdict = 1 ] || fail; first fault; }
expect_first() {
  [ "$check" = "$1" ] && echo "$line" | grep -q "$2" && [ -n "$command" ] || fail
}

# These faults, one below the other; each is mended by its command, until nothing is in the way.
mends() {
  for expected in "$@"; do
    ask
    first fault
    [ $verdict = 1 ] && [ "$check" = "$expected" ] && [ -n "$command" ] || fail
    echo "mending $check: $command"
    eval "$command" || fail
  done
  # A process that was told to end takes a moment.
  wait_until is_well
  cat /tmp/doctor
}
is_well() {
  ask
  [ $verdict = 0 ]
}

# The same for a warning, which is not in the way.
mends_warning() {
  ask
  grep -q "^warning  $1 " /tmp/doctor || fail
  command=$(sed -n "/^warning  $1 /{n;s/^   *//p}" /tmp/doctor)
  echo "mending $1: $command"
  eval "$command" || fail
  ask
  # One that is still there wants something else done.
  grep -A 1 "^warning  $1 " /tmp/doctor | grep -qF "$command" && fail
  true
}

# Exit code 2, and one line with these words.
refused() {
  words=$1
  shift
  what="refused: $*"
  said=$("$@" 2>&1)
  [ $? = 2 ] || fail
  echo "$said"
  [ "$(echo "$said" | wc -l)" = 1 ] && echo "$said" | grep -qF "$words" || fail
}

# From a guest with all modules inserted to one that has them as a machine has: in its folder, loaded when wanted.
load_modules_on_demand() {
  folder=/lib/modules/$(uname -r)
  mkdir -p "$folder"
  mv /lib/modules/*.ko "$folder"
  depmod
  rmmod vfio_pci vfio_pci_core vfio_iommu_type1 vfio || fail
}
