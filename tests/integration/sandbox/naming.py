"""How a program in a sandbox gets a name by which the test finds it among the processes of this machine."""

from __future__ import annotations

NAMED = """
import ctypes
def become(name):
    ctypes.CDLL(None).prctl(15, name.encode(), 0, 0, 0)
"""
