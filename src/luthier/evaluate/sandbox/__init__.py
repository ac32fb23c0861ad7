"""A process of its own for code that somebody else wrote: limits of time, memory and disk, no network, no new processes.

`process` starts and watches it; `child` is the program that runs there, and `kernel` what it asks of Linux.
"""
