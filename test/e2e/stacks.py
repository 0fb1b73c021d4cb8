# Prints the functions of the stacks that matter in a dump, a stack a line: of what each CPU ran, and of blocked tasks.
from drgn.helpers.linux.cpumask import for_each_online_cpu
from drgn.helpers.linux.sched import cpu_curr, task_state_to_char
from drgn.helpers.linux.pid import for_each_task


def show(task):
    try:
        names = [frame.name or "?" for frame in prog.stack_trace(task)]
    except Exception as error:
        names = [f"({error})"]
    print(task.comm.string_().decode(errors="replace"), *names)


for cpu in for_each_online_cpu(prog):
    show(cpu_curr(prog, cpu))
for task in for_each_task(prog):
    if task_state_to_char(task) == "D":
        show(task)
