#!/bin/sh
# First program of the guest. Lies on a read-only share that the kernel's command line mounts at /run; the root is the
# host's, read-only. Puts one overlay over all of it, mounts what a userspace expects, runs the commands with streams
# and status on ports of their own, and powers off. From "commands" on it uses nothing but builtins and processes
# that run already, so that it can still report when the commands have removed every file.
#
# usage: init.sh (as PID 1), then itself again inside the overlay with the word "inside"

# one static program in place of a dozen dynamic ones: half of the boot under emulation
bb=
[ -x /bin/busybox ] && bb=/bin/busybox

if [ "$1" != inside ]; then
  # settings made by the host: KC_... variables
  . /run/settings
  # /tmp is only a place to stand until the overlay is there
  $bb mount -n -t tmpfs -o mode=755 kernelcraft /tmp || exec echo "kernelcraft: no tmpfs"
  $bb mkdir /tmp/upper /tmp/work /tmp/root
  if ! $bb mount -n -t overlay -o "${KC_NOSUID:+nosuid,}lowerdir=/,upperdir=/tmp/upper,workdir=/tmp/work" overlay /tmp/root; then
    echo "kernelcraft: no overlay over the root; the kernel needs CONFIG_OVERLAY_FS and CONFIG_TMPFS_XATTR"
    exit 1
  fi
  $bb mount -n -t tmpfs -o mode=755 tmpfs /tmp/root/run
  $bb mkdir /tmp/root/run/kernelcraft /tmp/root/run/lock
  $bb mount -n --move /run /tmp/root/run/kernelcraft
  $bb mount -n -t proc proc /tmp/root/proc
  $bb mount -n -t sysfs sysfs /tmp/root/sys
  $bb mount -n --move /dev /tmp/root/dev 2>/dev/null || $bb mount -n -t devtmpfs devtmpfs /tmp/root/dev
  # moved over the old root, not only entered: user namespaces cannot be made from inside a chroot (user_namespaces(7))
  cd /tmp/root || exit 1
  $bb mount -n --move . / && exec $bb chroot . /bin/sh /run/kernelcraft/init.sh inside
fi

cd /
share=/run/kernelcraft
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin

# the ports, by name: there is no udev
for port in /sys/class/virtio-ports/*; do
  [ -r "$port/name" ] || continue
  read -r name < "$port/name"
  eval "port_${name##*.}=/dev/${port##*/}"
done
exec 3> "$port_control"
read -r release < /proc/sys/kernel/osrelease
echo "init $release" >&3

# what has a mount point is mounted, what the kernel lacks is left out
$bb mkdir -p /dev/pts /dev/shm
$bb mount -n -t devpts -o gid=5,mode=620,ptmxmode=666 devpts /dev/pts
$bb mount -n -t tmpfs -o mode=1777 tmpfs /dev/shm
[ -d /sys/fs/cgroup ] && $bb mount -n -t cgroup2 cgroup2 /sys/fs/cgroup
[ -d /sys/kernel/debug ] && $bb mount -n -t debugfs debugfs /sys/kernel/debug
[ -d /sys/kernel/tracing ] && $bb mount -n -t tracefs tracefs /sys/kernel/tracing
[ -d /sys/fs/bpf ] && $bb mount -n -t bpf bpf /sys/fs/bpf
[ -d /sys/kernel/config ] && $bb mount -n -t configfs configfs /sys/kernel/config
[ -d /sys/kernel/security ] && $bb mount -n -t securityfs securityfs /sys/kernel/security
[ -e /dev/fd ] || $bb ln -s /proc/self/fd /dev/fd
[ -e /dev/stdin ] || $bb ln -s /proc/self/fd/0 /dev/stdin
[ -e /dev/stdout ] || $bb ln -s /proc/self/fd/1 /dev/stdout
[ -e /dev/stderr ] || $bb ln -s /proc/self/fd/2 /dev/stderr

. "$share/settings"

# a working directory under /tmp stays visible through the tmpfs that hides the rest
case "$KC_DIRECTORY/" in
  /tmp/?*)
    $bb mkdir -p "$share-tmp"
    $bb mount -n --bind "$KC_DIRECTORY" "$share-tmp" && kept=1
    ;;
esac
$bb mount -n -t tmpfs -o mode=1777 tmpfs /tmp
if [ -n "$kept" ]; then
  $bb mkdir -p "$KC_DIRECTORY" && $bb mount -n --move "$share-tmp" "$KC_DIRECTORY"
fi

# masks, where the host could not lay them below the export
if [ -n "$KC_MASKS" ]; then
  while IFS= read -r masked; do
    if [ -d "$masked" ]; then $bb mount -n -t tmpfs -o mode=700,size=4k masked "$masked"
    elif [ -e "$masked" ]; then $bb mount -n --bind /dev/null "$masked"
    fi
  done < "$share/masks"
fi

if [ -n "$KC_MODULES" ]; then
  $bb mkdir -p "/lib/modules/$release"
  $bb mount -n -t 9p -o ro,trans=virtio,version=9p2000.L,msize=512000,cache=loose kcmodules "/lib/modules/$release"
fi

# further directories of the host; what is mounted at a place below one is mounted after it
while read -r tag mode place; do
  $bb mkdir -p "$place"
  $bb mount -n -t 9p -o "$mode,trans=virtio,version=9p2000.L,msize=512000,cache=mmap" "$tag" "$place" ||
    echo "kernelcraft: $place could not be mounted" > /dev/kmsg
done < "$share/shares"

read -r hostname < "$share/hostname" && echo "$hostname" > /proc/sys/kernel/hostname
$bb ip link set lo up 2>/dev/null
# QEMU's user network has its resolver at a fixed place
if [ -n "$KC_RESOLVER" ]; then
  $bb rm -f /etc/resolv.conf
  echo "nameserver $KC_RESOLVER" > /etc/resolv.conf
fi
# on a bridge of the host, whoever gives addresses there gives one to the guest
if [ -n "$KC_DHCP" ]; then
  $bb ip link set eth0 up
  [ -n "$bb" ] && $bb udhcpc -i eth0 -n -q -t 4 -T 2 -s "$share/dhcp.sh" > /dev/null 2>&1 ||
    echo "kernelcraft: eth0 has no address: nobody gave one (DHCP), or there is no busybox to ask" > /dev/kmsg
fi

# commands in a control group of their own, so that what they leave behind can be ended in one write
group=/sys/fs/cgroup/kernelcraft
$bb mkdir "$group" 2>/dev/null || group=
# opened now: the commands may take /proc and /sys away
exec 4> /proc/sysrq-trigger
if [ -n "$group" ]; then exec 5> "$group/cgroup.kill"; else exec 5> /dev/null; fi

# External modules under test, in their order. The addresses of their code are told while they are known: what is found
# to be lost after a module was removed was allocated by code that has no name any more.
leaks=/sys/kernel/debug/kmemleak
loaded=
refused=
status=
load_modules() {
  [ -e "$leaks" ] && echo clear > "$leaks"
  while read -r module; do
    echo "kernelcraft: loading $module" > /dev/kmsg
    if words=$($bb modprobe "$module" 2>&1) && [ -d "/sys/module/$module" ]; then
      echo "loaded $module" >&3
      loaded="$module $loaded"
      for section in .text .init.text .exit.text; do
        [ -r "/sys/module/$module/sections/$section" ] || continue
        # in one read: the kernel gives no second part of it
        echo "section $module $section $($bb cat "/sys/module/$module/sections/$section")" >&3
      done
    else
      # word splitting makes one line of it
      echo refused "$module" $words >&3
      refused=1
      return
    fi
  done < "$share/modules"
}
remove_modules() {
  # what the commands left behind may hold them
  echo 1 >&5
  for module in $loaded; do
    # the commands may have done it
    [ -d "/sys/module/$module" ] || continue
    echo "kernelcraft: removing $module" > /dev/kmsg
    words=$($bb rmmod "$module" 2>&1) || echo stuck "$module" $words >&3
  done
  [ -e "$leaks" ] || return
  # kmemleak reports nothing that is younger than five seconds, and nothing that has changed since its last look
  $bb sleep 5.5
  echo scan > "$leaks"
  echo scan > "$leaks"
  while IFS= read -r line; do echo "leak $line" >&3; done < "$leaks"
}
# What the host asks for while the guest runs, a line each: `size NUMBER ROWS COLUMNS` for a terminal's window,
# `attach NUMBER ROWS COLUMNS TERM COLORTERM` for one more shell on a console of its own (kc attach), `leave NUMBER` when
# nobody sits at that console any more. Number 0 is the terminal of the commands.
attend() {
  while read -r word number rows columns type colours; do
    terminal=/dev/hvc$((KC_HVC + number))
    case $word in
      size) $bb stty -F "$terminal" rows "$rows" cols "$columns" ;;
      attach)
        attach &
        eval "shell_$number=$!"
        ;;
      leave) eval "kill -s HUP \"\$shell_$number\"" 2>/dev/null ;;
    esac
  done < "$port_attach"
}
attach() {
  # a console that was plugged in just now is not there at once
  tries=0
  until (: < "$terminal") 2>/dev/null; do
    tries=$((tries + 1))
    if [ "$tries" = 50 ]; then
      echo "left $number" >&3
      return
    fi
    $bb sleep 0.1
  done
  # what a shell starts with & is deaf to Ctrl-C for good, unless somebody gives it its ears back
  hear=
  env --default-signal=INT,QUIT true 2>/dev/null && hear='env --default-signal=INT,QUIT'
  (
    exec 3>&- 4>&- 5>&-
    exec < "$terminal" > "$terminal" 2>&1
    # set while it is open: the last close forgets the size
    $bb stty sane rows "$rows" cols "$columns" iutf8
    export TERM="$type" ${colours:+COLORTERM="$colours"}
    exec $hear $bb setsid -c /bin/sh "$share/attach.sh"
  ) &
  shell=$!
  trap 'kill -s HUP "$shell"' HUP
  echo "attached $number" >&3
  wait "$shell"
  code=$?
  # a hang-up ends the wait, not yet the shell
  while kill -s 0 "$shell" 2>/dev/null; do
    wait "$shell"
    code=$?
  done
  echo "left $number $code" >&3
}
attend 4>&- 5>&- &

if [ -n "$KC_LOAD" ]; then
  echo commands >&3
  load_modules
fi

if [ -n "$refused" ]; then
  : # the commands are about modules that are not there
elif [ -n "$KC_TERMINAL" ]; then
  terminal=/dev/hvc$KC_HVC
  echo commands >&3
  (
    [ -n "$group" ] && echo 0 > "$group/cgroup.procs"
    exec 3>&- 4>&- 5>&-
    exec < "$terminal" > "$terminal" 2>&1
    # set while it is open: the last close forgets the size
    $bb stty sane rows "$KC_ROWS" cols "$KC_COLUMNS" iutf8
    exec $bb setsid -c /bin/sh "$share/run.sh"
  )
  status=$?
  [ -n "$loaded" ] && remove_modules
else
  # Pipes in between: a port can be opened once only, and commands reopen /dev/stdout.
  $bb mkfifo -m 600 "$share-out" "$share-err"
  $bb cat < "$share-out" > "$port_stdout" 3>&- &
  out=$!
  $bb cat < "$share-err" > "$port_stderr" 3>&- &
  err=$!
  echo commands >&3
  (
    [ -n "$group" ] && echo 0 > "$group/cgroup.procs"
    exec 3>&- 4>&- 5>&-
    exec $bb setsid /bin/sh "$share/run.sh" < /dev/null > "$share-out" 2> "$share-err"
  )
  status=$?
  [ -n "$loaded" ] && remove_modules
  echo "ended $status" >&3
  # What still holds the pipes would keep them from ending. Whatever left the group, the host waits for only so long.
  echo 1 >&5
  wait "$out" "$err"
fi

[ -n "$status" ] && echo "status $status" >&3
echo o >&4
# power-off happens in a work queue, and PID 1 must not end before it
while :; do $bb sleep 1000; done 2>/dev/null
