"""Other engines, on the same topic in the same run: PyFlink SQL, in an environment of its own.

`make bench-peers` sets that environment up (bench/peers/requirements.lock, bench/peers/flink.lock) and runs
`python -m bench peers`.
"""
