#!/bin/sh
# First program of the guest. It is on a read-only share that the kernel's command line mounts at /run; the root is the
# host's, read-only. Mounts one overlay over all of it and what a userspace expects, runs the commands with streams
# and status on ports of their own, and powers off. From "commands" on it uses nothing but builtins and processes
# that run already, so that it can still report when the commands have removed every file.
#
# usage: init.sh (as PID 1), which starts itself again inside the overlay with the argument "inside"
#
# Reports to the host, a line each on the control port (control-port.ts, console-state.ts):
#   init RELEASE, commands, ended STATUS, status STATUS
#   loaded MODULE, refused MODULE OUTPUT, section MODULE NAME ADDRESS, stuck MODULE OUTPUT, leak LINE
#   attached NUMBER, detached NUMBER [STATUS]

# one static program in place of a dozen dynamic ones halves the time to boot under emulation
bb=
[ -x /bin/busybox ] && bb=/bin/busybox

if [ "$1" != inside ]; then
  # settings written by the host: KC_... variables
  . /run/settings
  # /tmp holds the overlay's directories until the root is replaced
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
  # moved over the old root, not only entered: user namespaces cannot be created inside a chroot (user_namespaces(7))
  cd /tmp/root || exit 1
  $bb mount -n --move . / && exec $bb chroot . /bin/sh /run/kernelcraft/init.sh inside
fi

cd /
share=/run/kernelcraft
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin

# find the ports by their names: there is no udev
for port in /sys/class/virtio-ports/*; do
  [ -r "$port/name" ] || continue
  read -r name < "$port/name"
  eval "port_${name##*.}=/dev/${port##*/}"
done
exec 3> "$port_control"
read -r release < /proc/sys/kernel/osrelease
echo "init $release" >&3

# file systems that the kernel lacks have no mount point and are left out
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

# masks, where the host could not mount them below the export
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

# the user's shares, parents before what is mounted below them
while read -r tag mode directory; do
  $bb mkdir -p "$directory"
  $bb mount -n -t 9p -o "$mode,trans=virtio,version=9p2000.L,msize=512000,cache=mmap" "$tag" "$directory" ||
    echo "kernelcraft: $directory could not be mounted" > /dev/kmsg
done < "$share/shares"

read -r hostname < "$share/hostname" && echo "$hostname" > /proc/sys/kernel/hostname
$bb ip link set lo up 2>/dev/null
# QEMU's user network has its DNS server at a fixed address
if [ -n "$KC_RESOLVER" ]; then
  $bb rm -f /etc/resolv.conf
  echo "nameserver $KC_RESOLVER" > /etc/resolv.conf
fi
# on a bridge of the host, the DHCP server of its network assigns the guest's address
if [ -n "$KC_DHCP" ]; then
  $bb ip link set eth0 up
  [ -n "$bb" ] && $bb udhcpc -i eth0 -n -q -t 4 -T 2 -s "$share/dhcp.sh" > /dev/null 2>&1 ||
    echo "kernelcraft: eth0 has no address: no DHCP server answered, or there is no busybox with a DHCP client" > /dev/kmsg
fi

# commands run in a control group of their own, so that processes that they leave behind can be killed by one write
group=/sys/fs/cgroup/kernelcraft
$bb mkdir "$group" 2>/dev/null || group=
# opened now: the commands may unmount /proc and /sys
exec 4> /proc/sysrq-trigger
if [ -n "$group" ]; then exec 5> "$group/cgroup.kill"; else exec 5> /dev/null; fi

# External modules under test, in their order. The addresses of their code are reported while the kernel knows them: a
# leak that is found after a module was removed was allocated by code whose symbols are gone.
leaks=/sys/kernel/debug/kmemleak
loaded=
refused=
status=
load_modules() {
  [ -e "$leaks" ] && echo clear > "$leaks"
  while read -r module; do
    echo "kernelcraft: loading $module" > /dev/kmsg
    if output=$($bb modprobe "$module" 2>&1) && [ -d "/sys/module/$module" ]; then
      echo "loaded $module" >&3
      loaded="$module $loaded"
      for section in .text .init.text .exit.text; do
        [ -r "/sys/module/$module/sections/$section" ] || continue
        # in one read: the kernel does not return the rest in a second one
        echo "section $module $section $($bb cat "/sys/module/$module/sections/$section")" >&3
      done
    else
      # unquoted: word splitting joins the lines
      echo refused "$module" $output >&3
      refused=1
      return
    fi
  done < "$share/modules"
}
remove_modules() {
  # processes that the commands left behind may use the modules
  echo 1 >&5
  for module in $loaded; do
    # the commands may have removed it
    [ -d "/sys/module/$module" ] || continue
    echo "kernelcraft: removing $module" > /dev/kmsg
    output=$($bb rmmod "$module" 2>&1) || echo stuck "$module" $output >&3
  done
  [ -e "$leaks" ] || return
  # kmemleak reports nothing that is younger than five seconds, and nothing that has changed since its last scan
  $bb sleep 5.5
  echo scan > "$leaks"
  echo scan > "$leaks"
  while IFS= read -r line; do echo "leak $line" >&3; done < "$leaks"
}
# Requests of the host while the guest runs, a line each (guest-requests.ts): `size NUMBER ROWS COLUMNS` sets the window
# size of a console, `attach NUMBER ROWS COLUMNS TERM COLORTERM` opens a shell on a console of its own (kc attach),
# `detach NUMBER` ends it. Number 0 is the console of the commands.
serve_requests() {
  while read -r verb number rows columns term colorterm; do
    terminal=/dev/hvc$((KC_HVC + number))
    case $verb in
      size) $bb stty -F "$terminal" rows "$rows" cols "$columns" ;;
      attach)
        attach_shell &
        eval "shell_$number=$!"
        ;;
      detach) eval "kill -s HUP \"\$shell_$number\"" 2>/dev/null ;;
    esac
  done < "$port_requests"
}
attach_shell() {
  # the device of a console that was just plugged in appears a little later
  tries=0
  until (: < "$terminal") 2>/dev/null; do
    tries=$((tries + 1))
    if [ "$tries" = 50 ]; then
      echo "detached $number" >&3
      return
    fi
    $bb sleep 0.1
  done
  # a shell starts what runs with & with SIGINT and SIGQUIT ignored, which children inherit: restore them for Ctrl-C
  reset_signals=
  env --default-signal=INT,QUIT true 2>/dev/null && reset_signals='env --default-signal=INT,QUIT'
  (
    exec 3>&- 4>&- 5>&-
    exec < "$terminal" > "$terminal" 2>&1
    # set while it is open: the kernel forgets the size at the last close
    $bb stty sane rows "$rows" cols "$columns" iutf8
    export TERM="$term" ${colorterm:+COLORTERM="$colorterm"}
    exec $reset_signals $bb setsid -c /bin/sh "$share/attach.sh"
  ) &
  shell=$!
  trap 'kill -s HUP "$shell"' HUP
  echo "attached $number" >&3
  wait "$shell"
  code=$?
  # SIGHUP interrupts the wait before the shell has ended
  while kill -s 0 "$shell" 2>/dev/null; do
    wait "$shell"
    code=$?
  done
  echo "detached $number $code" >&3
}
serve_requests 4>&- 5>&- &

if [ -n "$KC_LOAD" ]; then
  echo commands >&3
  load_modules
fi

if [ -n "$refused" ]; then
  : # the commands test modules that could not be loaded
elif [ -n "$KC_TERMINAL" ]; then
  terminal=/dev/hvc$KC_HVC
  echo commands >&3
  (
    [ -n "$group" ] && echo 0 > "$group/cgroup.procs"
    exec 3>&- 4>&- 5>&-
    exec < "$terminal" > "$terminal" 2>&1
    # set while it is open: the kernel forgets the size at the last close
    $bb stty sane rows "$KC_ROWS" cols "$KC_COLUMNS" iutf8
    exec $bb setsid -c /bin/sh "$share/run.sh"
  )
  status=$?
  [ -n "$loaded" ] && remove_modules
else
  # FIFOs in between: a port can be opened only once at a time, and commands open /dev/stdout again.
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
  # Processes that hold the FIFOs open would keep them from ending. For those that left the group the host has a timeout.
  echo 1 >&5
  wait "$out" "$err"
fi

[ -n "$status" ] && echo "status $status" >&3
echo o >&4
# power-off happens in a work queue, and PID 1 must not end before it
while :; do $bb sleep 1000; done 2>/dev/null
