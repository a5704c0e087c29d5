//! A guest with two cards on one cable and Linux's driver.

use sumac_lab::{Carried, Ended, Image, Lab, Machine, Served};

/// Functions every script has. The second port is in a network namespace of its own, so that what is sent
/// to it goes over the cable.
const FUNCTIONS: &str = r#"
set -e
say() { echo "test: $*"; }
up() { grep -q 1 /sys/class/net/$1/carrier; }
apart() {
  unshare -n sleep 10000 & APART=$!
  wait_until elsewhere
  HERE_MAC=$(cat /sys/class/net/eth0/address) THERE_MAC=$(cat /sys/class/net/eth1/address)
  /bin/ip link set eth1 netns $APART
  there ip link set lo up
  /bin/ip addr add 10.0.0.1/24 dev eth0
  there /bin/ip addr add 10.0.0.2/24 dev eth1
  /bin/ip link set eth0 up
  there /bin/ip link set eth1 up
  wait_until up eth0
  wait_until ping -c 1 -W 1 10.0.0.2
  # Neighbours that are known for good ask no more who is there: from here on nothing comes unasked.
  known 10.0.0.2 eth0 $THERE_MAC
  there_known 10.0.0.1 eth1 $HERE_MAC
}
elsewhere() { test "$(readlink /proc/$APART/ns/net)" != "$(readlink /proc/self/ns/net)"; }
# known ADDRESS INTERFACE MAC
known() { /bin/ip neigh replace $1 dev $2 lladdr $3 nud permanent; }
there_known() { there /bin/ip neigh replace $1 dev $2 lladdr $3 nud permanent; }
# answered TIMES ADDRESS: each ping has an answer, however late. (A ping that sends several waits no longer for the last
# than others took, or a second.)
answered() { for i in $(seq $1); do ping -q -c 1 -W 60 $2; done; }
there() { nsenter -t $APART -n "$@"; }
# The driver has nothing to complain of.
no_complaints() { ! dmesg | grep ixgbe | grep -i 'hang\|unsupported\|reset adapter\|probe.*failed'; }
# stat NAME: a statistic of eth0's; kept NAME: the same, as it was when all was quiet.
stat() { ethtool -S eth0 | sed -n "s/^ *$1: //p"; }
kept() { sed -n "s/^ *$1: //p" /tmp/kept; }
# Waits until nothing is counted any more for a while, and keeps what was.
quiet() {
  ethtool -S eth0 > /tmp/kept
  wait_until nothing_counted
}
nothing_counted() {
  sleep 2.5
  ethtool -S eth0 > /tmp/now
  if cmp -s /tmp/kept /tmp/now; then return 0; fi
  mv /tmp/now /tmp/kept
  return 1
}
"#;

/// What a guest left behind.
pub struct Outcome {
    pub ended: Ended,
    pub carried: Vec<Carried>,
}

/// Boots a guest with two joined cards that runs `script`; its exit code has to be 0, and no rule broken.
pub fn run(lab: &Lab, script: &str, set_up: impl FnOnce(&mut Machine)) -> Outcome {
    run_on(lab, ["peer=cable", "peer=cable"], script, set_up)
}

/// The same with cards that are plugged into something else.
pub fn run_on(
    lab: &Lab,
    wires: [&str; 2],
    script: &str,
    set_up: impl FnOnce(&mut Machine),
) -> Outcome {
    let cards = Served::cards(&wires);
    let mut machine = Machine::new();
    machine.cores(2).memory_mib(768);
    for port in 0..2 {
        machine.vfio_user(&cards.socket(port));
    }
    // Nothing but what a script asks for is to be on the cable.
    machine.kernel_option("ipv6.disable=1");
    set_up(&mut machine);
    let mut image = Image::new(lab);
    image.modules(&["ixgbe", "8021q"]);
    image.tools(&["ethtool", "ip"]);
    image.script(&format!("{FUNCTIONS}\n{script}"));
    let ended = machine.boot(lab, &image).finish();
    ended.assert_code(0);
    let carried = cards.finish();
    Outcome { ended, carried }
}
