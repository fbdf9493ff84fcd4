"""Imported last by a process that forks: freezes its objects, so that forked children do not garbage-collect them."""

from __future__ import annotations

import gc

gc.freeze()
