#!/bin/sh
# busybox udhcpc calls this script with the lease that it got (networking/udhcp): configures the interface. This guest has
# no other network whose settings would have to be kept.
bb=/bin/busybox
[ "$1" = bound ] || exit 0
$bb ip addr add "$ip/${mask:-24}" dev "$interface"
for gateway in $router; do
  $bb ip route add default via "$gateway" dev "$interface" && break
done
[ -n "$dns" ] || exit 0
$bb rm -f /etc/resolv.conf
for server in $dns; do echo "nameserver $server"; done > /etc/resolv.conf
