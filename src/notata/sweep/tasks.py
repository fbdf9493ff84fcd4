"""Find the function of a sweep by a name, such as ``task.py:solve`` or ``package.module:solve``."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from types import ModuleType

from notata._base.terminal import one_line
from notata.errors import ConfigurationError
from notata.sweep.point import Task

__all__ = ["load_task"]


def load_task(name: str) -> Task:
    """Import the function of a sweep.

    Args:
        name: ``MODULE:TASK``. MODULE is a file, such as ``task.py``, or a module that can be imported from the current
            folder or is installed. TASK is the name of a function in it.

    Raises:
        ConfigurationError: There is no such file, module or function, or its import fails.
    """
    module_name, colon, task_name = name.rpartition(":")
    if not colon or not module_name or not task_name:
        raise ConfigurationError(
            f"invalid task {name!r}: write MODULE:TASK, such as task.py:solve or package.task:solve"
        )
    module = _imported(module_name)
    task: object = module
    for part in task_name.split("."):
        task = getattr(task, part, None)
    if not callable(task):
        own = [key for key, value in vars(module).items() if getattr(value, "__module__", None) == module.__name__]
        names = one_line(", ".join(sorted(own)), 500) or "none"
        raise ConfigurationError(f"there is no function {task_name!r} in {module_name}; it has {names}")
    return task


def _imported(name: str) -> ModuleType:
    is_file = name.endswith(".py") or os.sep in name
    folder, module_name = os.path.split(os.path.abspath(name)) if is_file else (os.getcwd(), name)
    if is_file and not os.path.isfile(name):
        raise ConfigurationError(f"there is no file {name}; check the name of the task")
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        if is_file:
            return _imported_file(os.path.join(folder, module_name), module_name.removesuffix(".py"))
        return importlib.import_module(module_name)
    except (Exception, SystemExit) as error:
        raise ConfigurationError(
            f"cannot import {name}: {type(error).__name__}: {error}. --debug shows the traceback"
        ) from error


def _imported_file(path: str, name: str) -> ModuleType:
    """Import a file as the module of its name, unless another module has this name."""
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is not a Python file")
    loaded = sys.modules.get(name)
    if loaded is not None:
        if getattr(loaded, "__file__", None) == path:
            return loaded
        raise ImportError(f"another module is called {name}; rename the file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module
