"""Runs as seen from a shell: which there are, what became of them, what they left with a scheduler, how to end them.

``summary`` is the pure part.  The rest reads run directories, asks the system about processes and schedulers about
jobs, and is behind ``flowlib ps``, ``cancel``, ``logs`` and ``run``.
"""
