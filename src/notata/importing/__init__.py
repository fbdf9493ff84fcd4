"""Import runs of other tools from the files that they leave: MLflow, TensorBoard, Sacred, DVCLive, Weights & Biases.

`import_runs` finds the runs of a source and writes those that are new. One module reads each format, without the tool
where its files are plain; `RunWriter` stores what it reads. Nothing of a source is executed or unpickled, and no
address or path in it is opened.
"""

from notata.importing.importer import ImportReport, import_runs
from notata.importing.kinds import KINDS

__all__ = ["KINDS", "ImportReport", "import_runs"]
