"""A bundle or a finished run behind HTTP: POST /predict, GET /health, GET /info."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import Field

from backend.answering import Predictor
from backend.errors import MAX_FAULTS, DataError, UserError
from backend.interfaces import Generation, Options
from backend.tasks import TASKS

MAX_ROWS = 1024
MAX_BYTES = 8_000_000

Next = Callable[[Request], Awaitable[Response]]


class Question(Options):
    """The body of a request."""

    rows: list[dict[str, Any]] = Field(min_length=1, max_length=MAX_ROWS)
    generation: Generation | None = None  # how a model that writes is to write; none: as its task says


def create_app(predictor: Predictor) -> FastAPI:
    """Return the web service of one predictor."""
    app = FastAPI(title="tunewright", docs_url="/")
    task = predictor.task

    @app.get("/health")
    def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/info")
    def info() -> dict[str, Any]:
        name = next(name for name, entry in TASKS.items() if entry is task)
        inputs = [column.model_dump(include={"name", "kind", "description"}) for column in predictor.inputs]
        said = {"task": name, "labels": predictor.labels, "inputs": inputs, "max_rows": MAX_ROWS}
        return {**said, "generation": predictor.generation} if predictor.generation else said

    @app.post("/predict")
    def predict(question: Question) -> dict[str, Any]:
        return {"predictions": predictor.predict(question.rows, question.generation)}

    app.middleware("http")(_limit_size)
    app.exception_handler(RequestValidationError)(_refuse_body)
    app.exception_handler(UserError)(_refuse_rows)
    return app


async def _limit_size(request: Request, call_next: Next) -> Response:
    """Refuse a body that is too large, or of unknown length, before it is read."""
    length = request.headers.get("content-length")
    if request.method == "POST" and (length is None or not length.isdecimal()):
        return JSONResponse({"error": "send the length of the body (Content-Length)"}, status_code=411)
    if length is not None and int(length) > MAX_BYTES:
        error = f"the body has {length} bytes; {MAX_BYTES} are the most, send fewer rows at a time"
        return JSONResponse({"error": error}, status_code=413)
    return await call_next(request)


def _refuse_body(_: Request, error: Exception) -> Response:
    faults = error.errors() if isinstance(error, RequestValidationError) else []
    found = [{"place": ".".join(map(str, fault["loc"][1:])), "problem": fault["msg"]} for fault in faults[:MAX_FAULTS]]
    expected = 'expected {"rows": [{...}, ...]}, as GET /info describes'
    return JSONResponse({"error": expected, "faults": found}, status_code=422)


def _refuse_rows(_: Request, error: Exception) -> Response:
    faults = error.faults[:MAX_FAULTS] if isinstance(error, DataError) else ()
    found = [{"row": fault.row, "column": fault.column, "problem": fault.problem} for fault in faults]
    return JSONResponse({"error": str(error), "faults": found}, status_code=422)
