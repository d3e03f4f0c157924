"""Finds the handler: `module:function`, `pkg.sub:function`, or a file in the code directory."""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import CodeType, ModuleType
    from typing import Any, Callable, Optional

_COROUTINE, _ASYNC_GENERATOR = 0x80, 0x200  # of code.co_flags

# Where the package has another name than its module.
_PACKAGES = {
    "bs4": "beautifulsoup4", "cv2": "opencv-python", "dateutil": "python-dateutil",
    "dotenv": "python-dotenv", "fitz": "PyMuPDF", "jwt": "PyJWT", "PIL": "Pillow",
    "sklearn": "scikit-learn", "skimage": "scikit-image", "yaml": "PyYAML",
    "google.protobuf": "protobuf", "kafka": "kafka-python", "MySQLdb": "mysqlclient",
    "psycopg2": "psycopg2-binary", "serial": "pyserial", "attr": "attrs"}


class LoadError(Exception):
    """The handler cannot be loaded; one text for people with file, line and remedy."""


class Handler:
    """function(context, event), its module's init_context (or None), and whether calling the
    function makes a coroutine or asynchronous generator."""

    def __init__(self, function: Callable[..., Any], init_context: Optional[Callable[..., Any]],
                 is_async: bool) -> None:
        self.function = function
        self.init_context = init_context
        self.is_async = is_async


def load(spec: str, code_dir: str) -> Handler:
    """Imports the handler that `spec` names. Raises LoadError."""
    module_name, function_name = _split(spec)
    module = _import(spec, module_name, code_dir)
    function: Any = module
    for name in function_name.split("."):
        if not hasattr(function, name):
            raise LoadError(_no_function(spec, module, function_name))
        function = getattr(function, name)
    if not callable(function):
        raise LoadError(f'handler "{spec}": {_file_of(module)}: "{function_name}" is '
                        f"{_a(type(function).__name__)}, not a function")
    init_context = getattr(module, "init_context", None)
    return Handler(function, init_context if callable(init_context) else None,
                   is_async_function(function))


def is_async_function(function: Any) -> bool:
    """Calling it makes a coroutine or an asynchronous generator, as far as can be seen."""
    for _ in range(20):  # decorated, partial: what lies inside tells
        if hasattr(function, "func") and not hasattr(function, "__code__"):
            function = function.func
            continue
        function = getattr(function, "__func__", function)
        code = getattr(function, "__code__", None)
        if code is not None:
            return bool(code.co_flags & (_COROUTINE | _ASYNC_GENERATOR))
        if isinstance(function, type):
            return False
        call = getattr(type(function), "__call__", None)
        if getattr(call, "__code__", None) is None:
            return False
        function = call
    return False


def _split(spec: str) -> tuple[str, str]:
    module, colon, function = spec.rpartition(":")
    if not colon:
        module, function = spec, "handler"
    if not module or not function:
        raise LoadError(f'handler "{spec}": it is not MODULE:FUNCTION')
    return module, function


def _import(spec: str, name: str, code_dir: str) -> ModuleType:
    file = _find_file(name, code_dir)
    for place in (code_dir, os.path.dirname(file) if file else ""):
        if place and place not in sys.path:
            sys.path.insert(0, place)
    try:
        if file is not None:
            return _import_file(file)
        import importlib

        return importlib.import_module(name)
    except KeyboardInterrupt:
        raise
    except BaseException as exc:
        raise LoadError(f'handler "{spec}": {_explain(exc, name, code_dir)}') from exc


def _find_file(name: str, code_dir: str) -> Optional[str]:
    """The file that is meant: a path, a name with .py, or one that no import could name."""
    base = code_dir or os.getcwd()
    if name.endswith(".py") or "/" in name:
        names = [name] if name.endswith(".py") else [f"{name}.py"]
    elif all(part.isidentifier() for part in name.split(".")):
        return None
    else:
        names = [f"{name}.py"]
    for one in names:
        file = os.path.normpath(os.path.join(base, one))
        if os.path.isfile(file):
            return file
    raise LoadError(f'handler "{name}": there is no file {os.path.join(base, names[0])}')


def _import_file(file: str) -> ModuleType:
    import importlib.util

    name = os.path.splitext(os.path.basename(file))[0]
    if name in sys.modules or name in sys.stdlib_module_names:
        name = f"_stator_handler_{name}"
    module_spec = importlib.util.spec_from_file_location(name, file)
    if module_spec is None or module_spec.loader is None:
        raise ImportError(f"{file} is no Python file")
    module = importlib.util.module_from_spec(module_spec)
    sys.modules[name] = module
    try:
        module_spec.loader.exec_module(module)
    except BaseException:
        sys.modules.pop(name, None)
        raise
    return module


def _explain(exc: BaseException, wanted: str, code_dir: str) -> str:
    """FILE:LINE: what is wrong, and what helps."""
    place = place_of(exc)
    if isinstance(exc, SyntaxError) and exc.filename:
        where = f"{exc.filename}:{exc.lineno}"
        line = (exc.text or "").strip()
        return f"{where}: {type(exc).__name__}: {exc.msg}" + (f": {line}" if line else "")
    if isinstance(exc, ModuleNotFoundError) and exc.name:
        missing = exc.name
        if not place and (wanted == missing or wanted.startswith(missing + ".")):
            looked = os.path.join(code_dir or os.getcwd(), wanted.replace(".", "/") + ".py")
            return f"there is no module {wanted}: no file {looked}, and none on the Python path"
        prefix = f"{place}: " if place else ""
        top = missing.partition(".")[0]
        if top != missing and top in sys.modules and missing not in _PACKAGES:
            return f"{prefix}the package {top} has no module {missing}"
        package = _PACKAGES.get(missing, _PACKAGES.get(top, top))
        return (f"{prefix}there is no module {missing}; to install it: "
                f"{sys.executable} -m pip install {package}")
    prefix = f"{place}: " if place else ""
    if isinstance(exc, SystemExit):
        return f"{prefix}the module ended the process (exit status {exc.code}) while it was loaded"
    from stator._worker.results import exception_text

    return f"{prefix}{type(exc).__name__}: {exception_text(exc)}"


def place_of(exc: BaseException) -> str:
    """FILE:LINE of the innermost frame that is a file's and not the import system's; empty without
    one."""
    place = ""
    trace = exc.__traceback__
    while trace is not None:
        code: CodeType = trace.tb_frame.f_code
        name = trace.tb_frame.f_globals.get("__name__", "")
        if not code.co_filename.startswith("<") and not name.startswith(
                ("stator._worker", "importlib")):
            place = f"{code.co_filename}:{trace.tb_lineno}"
        trace = trace.tb_next
    return place


def _no_function(spec: str, module: ModuleType, wanted: str) -> str:
    functions = {name: value for name, value in vars(module).items()
                 if callable(value) and getattr(value, "__module__", None) == module.__name__
                 and not name.startswith("_")}
    text = f'handler "{spec}": {_file_of(module)} has no "{wanted}"'
    if not functions:
        return f"{text}, and no function at all"
    import difflib

    close = difflib.get_close_matches(wanted, functions, n=1) or list(functions)[:1]
    code = getattr(functions[close[0]], "__code__", None)
    line = f" in line {code.co_firstlineno}" if code is not None else ""
    return f'{text}; there is "{close[0]}"{line}'


def _file_of(module: ModuleType) -> str:
    return getattr(module, "__file__", None) or module.__name__


def _a(noun: str) -> str:
    return f"{'an' if noun[:1].lower() in 'aeiou' else 'a'} {noun}"
