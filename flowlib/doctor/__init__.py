"""``flowlib doctor``: what would keep a run from working here, and what to do about it.

``facts`` says what can be known of this machine, a scheduler and a block, ``findings`` judges it; both are pure.
``collect`` and ``block`` find it out, each within a deadline; ``command`` shows it.
"""
