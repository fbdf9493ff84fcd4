"""To be imported last by a process that is forked: what it has by then is no garbage of those to come."""

from __future__ import annotations

import gc

gc.freeze()
