"""A small batch scheduler that speaks like the real ones: each of their commands is one program under another name.

What these modules do is done in processes of their own, like the commands of a real scheduler; for the side of the
tests see ``flowlib.testing.schedulers``.  They share a directory, named by ``FLOWLIB_FAKE_SCHEDULER``:

* ``settings.json``: nodes, queues, limits; see ``Settings``.
* ``jobs/N.json``: what the queue knows of job N; ``history/N.json``: ended jobs, for the accounting.
* ``hold``: as long as it is there, jobs stay pending.
* ``outage``: as long as it is there, no command reaches the scheduler.
* ``faults/COMMAND``: what the next calls of a command do instead of answering, a line for each; see
  ``flowlib.testing.fakes.faults``.
* ``calls``: the command lines so far.

Jobs are run for real, each by a process of its own that enforces the walltime.  The words, the forms of answers and the
exit codes are those that real schedulers were seen to print.
"""
