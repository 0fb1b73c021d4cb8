"""
Explains a vmcore: the task on every CPU, blocked tasks and the locks that they wait for, and the kernel log.

Run by drgn with the arguments TEXT JSON [MODULES]: the text file, the JSON file, and a directory under which the
loaded modules' .ko files are. If a part fails, the others are still printed, since a dump may be damaged. The JSON is
written before the long parts, so that it exists if the deadline passes.
"""

import json
import os
import re
import sys

from drgn.helpers.linux.cpumask import for_each_present_cpu
from drgn.helpers.linux.percpu import per_cpu
from drgn.helpers.linux.pid import for_each_task
from drgn.helpers.linux.printk import get_dmesg
from drgn.helpers.linux.sched import cpu_curr, idle_task, task_cpu, task_state_to_char
from frames import attempt, fault_of, frame_facts, frame_line, interruptions, kernel_frames, variables_of
from waits import awaited_lock, comm_of, deadlocks, held_locks, locks_are_tracked

MAX_TASKS = 4096
MAX_BLOCKED = 128

TEXT, JSON = sys.argv[1:3]
MODULES = sys.argv[3] if len(sys.argv) > 3 else None

out = open(TEXT, "w", encoding="utf-8", errors="backslashreplace")
report = {"crashed": None, "cpus": [], "blocked": [], "deadlocks": [], "failed": []}


def write(text=""):
    """Writes a line. Names come from the guest: its control characters are escaped."""
    out.write(re.sub(r"[^\n\t\x20-\x7e\u00a0-\uffff]", lambda bad: f"\\x{ord(bad.group()):02x}", text) + "\n")


def part(title, function):
    """Writes one part under its title; a sentence instead if it fails."""
    if title:
        write(f"\n== {title} ==")
    try:
        function()
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        write(f"(this part could not be read: {reason})")
        report["failed"].append({"part": title or "head", "reason": reason})
    out.flush()


def task_name(task):
    return f"{comm_of(task)} ({task.pid.value_()})"


def stack_of(task, with_locals=False):
    """Writes a task's stack and returns its frames, with their facts."""
    frames = kernel_frames(prog.stack_trace(task))
    facts = [frame_facts(frame) for frame in frames]
    interrupted = interruptions(frames)
    if not frames:
        write("  (in user space)")
    for index, frame in enumerate(frames):
        write(frame_line(index, frame, facts[index], index in interrupted))
        if with_locals:
            for line in variables_of(frame):
                write(line)
    return frames, facts


def header():
    banner = attempt(lambda: prog["linux_banner"].string_().decode().strip())
    release = prog["UTS_RELEASE"].string_().decode()
    write(f"kernel:   {release}")
    if banner:
        write(f"banner:   {banner}")
    build_id = re.search(rb"^BUILD-ID=([0-9a-f]+)", prog["VMCOREINFO"].string_(), re.M)
    if build_id:
        write(f"build id: {build_id.group(1).decode()}")
    report["release"] = release

    def since_boot():
        from drgn.helpers.linux.timekeeping import uptime

        return f"{uptime(prog):.1f} s"

    def memory():
        from drgn.helpers.linux.mm import totalram_pages

        return f"{totalram_pages(prog) * prog['PAGE_SIZE'].value_() // 2**20} MiB"

    def message():
        from drgn.helpers.linux.panic import panic_message

        return panic_message(prog).decode(errors="backslashreplace")

    def taints():
        from drgn.helpers.linux.panic import tainted

        return " ".join(tainted(prog).split())

    lines = [
        ("uptime:  ", since_boot),
        ("CPUs:    ", lambda: str(sum(1 for _ in for_each_present_cpu(prog)))),
        ("memory:  ", memory),
        ("tasks:   ", lambda: str(sum(1 for _ in for_each_task(prog)))),
        ("tainted: ", taints),
    ]
    for title, read in lines:
        value = attempt(read)
        if value:
            write(f"{title} {value}")
    try:
        prog.crashed_thread()
        report["message"] = attempt(message)
        write(f"panic:    {report['message'] or 'the log does not have its message'}")
    except LookupError:
        write("panic:    none: the kernel was running when the dump was taken")


def load_modules():
    """Loads the debug information of the loaded modules from their .ko files."""
    files = {}
    for directory, _, names in os.walk(MODULES):
        for name in names:
            if name.endswith(".ko"):
                files[name[:-3].replace("-", "_")] = os.path.join(directory, name)
    loaded = [module.name.replace("-", "_") for module, _ in prog.loaded_modules()]
    paths = [files[name] for name in loaded if name in files]
    if paths:
        prog.load_debug_info(paths)


def crashed_task():
    try:
        thread = prog.crashed_thread()
    except LookupError:
        write("(no task: the kernel has not panicked)")
        return
    task = thread.object
    cpu = task_cpu(task)
    write(f"{task_name(task)} on CPU {cpu}")
    facts = {"pid": task.pid.value_(), "comm": comm_of(task), "cpu": cpu, "fault": 0, "stack": []}
    report["crashed"] = facts
    frames, facts["stack"] = stack_of(task, with_locals=True)
    if frames:
        facts["fault"] = fault_of(frames)
        outer = facts["stack"][facts["fault"] :]
        name = outer[0]["function"]
        caller = next((frame["function"] for frame in outer if not frame["inlined"]), name)
        inlined = f", inlined into {caller}" if caller != name else ""
        write(f"The fault is in #{facts['fault']}, {name}{inlined}.")


def one_cpu(cpu):
    task = cpu_curr(prog, cpu)
    idle = task == idle_task(prog, cpu)
    write(f"CPU {cpu}: {task_name(task)}{' (idle)' if idle else ''}")
    facts = {"cpu": cpu, "pid": task.pid.value_(), "comm": comm_of(task), "idle": idle, "stack": []}
    report["cpus"].append(facts)
    if report["crashed"] and facts["pid"] == report["crashed"]["pid"] and facts["pid"]:
        facts["stack"] = report["crashed"]["stack"]
        write("  (see above)")
    else:
        _, facts["stack"] = stack_of(task, with_locals=not idle)


def cpus():
    # all present CPUs, since a panic removes the other ones from the online mask
    for cpu in for_each_present_cpu(prog):
        part("", lambda: one_cpu(cpu))


def newest_clock():
    return max(per_cpu(prog["runqueues"], cpu).clock_task.value_() for cpu in for_each_present_cpu(prog))


def one_blocked(task, clock):
    facts = {"pid": task.pid.value_(), "comm": comm_of(task), "cpu": task_cpu(task)}
    # the scheduler records when a task last ran (update_curr)
    last_run = attempt(task.se.exec_start.value_)
    facts["seconds"] = round(max(0, clock - last_run) / 1e9, 1) if clock and last_run else None
    since = f", has not run for {facts['seconds']} s" if facts["seconds"] is not None else ""
    write(f"{task_name(task)}, CPU {facts['cpu']}{since}")
    report["blocked"].append(facts)
    facts["waits"] = None
    facts["stack"] = []
    frames, facts["stack"] = stack_of(task)
    facts["waits"] = attempt(lambda: awaited_lock(frames))
    if facts["waits"]:
        owner = facts["waits"]["owner"]
        held = f", held by {owner['comm']} ({owner['pid']})" if owner else ""
        write(f"  waits for the {facts['waits']['kind']} {facts['waits']['lock']}{held}")


def blocked_tasks():
    clock = attempt(newest_clock)
    # idle kernel threads (TASK_IDLE) sleep uninterruptibly too, but their state is I
    tasks = [task for task in for_each_task(prog) if task_state_to_char(task) == "D"]
    for task in tasks[:MAX_BLOCKED]:
        part("", lambda: one_blocked(task, clock))
    if len(tasks) > MAX_BLOCKED:
        write(f"... and {len(tasks) - MAX_BLOCKED} more")
    if not tasks:
        write("none")
    report["deadlocks"] = deadlocks(report["blocked"])
    names = {facts["pid"]: facts["comm"] for facts in report["blocked"]}
    for cycle in report["deadlocks"]:
        chain = " -> ".join(f"{names[pid]} ({pid})" for pid in [*cycle, cycle[0]])
        write(f"Deadlock: {chain}, each waiting for the next.")


def all_held_locks():
    if not locks_are_tracked():
        write("(unknown: only a kernel with CONFIG_LOCKDEP tracks them)")
        return
    wanted = {facts["pid"]: int(facts["waits"]["address"], 16) for facts in report["blocked"] if facts["waits"]}
    holders = 0
    for task in for_each_task(prog):
        lines = held_locks(task, wanted.get(task.pid.value_()))
        if lines:
            holders += 1
            write("\n".join([task_name(task), *lines]))
    if holders == 0:
        write("none")


def tasks():
    from drgn.helpers.linux.mm import task_rss

    page = prog["PAGE_SIZE"].value_()
    running = {facts["pid"]: facts["cpu"] for facts in report["cpus"]}
    write(f"  {'PID':>7} {'PPID':>7} {'CPU':>4} S {'RSS KiB':>9}  NAME")
    for index, task in enumerate(for_each_task(prog)):
        if index == MAX_TASKS:
            write("  ... and more")
            break
        pid = task.pid.value_()
        mark = ">" if pid in running else " "
        parent = attempt(task.real_parent.pid.value_, "?")
        memory = attempt(lambda: task_rss(prog, task).total * page // 1024, "?") if task.mm else "-"
        write(
            f"{mark} {pid:>7} {parent:>7} {task_cpu(task):>4} {task_state_to_char(task)} {memory:>9}  {comm_of(task)}"
        )


def kernel_log():
    write(get_dmesg(prog).decode(errors="backslashreplace").rstrip("\n"))


def save_json():
    with open(JSON, "w", encoding="utf-8") as file:
        json.dump(report, file)


if MODULES:
    attempt(load_modules)
part("", header)
part("The task that crashed", crashed_task)
part("What the CPUs ran", cpus)
part("Blocked tasks", blocked_tasks)
part("Locks held", all_held_locks)
save_json()
part("Tasks", tasks)
part("Kernel log", kernel_log)
save_json()
out.close()
