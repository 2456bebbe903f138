"""The program that measures on a device: standard library, numpy and one runtime, nothing else of edgec.

It runs as a folder (`python probe < job.json`), also when that folder was copied to a machine without
edgec, or as `python -m edgec.probe`. A job is one JSON object on standard input; the answer is the
last line on standard output.
"""
