"""Large objects: kept once per machine, in memory that processes map, instead of travelling with every task.

``packing``, ``ledger`` and ``pulls`` decide (how an object is laid out, what is kept where, what is asked for next) and
know no clock and no file; ``segments`` and ``vault`` hold the memory; ``home`` is the driver's end, ``shelf`` the
worker's. What travels between them is the executor's business.
"""
