"""Memory of past results: keys of calls, the store that keeps values by key, and what tells why a call was a miss.

``canonical`` and ``code`` turn values and functions into bytes, ``calls`` makes the key of a call, ``frames`` and
``index`` say how a store lies in files, ``store`` reads and writes these, ``project`` joins all of it to the kernel.
"""
