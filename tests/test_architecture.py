"""Who may import whom, tables against files, budgets: the rules that keep the house easy to find one's way in."""

from __future__ import annotations

import ast
import importlib.metadata
import json
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from backend import deepspeed_config
from backend.augment import AUGMENTATIONS
from backend.clusters import CLUSTERS
from backend.objectives import OBJECTIVES
from backend.spec import parse_job
from backend.tasks import TASKS
from backend.trackers import TRACKERS
from backend.tuning import TUNINGS
from export.quantizers import QUANTIZERS

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("backend", "export", "webui")
FILES = {
    ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): file
    for package in PACKAGES
    for file in sorted((ROOT / package).rglob("*.py"))
}
TREES = {module: ast.parse(file.read_text(encoding="utf-8"), str(file)) for module, file in FILES.items()}

MAY_IMPORT = {"backend": {"backend"}, "export": {"export", "backend"}, "webui": {"webui", "export", "backend"}}

# What takes seconds to import.
HEAVY = {"torch", "transformers", "deepspeed", "evaluate", "datasets", "sklearn", "peft", "accelerate"}

# The only modules that import such a package as soon as they are imported, by themselves or through another one.
MAY_BE_HEAVY = {
    "backend.deepspeed_engine",
    "backend.engine",
    "backend.ending",
    "backend.evaluating",
    "backend.frozen_cache",
    "backend.gathering",
    "backend.loop",
    "backend.loss_scale",
    "backend.measuring",
    "backend.ensemble",
    "backend.heads.encoder_decoder",
    "backend.heads.ensemble",
    "backend.heads.marker_classifier",
    "backend.heads.verbalizer_classifier",
    "backend.metrics.answers",
    "backend.metrics.classification",
    "backend.metrics.labels",
    "backend.metrics.spans",
    "backend.metrics.text",
    "backend.model",
    "backend.packed_linear",
    "backend.optimizer",
    "backend.pieces",
    "backend.predict",
    "backend.proof",
    "backend.pruning.classes",
    "backend.pruning.cutting",
    "backend.pruning.pruning",
    "backend.pruning.scores",
    "backend.reducing",
    "backend.rng",
    "backend.saved_state",
    "backend.session",
    "backend.sharing_out",
    "backend.shortening",
    "backend.stepping",
    "backend.unread",
    "backend.weightless",
    "backend.zero_shot",
    "export.caches",
    "export.decoders",
    "export.encoder_decoders",
    "export.to_onnx",
}

# Folder of plug-ins -> the modules of ours, or folders of them, that a plug-in may import, at the top and in functions.
BASIC = ("backend.errors", "backend.interfaces", "backend.tokenizer")
METHODS = (*BASIC, "backend.methods", "backend.losses")
PLUG_INS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "backend.tasks": ((*BASIC, "backend.text"), ("backend.heads", "backend.metrics")),
    "backend.tuning": (
        (*METHODS, "backend.adapters", "backend.depth", "backend.few_bits", "backend.weights"),
        ("backend.frozen_cache",),
    ),
    "backend.objectives": (
        (*METHODS, "backend.earlier", "backend.fisher", "backend.matching", "backend.teachers", "backend.unlabelled"),
        (),
    ),
    "backend.augment": ((*METHODS, "backend.earlier", "backend.text"), ()),
    "backend.trackers": ((*BASIC, "backend.methods", "backend.tracking"), ()),
    "backend.clusters": (("backend.cluster", "backend.errors", "backend.hosts"), ()),
    "export.quantizers": (("backend.errors", "export.interfaces", "export.blocks"), ()),
}
TABLES: Mapping[str, Mapping[str, Any]] = {
    "backend.tasks": TASKS,
    "backend.augment": AUGMENTATIONS,
    "backend.clusters": CLUSTERS,
    "backend.objectives": OBJECTIVES,
    "backend.tuning": TUNINGS,
    "backend.trackers": TRACKERS,
    "export.quantizers": QUANTIZERS,
}

MAX_FILE_LINES, MAX_FUNCTION_LINES, MAX_PARAMETERS = 300, 40, 5
# What is over a budget, with its size: no entry may grow, and one that has shrunk below the budget must go.
OVER_BUDGET = {
    "parameters of webui.cli.predict": 6,  # a command has as many as it has flags
}


class Import(NamedTuple):
    """One import of a module, by whom and when."""

    importer: str
    imported: str
    late: bool  # inside a function: not before it is called


def imports_of(module: str) -> Iterator[Import]:
    yield from _imports(module, TREES[module], late=False)


def _imports(module: str, node: ast.AST, *, late: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
            continue
        if isinstance(child, ast.Import):
            yield from (Import(module, alias.name, late) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, f"{module}: imports are absolute"
            for alias in child.names:
                below = f"{child.module}.{alias.name}"
                yield Import(module, below if below in FILES else str(child.module), late)
        inside = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        yield from _imports(module, child, late=late or inside)


IMPORTS = [found for module in TREES for found in imports_of(module)]
OURS = [found for found in IMPORTS if found.imported.partition(".")[0] in PACKAGES]


def at_once(module: str) -> set[str]:
    """Return the modules, ours and others, whose import comes with that of a module."""
    found: set[str] = set()
    waiting = {module}
    while waiting:
        current = waiting.pop()
        # A package's __init__ runs before any module in it.
        parents = {current.rsplit(".", number)[0] for number in range(1, current.count(".") + 1)}
        new = parents | {one.imported for one in IMPORTS if one.importer == current and not one.late}
        waiting |= {name for name in new - found if name in FILES}
        found |= new
    return found - {module}


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def calls(tree: ast.AST) -> Iterator[ast.Call]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.Call))


def test_packages_import_only_those_below_them() -> None:
    wrong = [found for found in OURS if found.imported.partition(".")[0] not in _allowed(found.importer)]
    assert not wrong


def _allowed(importer: str) -> set[str]:
    return MAY_IMPORT[importer.partition(".")[0]]


def test_every_import_of_ours_names_a_file() -> None:
    assert not [found for found in OURS if found.imported not in FILES]


def test_no_module_needs_itself_to_be_imported() -> None:
    direct = {
        module: {found.imported for found in OURS if found.importer == module and not found.late} for module in FILES
    }
    for module in FILES:
        reached: set[str] = set()
        waiting = set(direct[module])
        while waiting:
            current = waiting.pop()
            reached.add(current)
            waiting |= direct.get(current, set()) - reached
        assert module not in reached


def test_plug_ins_import_the_interfaces_and_never_each_other() -> None:
    for folder, (always, inside_functions) in PLUG_INS.items():
        for found in OURS:
            if found.importer.startswith(folder + "."):
                allowed = (*always, *inside_functions) if found.late else always
                assert any(f"{found.imported}.".startswith(f"{name}.") for name in allowed), found


def test_the_interfaces_import_nothing_of_ours_but_errors_and_the_tokenizer() -> None:
    below = {"backend.errors", "backend.interfaces", "backend.tokenizer"}
    for module in ("backend.errors", "backend.interfaces", "backend.tokenizer", "backend.files"):
        assert {found.imported for found in OURS if found.importer == module} <= below


def test_only_the_listed_modules_import_heavy_packages_when_they_are_imported() -> None:
    heavy = {module for module in FILES if {name.partition(".")[0] for name in at_once(module)} & HEAVY}
    assert heavy == MAY_BE_HEAVY & FILES.keys()


@pytest.mark.parametrize(
    "module",
    [
        "webui.app",
        "webui.cli",
        "export.server",
        "export.runtime",
        "backend.spec",
        "backend.launch",
        "backend.arguments",
        "webui.cluster_command",
        "webui.preflight_command",
    ],
)
def test_importing_leaves_torch_unimported(module: str) -> None:
    code = f"import sys, {module}; print({{'torch', 'transformers', 'deepspeed'}} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize("folder", TABLES)
def test_a_table_has_one_entry_for_each_file_in_its_folder(folder: str) -> None:
    files = {module.removeprefix(folder + ".") for module in FILES if module.startswith(folder + ".")}
    assert {key.replace("-", "_") for key in TABLES[folder]} == files
    assert all(key == key.lower() and "_" not in key for key in TABLES[folder])


@pytest.mark.parametrize("folder", ["backend.tasks", "backend.tuning"])
def test_the_settings_of_an_entry_bear_its_key(folder: str) -> None:
    for key, entry in TABLES[folder].items():
        assert entry.Options().name == key


def test_every_deepspeed_file_is_known_by_name() -> None:
    assert deepspeed_config.names() == sorted(path.stem for path in (ROOT / "ds_configs").iterdir())


@pytest.mark.parametrize("ranks", [2, 4])
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("name", deepspeed_config.names())
def test_every_deepspeed_file_resolves_without_an_auto_left(name: str, precision: str, ranks: int) -> None:
    task = {"name": "causal-language-modelling"}  # which every file can train
    job = parse_job({"model": "m", "data": {"train": "t"}, "deepspeed": name, "precision": precision, "task": task})
    resolved = deepspeed_config.resolve(deepspeed_config.read(name), job, ranks, precision, Path("scratch"))
    assert '"auto"' not in json.dumps(resolved)


def test_nothing_is_over_its_budget_that_was_not_before() -> None:
    over = dict(_over_budget())
    assert over.keys() - OVER_BUDGET.keys() == set(), "make it shorter, do not list it"
    assert OVER_BUDGET.keys() - over.keys() == set(), "it has become short enough: take it off the list"
    assert {name: size for name, size in over.items() if size > OVER_BUDGET[name]} == {}


def _over_budget() -> Iterator[tuple[str, int]]:
    for module, tree in TREES.items():
        lines = len(FILES[module].read_text(encoding="utf-8").splitlines())
        if lines > MAX_FILE_LINES:
            yield f"lines of {module}", lines
        for function in functions(tree):
            length = (function.end_lineno or 0) - function.lineno + 1
            if length > MAX_FUNCTION_LINES:
                yield f"lines of {module}.{function.name}", length
            given = function.args
            names = [one.arg for one in [*given.posonlyargs, *given.args, *given.kwonlyargs]]
            parameters = len([name for name in names if name not in ("self", "cls")])
            if parameters > MAX_PARAMETERS:
                yield f"parameters of {module}.{function.name}", parameters


def test_every_module_says_why_it_exists() -> None:
    assert not [module for module, tree in TREES.items() if not ast.get_docstring(tree)]


def test_there_are_no_packages_under_tests() -> None:
    assert not list((ROOT / "tests").rglob("__init__.py"))


def test_no_file_on_the_launchers_path_bears_the_name_of_a_dependency() -> None:
    requirements = importlib.metadata.requires("tunewright") or []
    wanted = {re.split(r"[^A-Za-z0-9_.-]", line)[0].lower().replace("_", "-") for line in requirements}
    taken = {
        name
        for name, distributions in importlib.metadata.packages_distributions().items()
        if any(distribution.lower().replace("_", "-") in wanted for distribution in distributions)
    } - set(PACKAGES)
    assert {"torch", "datasets", "evaluate", "onnx", "tokenizers", "deepspeed"} <= taken
    for folder in ("backend", "export"):
        names = {path.stem for path in (ROOT / folder).iterdir()}
        assert not names & (taken | sys.stdlib_module_names)


def test_no_call_takes_a_shell_or_code_of_strangers() -> None:
    for module, tree in TREES.items():
        for call in calls(tree):
            given = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
            assert given.get("shell", "False") == "False", module
            assert given.get("trust_remote_code", "False") == "False", module
            if ast.unparse(call.func) == "torch.load":
                assert given.get("weights_only") == "True", module


def test_nothing_is_unpickled() -> None:
    assert not [
        found for found in IMPORTS if found.imported.partition(".")[0] in {"pickle", "dill", "cloudpickle", "joblib"}
    ]


def test_no_failure_is_swallowed_unseen() -> None:
    for module, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ExceptHandler):
                broad = node.type is None or ast.unparse(node.type) in ("Exception", "BaseException")
                silent = all(isinstance(statement, ast.Pass) for statement in node.body)
                assert not (broad and silent), f"{module}:{node.lineno}"
        for call in calls(tree):
            broad = {ast.unparse(argument) for argument in call.args} & {"Exception", "BaseException"}
            assert not (ast.unparse(call.func).endswith("suppress") and broad), f"{module}:{call.lineno}"
