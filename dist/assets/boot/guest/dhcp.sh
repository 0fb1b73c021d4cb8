#!/bin/sh
# What busybox udhcpc calls with the lease that it got (networking/udhcp): puts it to work. There is no other network in
# this guest, so that nothing has to be kept.
bb=/bin/busybox
[ "$1" = bound ] || exit 0
$bb ip addr add "$ip/${mask:-24}" dev "$interface"
for gateway in $router; do
  $bb ip route add default via "$gateway" dev "$interface" && break
done
[ -n "$dns" ] || exit 0
$bb rm -f /etc/resolv.conf
for server in $dns; do echo "nameserver $server"; done > /etc/resolv.conf
