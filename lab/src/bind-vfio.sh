#!/bin/sh
# bind-vfio ADDRESS...: hands PCI devices to vfio-pci, as the kernel's documentation of VFIO says.
set -e
. /lib/script.sh
# One that was plugged in a moment ago may be there before it takes a driver.
bound() {
  echo $address > /sys/bus/pci/drivers_probe
  test "$(basename $(readlink -f $device/driver))" = vfio-pci
}
for address in "$@"; do
  device=/sys/bus/pci/devices/$address
  echo vfio-pci > $device/driver_override
  if [ -e $device/driver ]; then echo $address > $device/driver/unbind; fi
  wait_until bound
done
