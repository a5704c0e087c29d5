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
echo "lab: up after $(cut -d' ' -f1 /proc/uptime) s"
sh /test
code=$?
if [ $code -ne 0 ]; then
  echo "lab: the kernel's last words"
  dmesg | sed '1,/Run .init as/d' | tail -n 60
fi
# On a line of its own, whatever the script or the kernel was writing; and written before the machine is off.
dmesg -n 1
echo
echo "lab: exit code $code"
stty echo
poweroff -f
