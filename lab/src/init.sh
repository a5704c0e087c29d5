#!/bin/sh
# A guest's first process: file systems, modules, the test's script, its exit code on the console.
export PATH=/bin:/sbin:/usr/bin:/usr/sbin HOME=/root TERM=dumb
chmod 755 /
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mkdir -p /dev/pts /dev/shm /dev/hugepages
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
mount -t hugetlbfs hugetlbfs /dev/hugepages
ln -s /proc/self/fd /dev/fd
stty -echo
ip link set lo up
for module in $(cat /lib/modules/order); do
  insmod "/lib/modules/$module.ko" || echo "lab: $module cannot be inserted"
done

# What there is to know of a script that failed: what runs, what was written, and the kernel.
tell() {
  echo "lab: what runs"
  ps -o pid,stat,args | grep -v ' \['
  for file in /tmp/*; do
    [ -f "$file" ] || continue
    echo "lab: $file ends"
    tail -c 8000 "$file" | tr -cd '\11\12\40-\176' | tail -n 30
    echo
  done
  echo "lab: the kernel's last words"
  dmesg | sed '1,/Run .init as/d' | tail -n 60
}
finish() {
  # On a line of its own, whatever the script or the kernel was writing; and written before the machine is off.
  dmesg -n 1
  echo
  echo "lab: exit code $1"
  stty echo < /dev/console
  poweroff -f
}
# Whoever stops a guest does so without a word.
watch() {
  until read -r up _ < /proc/uptime; [ "${up%.*}" -ge "$LAB_PATIENCE" ]; do sleep 2; done
  echo
  echo "lab: the script goes on after $LAB_PATIENCE s"
  tell
  kill -STOP -1
  finish 124
}

echo "lab: up after $(cut -d' ' -f1 /proc/uptime) s"
if [ -n "$LAB_PATIENCE" ]; then watch & fi
sh /test
code=$?
if [ $code -ne 0 ]; then tell; fi
finish $code
