"""The page of runs that `notata report` writes and `notata view` serves: one front end, and two sources of its data.

``model.py`` and ``curves.py`` make the data from runs as `notata.search` finds them, ``preview.py`` those of one file,
and ``values.py`` keeps all of them bounded. For a report, ``contents.py`` chooses the data that fit, ``bundle.py``
joins them and the files in ``static/`` to one HTML file, and ``report.py`` writes it. ``server.py`` answers the live
page.

Data of a run are untrusted. They reach the page as JSON only, and the page shows them as text.
"""
