//! `sumac doctor` in guests that are broken on purpose: it names what is wrong, and what it prints mends it.
//! `sumac bind`, `unbind` and `hugepages`, where there is something to bind.
//!
//! Each guest runs its script with [`SHELL`] before it. Commands that doctor prints are run as they are printed.

use std::path::Path;

use serde_json::json;
use sumac_lab::{Image, Lab, Machine, Program, Served, Slot};

/// What the scripts are made of.
const SHELL: &str = include_str!("doctor.sh");

/// A guest with `sumac`, and with what people have whom `sumac doctor` tells to type something.
fn image<'lab>(lab: &'lab Lab, script: &str) -> Image<'lab> {
    let mut image = Image::new(lab);
    image.program(&Program::built("sumac"));
    image.program(&Program::at("/usr/bin/prlimit"));
    image.file("bin/sudo", 0o755, "#!/bin/sh\nexec \"$@\"\n");
    image.file(
        "etc/default/grub",
        0o644,
        "GRUB_CMDLINE_LINUX=\"quiet intel_iommu=off\"\n",
    );
    image.file("bin/update-grub", 0o755, UPDATE_GRUB);
    image.modules(&["e1000e", "nvme", "vfio-pci", "vfio_iommu_type1"]);
    image.modules(&["uio_pci_generic"]);
    image.script(&format!("{SHELL}\n{script}"));
    image
}

/// Starts with these words the next time; a test boots the next guest.
const UPDATE_GRUB: &str =
    "#!/bin/sh\n. /etc/default/grub\necho \"next start: $GRUB_CMDLINE_LINUX\"\n";

/// Two functions of one slot, so in one group.
fn card(machine: &mut Machine) -> Slot {
    let first = json!({ "driver": "e1000e", "addr": "0.0", "multifunction": true });
    let card = machine.device(first);
    let second = json!({ "driver": "e1000e", "bus": "port1", "addr": "0.1" });
    machine.arguments(["-device".to_owned(), second.to_string()]);
    card
}

/// The options that `sumac doctor` prints for QEMU, as arguments; the machine type is right already.
fn qemu_options(text: &str) -> Vec<&str> {
    let line = text
        .lines()
        .find_map(|line| line.trim().strip_prefix("qemu-system-x86_64 "));
    let words: Vec<&str> = line.expect("QEMU's options").split(' ').collect();
    let device = words
        .iter()
        .position(|word| *word == "-device")
        .expect("a device");
    assert!(
        words[..device].contains(&"q35,kernel-irqchip=split"),
        "{words:?}"
    );
    words[device..device + 2].to_vec()
}

#[test]
fn doctor_mends_guests_without_an_iommu_then_all_else() {
    let Some(lab) = Lab::open("doctor_mends_guests_without_an_iommu_then_all_else") else {
        return;
    };
    // There is none in the machine: QEMU's command line has to change.
    let mut machine = Machine::new();
    let slot = card(&mut machine);
    let image_of = |script: &str| image(&lab, &format!("card={}\n{script}", slot.address));
    let bare = machine.boot(&lab, &image_of(NO_IOMMU)).finish();
    bare.assert_code(0);

    // There is one, and the kernel is told not to use it: its command line has to change.
    machine.arguments(qemu_options(&bare.text));
    let mut off = machine.clone();
    off.kernel_option("intel_iommu=off");
    let unused = off.boot(&lab, &image_of(UNUSED_IOMMU)).finish();
    unused.assert_code(0);

    // Both as doctor said; then everything else that can be wrong, one after the other.
    let words = unused.value("next start:").expect("a command line");
    assert!(!words.contains("iommu"), "{words}");
    words.split_whitespace().for_each(|word| {
        machine.kernel_option(word);
    });
    let ended = machine.boot(&lab, &image_of(BROKEN)).finish();
    ended.assert_code(0);
    assert!(ended.text.contains("all mended"), "{}", ended.text);
}

const NO_IOMMU: &str = "
one_by_one 'a machine without an IOMMU'
expect_first iommu 'this virtual machine has none'
";

const UNUSED_IOMMU: &str = "
one_by_one 'an IOMMU that the kernel does not use'
expect_first iommu 'switched off by .intel_iommu=off.'
reboot() { echo 'a reboot follows'; }
eval \"$command\" || fail
";

const BROKEN: &str = "
other=${card%0}1
load_modules_on_demand

broken 'modules not loaded'
mends vfio driver group

broken 'the wrong driver'
sumac unbind $card || fail
[ $(driver $card) = e1000e ] || fail
mends driver

broken 'a driver that is for machines without an IOMMU'
refused 'an IOMMU translates for it' sumac bind --unsafe-noiommu $card
what='a driver that is for machines without an IOMMU'
rm /run/sumac/bound/$card
echo $card > /sys/bus/pci/drivers/vfio-pci/unbind
echo uio_pci_generic > /sys/bus/pci/devices/$card/driver_override
echo $card > /sys/bus/pci/drivers_probe
[ $(driver $card) = uio_pci_generic ] || fail
mends driver
[ $(driver $card) = vfio-pci ] || fail
sumac unbind $card || fail
[ $(driver $card) = e1000e ] || fail
mends driver

broken 'somebody else in the group'
sumac unbind $other || fail
mends group

broken 'a device that is gone'
echo 1 > /sys/bus/pci/devices/$card/remove
mends device driver

broken 'a device in use'
sleep 1000 < /dev/vfio/$(group $card) &
opened $!
mends 'in use'

broken 'no huge pages'
mends_warning hugepages
sumac hugepages 0 || fail

broken 'an interface that is off'
sumac unbind $card || fail
mends_warning cable
sumac bind $card || fail

who='su user -c'
broken 'a group that is not for the user'
chmod 600 /dev/vfio/$(group $card); chown root /dev/vfio/$(group $card)
ulimit -l unlimited
mends permission
[ \"$(stat -c %U /dev/vfio/$(group $card))\" = user ] || fail

broken 'a container that is not for the user'
chmod 600 /dev/vfio/vfio
mends vfio

broken 'a group without a file'
rm /dev/vfio/$(group $card)
mends permission permission

broken 'too little memory to lock'
ulimit -l 64
mends memlock

broken 'all at once'
sumac unbind $card $other || fail
chmod 600 /dev/vfio/vfio
ulimit -l 64
mends vfio memlock driver group
echo all mended
";

#[test]
fn doctor_mends_interrupts_that_are_not_remapped() {
    let Some(lab) = Lab::open("doctor_mends_interrupts_that_are_not_remapped") else {
        return;
    };
    let mut machine = Machine::new();
    machine.kernel_option("intel_iommu=on");
    machine.arguments(["-device", "intel-iommu,intremap=off,caching-mode=on"]);
    let slot = card(&mut machine);
    let script = format!("card={}\nmends interrupts driver group\n", slot.address);
    machine
        .boot(&lab, &image(&lab, &script))
        .finish()
        .assert_code(0);
}

#[test]
fn bind_and_unbind_restore_drivers_and_refuse_what_is_needed() {
    let Some(lab) = Lab::open("bind_and_unbind_restore_drivers_and_refuse_what_is_needed") else {
        return;
    };
    let disk = tempfile::NamedTempFile::new().expect("a temporary file");
    disk.as_file().set_len(16 << 20).expect("room for it");
    let mut machine = Machine::new();
    machine.iommu(48);
    let slot = card(&mut machine);
    let disk = machine.nvme(disk.path());
    let script = format!("card={}\ndisk={}\n{BINDING}", slot.address, disk.address);
    let mut image = image(&lab, &script);
    // A checkout in which everything is built.
    image.folder("checkout/scripts", root().join("scripts"));
    image.link("checkout/target/release/sumac", "/bin/sumac");
    image.file("bin/cargo", 0o755, "#!/bin/sh\n");
    machine.boot(&lab, &image).finish().assert_code(0);
}

fn root() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().expect("the crate is in the workspace")
}

const BINDING: &str = r#"
other=${card%0}1
load_modules_on_demand
sumac devices
sumac devices | grep -q "$card  8086:10d3  Ethernet controller  e1000e .* eth[01] (down)" || fail

# Whoever is not root is told so, and nothing changes.
said=$(su user -c "sumac bind $card" 2>&1); [ $? = 1 ] || fail
[ $(driver $card) = e1000e ] || fail

# There and back, several times; the module comes by itself.
for round in 1 2 3; do
  sumac bind --user user $card || fail
  [ $(driver $card) = vfio-pci ] || fail
  [ "$(cat /run/sumac/bound/$card)" = e1000e ] || fail
  [ "$(stat -c %U /dev/vfio/$(group $card))" = user ] || fail
  sumac unbind $card || fail
  [ $(driver $card) = e1000e ] || fail
  [ ! -e /run/sumac/bound/$card ] || fail
  [ ! -e /dev/vfio/$(group $card) ] || fail
  [ "$(cat /sys/bus/pci/devices/$card/driver_override)" = "(null)" ] || fail
done
sumac devices | grep -q "$card .* e1000e .* eth" || fail

# What else is in the group is told, and bound on request.
said=$(sumac bind $card 2>&1) || fail
echo "$said" | grep -q "also holds $other with e1000e: .sumac bind --group $card" || fail
sumac bind --group $card || fail
[ $(driver $other) = vfio-pci ] || fail
sumac bind $card | grep -q "with vfio-pci already" || fail

# Who has it open keeps it.
sleep 1000 < /dev/vfio/$(group $card) &
holder=$!
opened $holder
refused "in use by process $holder (sleep)" sumac unbind $card
kill $holder
wait $holder
sumac unbind $card $other || fail
refused "nothing to undo" sumac unbind $card

# A driver nobody remembers: whichever fits.
sumac bind $card || fail
rm /run/sumac/bound/$card
sumac unbind $card || fail
[ $(driver $card) = e1000e ] || fail

# One that had none gets none.
echo $card > /sys/bus/pci/drivers/e1000e/unbind
sumac bind $card && sumac unbind $card || fail
[ ! -e /sys/bus/pci/devices/$card/driver ] || fail
echo $card > /sys/bus/pci/drivers_probe

# The way out of the machine, also through a bridge; only by force.
interface=$(ls /sys/bus/pci/devices/$card/net)
ip link set $interface up
ip addr add 192.0.2.1/24 dev $interface
ip route add default via 192.0.2.2
refused "default route goes through its interface $interface" sumac bind $card
[ $(driver $card) = e1000e ] || fail
sumac bind --force $card || fail
sumac unbind $card || fail
interface=$(ls /sys/bus/pci/devices/$card/net)
ip link set $interface up
ip addr add 2001:db8::1/64 dev $interface
ip route add default via 2001:db8::2 dev $interface
refused "default route goes through its interface $interface" sumac bind $card

# A disk in use.
mkswap /dev/nvme0n1 > /dev/null && swapon /dev/nvme0n1 || fail
refused "its disk nvme0n1 is in use (swap)" sumac bind $disk
swapoff /dev/nvme0n1
sumac bind $disk || fail
sumac unbind $disk || fail
[ $(driver $disk) = nvme ] || fail

# Nothing there.
refused "no such PCI device" sumac bind 0000:77:00.0

# Huge pages come and go.
sumac hugepages --for-pool 4096 | grep -q '^0 .* 2M .* 6 .* 6 .* 0 .* 0$' || fail
sumac hugepages --for-pool 4096 | grep -q '^0 .* 2M .* 6 .* 6 .* 0 .* 0$' || fail
sumac hugepages 10 --node 0 | grep -q '^0 .* 2M .* 10 ' || fail
refused 'more than nine tenths' sumac hugepages 1000
sumac hugepages 0 | grep -q '^0 .* 2M .* 0 .* 0 ' || fail
grep 'HugePages_Total: *0' /proc/meminfo || fail

# The same by the scripts, from anywhere; there is no default route any more.
what='the scripts'
ip link set $interface down
sh /checkout/scripts/setup-hugepages.sh 8192 | grep -q '^0 .* 2M .* 10 .* 10 ' || fail
sh /checkout/scripts/bind-vfio.sh $card $other > /tmp/doctor || fail
cat /tmp/doctor
grep -q "^$card: from e1000e to vfio-pci (/dev/vfio/$(group $card), for 0)" /tmp/doctor || fail
grep -q '^nothing in the way' /tmp/doctor || fail
[ $(driver $card) = vfio-pci ] && [ $(driver $other) = vfio-pci ] || fail
sh /checkout/scripts/bind-vfio.sh --undo $card $other || fail
[ $(driver $card) = e1000e ] && [ $(driver $other) = e1000e ] || fail
SUDO_UID=1000 sh /checkout/scripts/bind-vfio.sh $card $other || fail
[ "$(stat -c %U /dev/vfio/$(group $card))" = user ] || fail
refused 'no such PCI device' sh /checkout/scripts/bind-vfio.sh 0000:77:00.0
sh /checkout/scripts/setup-hugepages.sh 0 | grep -q '^0 .* 2M .* 0 .* 0 ' || fail
for script in bind-vfio setup-hugepages; do
  sh /checkout/scripts/$script.sh --help | grep -q '^A front door to .sumac' || fail
done
said=$(sh /checkout/scripts/bind-vfio.sh 2>&1) && fail
echo "$said" | grep -q '^Gives network cards' || fail
echo bound and unbound
"#;

/// What `sumac doctor` says of a card that l2fwd drives is what l2fwd finds, for an ordinary user.
#[test]
fn doctor_and_l2fwd_agree() {
    let Some(lab) = Lab::open("doctor_and_l2fwd_agree") else {
        return;
    };
    let served = Served::cards(&["id=10fb,gen,rate=1000pps"]);
    let mut machine = Machine::new();
    machine.iommu(48);
    let slot = machine.vfio_user(&served.socket(0));
    let mut image = image(&lab, &format!("card={}\n{AGREE}", slot.address));
    image.modules(&["ixgbe"]);
    image.program(&Program::built("l2fwd"));
    let ended = machine.boot(&lab, &image).finish();
    ended.assert_code(0);
    assert!(ended.text.contains("agreed"), "{}", ended.text);
}

const AGREE: &str = r#"
load_modules_on_demand
ip link set eth0 up
has_link() {
  ask
  grep '^ok       cable       eth0 (10000 Mbit/s), 10GBASE-SR' /tmp/doctor
}
wait_until has_link
grep -q '^ok       device      82599 SFP+ (X520) (8086:10fb)' /tmp/doctor || fail
sumac devices
mends_warning hugepages

who='su user -c'
ulimit -l unlimited
forwards() {
  $who "l2fwd $card --isolation driver --duration 300ms --json" > /tmp/l2fwd 2>&1
  forwarded=$?
  grep -v '^[ {}]' /tmp/l2fwd
  return $forwarded
}
# Before it is mended l2fwd refuses the card, and then it takes it.
agree() {
  forwards
  [ $forwarded = 2 ] || fail
  mends "$@"
  grep -q '^all is well' /tmp/doctor || fail
  forwards || { cat /tmp/l2fwd; fail; }
}

broken 'as found: no modules, the driver of the kernel'
agree vfio driver

broken 'a group that is not for the user'
chown root /dev/vfio/$(group $card)
agree permission

broken 'a container that is not for the user'
chmod 600 /dev/vfio/vfio
agree vfio

broken 'too little memory to lock'
ulimit -l 64
agree memlock

broken 'a device in use'
$who "exec l2fwd $card --isolation driver --duration 1h" > /dev/null 2>&1 &
opened $!
agree 'in use'

sumac unbind $card || fail
[ $(driver $card) = ixgbe ] || fail
echo agreed
"#;
