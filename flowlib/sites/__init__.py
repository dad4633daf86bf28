"""From the facts about a machine to a configuration for it, and the command that shows both.

The facts are files: those of ``flowlib.configs``, a centre's and a user's (``catalogue``).  ``site`` and ``kinds`` say
what a file may hold, ``choices`` makes constructor calls of facts and choices, and these are either made or printed
(``calls``), so that what is shown is what runs.
"""
