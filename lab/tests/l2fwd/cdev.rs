//! Cards taken by files of their own, into one address space of iommufd: in guests whose kernel was built to have it.

use sumac_lab::Lab;

use crate::frames::mixed;
use crate::setup::{Cards, REFUSED, assert_same};

/// For scripts: the file of a card alone, and its group.
const FILES: &str = "
own() { echo /dev/vfio/devices/$(ls /sys/bus/pci/devices/$1/vfio-dev); }
group() { basename $(readlink /sys/bus/pci/devices/$1/iommu_group); }
";

/// What l2fwd says of the way it took.
fn ways(text: &str) -> Vec<&str> {
    let lines = text.lines();
    lines
        .filter_map(|line| line.trim().strip_prefix("\"vfio\": "))
        .collect()
}

/// Two cards in one address space, at the addresses that the IOMMU takes: every byte goes through. While a process has
/// them nobody else can, neither in this way nor by their groups, and the other way round.
#[test]
fn l2fwd_takes_cards_by_their_own_files() {
    let Some(lab) = Lab::with_iommufd("l2fwd_takes_cards_by_their_own_files") else {
        return;
    };
    let forth: Vec<_> = std::iter::repeat_with(mixed).take(20).flatten().collect();
    let back = mixed();
    let cards = Cards::with([&forth, &back]);
    let total = forth.len() + back.len();
    let script = format!(
        r#"{REFUSED}{FILES}
        for way in group cdev; do
          SUMAC_VFIO=$way open_device $A $B --map 64 > /tmp/$way
          grep -qx "taken by: $way" /tmp/$way
          grep '^bus addresses' /tmp/$way > /tmp/$way.addresses
        done
        cat /tmp/cdev
        cmp /tmp/group.addresses /tmp/cdev.addresses

        /bin/l2fwd $A $B --isolation driver --no-mac-updating --json --frames {total}

        l2fwd() {{ /bin/l2fwd --isolation driver --json "$@"; }}
        by() {{ SUMAC_VFIO=$1; shift; export SUMAC_VFIO; "$@"; unset SUMAC_VFIO; }}
        began() {{ wait_on $1 grep -E '/dev/vfio/devices|vfio-device' /proc/$1/maps; }}
        /bin/l2fwd $A $B --isolation driver --json &
        first=$!
        began $first
        grep -q "$(own $A)" /proc/$first/maps
        refused "$A: process $first (l2fwd) has it open; end that first" l2fwd $A
        by cdev refused "$B: process $first (l2fwd) has it open; end that first" l2fwd $B
        by group refused "$A: process $first (l2fwd) has its group $(group $A) open; end that first" l2fwd $A
        kill -TERM $first
        wait $first
        SUMAC_VFIO=group /bin/l2fwd $A $B --isolation driver --json &
        first=$!
        began $first
        refused "$A: process $first (l2fwd) has its group $(group $A) open; end that first" l2fwd $A
        by iommu refused "SUMAC_VFIO=iommu: devices are taken by" l2fwd $A
        kill -TERM $first
        wait $first"#
    );
    let guest = cards.boot_with(&lab, &script, |image| {
        image.program(&sumac_lab::Program::example("sumac-linux", "open_device"));
    });
    let outcome = cards.finish(guest);
    let text = &outcome.ended.text;
    assert_eq!(ways(text), [r#""cdev","#, r#""cdev","#, r#""group","#]);
    assert_same(&outcome.sent[1], &forth);
    assert_same(&outcome.sent[0], &back);
    takes_two_cards_of_a_group(&lab);
}

/// Cards of one group are taken like any others, by one process. They are not to be had by two, for each could reach what
/// the other's does.
fn takes_two_cards_of_a_group(lab: &Lab) {
    let frames = mixed();
    let cards = Cards::in_one_slot([&frames, &frames]);
    let total = 2 * frames.len();
    let script = format!(
        r#"{REFUSED}{FILES}
        test $(group $A) = $(group $B)
        /bin/l2fwd $A $B --isolation driver --no-mac-updating --json --frames {total}
        l2fwd() {{ /bin/l2fwd --isolation driver --json "$@"; }}
        by() {{ SUMAC_VFIO=$1; shift; export SUMAC_VFIO; "$@"; unset SUMAC_VFIO; }}
        /bin/l2fwd $A --isolation driver --json &
        first=$!
        wait_on $first grep -e vfio-device -e "$(own $A)" /proc/$first/maps
        for way in cdev group; do
          by $way refused "$B: process $first (l2fwd) has its group $(group $B) open; end that first" l2fwd $B
        done
        refused "$A: process $first (l2fwd) has it open; end that first" l2fwd $A
        kill -TERM $first
        wait $first"#
    );
    let guest = cards.boot(lab, &script);
    let outcome = cards.finish(guest);
    let text = &outcome.ended.text;
    assert_eq!(ways(text), [r#""cdev","#; 2]);
    assert_same(&outcome.sent[1], &frames);
    assert_same(&outcome.sent[0], &frames);
}

/// An ordinary user with the cards' own files, and nothing of their groups, forwards as root does, within the memory that
/// the user may lock. Without `/dev/iommu` groups are taken, where they are the user's.
#[test]
fn an_ordinary_user_takes_cards_by_their_own_files() {
    let Some(lab) = Lab::with_iommufd("an_ordinary_user_takes_cards_by_their_own_files") else {
        return;
    };
    let frames = mixed();
    let cards = Cards::with([&frames, &[]]);
    let script = format!(
        r#"{REFUSED}{FILES}
        as_user() {{ su user -c "$*"; }}
        run="l2fwd $A $B --isolation driver --interrupt --no-mac-updating --json"
        chown user $(own $A) $(own $B)
        refused "$A: no permission for /dev/vfio/$(group $A)" as_user $run
        refused "$A: no permission for /dev/iommu; run" as_user SUMAC_VFIO=cdev $run
        chown user /dev/iommu
        ulimit -l 1024
        refused "this user's processes may lock 1024 KiB in all" as_user $run
        ulimit -l 262144
        as_user $run --frames {}
        chown root /dev/iommu
        chown user /dev/vfio/$(group $A) /dev/vfio/$(group $B)
        as_user $run --duration 1s"#,
        frames.len()
    );
    let guest = cards.boot(&lab, &script);
    let outcome = cards.finish(guest);
    let text = &outcome.ended.text;
    assert_eq!(ways(text), [r#""cdev","#, r#""group","#]);
    assert_same(&outcome.sent[1], &frames);
}
