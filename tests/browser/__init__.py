"""Tests of the page in a real browser: Debian's Chromium, through Playwright. Run with ``pytest -m browser``."""
