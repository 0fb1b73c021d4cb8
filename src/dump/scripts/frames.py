"""Frames of kernel stacks: their source locations, the values of their variables, and the frame with the fault."""

import posixpath
import re

from drgn import TypeKind, get_default_prog

prog = get_default_prog()

MAX_FRAMES = 64
MAX_LOCALS = 16
MAX_VALUE = 160
NULL_PAGE = 0xFFF


def attempt(function, otherwise=None):
    try:
        return function()
    except Exception:
        return otherwise


def find_root():
    """What comes before names of the tree's files in DWARF: before init/main.c, which has start_kernel."""
    for location in prog.source_location("start_kernel"):
        path = posixpath.normpath(location.filename)
        if path.endswith("init/main.c"):
            return path[: -len("init/main.c")]
    return ""


ROOT = attempt(find_root, "")


def tree_relative(path):
    path = posixpath.normpath(path)
    return path[len(ROOT) :] if ROOT and path.startswith(ROOT) else re.sub(r"^(\.\./)+", "", path)


def is_user(pc):
    return pc >> 63 == 0


def frame_facts(frame):
    facts = {"function": frame.name, "file": None, "line": None, "inlined": frame.is_inline}
    source = attempt(frame.source)
    if source and source.filename:
        facts["file"] = tree_relative(source.filename)
        facts["line"] = source.line
    return facts


def frame_line(index, frame, facts, interrupted):
    name = facts["function"]
    if frame.is_inline:
        name += " (inlined)"
    else:
        symbol = attempt(frame.symbol)
        if symbol:
            name = f"{symbol.name}+{frame.pc - symbol.address:#x}/{symbol.size:#x}"
    location = f"  {facts['file']}:{facts['line']}" if facts["file"] else ""
    return f"  #{index:<2} {name}{location}{'  <- interrupted here' if interrupted else ''}"


# Types that are printed: a whole struct does not fit in a line
SHORT_KINDS = {TypeKind.INT, TypeKind.BOOL, TypeKind.ENUM, TypeKind.POINTER, TypeKind.FLOAT}


def short_value(value):
    kind = value.type_
    while kind.kind == TypeKind.TYPEDEF:
        kind = kind.type
    if kind.kind not in SHORT_KINDS:
        return None
    # a string in user space is not in the kernel's page tables
    in_kernel = kind.kind == TypeKind.POINTER and not is_user(value.value_())
    return value.format_(dereference=False, symbolize=True, string=in_kernel)[:MAX_VALUE]


def variables_of(frame):
    """Lines with the values of a frame's parameters and local variables that have one."""
    lines = []
    for name in frame.locals():
        try:
            text = short_value(frame[name])
        except Exception:
            # in memory that is not in the dump
            continue
        if text is None or text.endswith("<optimized out>"):
            continue
        lines.append(f"        {name} = {text}")
        if len(lines) == MAX_LOCALS:
            break
    return lines


def is_user_frame(frame):
    """True for a frame of user space. A kernel that jumped to a bad address may be at a user address, too."""
    return is_user(frame.pc) and attempt(lambda: frame.register("cs") & 3 == 3, frame.pc > NULL_PAGE)


def kernel_frames(trace):
    """The frames of the kernel; those after the entry of the system call are of user space."""
    frames = []
    for frame in trace:
        if is_user_frame(frame) or len(frames) == MAX_FRAMES:
            break
        frames.append(frame)
    return frames


def interruptions(frames):
    """Indices of the frames that an exception or an interrupt interrupted, without the topmost frame."""
    top = next((index for index, frame in enumerate(frames) if not frame.is_inline), 0)
    return [
        index
        for index, frame in enumerate(frames)
        if index > top and frame.interrupted and not frames[index - 1].is_inline
    ]


# Functions between the fault and the dump
REPORTING = re.compile(
    r"^(pvpanic_.*|.*notifier_call_chain|notify_die|v?panic|nmi_panic|check_panic_on_warn|oops_end|_*die(_.*)?|"
    r"do_exit|make_task_dead|rewind_stack_and_make_dead|__stack_chk_fail|_*warn(_.*)?|_*fortify_panic|"
    r"kasan_.*|__asan_.*|end_report|print_report|(asm_)?exc_.*|do_user_addr_fault|handle_page_fault|page_fault_oops)$"
)
# An exception is caused by the frame that it interrupts; an interrupt is not, unless it runs a watchdog
EXCEPTION = re.compile(r"^(asm_exc_(?!nmi).*|el1h_64_sync)$")
WATCHDOG = re.compile(r"^(watchdog_.*|.*_stall.*|.*nmi.*)$")


def fault_of(frames):
    """Index of the frame with the fault."""
    names = [frame.name or "" for frame in frames]
    for index in interruptions(frames)[:1]:
        if EXCEPTION.match(names[index - 1]) or any(WATCHDOG.match(name) for name in names[:index]):
            return index
    return next((index for index, name in enumerate(names) if not REPORTING.match(name)), 0)
