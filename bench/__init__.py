"""The benchmark: headgate's jobs against the same jobs written by hand, and what a restart costs.

`python -m bench` (`make bench`) runs everything on services of its own; `python -m bench PART…` a part.
"""
