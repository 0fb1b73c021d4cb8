"""The locks that blocked tasks wait for, and their owners."""

import re

from drgn import ObjectAbsentError, get_default_prog
from drgn.helpers.linux.locking import mutex_owner, rwsem_owner
from frames import attempt

prog = get_default_prog()

MAX_LOCK_BYTES = 512


def comm_of(task):
    return task.comm.string_().decode(errors="backslashreplace")


# function, name of its variable with the lock, function that finds the owner, kind of lock
LOCKS = [
    (re.compile(r"^(__)?mutex_lock"), "lock", mutex_owner, "mutex"),
    (re.compile(r"^(__)?ww_mutex_lock"), "lock", lambda lock: mutex_owner(lock.base.address_of_()), "ww_mutex"),
    (re.compile(r"^(__)?(rwsem_)?down_(read|write)"), "sem", rwsem_owner, "rwsem"),
    (re.compile(r"^(__)?(do_)?wait_for_common|^wait_for_completion"), "x", None, "completion"),
    (re.compile(r"^folio_wait_bit_common|^__folio_lock"), "folio", None, "folio"),
]


def awaited_lock(frames):
    """The lock that a blocked task waits for, from the variables of its frames; None if it is unknown."""
    for frame in frames:
        for pattern, variable, owner, kind in LOCKS:
            if not pattern.match(frame.name or ""):
                continue
            try:
                lock = frame[variable].read_()
                address = lock.value_()
            except (KeyError, ObjectAbsentError, TypeError):
                continue
            if not address:
                continue
            symbol = attempt(lambda: prog.symbol(address))
            offset = address - symbol.address if symbol else 0
            name = f"{symbol.name}{f'+{offset:#x}' if offset else ''}" if symbol else f"{address:#x}"
            facts = {"kind": kind, "lock": name, "address": f"{address:#x}", "owner": None}
            task = attempt(lambda: owner(lock)) if owner else None
            if task:
                pid = attempt(task.pid.value_)
                if pid is not None:
                    facts["owner"] = {"pid": pid, "comm": comm_of(task)}
            return facts
    return None


def deadlocks(blocked):
    """Cycles of tasks of which each waits for the next one, as lists of PIDs."""
    waits = {
        facts["pid"]: facts["waits"]["owner"]["pid"]
        for facts in blocked
        if facts["waits"] and facts["waits"]["owner"]
    }
    cycles = []
    done = set()
    for first in waits:
        path = []
        pid = first
        while pid in waits and pid not in done:
            done.add(pid)
            path.append(pid)
            pid = waits[pid]
        if pid in path:
            cycles.append(path[path.index(pid) :])
    return cycles


def locks_are_tracked():
    """True if lockdep tracks the locks that a task holds (CONFIG_LOCKDEP)."""
    return attempt(lambda: prog.type("struct task_struct").member("held_locks")) is not None


def held_locks(task, wanted=None):
    """
    A line for each lock that lockdep tracks for a task. It adds a lock before the task has acquired it, so the last one
    may be the one that the task waits for: `wanted` is that one's address.
    """
    lines = []
    depth = min(task.lockdep_depth.value_(), len(task.held_locks))
    for index in range(depth):
        held = task.held_locks[index]
        name = attempt(lambda: prog["lock_classes"][held.class_idx].name.string_().decode(), "?")
        function = attempt(lambda: prog.symbol(held.acquire_ip).name, f"{held.acquire_ip.value_():#x}")
        mode = "shared" if held.read else "exclusive"
        # lockdep's address is of its lockdep_map, which is inside of the lock
        waits = wanted is not None and index == depth - 1 and 0 <= held.instance.value_() - wanted < MAX_LOCK_BYTES
        lines.append(f"  {name} ({held.instance.value_():#x}), {mode}, {'wanted' if waits else 'taken'} in {function}")
    return lines
